//! Where images live: one contract, several backends.
//!
//! An image that [`ImageStore::save`] acknowledged is there, whole, until its expiry; one that was
//! not acknowledged is absent or whole, never partial. After its expiry an id is
//! [`Error::NotFound`] at once, whether [`ImageStore::expire`] has come by or not.

mod error;
mod fallback;
mod file;
mod memory;
mod observed;
mod open;
mod records;
mod s3;
mod usage;
mod watched;

use std::{
    ops::Range,
    path::PathBuf,
    pin::Pin,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use layers::send_file::FileSender;

pub use self::{
    error::Error,
    fallback::Fallback,
    file::{FileRecords, FileStore},
    memory::{MemoryRecords, MemoryStore},
    observed::{Observed, ObservedRecords},
    open::{Storage, open},
    records::{
        InvalidRecordKey, MAX_RECORD_BYTES, Record, RecordError, RecordKey, RecordKind, RecordPage,
        RecordQuery, RecordStore, RecordVersion, StoredRecord, SweptRecords,
    },
    s3::{Delivery, S3Config, S3Credentials, S3Identity, S3Records, S3Store, S3Timeouts, WebIdentity},
    usage::{Stored, Usage},
    watched::{Removals, Watched},
};
use crate::image::{Format, ImageId, Metadata};

/// Bytes of an image as they come from the backend, in chunks.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// Bytes that [`Content::send`] promises at most. The kernel sends page by page: of 8 MB that came to 1.4 times nginx's rate,
/// and chunks that are read and written to 1.9.
pub const MOST_SENT: u64 = 2 << 20;

/// A chunk from an HTTP connection at most: hyper's own limit, rounded up.
const HTTP_CHUNK: u64 = 420 * 1024;

/// Which backend, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The backend and what is its own.
    pub backend: Backend,
    /// Whether a save waits until the disk has it (file backend).
    pub sync: bool,
}

/// A backend and what is its own.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A folder, local or a mounted volume.
    File {
        /// The folder; made if absent.
        path: PathBuf,
    },
    /// This process's memory: gone with it.
    Memory {
        /// Bytes of images kept at most; beyond it a save is [`Error::Full`].
        max_bytes: u64,
    },
    /// A bucket of S3, or of what speaks its language.
    S3(Box<S3Config>),
}

impl Backend {
    /// `file`, `memory` or `s3`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Memory { .. } => "memory",
            Self::S3(_) => "s3",
        }
    }

    /// Bytes that so many readers hold at most while they are served.
    #[must_use]
    pub const fn delivery_memory(&self, readers: u64) -> u64 {
        match self {
            Self::File { .. } => file::delivery_memory(readers),
            // Chunks share the memory of the image.
            Self::Memory { .. } => 0,
            Self::S3(_) => readers.saturating_mul(HTTP_CHUNK),
        }
    }
}

impl std::fmt::Display for Backend {
    /// For a person: the backend and where it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path } => write!(f, "file, {}", path.display()),
            Self::Memory { max_bytes } => {
                write!(f, "memory, up to {max_bytes} bytes, gone when the server ends")
            }
            Self::S3(config) => {
                write!(f, "s3, bucket {}, below {}", config.bucket, config.prefix)?;
                match &config.endpoint_url {
                    Some(url) => write!(f, ", at {url}")?,
                    None => write!(f, ", in {}", config.region)?,
                }
                match &config.fallback {
                    Some(path) => write!(f, "; while it is away: {}", path.display()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// An image to be saved; `metadata` describes exactly these `bytes`.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The encoded image.
    pub bytes: Bytes,
    /// What is known about it; its `image_id` is the name.
    pub metadata: Metadata,
}

/// What of a listing is wanted.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Only ids whose text starts with this.
    pub prefix: Option<String>,
    /// Only ids older than this one: the last id of the page before.
    pub cursor: Option<ImageId>,
    /// Images on a page at most.
    pub limit: usize,
}

/// One page of a listing, newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The images, expired ones left out.
    pub images: Vec<Metadata>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<ImageId>,
}

/// An image as a walk comes by: what its name and its length tell, without its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// The image.
    pub image_id: ImageId,
    /// Its format.
    pub format: Format,
    /// The length of what is stored, in bytes.
    pub size_bytes: u64,
}

impl From<&Metadata> for Walked {
    fn from(metadata: &Metadata) -> Self {
        let Metadata { image_id, format, size_bytes, .. } = *metadata;
        Self { image_id, format, size_bytes }
    }
}

/// What a walk comes by, as it comes by.
pub type Walk<'a> = Pin<Box<dyn Stream<Item = Result<Walked, Error>> + Send + 'a>>;

/// What one cleaning cycle did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Expired {
    /// Images removed because their time was over.
    pub removed: u64,
    /// Bytes of those images.
    pub removed_bytes: u64,
    /// Leftovers of interrupted saves and deletes that were swept.
    pub swept: u64,
    /// Images that were due but could not be removed; the next cycle tries again.
    pub failed: u64,
    /// Which images were removed; not all of them where that would be very many.
    #[serde(skip)]
    pub ids: Vec<ImageId>,
}

impl Expired {
    /// Ids that are noted at most: those of a hundred thousand images take 1.6 MB.
    const MAX_IDS: usize = 100_000;

    /// Counts and notes an image that was removed.
    pub fn note(&mut self, id: ImageId, bytes: u64) {
        self.removed += 1;
        self.removed_bytes += bytes;
        if self.ids.len() < Self::MAX_IDS {
            self.ids.push(id);
        }
    }

    /// Adds what another part of the cycle did.
    pub fn add(&mut self, more: Self) {
        self.removed += more.removed;
        self.removed_bytes += more.removed_bytes;
        self.swept += more.swept;
        self.failed += more.failed;
        let room = Self::MAX_IDS.saturating_sub(self.ids.len());
        self.ids.extend(more.ids.into_iter().take(room));
    }
}

/// An open image: its metadata at hand, its bytes on demand.
pub struct Opened {
    /// What is known about the image.
    pub metadata: Metadata,
    /// Its bytes.
    pub content: Box<dyn Content>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// The bytes of an open image. They stay readable when the image is deleted meanwhile.
#[async_trait]
pub trait Content: Send {
    /// Streams the bytes of `range` (offsets from 0, end exclusive, within `size_bytes`) in
    /// chunks, read as they are asked for. A backend that comes up short ends the stream with an
    /// error, never early and silently.
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error>;

    /// Streams like [`stream`](Content::stream), for a connection that sends parts of files itself: of
    /// what is in a file and at hand, promises are streamed, if it is [`MOST_SENT`] at most.
    async fn send(self: Box<Self>, range: Range<u64>, _sender: FileSender) -> Result<ByteStream, Error> {
        self.stream(range).await
    }

    /// Reads the bytes of `range` into one buffer. Whoever calls this has room for them.
    async fn read(self: Box<Self>, range: Range<u64>) -> Result<Bytes, Error> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
        let mut stream = self.stream(range).await?;
        let first = stream.try_next().await?.unwrap_or_default();
        if first.len() >= length {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&first);
        while let Some(chunk) = stream.try_next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Another reader of the same open image; `None` where each reader has to open it anew.
    fn share(&self) -> Option<Box<dyn Content>> {
        None
    }

    /// The bytes of `range`, if they are few and can be had without waiting. `None` says nothing of
    /// whether they are there.
    fn at_hand(&self, _range: Range<u64>) -> Option<Bytes> {
        None
    }
}

/// Where a client may fetch an image itself.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// What is known about the image.
    pub metadata: Metadata,
    /// The URL: whoever has it may read the image, and no longer than the image lives.
    pub url: String,
    /// How long the URL is good for.
    pub life: Duration,
}

/// A place that keeps images.
#[async_trait]
pub trait ImageStore: Send + Sync + 'static {
    /// `file`, `s3` or `memory`.
    fn kind(&self) -> &'static str;

    /// Begins what goes on in the background, and checks what no waiting would mend: names,
    /// addresses, rights. A backend that is only away is no error.
    ///
    /// # Errors
    /// What has to be changed before the store can be used.
    async fn start(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Keeps an image. When this returns `Ok` the image survives a crash.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the id is taken: an image is never overwritten.
    async fn save(&self, image: NewImage) -> Result<(), Error>;

    /// Opens an image for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is absent, deleted or expired.
    async fn open(&self, id: ImageId) -> Result<Opened, Error>;

    /// What is known about an image.
    ///
    /// # Errors
    /// [`Error::NotFound`] as with [`open`](Self::open).
    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error>;

    /// Where a client may fetch the image itself; `None` if its bytes come from here, by
    /// [`open`](Self::open).
    ///
    /// # Errors
    /// [`Error::NotFound`] as with [`open`](Self::open), if the backend redirects.
    async fn redirect(&self, _id: ImageId) -> Result<Option<Redirect>, Error> {
        Ok(None)
    }

    /// Removes an image; `false` if it was not there. Open readers finish.
    async fn delete(&self, id: ImageId) -> Result<bool, Error>;

    /// A page of images, newest first.
    async fn list(&self, query: ListQuery) -> Result<Page, Error>;

    /// Removes what is due at `now`, oldest first, and stops at the first image that is not due.
    async fn expire(&self, now: SystemTime) -> Result<Expired, Error>;

    /// Whether the backend can be written, read and deleted from, by doing so.
    async fn check(&self) -> Result<(), Error>;

    /// Comes by every image, oldest first, expired ones that are not yet removed and damaged ones
    /// included. It goes as far as it is asked to; what is saved or removed meanwhile may be left
    /// out.
    ///
    /// Unless a backend does better, this lists all images before the first one comes, and those
    /// that a listing leaves out are left out.
    fn walk(&self) -> Walk<'_> {
        let all = async move {
            let mut all = Vec::new();
            let mut query = ListQuery { prefix: None, cursor: None, limit: 1000 };
            loop {
                let page = self.list(query.clone()).await?;
                all.extend(page.images.iter().map(Walked::from));
                query.cursor = page.next;
                if query.cursor.is_none() {
                    break;
                }
            }
            Ok::<_, Error>(futures_util::stream::iter(all.into_iter().rev().map(Ok)))
        };
        futures_util::stream::once(all).try_flatten().boxed()
    }

    /// Removes images that a walk came by, whatever their expiry: many for the price of few. Open
    /// readers finish. An image that is gone already counts as neither removed nor failed.
    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        let mut done = Expired::default();
        for image in images {
            if self.delete(image.image_id).await? {
                done.note(image.image_id, image.size_bytes);
            }
        }
        Ok(done)
    }

    /// What is known about an image, whether it is expired or not.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is absent, [`Error::Corrupt`] if it is there and what is known
    /// about it is lost.
    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        self.metadata(id).await
    }
}
