use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metrics::gauge;
use tokio::sync::Notify;

/// How much is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stored {
    /// Images, expired ones that are not yet removed included.
    pub images: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How much is stored, as far as this process knows: what was counted last, and what this process
/// saved and removed since. What other processes do meanwhile is learned with the next count.
#[derive(Debug, Default)]
pub struct Usage {
    images: AtomicU64,
    bytes: AtomicU64,
    counted: AtomicBool,
    grown: Notify,
}

impl Usage {
    /// What is known now; before the first count, what this process saved.
    #[must_use]
    pub fn get(&self) -> Stored {
        Stored { images: self.images.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Takes over what was counted.
    pub fn set(&self, counted: Stored) {
        self.images.store(counted.images, Ordering::Relaxed);
        self.bytes.store(counted.bytes, Ordering::Relaxed);
        self.counted.store(true, Ordering::Relaxed);
        self.publish();
    }

    /// Waits until something is saved, or returns at once if it was since the last call. One task
    /// may wait.
    pub async fn grown(&self) {
        self.grown.notified().await;
    }

    pub(super) fn saved(&self, bytes: u64) {
        self.images.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.publish();
        self.grown.notify_one();
    }

    pub(super) fn removed(&self, images: u64, bytes: u64) {
        let less = |counter: &AtomicU64, by| {
            let subtract = |now: u64| Some(now.saturating_sub(by));
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
        };
        less(&self.images, images);
        less(&self.bytes, bytes);
        self.publish();
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn publish(&self) {
        if self.counted.load(Ordering::Relaxed) {
            let Stored { images, bytes } = self.get();
            gauge!("mcp_image_stored_images").set(images as f64);
            gauge!("mcp_image_stored_bytes").set(bytes as f64);
        }
    }
}
