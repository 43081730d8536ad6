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
mod s3;
mod watched;

use std::{
    ops::Range,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};

pub use self::{
    error::Error,
    fallback::Fallback,
    file::FileStore,
    memory::MemoryStore,
    observed::Observed,
    s3::{Delivery, S3Config, S3Credentials, S3Identity, S3Store, S3Timeouts, WebIdentity},
    watched::{Removals, Watched},
};
use crate::image::{ImageId, Metadata};

/// Bytes of an image as they come from the backend, in chunks.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A chunk from an HTTP connection at most: hyper's own limit, rounded up.
const HTTP_CHUNK: u64 = 420 * 1024;

/// Which backend, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The backend and what is its own.
    pub backend: Backend,
    /// What image URLs start with, without a trailing slash: `http://localhost:8000`.
    pub public_base_url: String,
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

    /// The URL under which clients get the image.
    fn url(&self, metadata: &Metadata) -> String;

    /// A page of images, newest first.
    async fn list(&self, query: ListQuery) -> Result<Page, Error>;

    /// Removes what is due at `now`, oldest first, and stops at the first image that is not due.
    async fn expire(&self, now: SystemTime) -> Result<Expired, Error>;

    /// Whether the backend can be written, read and deleted from, by doing so.
    async fn check(&self) -> Result<(), Error>;
}

/// Builds the configured backend, measured.
///
/// # Errors
/// When the folder of a file backend can neither be used nor made, or the certificates of an S3
/// backend cannot be read; the message names it and says what to do.
pub fn open(config: &Config) -> Result<Arc<dyn ImageStore>, Error> {
    let url = config.public_base_url.as_str();
    Ok(match &config.backend {
        Backend::File { path } => Arc::new(Observed::new(FileStore::open(path, url, config.sync)?)),
        Backend::Memory { max_bytes } => Arc::new(Observed::new(MemoryStore::new(url, *max_bytes))),
        Backend::S3(s3) => {
            let store = S3Store::new(s3, url)?;
            match &s3.fallback {
                None => Arc::new(Observed::new(store)),
                Some(path) => {
                    let local = FileStore::open(path, url, config.sync)?;
                    Arc::new(Observed::new(Fallback::new(store, local)))
                }
            }
        }
    })
}

/// The URL of an image below the public base URL.
fn image_url(public_base_url: &str, metadata: &Metadata) -> String {
    format!("{}/images/{}", public_base_url.trim_end_matches('/'), metadata.file_name())
}
