//! A store in memory that streams in small chunks, counts what was asked of it, and fails on demand.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use crate::{
    image::{Format, Generation, ImageId, Metadata},
    storage::{ByteStream, Content, Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page},
};

pub(super) const CHUNK_BYTES: usize = 10;

/// A range that is at hand has so many bytes at most.
const AT_HAND_BYTES: u64 = 26;

/// Makes an error: [`Error`] cannot be cloned.
pub(super) type Fault = fn() -> Error;

#[derive(Default)]
pub(super) struct FakeStore {
    images: Mutex<BTreeMap<ImageId, NewImage>>,
    /// Makes the error of every call.
    fault: Mutex<Option<Fault>>,
    /// Fails each stream after this many chunks.
    pub(super) break_after: Mutex<Option<usize>>,
    /// Chunks that were asked of streams.
    pub(super) chunks: Arc<AtomicUsize>,
    /// Calls that were made.
    pub(super) calls: AtomicUsize,
    /// Images that were asked of a listing at once, at most.
    pub(super) most_listed: AtomicUsize,
    /// Images are opened by those who get a permit from here, if it is there.
    pub(super) gate: Mutex<Option<Arc<Semaphore>>>,
    /// Open images can have several readers, as those of a folder.
    pub(super) shares: AtomicBool,
    /// Images that are open.
    pub(super) open: Arc<()>,
}

impl FakeStore {
    pub(super) fn fail_with(&self, fault: Fault) {
        *self.fault.lock().expect("no panic") = Some(fault);
    }

    /// Keeps an image with the given bytes and 100 seconds to live, made 200 seconds ago.
    pub(super) fn put(&self, format: Format, bytes: impl Into<Bytes>) -> Metadata {
        self.put_with(format, bytes, |_| {})
    }

    pub(super) fn put_with(
        &self,
        format: Format,
        bytes: impl Into<Bytes>,
        change: impl FnOnce(&mut Metadata),
    ) -> Metadata {
        let bytes = bytes.into();
        let created_at = Utc::now() - TimeDelta::seconds(200);
        let mut metadata = Metadata {
            image_id: ImageId::now(),
            format,
            width: 1,
            height: 1,
            size_bytes: bytes.len().try_into().expect("short"),
            blake3: "0123456789abcdef".repeat(4),
            created_at,
            expires_at: created_at + TimeDelta::seconds(300),
            thumbhash: None,
            generation: Generation {
                prompt: "a fox".to_owned(),
                negative_prompt: None,
                num_inference_steps: 1,
                guidance_scale: 7.5,
                seed: None,
                model: "m".to_owned(),
                predictor: "embedded".to_owned(),
                generation_seconds: 0.1,
            },
        };
        change(&mut metadata);
        let image = NewImage { bytes, metadata: metadata.clone() };
        self.images().insert(metadata.image_id, image);
        metadata
    }

    /// Images that are open.
    pub(super) fn opened(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    /// Takes an image away as another replica would.
    pub(super) fn take(&self, id: ImageId) {
        self.images().remove(&id);
    }

    pub(super) fn recover(&self) {
        *self.fault.lock().expect("no panic") = None;
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<ImageId, NewImage>> {
        self.images.lock().expect("no panic")
    }

    fn call(&self) -> Result<(), Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match *self.fault.lock().expect("no panic") {
            Some(fault) => Err(fault()),
            None => Ok(()),
        }
    }

    fn find(&self, id: ImageId) -> Result<NewImage, Error> {
        self.call()?;
        let image = self.images().get(&id).cloned().ok_or(Error::NotFound)?;
        if image.metadata.is_expired(Utc::now()) { Err(Error::NotFound) } else { Ok(image) }
    }
}

#[derive(Clone)]
struct FakeContent {
    bytes: Bytes,
    shares: bool,
    _open: Arc<()>,
    break_after: Option<usize>,
    chunks: Arc<AtomicUsize>,
}

#[async_trait]
impl Content for FakeContent {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        let offset = |offset| usize::try_from(offset).expect("short");
        let bytes = self.bytes.slice(offset(range.start)..offset(range.end));
        let offsets = (0..bytes.len()).step_by(CHUNK_BYTES).enumerate();
        Ok(stream::iter(offsets)
            .map(move |(index, offset)| {
                self.chunks.fetch_add(1, Ordering::SeqCst);
                if self.break_after.is_some_and(|limit| index >= limit) {
                    return Err(Error::Unavailable("secret-host:9000 is gone".into()));
                }
                Ok(bytes.slice(offset..bytes.len().min(offset + CHUNK_BYTES)))
            })
            .boxed())
    }

    fn share(&self) -> Option<Box<dyn Content>> {
        self.shares.then(|| Box::new(self.clone()) as _)
    }

    fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let offset = |offset| usize::try_from(offset).expect("short");
        let few = range.end - range.start <= AT_HAND_BYTES;
        few.then(|| self.bytes.slice(offset(range.start)..offset(range.end)))
    }
}

#[async_trait]
impl ImageStore for FakeStore {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        self.images().insert(image.metadata.image_id, image);
        Ok(())
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        // Others get their turn in the middle, as with a real store.
        tokio::task::yield_now().await;
        let gate = self.gate.lock().expect("no panic").clone();
        if let Some(gate) = gate {
            gate.acquire().await.expect("open").forget();
        }
        let NewImage { bytes, metadata } = self.find(id)?;
        let break_after = *self.break_after.lock().expect("no panic");
        let content = FakeContent {
            bytes,
            shares: self.shares.load(Ordering::SeqCst),
            _open: Arc::clone(&self.open),
            break_after,
            chunks: Arc::clone(&self.chunks),
        };
        Ok(Opened { metadata, content: Box::new(content) })
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        Ok(self.find(id)?.metadata)
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        self.call()?;
        Ok(self.images().remove(&id).is_some())
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        self.call()?;
        self.most_listed.fetch_max(query.limit, Ordering::SeqCst);
        let mut images: Vec<_> = self
            .images()
            .values()
            .rev()
            .map(|image| image.metadata.clone())
            .filter(|metadata| query.cursor.is_none_or(|cursor| metadata.image_id < cursor))
            .filter(|metadata| {
                let id = metadata.image_id.to_string();
                query.prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix))
            })
            .collect();
        let more = images.len() > query.limit;
        images.truncate(query.limit);
        let next = images.last().filter(|_| more).map(|metadata| metadata.image_id);
        Ok(Page { images, next })
    }

    async fn expire(&self, _: SystemTime) -> Result<Expired, Error> {
        Ok(Expired::default())
    }

    async fn check(&self) -> Result<(), Error> {
        self.call()
    }
}
