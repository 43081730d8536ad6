use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Shared, blocking, failed, folder::Folder, name::Name};
use crate::{
    image::{ImageId, Metadata},
    storage::{ByteStream, Content, Error, Opened},
};

/// Metadata larger than this is not ours.
pub(super) const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// Bytes that the chunks of all readers together may have.
const READ_BUDGET: u64 = 16 << 20;

/// A chunk's length at most: with few readers, large ones cost less.
const MAX_CHUNK: u64 = 256 << 10;

/// A chunk's length at least: beyond 512 readers the budget gives way.
const MIN_CHUNK: u64 = 32 << 10;

/// What lies beside an image.
#[derive(Debug)]
pub(super) enum Sidecar {
    /// What was saved.
    Whole(Box<Metadata>),
    /// Nothing: no such image, or a damaged one.
    Absent,
    /// Something else: a save is under way or was interrupted, or the disk lost it.
    Damaged(String),
}

impl Sidecar {
    /// Reads the metadata beside an image.
    pub(super) fn read(folder: &Folder, id: ImageId) -> io::Result<Self> {
        let Some(file) = folder.read(&Name::sidecar(id).to_string())? else {
            return Ok(Self::Absent);
        };
        let mut text = Vec::with_capacity(2048);
        file.take(MAX_SIDECAR_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_SIDECAR_BYTES {
            return Ok(Self::Damaged(format!("its metadata is larger than {MAX_SIDECAR_BYTES} bytes")));
        }
        Ok(match serde_json::from_slice::<Metadata>(&text) {
            Ok(metadata) if metadata.image_id == id => Self::Whole(Box::new(metadata)),
            Ok(metadata) => Self::Damaged(format!("its metadata is that of {}", metadata.image_id)),
            Err(error) => Self::Damaged(format!("its metadata cannot be read: {error}")),
        })
    }
}

/// Opens an image that is whole and not expired at `now`.
pub(super) fn open(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Opened, Error> {
    let (folder, metadata) = find(shared, id, now)?;
    let name = metadata.file_name();
    let path = || folder.path().join(&name);
    let file = folder.read(&name).map_err(|error| failed("open", &path(), error))?;
    let file = file.ok_or(Error::NotFound)?;
    let status = file.metadata().map_err(|error| failed("look at", &path(), error))?;
    if !status.is_file() {
        return Err(Error::NotFound);
    }
    check_length(&metadata, status.len())?;
    let content = FileContent { id, file, readers: Arc::clone(&shared.readers) };
    Ok(Opened { metadata, content: Box::new(content) })
}

/// What is known about an image that is whole and not expired at `now`.
pub(super) fn metadata(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Metadata, Error> {
    let (folder, metadata) = find(shared, id, now)?;
    let name = metadata.file_name();
    let status =
        folder.status(&name).map_err(|error| failed("look at", &folder.path().join(&name), error))?;
    check_length(&metadata, status.ok_or(Error::NotFound)?.length)?;
    Ok(metadata)
}

fn find(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<(Folder, Metadata), Error> {
    let folder = shared.bucket_of(id)?.ok_or(Error::NotFound)?;
    match Sidecar::read(&folder, id) {
        Ok(Sidecar::Whole(metadata)) if !metadata.is_expired(now) => Ok((folder, *metadata)),
        Ok(Sidecar::Whole(_) | Sidecar::Absent) => Err(Error::NotFound),
        Ok(Sidecar::Damaged(reason)) => {
            tracing::warn!(image_id = %id, reason, "not an image, or a damaged one");
            Err(Error::NotFound)
        }
        Err(error) => Err(failed("read the metadata of an image in", folder.path(), error)),
    }
}

fn check_length(metadata: &Metadata, length: u64) -> Result<(), Error> {
    if length == metadata.size_bytes {
        return Ok(());
    }
    let reason = format!("{} bytes were saved, {length} are there", metadata.size_bytes);
    Err(Error::Corrupt { id: metadata.image_id, reason })
}

struct FileContent {
    id: ImageId,
    file: File,
    readers: Arc<Readers>,
}

#[async_trait]
impl Content for FileContent {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        let reading = Reading {
            id: self.id,
            file: Arc::new(self.file),
            rest: range,
            reader: Reader::new(self.readers),
        };
        Ok(Box::pin(futures_util::stream::try_unfold(reading, Reading::next)))
    }

    async fn read(self: Box<Self>, range: Range<u64>) -> Result<Bytes, Error> {
        let length = range.end.saturating_sub(range.start);
        let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
        let mut read = 0;
        if length <= MAX_CHUNK {
            read = read_cached(&self.file, &mut buffer, range.start);
        }
        if read < buffer.len() {
            let (id, file) = (self.id, self.file);
            (buffer, read) = blocking(move || {
                let read = read_full(&file, &mut buffer, range.start)
                    .map_err(|error| failed("read the image", Path::new(&id.to_string()), error))?;
                Ok((buffer, read))
            })
            .await?;
        }
        if read < buffer.len() {
            let reason = format!("it ends at byte {read}, {length} were asked for");
            return Err(Error::Corrupt { id: self.id, reason });
        }
        Ok(Bytes::from(buffer))
    }
}

/// Bytes that the chunks of so many readers have at most.
pub(super) const fn delivery_memory(readers: u64) -> u64 {
    let least = readers.saturating_mul(MIN_CHUNK);
    if least > READ_BUDGET { least } else { READ_BUDGET }
}

/// How many readers share the budget.
#[derive(Debug, Default)]
pub(super) struct Readers(AtomicU64);

/// One of the readers, for as long as its stream lives.
struct Reader(Arc<Readers>);

impl Reader {
    fn new(readers: Arc<Readers>) -> Self {
        readers.0.fetch_add(1, Ordering::Relaxed);
        Self(readers)
    }

    /// The length of the next chunk: this reader's share of the budget.
    fn chunk(&self) -> u64 {
        let share = READ_BUDGET / self.0.0.load(Ordering::Relaxed).max(1);
        // Whole pages.
        share.clamp(MIN_CHUNK, MAX_CHUNK) & !4095
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream in the middle: between two chunks it holds no buffer.
struct Reading {
    id: ImageId,
    file: Arc<File>,
    rest: Range<u64>,
    reader: Reader,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let wanted = self.reader.chunk().min(self.rest.end - self.rest.start);
        // At most `MAX_CHUNK`.
        let mut buffer = vec![0; usize::try_from(wanted).unwrap_or_default()];
        let offset = self.rest.start;
        let mut read = read_cached(&self.file, &mut buffer, offset);
        if read == 0 {
            let (id, file) = (self.id, Arc::clone(&self.file));
            (buffer, read) = blocking(move || {
                let read = read_full(&file, &mut buffer, offset)
                    .map_err(|error| failed("read the image", Path::new(&id.to_string()), error))?;
                Ok((buffer, read))
            })
            .await?;
        }
        if read == 0 {
            let reason = format!("it ends at byte {offset}, {} were asked for", self.rest.end);
            return Err(Error::Corrupt { id: self.id, reason });
        }
        buffer.truncate(read);
        self.rest.start += read as u64;
        Ok(Some((Bytes::from(buffer), self)))
    }
}

/// Reads what the page cache has, without waiting for the disk and so without leaving this thread;
/// 0 if it has nothing or cannot say.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    use rustix::io::ReadWriteFlags;
    let buffers = &mut [io::IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _buffer: &mut [u8], _offset: u64) -> usize {
    0
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_shrinks_with_readers_and_grows_back() {
        let readers = Arc::new(Readers::default());
        let first = Reader::new(Arc::clone(&readers));
        assert_eq!(first.chunk(), MAX_CHUNK);
        let others: Vec<_> = (0..255).map(|_| Reader::new(Arc::clone(&readers))).collect();
        assert_eq!(first.chunk(), READ_BUDGET / 256);
        let more: Vec<_> = (0..10_000).map(|_| Reader::new(Arc::clone(&readers))).collect();
        assert_eq!(first.chunk(), MIN_CHUNK);
        drop((others, more));
        assert_eq!(first.chunk(), MAX_CHUNK);
    }
}
