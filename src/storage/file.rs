//! Images in a folder, local or a mounted volume.
//!
//! ```text
//! <base>/<first 6 hex digits of the id>/<next 2>/<id>.json     metadata; its creation reserves the id
//!                                                <id>.tmp      the image while it is written
//!                                                <id>.png      the image; its appearance is the commit
//!       /records/...                                           what replicas must agree on
//! ```
//!
//! Eight digits are a *bucket*, 65.5 seconds of ids, so age is known from names alone, and no folder
//! has more names than a minute makes. 256 buckets are a *group*, 4.7 hours: however long images live,
//! and however few they are, the base folder stays short. Several processes may share the folder: what
//! must happen once hangs on an exclusive creation or on a removal, and files that are not ours by their
//! exact name are never touched.
//!
//! Each operation is one blocking job, which runs to its end when the caller goes away.

mod content;
mod delete;
mod expire;
mod folder;
mod list;
mod name;
mod probe;
mod read;
mod records;
mod save;
mod walk;

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use chrono::Utc;

pub use self::records::FileRecords;
use self::{
    folder::Folder,
    name::{Bucket, Group},
};
use super::{Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page, Walk, Walked};
use crate::image::{ImageId, Metadata};

/// Not the number of a bucket: those have 32 bits.
const NO_BUCKET: u64 = u64::MAX;

/// Bytes that the chunks of so many readers have at most.
pub(super) const fn delivery_memory(readers: u64) -> u64 {
    content::delivery_memory(readers)
}

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    sync: bool,
    /// The bucket whose own name is known to be on disk, and that of its group.
    durable: AtomicU64,
    /// The kinds of records, a bit each, whose folder's own name is known to be on disk.
    durable_records: AtomicU32,
    /// Buckets below this one were swept by this process.
    swept: AtomicU64,
    readers: Arc<content::Readers>,
}

impl FileStore {
    /// Uses a folder, and makes it if it is absent (then for this user alone).
    ///
    /// With `sync` a save returns when the disk has the image; without it, an image saved in the
    /// last seconds before a power failure may be lost or damaged.
    ///
    /// # Errors
    /// When the folder can neither be used nor made; the message names it and says what to do.
    pub fn open(path: &Path, sync: bool) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|error| failed("use the folder", path, error))?;
        let new = !path.exists();
        let opened = make_base(&path).and_then(|()| Folder::open(&path)).and_then(|_| {
            // The folder's own name: on disk before the first image is acknowledged.
            path.parent().filter(|_| sync && new).map_or(Ok(()), |parent| Folder::open(parent)?.sync())
        });
        opened.map_err(|source| {
            const HINT: &str = ": make it, writable for this user, or set STORAGE_PATH to another folder";
            Failed { action: "use the folder", path: path.clone(), hint: HINT, source }
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                sync,
                durable: AtomicU64::new(NO_BUCKET),
                durable_records: AtomicU32::new(0),
                swept: AtomicU64::new(0),
                readers: Arc::default(),
            }),
        })
    }

    /// The records in the same folder.
    #[must_use]
    pub fn records(&self) -> FileRecords {
        FileRecords { shared: Arc::clone(&self.shared) }
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        blocking(move || job(&shared)).await
    }
}

#[async_trait]
impl ImageStore for FileStore {
    fn kind(&self) -> &'static str {
        "file"
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        self.run(move |shared| save::save(shared, &image, &|_| Ok(()))).await
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        self.run(move |shared| read::open(shared, id, Utc::now())).await
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        self.run(move |shared| read::metadata(shared, id, Utc::now())).await
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        self.run(move |shared| delete::delete(shared, id, Utc::now())).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        self.run(move |shared| list::list(shared, &query, Utc::now())).await
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        expire::expire(&self.shared, now).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.run(probe::probe).await
    }

    fn walk(&self) -> Walk<'_> {
        walk::walk(&self.shared)
    }

    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        let images = images.to_vec();
        self.run(move |shared| walk::remove(shared, &images)).await
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        self.run(move |shared| read::inspect(shared, id)).await
    }
}

impl Shared {
    fn bucket_path(&self, bucket: Bucket) -> PathBuf {
        self.path.join(bucket.to_string())
    }

    /// Opens a bucket; `None` if it is not there.
    fn bucket(&self, bucket: Bucket) -> Result<Option<Folder>, Error> {
        // One after the other: neither may be a link.
        let open = || match Folder::open_in(&self.path, &bucket.group().to_string())? {
            Some(group) => group.folder(&bucket.name()),
            None => Ok(None),
        };
        open().map_err(|error| failed("open the folder", &self.bucket_path(bucket), error))
    }

    fn bucket_of(&self, id: ImageId) -> Result<Option<Folder>, Error> {
        self.bucket(Bucket::of(id))
    }

    /// The groups there are, oldest first. A base folder that was removed has none.
    fn groups(&self) -> Result<Vec<Group>, Error> {
        let open = || match Folder::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        };
        sorted(open(), Group::parse).map_err(|error| failed("list", &self.path, error))
    }

    /// The buckets there are in a group, oldest first.
    fn buckets(&self, group: Group) -> Result<Vec<Bucket>, Error> {
        let name = group.to_string();
        sorted(Folder::open_in(&self.path, &name), |name| group.bucket(name))
            .map_err(|error| failed("list", &self.path.join(name), error))
    }
}

/// What the names in a folder say, in order; nothing if it is not there.
fn sorted<T: Ord>(
    folder: io::Result<Option<Folder>>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    if let Some(folder) = folder? {
        folder.each_name(|name| {
            found.extend(parse(name.to_bytes()));
            Ok(())
        })?;
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the base folder if it is absent: for this user alone, as prompts and images are private.
fn make_base(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What was tried, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{hint}", path.display())]
struct Failed {
    action: &'static str,
    path: PathBuf,
    hint: &'static str,
    source: io::Error,
}

/// The error of an operation that did not fail for want of the image itself.
fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Failed { action, path: path.to_owned(), hint: "", source }.into()
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed.source.kind() {
            // The folder is meant, not an image.
            ErrorKind::NotFound | ErrorKind::AlreadyExists => Self::Unavailable(Box::new(failed)),
            kind => io::Error::new(kind, failed).into(),
        }
    }
}

/// Runs a whole operation where it may block, with the caller's span.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let span = tracing::Span::current();
    let finished = tokio::task::spawn_blocking(move || span.in_scope(job)).await;
    finished.unwrap_or_else(|error| Err(Error::Unavailable(Box::new(error))))
}

#[cfg(test)]
mod tests;
