use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use metrics::{counter, histogram};
use tokio::time::Instant;

use crate::{
    image::ImageId,
    storage::{Error, Expired, Storage, Stored, Walked},
};

/// Counting takes no more than this part of the time, unless a quota seems to be exceeded.
const COUNTING_SHARE: u32 = 100;

/// However long it takes, it is counted once a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// When a quota is exceeded, so much more goes than must: a twentieth of the quota. So the store is
/// counted again only when that much was saved, and the cost of counting is spread over it.
const MARGIN: u64 = 20;

/// Images removed at once.
const BATCH: usize = 1000;

/// How often a cycle counts again because another replica was faster.
const ATTEMPTS: usize = 3;

/// The quotas, as evictions are counted.
const REASONS: [&str; 2] = ["images", "bytes"];

/// How much may be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Images at most.
    pub images: Option<u64>,
    /// Bytes of images at most.
    pub bytes: Option<u64>,
}

/// Images that went because of a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) images: u64,
    pub(super) bytes: u64,
    pub(super) failed: u64,
}

impl Quota {
    /// Whether there is one.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.images.is_some() || self.bytes.is_some()
    }

    /// Whether more is stored than may be.
    #[must_use]
    pub fn is_exceeded_by(&self, stored: Stored) -> bool {
        let exceeded = |quota: Option<u64>, stored| quota.is_some_and(|quota| stored > quota);
        exceeded(self.images, stored.images) || exceeded(self.bytes, stored.bytes)
    }

    /// What is to go so that a margin is free again.
    fn excess(&self, stored: Stored) -> Stored {
        let excess = |quota: Option<u64>, stored: u64| match quota {
            Some(quota) if stored > quota => stored - (quota - quota / MARGIN),
            _ => 0,
        };
        Stored { images: excess(self.images, stored.images), bytes: excess(self.bytes, stored.bytes) }
    }
}

/// Knows how much is stored, and removes the oldest where it is too much.
///
/// Replicas need no lock: each goes by a count of its own, and those that find too much at the same
/// time choose the same images, the oldest. A replica that was overtaken notices and counts again.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) quota: Quota,
    next_count: Mutex<Instant>,
}

/// Images that are to go, by the quota that they exceed.
#[derive(Debug, Default)]
struct Chosen {
    by_images: Vec<Walked>,
    by_bytes: Vec<Walked>,
}

/// A count, and the image it began with.
struct Counted {
    stored: Stored,
    oldest: Option<ImageId>,
}

impl Keeper {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, next_count: Mutex::new(Instant::now()) }
    }

    /// Counts if it is time to or if a quota seems to be exceeded; evicts if one is.
    pub(super) async fn keep(&self, storage: &Storage) -> Result<Evicted, Error> {
        let due = Instant::now() >= *self.next_count.lock().unwrap_or_else(PoisonError::into_inner);
        if !due && !self.quota.is_exceeded_by(storage.usage.get()) {
            return Ok(Evicted::default());
        }
        for _ in 0..ATTEMPTS {
            let counted = self.count(storage).await?;
            if !self.quota.is_exceeded_by(counted.stored) {
                break;
            }
            let excess = self.quota.excess(counted.stored);
            if let Some(chosen) = choose(storage, excess, counted.oldest).await? {
                return evict(storage, chosen).await;
            }
        }
        Ok(Evicted::default())
    }

    async fn count(&self, storage: &Storage) -> Result<Counted, Error> {
        let started = Instant::now();
        let mut counted = Counted { stored: Stored::default(), oldest: None };
        let mut walk = storage.images.walk();
        while let Some(image) = walk.try_next().await? {
            counted.oldest.get_or_insert(image.image_id);
            counted.stored.images += 1;
            counted.stored.bytes += image.size_bytes;
        }
        storage.usage.set(counted.stored);
        let took = started.elapsed();
        histogram!("mcp_image_cleaner_count_duration_seconds").record(took.as_secs_f64());
        let next = Instant::now() + took.saturating_mul(COUNTING_SHARE).min(LONGEST_PAUSE);
        *self.next_count.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(counted)
    }
}

/// The oldest images that make up the excess; `None` if the one that was counted first went
/// meanwhile: then someone else is at it, and the count is stale. As everyone goes by age, nothing
/// that was counted is gone as long as that one is there.
async fn choose(
    storage: &Storage,
    mut excess: Stored,
    oldest: Option<ImageId>,
) -> Result<Option<Chosen>, Error> {
    let mut chosen = Chosen::default();
    let mut walk = storage.images.walk();
    while excess != Stored::default()
        && let Some(image) = walk.try_next().await?
    {
        let exceeded = if excess.images > 0 { &mut chosen.by_images } else { &mut chosen.by_bytes };
        exceeded.push(image);
        excess.images = excess.images.saturating_sub(1);
        excess.bytes = excess.bytes.saturating_sub(image.size_bytes);
    }
    let Some(oldest) = oldest else { return Ok(None) };
    match storage.images.inspect(oldest).await {
        Ok(_) | Err(Error::Corrupt { .. }) => Ok(Some(chosen)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn evict(storage: &Storage, chosen: Chosen) -> Result<Evicted, Error> {
    let mut total = Evicted::default();
    for (reason, images) in REASONS.into_iter().zip([chosen.by_images, chosen.by_bytes]) {
        for batch in images.chunks(BATCH) {
            let Expired { removed, removed_bytes, failed, .. } = storage.images.remove(batch).await?;
            counter!("mcp_image_cleaner_evicted_images_total", "reason" => reason).increment(removed);
            counter!("mcp_image_cleaner_evicted_bytes_total", "reason" => reason).increment(removed_bytes);
            total.images += removed;
            total.bytes += removed_bytes;
            total.failed += failed;
        }
    }
    Ok(total)
}

/// Counts from zero, so that a first eviction shows as an increase.
pub(super) fn register_counters() {
    for reason in REASONS {
        counter!("mcp_image_cleaner_evicted_images_total", "reason" => reason).increment(0);
        counter!("mcp_image_cleaner_evicted_bytes_total", "reason" => reason).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Backend, Config};

    #[tokio::test]
    async fn choice_after_another_was_faster_is_none() {
        let backend = Backend::Memory { max_bytes: 1 << 20 };
        let config = Config { backend, sync: false };
        let storage = Storage::open(&config).unwrap();
        let images = crate::cleaner::tests::save_some(&storage, 3).await;
        let excess = Stored { images: 2, bytes: 0 };
        let chosen = choose(&storage, excess, Some(images[0])).await.unwrap().unwrap();
        assert_eq!(chosen.by_images.iter().map(|image| image.image_id).collect::<Vec<_>>(), images[..2]);
        assert!(storage.images.delete(images[0]).await.unwrap());
        assert!(choose(&storage, excess, Some(images[0])).await.unwrap().is_none());
    }
}
