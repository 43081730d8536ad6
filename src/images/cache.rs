//! Images and variants in memory, bounded by bytes.
//!
//! Two bounds hold at once. What is kept is at most eleven sixteenths of the budget. What is alive,
//! kept or only still being sent to a slow reader, is at most the budget: a buffer holds its share
//! until its last byte is let go, and without a share nothing is loaded.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use metrics::{Counter, Gauge, counter, gauge};
use quick_cache::{OptionsBuilder, Weighter, sync};

use crate::image::{ImageId, VariantSpec};

/// What may be alive where nothing is kept: variants have to be somewhere while they are sent.
const LEAST_BUDGET: u64 = 16 << 20;
/// An image larger than this part of the budget is not kept.
const LARGEST_PART: u64 = 8;
/// The part of the budget for what is kept.
const KEPT_PARTS: (u64, u64) = (11, 16);
/// What an entry takes besides its bytes.
const ENTRY_BYTES: u64 = 256;
/// Independently locked parts of the cache.
const SHARDS: usize = 2;
/// For the first guess of how many entries there will be.
const TYPICAL_BYTES: u64 = 64 << 10;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) id: ImageId,
    /// `None`: the image as it is stored.
    pub(super) variant: Option<VariantSpec>,
}

#[derive(Clone)]
struct Entry {
    bytes: Bytes,
    expires_at: DateTime<Utc>,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<Key, Entry> for ByLength {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.bytes.len() as u64 + ENTRY_BYTES
    }
}

/// The cache.
pub(super) struct Cache {
    kept: Option<sync::Cache<Key, Entry, ByLength>>,
    budget: Arc<Budget>,
    largest: u64,
    images: Lookups,
    variants: Lookups,
}

/// How often something was there, and how often not.
struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Cache {
    /// Keeps images within `max_bytes`; with 0, none.
    pub(super) fn new(max_bytes: u64) -> Self {
        let capacity = max_bytes / KEPT_PARTS.1 * KEPT_PARTS.0;
        let guess = usize::try_from(capacity / TYPICAL_BYTES).unwrap_or(usize::MAX).clamp(64, 65_536);
        let options = OptionsBuilder::new()
            .weight_capacity(capacity)
            .estimated_items_capacity(guess)
            .shards(SHARDS)
            .build()
            .ok();
        let kept = options.filter(|_| capacity > 0).map(|options| {
            sync::Cache::with_options(options, ByLength, Default::default(), Default::default())
        });
        Self {
            kept,
            budget: Arc::new(Budget {
                max: max_bytes.max(LEAST_BUDGET),
                alive: AtomicU64::new(0),
                gauge: gauge!("mcp_image_cache_bytes"),
            }),
            largest: max_bytes / LARGEST_PART,
            images: Lookups::new("image"),
            variants: Lookups::new("variant"),
        }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether an image of this length may be kept.
    pub(super) fn takes(&self, length: u64) -> bool {
        self.is_on() && length <= self.largest
    }

    /// The bytes, if they are here and their time is not over.
    pub(super) fn get(&self, key: &Key, now: DateTime<Utc>) -> Option<Bytes> {
        let entry = self.kept.as_ref()?.get(key).filter(|entry| entry.expires_at > now);
        let lookups = if key.variant.is_none() { &self.images } else { &self.variants };
        if entry.is_some() {
            lookups.hits.increment(1);
        } else {
            lookups.misses.increment(1);
        }
        entry.map(|entry| entry.bytes)
    }

    /// A share of the budget; `None` if too much is alive.
    pub(super) fn reserve(&self, length: u64) -> Option<Share> {
        self.budget.reserve(length)
    }

    /// Keeps bytes until their time is over, or until there is something better to keep.
    pub(super) fn insert(&self, key: Key, bytes: Bytes, expires_at: DateTime<Utc>) {
        if let Some(kept) = self.kept.as_ref().filter(|_| self.takes(bytes.len() as u64)) {
            kept.insert(key, Entry { bytes, expires_at });
        }
    }

    /// Lets go of an image and its variants.
    pub(super) fn forget(&self, id: ImageId) {
        if let Some(kept) = &self.kept {
            kept.retain(|key, _| key.id != id);
        }
    }

    /// Lets go of what expired.
    pub(super) fn sweep(&self, now: DateTime<Utc>) {
        if let Some(kept) = &self.kept {
            kept.retain(|_, entry| entry.expires_at > now);
        }
    }

    /// Bytes alive.
    #[cfg(test)]
    pub(super) fn alive(&self) -> u64 {
        self.budget.alive.load(Ordering::SeqCst)
    }
}

impl Lookups {
    fn new(kind: &'static str) -> Self {
        let lookups = |outcome: &'static str| counter!("mcp_image_cache_lookups_total", "kind" => kind, "outcome" => outcome);
        Self { hits: lookups("hit"), misses: lookups("miss") }
    }
}

/// What may be alive, and what is.
struct Budget {
    max: u64,
    alive: AtomicU64,
    gauge: Gauge,
}

impl Budget {
    fn reserve(self: &Arc<Self>, length: u64) -> Option<Share> {
        let grown = |alive: u64| alive.checked_add(length).filter(|alive| *alive <= self.max);
        self.alive.fetch_update(Ordering::AcqRel, Ordering::Relaxed, grown).ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes need not be exact beyond 2^52")]
        self.gauge.increment(length as f64);
        Some(Share { budget: Arc::clone(self), length })
    }
}

/// A share of the budget; given back when dropped.
pub(super) struct Share {
    budget: Arc<Budget>,
    length: u64,
}

impl Share {
    /// Bytes that hold their share until the last of them is let go.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.alive.fetch_sub(self.length, Ordering::AcqRel);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes need not be exact beyond 2^52")]
        self.budget.gauge.decrement(self.length as f64);
    }
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn key() -> Key {
        Key { id: ImageId::now(), variant: None }
    }

    fn soon() -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(60)
    }

    fn bytes(cache: &Cache, length: u64) -> Option<Bytes> {
        let share = cache.reserve(length)?;
        Some(share.hold(vec![0; usize::try_from(length).expect("short")].into()))
    }

    #[test]
    fn kept_bytes_come_back_until_they_expire_or_are_forgotten() {
        let cache = Cache::new(64 * MIB);
        let (key, expires_at) = (key(), soon());
        cache.insert(key, bytes(&cache, 1000).expect("room"), expires_at);
        assert_eq!(cache.get(&key, Utc::now()).map(|bytes| bytes.len()), Some(1000));
        assert!(cache.get(&key, expires_at).is_none());
        cache.sweep(expires_at);
        assert_eq!(cache.alive(), 0, "swept");
        cache.insert(key, bytes(&cache, 1000).expect("room"), expires_at);
        cache.forget(key.id);
        assert!(cache.get(&key, Utc::now()).is_none());
        assert_eq!(cache.alive(), 0);
    }

    #[test]
    fn cache_stays_within_its_budget_whatever_is_put_in() {
        let cache = Cache::new(16 * MIB);
        for _ in 0..100 {
            let bytes = bytes(&cache, MIB).expect("room: nothing is held outside");
            cache.insert(key(), bytes, soon());
            assert!(cache.alive() <= 11 * MIB, "{}", cache.alive());
        }
        assert!(cache.alive() >= 8 * MIB, "it keeps what it can: {}", cache.alive());
    }

    #[test]
    fn slow_readers_hold_their_share_after_eviction() {
        let cache = Cache::new(16 * MIB);
        let mut readers = Vec::new();
        while let Some(bytes) = bytes(&cache, MIB) {
            cache.insert(key(), bytes.clone(), soon());
            readers.push(bytes.slice(512 << 10..));
        }
        assert_eq!(cache.alive(), 16 * MIB, "no byte over the budget");
        drop(readers);
        assert!(cache.alive() <= 11 * MIB);
        assert!(cache.reserve(MIB).is_some());
    }

    #[test]
    fn large_images_are_not_kept_and_neither_is_anything_when_off() {
        let cache = Cache::new(16 * MIB);
        assert!(cache.takes(2 * MIB) && !cache.takes(2 * MIB + 1));
        let off = Cache::new(0);
        assert!(!off.is_on() && !off.takes(1));
        let key = key();
        off.insert(key, bytes(&off, 10).expect("room"), soon());
        assert!(off.get(&key, Utc::now()).is_none());
        assert!(off.reserve(LEAST_BUDGET + 1).is_none());
    }
}
