use std::{num::NonZeroUsize, sync::Arc};

use chrono::Utc;
use clap::Subcommand;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::{
    Error, Output, chain,
    check::{Standing, check},
    output::{bytes, plain},
    progress::Progress,
    table,
};
use crate::{
    image::{ImageId, ImageUrls, Metadata},
    storage::{self, ImageStore, ListQuery},
};

/// Images that are verified at once.
const AT_ONCE: usize = 8;

/// Images that are asked for at once.
const PAGE: usize = 1000;

/// What to do with images.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ImagesCommand {
    /// List images, newest first; expired ones are left out.
    List {
        /// Only ids that start with this.
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
        /// Only images older than this one, which need not be there any more.
        #[arg(long, value_name = "ID")]
        cursor: Option<ImageId>,
        /// Images at most.
        #[arg(long, value_name = "NUMBER", default_value = "100")]
        limit: NonZeroUsize,
    },
    /// Show all that is known about an image.
    Show {
        /// The image.
        id: ImageId,
    },
    /// Delete images.
    Delete {
        /// The images.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<ImageId>,
    },
    /// Read images whole and compare them with what was saved; exit 1 if one differs.
    Verify {
        /// The images; without any, all of them.
        #[arg(value_name = "ID")]
        ids: Vec<ImageId>,
    },
}

/// Runs a command on a store; clients get its images at `urls`.
///
/// # Errors
/// When the store fails, when an image that was named is not there, and when one is damaged.
pub async fn run(
    store: Arc<dyn ImageStore>,
    urls: &ImageUrls,
    command: ImagesCommand,
    output: &mut Output,
) -> Result<(), Error> {
    match command {
        ImagesCommand::List { prefix, cursor, limit } => {
            list(&*store, prefix, cursor, limit.get(), output).await
        }
        ImagesCommand::Show { id } => show(&*store, urls, id, output).await,
        ImagesCommand::Delete { ids } => delete(&*store, &ids, output).await,
        ImagesCommand::Verify { ids } => verify(store, ids, output).await,
    }
}

async fn list(
    store: &dyn ImageStore,
    prefix: Option<String>,
    cursor: Option<ImageId>,
    limit: usize,
    output: &mut Output,
) -> Result<(), Error> {
    let (mut left, mut cursor) = (limit, cursor);
    output.text(&format!("{}\n", table::head()))?;
    loop {
        let query = ListQuery { prefix: prefix.clone(), cursor, limit: left.min(PAGE) };
        let page = store.list(query).await?;
        let columns = output.columns();
        for image in &page.images {
            output.line(image, || table::row(image, Utc::now(), columns))?;
        }
        left = left.saturating_sub(page.images.len());
        cursor = page.next;
        match cursor {
            Some(next) if left == 0 => output.text(&format!("There are more: --cursor {next}\n"))?,
            Some(_) => continue,
            None => {}
        }
        return Ok(());
    }
}

async fn show(
    store: &dyn ImageStore,
    urls: &ImageUrls,
    id: ImageId,
    output: &mut Output,
) -> Result<(), Error> {
    let metadata = match store.metadata(id).await {
        Err(storage::Error::NotFound) => return Err(Error::Absent { absent: 1, named: 1 }),
        metadata => metadata?,
    };
    let url = urls.url(&metadata, Utc::now());
    let mut value = json!(metadata);
    value["url"] = url.as_str().into();
    output.line(&value, || description(&metadata, &url))?;
    Ok(())
}

fn description(image: &Metadata, url: &str) -> String {
    let generation = &image.generation;
    let mut lines = vec![
        ("id", image.image_id.to_string()),
        ("url", url.to_owned()),
        ("created", image.created_at.to_rfc3339()),
        ("expires", image.expires_at.to_rfc3339()),
        ("format", image.format.media_type().to_owned()),
        ("pixels", format!("{}x{}", image.width, image.height)),
        ("size", format!("{} ({} bytes)", bytes(image.size_bytes), image.size_bytes)),
        ("blake3", image.blake3.clone()),
        ("model", plain(&generation.model)),
        ("predictor", plain(&generation.predictor)),
        ("steps", generation.num_inference_steps.to_string()),
        ("guidance", generation.guidance_scale.to_string()),
        ("seconds", generation.generation_seconds.to_string()),
        ("prompt", plain(&generation.prompt)),
    ];
    lines.extend(generation.seed.map(|seed| ("seed", seed.to_string())));
    lines.extend(generation.negative_prompt.as_deref().map(|prompt| ("negative prompt", plain(prompt))));
    let lines = lines.iter().map(|(name, value)| format!("{name:<16}{value}"));
    lines.collect::<Vec<_>>().join("\n")
}

async fn delete(store: &dyn ImageStore, ids: &[ImageId], output: &mut Output) -> Result<(), Error> {
    let mut absent = 0;
    for id in ids {
        let deleted = store.delete(*id).await?;
        absent += u64::from(!deleted);
        output.line(&json!({"image_id": id, "deleted": deleted}), || {
            format!("{id}  {}", if deleted { "deleted" } else { "not there" })
        })?;
    }
    if absent == 0 { Ok(()) } else { Err(Error::Absent { absent, named: ids.len() as u64 }) }
}

/// What a verification found.
#[derive(Debug, Default, serde::Serialize)]
struct Found {
    whole: u64,
    bytes: u64,
    damaged: u64,
    expired: u64,
    absent: u64,
    failed: u64,
}

async fn verify(store: Arc<dyn ImageStore>, named: Vec<ImageId>, output: &mut Output) -> Result<(), Error> {
    let progress = Progress::counting(output.is_json());
    let all_named = !named.is_empty();
    let ids = if all_named { named } else { everything(&*store, &progress).await? };
    let looked_at = ids.len() as u64;
    progress.begin("verifying", looked_at);
    let mut found = Found::default();
    let checks = stream::iter(ids).map(|id| {
        let store = Arc::clone(&store);
        // A task each: hashing is work.
        let check = tokio::spawn(async move { check(&*store, id).await });
        async move { (id, check.await) }
    });
    let mut checks = checks.buffer_unordered(AT_ONCE);
    while let Some((id, standing)) = checks.next().await {
        progress.step();
        let standing = standing.map_err(std::io::Error::other)?;
        let (status, reason) = found.count(standing);
        // As JSON about each, as text about those that are not well, and about each that was named.
        if output.is_json() || all_named || reason.is_some() {
            progress.around(|| note(id, status, reason, output))?;
        }
    }
    drop(progress);
    output.line(&json!({"summary": &found}), || found.summary(looked_at))?;
    if found.damaged + found.failed > 0 {
        return Err(Error::Damaged { looked_at, damaged: found.damaged, failed: found.failed });
    }
    if all_named && found.absent > 0 {
        return Err(Error::Absent { absent: found.absent, named: looked_at });
    }
    Ok(())
}

/// Every image there is, damaged ones included.
async fn everything(store: &dyn ImageStore, progress: &Progress) -> Result<Vec<ImageId>, Error> {
    let mut ids = Vec::new();
    let mut walk = store.walk();
    while let Some(image) = walk.try_next().await? {
        ids.push(image.image_id);
        progress.step();
    }
    ids.dedup();
    Ok(ids)
}

impl Found {
    /// Counts an image; gives its status, and what is wrong with it.
    fn count(&mut self, standing: Result<Standing, storage::Error>) -> (&'static str, Option<String>) {
        let (counter, status, reason) = match standing {
            Ok(Standing::Whole(metadata)) => {
                self.bytes += metadata.size_bytes;
                (&mut self.whole, "whole", None)
            }
            Ok(Standing::Expired) => (&mut self.expired, "expired", None),
            Ok(Standing::Absent) => (&mut self.absent, "absent", None),
            Ok(Standing::Damaged(reason)) => (&mut self.damaged, "damaged", Some(reason)),
            Err(error) => (&mut self.failed, "failed", Some(chain(&error))),
        };
        *counter += 1;
        (status, reason)
    }

    fn summary(&self, looked_at: u64) -> String {
        let Self { whole, bytes: length, damaged, expired, absent, failed } = self;
        format!(
            "{looked_at} images: {whole} whole ({}), {damaged} damaged, {expired} expired, {absent} not there, \
             {failed} could not be read",
            bytes(*length)
        )
    }
}

fn note(id: ImageId, status: &str, reason: Option<String>, output: &mut Output) -> std::io::Result<()> {
    output.line(&json!({"image_id": id, "status": status, "reason": reason}), || {
        let reason = reason.as_deref().map(|reason| format!(": {}", plain(reason)));
        format!("{id}  {status}{}", reason.unwrap_or_default())
    })
}
