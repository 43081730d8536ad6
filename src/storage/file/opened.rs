//! Images that were opened a moment ago, and what is known about them.
//!
//! To open an image takes its folder, its metadata, the image itself, and a thread that may wait for all of them: many
//! times what the bytes of a small image cost. So the last ones stay open, as in other servers of files. A removed
//! image is noticed by its descriptor, whoever removed it.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::image::{ImageId, Metadata};

/// Images kept open at most, each with a descriptor.
const MOST: usize = 128;

/// An image stays open for this long before it is opened anew: a file system on the network may not tell
/// what another machine has removed.
const FRESH: Duration = Duration::from_secs(5);

/// How often those are let go that nobody asked for again: what is open and removed still takes its space.
const SWEEP: Duration = Duration::from_secs(1);

/// The images that are open.
#[derive(Debug)]
pub(super) struct OpenImages {
    images: Cache<ImageId, Arc<OpenImage>>,
    started: Instant,
    /// Milliseconds from `started` to the last sweep.
    swept: AtomicU64,
}

/// An image, whole and open.
#[derive(Debug)]
pub(super) struct OpenImage {
    pub(super) metadata: Metadata,
    pub(super) file: File,
    opened: Instant,
}

impl OpenImage {
    pub(super) fn new(metadata: Metadata, file: File) -> Self {
        Self { metadata, file, opened: Instant::now() }
    }

    fn is_fresh(&self) -> bool {
        self.opened.elapsed() < FRESH
    }

    /// Whether the file still has its name and its length.
    fn is_whole(&self) -> bool {
        links_and_length(&self.file)
            .is_some_and(|(links, length)| links > 0 && length == self.metadata.size_bytes)
    }
}

impl Default for OpenImages {
    fn default() -> Self {
        Self { images: Cache::new(MOST), started: Instant::now(), swept: AtomicU64::new(0) }
    }
}

impl OpenImages {
    /// An image that is open, still there, and not expired at `now`. Does not wait for a disk.
    pub(super) fn get(&self, id: ImageId, now: DateTime<Utc>) -> Option<Arc<OpenImage>> {
        let image = self.images.get(&id)?;
        if image.is_fresh() && !image.metadata.is_expired(now) && image.is_whole() {
            return Some(image);
        }
        self.images.remove(&id);
        None
    }

    /// Keeps an image open, and lets go of those whose time is over.
    pub(super) fn keep(&self, id: ImageId, image: Arc<OpenImage>) {
        self.images.insert(id, image);
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let swept = self.swept.load(Ordering::Relaxed);
        let due = u128::from(now.saturating_sub(swept)) >= SWEEP.as_millis();
        if due && self.swept.compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.sweep();
        }
    }

    /// Lets go of an image.
    pub(super) fn forget(&self, id: ImageId) {
        self.images.remove(&id);
    }

    /// Lets go of the images that would be opened anew, and of removed ones.
    pub(super) fn sweep(&self) {
        self.images.retain(|_, image| image.is_fresh() && image.is_whole());
    }
}

/// How many names a file has, and bytes, as far as this machine knows without asking another.
#[cfg(target_os = "linux")]
fn links_and_length(file: &File) -> Option<(u64, u64)> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let status = statx(file, "", flags, StatxFlags::NLINK | StatxFlags::SIZE).ok()?;
    Some((status.stx_nlink.into(), status.stx_size))
}

#[cfg(not(target_os = "linux"))]
fn links_and_length(file: &File) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let status = file.metadata().ok()?;
    Some((status.nlink(), status.len()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd};

    use tempfile::TempDir;

    use super::{
        super::{FileStore, tests::image},
        *,
    };
    use crate::storage::{Error, ImageStore, NewImage};

    async fn read(store: &FileStore, image: &NewImage) -> Result<bytes::Bytes, Error> {
        store.open(image.metadata.image_id).await?.content.read(0..image.metadata.size_bytes).await
    }

    async fn saved() -> (FileStore, TempDir, NewImage) {
        let folder = TempDir::new().unwrap();
        let store = FileStore::open(folder.path(), false).unwrap();
        let image = image();
        store.save(image.clone()).await.unwrap();
        (store, folder, image)
    }

    fn is_kept(store: &FileStore, image: &NewImage) -> bool {
        store.shared.opened.get(image.metadata.image_id, Utc::now()).is_some()
    }

    #[tokio::test]
    async fn image_stays_open_and_reads_the_same_again() {
        let (store, _folder, image) = saved().await;
        assert!(!is_kept(&store, &image));
        for _ in 0..3 {
            assert_eq!(read(&store, &image).await.unwrap(), image.bytes);
            assert!(is_kept(&store, &image));
        }
    }

    #[tokio::test]
    async fn image_removed_by_this_process_or_another_is_gone_at_once() {
        let (store, _folder, image) = saved().await;
        read(&store, &image).await.unwrap();
        assert!(store.delete(image.metadata.image_id).await.unwrap());
        assert!(matches!(read(&store, &image).await, Err(Error::NotFound)));

        let (store, folder, image) = saved().await;
        read(&store, &image).await.unwrap();
        let other = FileStore::open(folder.path(), false).unwrap();
        assert!(other.delete(image.metadata.image_id).await.unwrap());
        assert!(matches!(read(&store, &image).await, Err(Error::NotFound)));
    }

    #[tokio::test]
    async fn image_that_is_cut_while_it_is_open_is_damaged() {
        let (store, _folder, image) = saved().await;
        read(&store, &image).await.unwrap();
        let kept = store.shared.opened.get(image.metadata.image_id, Utc::now()).unwrap();
        let path = fs::read_link(format!("/proc/self/fd/{}", kept.file.as_raw_fd())).unwrap();
        File::options().write(true).open(path).unwrap().set_len(9).unwrap();
        assert!(matches!(read(&store, &image).await, Err(Error::Corrupt { .. })));
    }

    #[tokio::test]
    async fn expired_image_is_not_served_from_its_descriptor() {
        let (store, _folder, image) = saved().await;
        read(&store, &image).await.unwrap();
        let id = image.metadata.image_id;
        assert!(store.shared.opened.get(id, image.metadata.expires_at).is_none());
        assert!(!is_kept(&store, &image), "let go");
    }

    #[tokio::test(start_paused = true)]
    async fn image_is_opened_anew_after_a_while_and_let_go_when_nobody_asks() {
        let (store, folder, image) = saved().await;
        let path = folder.path().join("file");
        fs::write(&path, &image.bytes).unwrap();
        let file = || File::open(&path).unwrap();
        let id = image.metadata.image_id;
        let kept = Arc::new(OpenImage::new(image.metadata.clone(), file()));
        store.shared.opened.keep(id, kept);
        assert!(is_kept(&store, &image));
        tokio::time::advance(FRESH).await;
        let another = Arc::new(OpenImage::new(image.metadata.clone(), file()));
        store.shared.opened.keep(ImageId::now(), another);
        assert_eq!(store.shared.opened.images.len(), 1, "swept");
        assert!(!is_kept(&store, &image));
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_kept_open() {
        let (store, folder, image) = saved().await;
        let path = folder.path().join("file");
        fs::write(&path, &image.bytes).unwrap();
        for _ in 0..3 * MOST {
            let open = OpenImage::new(image.metadata.clone(), File::open(&path).unwrap());
            store.shared.opened.keep(ImageId::now(), Arc::new(open));
        }
        assert!(store.shared.opened.images.len() <= MOST);
        let open = fs::read_dir("/proc/self/fd").map(|fds| {
            fds.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|target| target == path))
                .count()
        });
        assert!(open.is_ok_and(|open| open <= MOST));
    }
}
