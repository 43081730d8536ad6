//! Stored images, as far as possible from memory.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use quick_cache::{Weighter, sync};
use tokio::time::Instant;

use super::{
    cache::{Cache, Key},
    flights::Flights,
    open_images::{OpenImage, OpenImages},
    original::Original,
};
use crate::{
    image::{ImageId, Metadata},
    storage::{Content, Error, ImageStore, MOST_SENT, Redirect},
};

/// How long an image is served from memory before the store is asked whether it is still there:
/// another replica may have deleted it.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often memory is searched for what expired.
const SWEEP: Duration = Duration::from_secs(60);
/// Lengths of images that the kernel sends from a file that is held open although they are in memory: to copy them costs more
/// than what a promise needs of system calls.
const SENT_FROM_FILE: RangeInclusive<u64> = 64 << 10..=MOST_SENT;
/// A longer image is loaded whole when it is asked for again: whoever asks first need not wait for its last byte before the
/// first is sent.
const LOADED_AT_FIRST: u64 = MOST_SENT;
/// The part of the budget that metadata may take.
const METADATA_PART: u64 = 16;

/// Where the bytes of an open image come from.
pub(super) enum Source {
    /// Memory.
    Bytes(Bytes),
    /// The store, as they are asked for.
    Content(Box<dyn Content>),
    /// The store, from an image that is held open.
    Open(Arc<OpenImage>),
    /// Elsewhere: the client may fetch them itself.
    Redirect(Box<Redirect>),
}

/// The images of a store. Cheap to clone.
#[derive(Clone)]
pub(super) struct Originals(Arc<Inner>);

struct Inner {
    store: Arc<dyn ImageStore>,
    known: Option<sync::Cache<ImageId, Arc<Original>, ByWords>>,
    cache: Arc<Cache>,
    open: OpenImages,
    loads: Flights<ImageId, Result<Loaded, Arc<Error>>>,
    /// Counts what was forgotten: a load that began before must not be kept after.
    forgotten: AtomicU64,
    started: Instant,
    /// Milliseconds from `started` to the last sweep.
    swept: AtomicU64,
}

#[derive(Clone)]
struct ByWords;

impl Weighter<ImageId, Arc<Original>> for ByWords {
    fn weight(&self, _: &ImageId, original: &Arc<Original>) -> u64 {
        original.weight()
    }
}

/// An image as one load of it is shared.
#[derive(Clone)]
struct Loaded {
    original: Arc<Original>,
    bytes: Option<Bytes>,
    /// What was opened for an image that is not kept: for the first who takes it.
    content: Arc<Mutex<Option<Box<dyn Content>>>>,
}

impl Originals {
    pub(super) fn new(store: Arc<dyn ImageStore>, cache: Arc<Cache>, max_bytes: u64) -> Self {
        let known = cache.is_on().then(|| {
            let weight = max_bytes / METADATA_PART;
            let guess = usize::try_from(weight / 1024).unwrap_or(usize::MAX).clamp(64, 65_536);
            sync::Cache::with_weighter(guess, weight, ByWords)
        });
        Self(Arc::new(Inner {
            store,
            known,
            cache,
            open: OpenImages::default(),
            loads: Flights::default(),
            forgotten: AtomicU64::new(0),
            started: Instant::now(),
            swept: AtomicU64::new(0),
        }))
    }

    pub(super) fn store(&self) -> &dyn ImageStore {
        &*self.0.store
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// What is known about an image.
    pub(super) async fn find(&self, id: ImageId, now: DateTime<Utc>) -> Result<Arc<Original>, Arc<Error>> {
        if let Some(original) = self.known(id, now).await? {
            return Ok(original);
        }
        let forgotten = self.0.forgotten.load(Ordering::Acquire);
        self.learn(self.0.store.metadata(id).await?, forgotten)
    }

    /// An image and its bytes, from memory where they are; or where a client may fetch them itself. For a
    /// connection that `sends_files` a large one that is held open comes from its file all the same.
    pub(super) async fn deliver(
        &self,
        id: ImageId,
        now: DateTime<Utc>,
        sends_files: bool,
    ) -> Result<(Arc<Original>, Source), Arc<Error>> {
        if let Some(original) = self.known(id, now).await? {
            if sends_files
                && SENT_FROM_FILE.contains(&original.metadata.size_bytes)
                && let Some(open) = self.held_open(id, now)
            {
                return Ok(open);
            }
            if let Some(bytes) = self.kept(id, now) {
                return Ok((original, Source::Bytes(bytes)));
            }
        }
        if let Some(open) = self.held_open(id, now) {
            return Ok(open);
        }
        if let Some(redirect) = self.0.store.redirect(id).await? {
            let original = Arc::new(Original::new(redirect.metadata.clone())?);
            return Ok((original, Source::Redirect(Box::new(redirect))));
        }
        // What is asked of the store may have room of its own, which the rest does not carry about.
        Box::pin(self.fetch(id, now)).await
    }

    /// An image and its bytes, from memory where they are.
    pub(super) async fn open(
        &self,
        id: ImageId,
        now: DateTime<Utc>,
    ) -> Result<(Arc<Original>, Source), Arc<Error>> {
        if let Some((original, bytes)) = self.in_memory(id, now).await? {
            return Ok((original, Source::Bytes(bytes)));
        }
        match self.held_open(id, now) {
            Some(open) => Ok(open),
            None => self.fetch(id, now).await,
        }
    }

    /// An image that is held open. That it is still there was asked before.
    fn held_open(&self, id: ImageId, now: DateTime<Utc>) -> Option<(Arc<Original>, Source)> {
        let open = self.0.open.get(id).filter(|open| !open.original.metadata.is_expired(now))?;
        Some((Arc::clone(&open.original), Source::Open(open)))
    }

    async fn in_memory(
        &self,
        id: ImageId,
        now: DateTime<Utc>,
    ) -> Result<Option<(Arc<Original>, Bytes)>, Arc<Error>> {
        let Some(original) = self.known(id, now).await? else { return Ok(None) };
        Ok(self.kept(id, now).map(|bytes| (original, bytes)))
    }

    fn kept(&self, id: ImageId, now: DateTime<Utc>) -> Option<Bytes> {
        self.0.cache.get(&Key { id, variant: None }, now)
    }

    /// An image from the store: loaded whole where it may be kept, else as a stream.
    async fn fetch(&self, id: ImageId, now: DateTime<Utc>) -> Result<(Arc<Original>, Source), Arc<Error>> {
        let known = self.0.known.as_ref().and_then(|known| known.get(&id));
        let large = known.filter(|original| !self.0.cache.takes(original.metadata.size_bytes));
        if large.is_some() || !self.0.cache.is_on() {
            let forgotten = self.forgotten();
            let opened = self.0.store.open(id).await?;
            let original = match large.filter(|original| !original.metadata.is_expired(now)) {
                Some(original) => original,
                None => Arc::new(Original::new(opened.metadata)?),
            };
            self.hold_open(&original, &*opened.content, forgotten);
            return Ok((original, Source::Content(opened.content)));
        }
        let this = self.clone();
        let loaded = self.0.loads.join(id, || async move { this.load(id).await }).await?;
        let source = match loaded.bytes {
            Some(bytes) => Source::Bytes(bytes),
            None => {
                let content = loaded.content.lock().unwrap_or_else(PoisonError::into_inner).take();
                match content {
                    Some(content) => Source::Content(content),
                    None => Source::Content(self.0.store.open(id).await?.content),
                }
            }
        };
        Ok((loaded.original, source))
    }

    /// The image is gone: nothing of it is served from memory any more.
    pub(super) fn forget(&self, id: ImageId) {
        self.0.forgotten.fetch_add(1, Ordering::AcqRel);
        if let Some(known) = &self.0.known {
            known.remove(&id);
        }
        self.0.open.close(id);
        self.0.cache.forget(id);
    }

    /// The image is not held open any more: it cannot be read, or its time is over.
    pub(super) fn close(&self, id: ImageId) {
        self.0.open.close(id);
    }

    /// Holds an image open, unless something was forgotten since `forgotten` was read.
    fn hold_open(&self, original: &Arc<Original>, content: &dyn Content, forgotten: u64) {
        self.0.open.insert(original, content);
        if self.forgotten() != forgotten {
            self.0.open.close(original.metadata.image_id);
        }
    }

    /// Counts what was forgotten so far; see [`Originals::keep`].
    pub(super) fn forgotten(&self) -> u64 {
        self.0.forgotten.load(Ordering::Acquire)
    }

    /// Keeps bytes of an image, unless something was forgotten since `forgotten` was read.
    pub(super) fn keep(&self, key: Key, bytes: Bytes, expires_at: DateTime<Utc>, forgotten: u64) {
        self.0.cache.insert(key, bytes, expires_at);
        if self.forgotten() != forgotten {
            self.0.cache.forget(key.id);
        }
    }

    /// The image as it is known, if it is and is still there.
    async fn known(&self, id: ImageId, now: DateTime<Utc>) -> Result<Option<Arc<Original>>, Arc<Error>> {
        let at = Instant::now();
        self.sweep(now, at);
        let known = self.0.known.as_ref().and_then(|known| known.get(&id));
        let open = || self.0.open.get(id).map(|open| Arc::clone(&open.original));
        let Some(original) = known.or_else(open) else { return Ok(None) };
        if original.metadata.is_expired(now) {
            self.forget(id);
            return Err(Arc::new(Error::NotFound));
        }
        if original.is_due(ASK_AGAIN, at) {
            match self.0.store.metadata(id).await {
                Ok(_) => {}
                Err(Error::NotFound) => {
                    self.forget(id);
                    return Err(Arc::new(Error::NotFound));
                }
                // What is in memory is still right; a store that is down need not be felt here.
                Err(error) => {
                    tracing::warn!(image_id = %id, %error, "served from memory: the store does not answer");
                }
            }
        }
        Ok(Some(original))
    }

    fn learn(&self, metadata: Metadata, forgotten: u64) -> Result<Arc<Original>, Arc<Error>> {
        let id = metadata.image_id;
        let original = Arc::new(Original::new(metadata)?);
        if let Some(known) = &self.0.known {
            known.insert(id, Arc::clone(&original));
            if self.forgotten() != forgotten {
                known.remove(&id);
            }
        }
        Ok(original)
    }

    async fn load(&self, id: ImageId) -> Result<Loaded, Arc<Error>> {
        let forgotten = self.forgotten();
        let again = self.0.known.as_ref().is_some_and(|known| known.get(&id).is_some());
        let opened = self.0.store.open(id).await?;
        let original = self.learn(opened.metadata, forgotten)?;
        let length = original.metadata.size_bytes;
        let may_be_kept = self.0.cache.takes(length);
        let waits = may_be_kept && length > LOADED_AT_FIRST && !again;
        let share = if may_be_kept && !waits { self.0.cache.reserve(length) } else { None };
        // One that is kept the next time is not held open: it would be sent from there ever after.
        if !waits && (share.is_none() || SENT_FROM_FILE.contains(&length)) {
            self.hold_open(&original, &*opened.content, forgotten);
        }
        let Some(share) = share else {
            return Ok(Loaded { original, bytes: None, content: Arc::new(Mutex::new(Some(opened.content))) });
        };
        let bytes = share.hold(opened.content.read(0..length).await?);
        self.keep(Key { id, variant: None }, bytes.clone(), original.metadata.expires_at, forgotten);
        Ok(Loaded { original, bytes: Some(bytes), content: Arc::default() })
    }

    /// Now and then, lets go of what expired without being asked for.
    fn sweep(&self, now: DateTime<Utc>, at: Instant) {
        let millis = u64::try_from(at.duration_since(self.0.started).as_millis()).unwrap_or(u64::MAX);
        let swept = self.0.swept.load(Ordering::Relaxed);
        let due = millis.saturating_sub(swept) >= u64::try_from(SWEEP.as_millis()).unwrap_or(u64::MAX);
        if due && self.0.swept.compare_exchange(swept, millis, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            if let Some(known) = &self.0.known {
                known.retain(|_, original| !original.metadata.is_expired(now));
            }
            self.0.open.sweep(now);
            self.0.cache.sweep(now);
        }
    }
}
