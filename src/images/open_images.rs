//! Images that are held open: who asks for one again needs neither its folder nor its metadata.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use quick_cache::{OptionsBuilder, UnitWeighter, sync};

use super::original::Original;
use crate::{image::ImageId, storage::Content};

/// Images that are held open at most: a descriptor each, an eighth of what a process usually may have.
pub(super) const MOST_OPEN: usize = 128;
/// Independently locked parts.
const SHARDS: usize = 2;

/// An image that is held open.
pub(super) struct OpenImage {
    pub(super) original: Arc<Original>,
    content: Mutex<Box<dyn Content>>,
    /// Whether it was asked for since the last sweep.
    used: AtomicBool,
}

impl OpenImage {
    /// The bytes of `range`, if they are few and need not be waited for.
    pub(super) fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        self.content().at_hand(range)
    }

    /// A reader of its own.
    pub(super) fn reader(&self) -> Option<Box<dyn Content>> {
        self.content().share()
    }

    fn content(&self) -> MutexGuard<'_, Box<dyn Content>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The images that are held open, by id.
pub(super) struct OpenImages(Option<sync::Cache<ImageId, Arc<OpenImage>>>);

impl Default for OpenImages {
    fn default() -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(MOST_OPEN as u64)
            .estimated_items_capacity(MOST_OPEN)
            .shards(SHARDS)
            .build()
            .ok();
        Self(options.map(|options| {
            sync::Cache::with_options(options, UnitWeighter, Default::default(), Default::default())
        }))
    }
}

impl OpenImages {
    pub(super) fn get(&self, id: ImageId) -> Option<Arc<OpenImage>> {
        let image = self.0.as_ref()?.get(&id)?;
        image.used.store(true, Ordering::Relaxed);
        Some(image)
    }

    /// Holds an image open, if its content can have several readers.
    pub(super) fn insert(&self, original: &Arc<Original>, content: &dyn Content) {
        let (Some(images), Some(content)) = (&self.0, content.share()) else { return };
        let id = original.metadata.image_id;
        let original = Arc::clone(original);
        let content = Mutex::new(content);
        images.insert(id, Arc::new(OpenImage { original, content, used: AtomicBool::new(true) }));
    }

    /// Closes an image, as soon as its readers are done.
    pub(super) fn close(&self, id: ImageId) {
        if let Some(images) = &self.0 {
            images.remove(&id);
        }
    }

    /// Closes what expired, and what was not asked for since the last time: the space of a deleted
    /// image is free when nobody has it open.
    pub(super) fn sweep(&self, now: DateTime<Utc>) {
        if let Some(images) = &self.0 {
            images.retain(|_, image| {
                image.used.swap(false, Ordering::Relaxed) && !image.original.metadata.is_expired(now)
            });
        }
    }
}
