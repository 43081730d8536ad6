//! A bucket, and a folder that keeps images while the bucket is away.
//!
//! A save that finds S3 away goes to the folder and is acknowledged: it is on disk. When S3 is back,
//! images are moved over one by one: copied, verified, and only then removed from the folder, so that
//! at every moment at least one of the two has the image whole, whatever crashes. Reads look into the
//! folder first and then into the bucket; an image keeps its URL throughout.
//!
//! The folder belongs to this replica, unless it is a shared volume: what it keeps is served by others
//! when it has been moved.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::Utc;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, Peekable},
};
use metrics::{counter, gauge};

use super::{
    Error, Expired, FileStore, ImageStore, ListQuery, NewImage, Opened, Page, Redirect, S3Store, Walk, Walked,
};
use crate::image::{ImageId, Metadata};

/// From one look into the folder to the next.
const MOVE_INTERVAL: Duration = Duration::from_secs(5);

/// A check of S3 that takes longer has found it away: whoever asks for readiness does not wait long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Images named at a time while they are moved.
const MOVE_PAGE: usize = 100;

/// S3 with a folder behind it.
#[derive(Debug, Clone)]
pub struct Fallback {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    s3: S3Store,
    local: FileStore,
    /// S3 was found away, and that was said.
    away: AtomicBool,
}

/// What one look into the folder did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Images that are in the bucket now and no longer in the folder.
    pub moved: u64,
    /// Images that could not be moved; they stay in the folder.
    pub failed: u64,
}

impl Fallback {
    /// Keeps images in `s3`, and in `local` while that is away.
    #[must_use]
    pub fn new(s3: S3Store, local: FileStore) -> Self {
        counter!("mcp_image_fallback_saves_total").increment(0);
        for outcome in ["ok", "error"] {
            counter!("mcp_image_fallback_moved_total", "outcome" => outcome).increment(0);
        }
        Self { shared: Arc::new(Shared { s3, local, away: AtomicBool::new(false) }) }
    }

    /// Moves what the folder keeps into the bucket, until S3 is away again.
    ///
    /// # Errors
    /// When the folder cannot be looked through, or S3 is away.
    pub async fn move_over(&self) -> Result<Moved, Error> {
        self.shared.move_over().await
    }
}

impl Shared {
    async fn move_over(&self) -> Result<Moved, Error> {
        let mut moved = Moved::default();
        let mut cursor = None;
        loop {
            let page = self.local.list(ListQuery { prefix: None, cursor, limit: MOVE_PAGE }).await?;
            for metadata in page.images {
                match self.move_one(metadata).await {
                    Ok(true) => moved.moved += 1,
                    Ok(false) => {}
                    Err((id, error)) => {
                        counter!("mcp_image_fallback_moved_total", "outcome" => "error").increment(1);
                        if matches!(error, Error::Unavailable(_)) {
                            return Err(error);
                        }
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(image_id = %id, %error, cause, "an image stays in the fallback folder");
                        moved.failed += 1;
                    }
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(moved),
            }
        }
    }

    /// Moves an image; `false` if it went away meanwhile.
    async fn move_one(&self, metadata: Metadata) -> Result<bool, (ImageId, Error)> {
        let id = metadata.image_id;
        let moved = async {
            let Opened { metadata, content } = match self.local.open(id).await {
                Err(Error::NotFound) => return Ok(false),
                opened => opened?,
            };
            let mut chunks = content.stream(0..metadata.size_bytes).await?;
            let mut bytes = BytesMut::new();
            while let Some(chunk) = chunks.try_next().await? {
                bytes.extend_from_slice(&chunk);
            }
            self.s3.adopt(&NewImage { bytes: bytes.freeze(), metadata }).await?;
            if !self.local.delete(id).await? && self.local.metadata(id).await.is_err() {
                // Deleted, or expired, while it was copied: the copy goes too.
                let gone =
                    matches!(self.s3.metadata(id).await, Ok(metadata) if !metadata.is_expired(Utc::now()));
                if gone {
                    self.s3.remove(id).await?;
                }
                return Ok(false);
            }
            counter!("mcp_image_fallback_moved_total", "outcome" => "ok").increment(1);
            Ok(true)
        };
        moved.await.map_err(|error| (id, error))
    }

    /// Whether the folder keeps something, and how much, up to a page.
    async fn waiting(&self) -> Result<usize, Error> {
        let page = self.local.list(ListQuery { prefix: None, cursor: None, limit: MOVE_PAGE }).await?;
        Ok(page.images.len())
    }

    /// One round of the background task.
    async fn round(&self) {
        match self.waiting().await {
            Ok(0) => {
                gauge!("mcp_image_fallback_images").set(0.0);
                return;
            }
            // Counted up to a page: enough to see that there are some.
            Ok(waiting) => {
                gauge!("mcp_image_fallback_images")
                    .set(f64::from(u32::try_from(waiting).unwrap_or(u32::MAX)));
            }
            Err(error) => {
                tracing::error!(%error, "the fallback folder cannot be looked through");
                return;
            }
        }
        // No caller is made to try whether it is back: this is.
        if self.s3.is_paused() && self.s3.check().await.is_err() {
            return;
        }
        match self.move_over().await {
            Ok(Moved { moved, failed }) => {
                self.back();
                tracing::info!(moved, failed, "images were moved from the fallback folder to S3");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::debug!(%error, cause, "images stay in the fallback folder for now");
            }
        }
    }

    fn away(&self, error: Option<&Error>) {
        if !self.away.swap(true, Ordering::Relaxed) {
            let cause = error.and_then(std::error::Error::source).map(ToString::to_string);
            let error = error.map(ToString::to_string);
            tracing::warn!(
                error,
                cause,
                "S3 is away; images are kept in the fallback folder until it is back"
            );
        }
    }

    fn back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("S3 is back");
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ImageStore for Fallback {
    fn kind(&self) -> &'static str {
        self.shared.s3.kind()
    }

    async fn start(&self) -> Result<(), Error> {
        self.shared.s3.start().await?;
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            while let Some(shared) = Weak::upgrade(&shared) {
                shared.round().await;
                drop(shared);
                tokio::time::sleep(MOVE_INTERVAL).await;
            }
        });
        Ok(())
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        let Shared { s3, local, .. } = &*self.shared;
        // A folder that fails shows when it is needed.
        if local.metadata(image.metadata.image_id).await.is_ok() {
            return Err(Error::AlreadyExists);
        }
        if s3.is_paused() {
            // A try would hold the caller as long as S3 may take for an answer.
            self.shared.away(None);
        } else {
            match s3.save(image.clone()).await {
                Err(error @ Error::Unavailable(_)) => self.shared.away(Some(&error)),
                saved => return saved,
            }
        }
        local.save(image).await?;
        counter!("mcp_image_fallback_saves_total").increment(1);
        Ok(())
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        match self.shared.local.open(id).await {
            Err(here) => absent_in_both(here, self.shared.s3.open(id).await),
            opened => opened,
        }
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        match self.shared.local.metadata(id).await {
            Err(here) => absent_in_both(here, self.shared.s3.metadata(id).await),
            metadata => metadata,
        }
    }

    async fn redirect(&self, id: ImageId) -> Result<Option<Redirect>, Error> {
        if !self.shared.s3.redirects() {
            return Ok(None);
        }
        // What is here is delivered from here.
        match self.shared.local.metadata(id).await {
            Ok(_) => Ok(None),
            Err(here) => absent_in_both(here, self.shared.s3.redirect(id).await),
        }
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        let Shared { s3, local, .. } = &*self.shared;
        // A save that S3 did not acknowledge may have left it there, too: so nothing is deleted here
        // unless it can be deleted there.
        let there = s3.delete(id).await?;
        let here = local.delete(id).await?;
        // It may have been moved from here to there in between.
        Ok(here || there || s3.delete(id).await?)
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        let Shared { s3, local, .. } = &*self.shared;
        // Without the bucket a listing would tell of a few images as if they were all.
        let (here, there) = tokio::join!(local.list(query.clone()), s3.list(query.clone()));
        let (here, there) = (here?, there?);
        let more = here.next.is_some() || there.next.is_some();
        let mut images = here.images;
        images.extend(there.images);
        images.sort_unstable_by_key(|metadata| std::cmp::Reverse(metadata.image_id));
        images.dedup_by_key(|metadata| metadata.image_id);
        let more = more || images.len() > query.limit;
        images.truncate(query.limit);
        let next = images.last().map(|last| last.image_id).filter(|_| more && images.len() == query.limit);
        Ok(Page { images, next })
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        let Shared { s3, local, .. } = &*self.shared;
        let (here, there) = tokio::join!(local.expire(now), s3.expire(now));
        let (mut both, there) = (here?, there?);
        both.add(there);
        Ok(both)
    }

    async fn check(&self) -> Result<(), Error> {
        let Shared { s3, local, .. } = &*self.shared;
        let checked = tokio::time::timeout(CHECK_TIMEOUT, s3.check()).await;
        match checked.unwrap_or_else(|late| Err(Error::Unavailable(late.into()))) {
            Ok(()) => {
                self.shared.back();
                Ok(())
            }
            // Images can be kept all the same.
            Err(error @ Error::Unavailable(_)) => {
                self.shared.away(Some(&error));
                local.check().await
            }
            Err(error) => Err(error),
        }
    }

    fn walk(&self) -> Walk<'_> {
        let Shared { s3, local, .. } = &*self.shared;
        merged(local.walk(), s3.walk())
    }

    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        let Shared { s3, local, .. } = &*self.shared;
        // As with a deletion: nothing goes here unless it can go there.
        let mut both = ImageStore::remove(s3, images).await?;
        both.add(local.remove(images).await?);
        Ok(both)
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        match self.shared.local.inspect(id).await {
            Err(here) => absent_in_both(here, self.shared.s3.inspect(id).await),
            metadata => metadata,
        }
    }
}

/// Two walks as one, oldest first. An image that both come by is given once.
fn merged<'a>(here: Walk<'a>, there: Walk<'a>) -> Walk<'a> {
    let walks = (here.peekable(), there.peekable());
    let next = |(mut here, mut there): (Peekable<Walk<'a>>, Peekable<Walk<'a>>)| async move {
        let id = |walked: Option<&Result<Walked, Error>>| match walked {
            Some(Ok(walked)) => Some(walked.image_id),
            _ => None,
        };
        let (one, other) = (Pin::new(&mut here).peek().await, Pin::new(&mut there).peek().await);
        // Failures first; then the older one; then what is left.
        let from_here = match (one, other) {
            (Some(Err(_)), _) | (_, None) => true,
            (_, Some(Err(_))) | (None, _) => false,
            (one, other) => id(one) <= id(other),
        };
        let both = id(one).is_some() && id(one) == id(other);
        let walked = if from_here { here.next().await } else { there.next().await };
        if both {
            there.next().await;
        }
        Some((walked?, (here, there)))
    };
    stream::unfold(walks, next).boxed()
}

/// An image is absent if neither has it: a folder that fails may have what the bucket has not.
fn absent_in_both<T>(here: Error, there: Result<T, Error>) -> Result<T, Error> {
    match there {
        Err(Error::NotFound) => Err(here),
        there => there,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Format;

    fn walked(millis: u64) -> Walked {
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        Walked { image_id: ImageId::at(made), format: Format::Png, size_bytes: millis }
    }

    #[tokio::test]
    async fn merged_walks_come_by_every_image_once_oldest_first() {
        let images: Vec<_> = (0..8).map(walked).collect();
        let walk = |which: &[usize]| -> Walk<'_> {
            stream::iter(which.iter().map(|i| Ok(images[*i])).collect::<Vec<_>>()).boxed()
        };
        for (here, there) in [
            (&[0, 2, 4, 6][..], &[1, 3, 5, 7][..]),
            (&[0, 1, 2, 3, 4, 5, 6, 7], &[]),
            (&[], &[0, 1, 2, 3, 4, 5, 6, 7]),
            (&[0, 3, 4, 7], &[0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            let all: Vec<_> = merged(walk(here), walk(there)).try_collect().await.unwrap();
            assert_eq!(all, images, "{here:?} {there:?}");
        }
    }

    #[tokio::test]
    async fn merged_walk_ends_in_the_failure_of_either() {
        let fails = || stream::iter([Err(Error::Full(None))]).boxed();
        let walk = || stream::iter([Ok(walked(1))]).boxed();
        for merged in [merged(fails(), walk()), merged(walk(), fails())] {
            assert!(matches!(merged.try_collect::<Vec<_>>().await, Err(Error::Full(None))));
        }
    }
}
