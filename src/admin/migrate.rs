use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::{
    Error, Output, chain,
    check::{Standing, check, compare},
    output::bytes,
    progress::Progress,
};
use crate::{
    image::{ImageId, Metadata},
    storage::{self, ImageStore, NewImage, RecordError, RecordKind, RecordQuery, Storage},
};

/// Images under way at once; each is held whole.
const AT_ONCE: usize = 4;

/// After so many failures it is the store that is at fault.
const MOST_FAILURES: u64 = 100;

/// What a migration did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// Images copied and read back.
    pub copied: u64,
    /// Bytes of those images.
    pub copied_bytes: u64,
    /// Images that were there already, whole.
    pub present: u64,
    /// Images left behind because their time is over, or because they went meanwhile.
    pub expired: u64,
    /// Images that could not be copied.
    pub failed: u64,
    /// Records copied.
    pub records: u64,
}

enum Outcome {
    Copied(u64),
    Present,
    Expired,
}

/// Why an image was not copied.
#[derive(Debug, thiserror::Error)]
enum NotCopied {
    #[error("it cannot be read: {}", chain(.0))]
    Source(storage::Error),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("another image with this id is there: {0}")]
    Taken(String),
    #[error("it cannot be written: {}", chain(.0))]
    Destination(storage::Error),
    #[error("what was written is not what was read: {0}")]
    Unverified(String),
}

/// Copies every image with its metadata, and every record, under the same ids and with the same
/// expiry. What is there already is compared, not copied again, so a migration that was interrupted
/// is run once more. Nothing is removed from where it was.
///
/// # Errors
/// When a store fails as a whole, and when images could not be copied; the others are.
pub async fn run(from: &Storage, to: &Storage, output: &mut Output) -> Result<Migrated, Error> {
    let progress = Progress::counting(output.is_json());
    let mut images = 0;
    let mut walk = from.images.walk();
    while walk.try_next().await?.is_some() {
        images += 1;
        progress.step();
    }
    progress.begin("copying", images);

    let mut done = Migrated::default();
    let copies = from.images.walk().map(|walked| async {
        let id = walked?.image_id;
        let (from, to) = (Arc::clone(&from.images), Arc::clone(&to.images));
        // A task each: hashing is work.
        let copied = tokio::spawn(async move { copy(&*from, &*to, id).await }).await;
        Ok::<_, Error>((id, copied.map_err(std::io::Error::other)?))
    });
    let mut copies = copies.buffer_unordered(AT_ONCE);
    while let Some(copied) = copies.next().await {
        let (id, outcome) = copied?;
        progress.step();
        match outcome {
            Ok(Outcome::Copied(length)) => {
                done.copied += 1;
                done.copied_bytes += length;
            }
            Ok(Outcome::Present) => done.present += 1,
            Ok(Outcome::Expired) => done.expired += 1,
            // Nor will any other fit.
            Err(NotCopied::Destination(error @ (storage::Error::Full(_) | storage::Error::ReadOnly(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                done.failed += 1;
                progress.around(|| report(id, &error, output))?;
                if done.failed >= MOST_FAILURES {
                    return Err(Error::GivenUp { failed: done.failed });
                }
            }
        }
    }
    drop(progress);
    done.records = records(from, to).await?;
    output.line(&json!({"summary": done}), || done.summary())?;
    if done.failed > 0 { Err(Error::Incomplete { failed: done.failed }) } else { Ok(done) }
}

fn report(id: ImageId, error: &NotCopied, output: &mut Output) -> std::io::Result<()> {
    let reason = error.to_string();
    output.line(&json!({"image_id": id, "status": "failed", "reason": reason}), || format!("{id}  {reason}"))
}

async fn copy(from: &dyn ImageStore, to: &dyn ImageStore, id: ImageId) -> Result<Outcome, NotCopied> {
    let metadata = match from.metadata(id).await {
        Ok(metadata) => metadata,
        Err(error) => return absent(from, id, error).await,
    };
    if let Some(outcome) = there(to, &metadata).await? {
        return Ok(outcome);
    }
    let (metadata, content) = match read(from, id).await {
        Ok(read) => read,
        Err(error) => return absent(from, id, error).await,
    };
    let length = metadata.size_bytes;
    match to.save(NewImage { bytes: content, metadata: metadata.clone() }).await {
        // Another run is at it.
        Ok(()) | Err(storage::Error::AlreadyExists) => {}
        Err(error) => return Err(NotCopied::Destination(error)),
    }
    match check(to, id).await.map_err(NotCopied::Destination)? {
        Standing::Whole(saved) if *saved == metadata => Ok(Outcome::Copied(length)),
        Standing::Whole(_) => Err(NotCopied::Unverified("its metadata differ".to_owned())),
        Standing::Expired => Ok(Outcome::Expired),
        Standing::Absent => Err(NotCopied::Unverified("it is not there".to_owned())),
        Standing::Damaged(reason) => Err(NotCopied::Unverified(reason)),
    }
}

/// Whether the image is where it is to be, whole.
async fn there(to: &dyn ImageStore, metadata: &Metadata) -> Result<Option<Outcome>, NotCopied> {
    match check(to, metadata.image_id).await.map_err(NotCopied::Destination)? {
        Standing::Whole(saved) if *saved == *metadata => Ok(Some(Outcome::Present)),
        Standing::Whole(_) => Err(NotCopied::Taken("its metadata differ".to_owned())),
        Standing::Damaged(reason) => Err(NotCopied::Taken(reason)),
        Standing::Expired => Ok(Some(Outcome::Expired)),
        Standing::Absent => Ok(None),
    }
}

/// An image that cannot be read: expired, gone, or a failure.
async fn absent(from: &dyn ImageStore, id: ImageId, error: storage::Error) -> Result<Outcome, NotCopied> {
    match error {
        storage::Error::NotFound => match check(from, id).await.map_err(NotCopied::Source)? {
            Standing::Damaged(reason) => Err(NotCopied::Damaged(reason)),
            _ => Ok(Outcome::Expired),
        },
        storage::Error::Corrupt { reason, .. } => Err(NotCopied::Damaged(reason)),
        error => Err(NotCopied::Source(error)),
    }
}

async fn read(from: &dyn ImageStore, id: ImageId) -> Result<(Metadata, Bytes), storage::Error> {
    let opened = from.open(id).await?;
    let metadata = opened.metadata;
    let mut stream = opened.content.stream(0..metadata.size_bytes).await?;
    let mut content = BytesMut::with_capacity(usize::try_from(metadata.size_bytes).unwrap_or_default());
    let mut hash = blake3::Hasher::new();
    while let Some(chunk) = stream.try_next().await? {
        hash.update(&chunk);
        content.extend_from_slice(&chunk);
    }
    compare(&metadata, content.len() as u64, &hash)?;
    Ok((metadata, content.freeze()))
}

/// Copies the records that are not there yet.
async fn records(from: &Storage, to: &Storage) -> Result<u64, Error> {
    let mut copied = 0;
    for kind in RecordKind::ALL {
        let mut query = RecordQuery { limit: 100, ..RecordQuery::default() };
        loop {
            let page = from.records.list(kind, query.clone()).await?;
            for stored in page.records {
                match to.records.create(kind, &stored.key, stored.record).await {
                    Ok(_) => copied += 1,
                    Err(RecordError::AlreadyExists) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    Ok(copied)
}

impl Migrated {
    fn summary(&self) -> String {
        let Self { copied, copied_bytes, present, expired, failed, records } = self;
        format!(
            "copied {copied} images ({}) and {records} records; {present} images were there already, \
             {expired} expired, {failed} failed",
            bytes(*copied_bytes)
        )
    }
}
