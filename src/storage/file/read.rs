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

/// Bytes that the chunks of all readers together may have, but for the smallest ones.
const READ_BUDGET: u64 = 16 << 20;

/// The part of what is left of the budget that a chunk may have: readers that stop with a chunk in
/// hand leave room for others, whoever came first.
const SHARE: u64 = 16;

/// A chunk's length at most: where there is room, large ones cost less.
const MAX_CHUNK: u64 = 256 << 10;

/// A chunk's length at least: when there is no room left, the budget gives way.
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
        let reading = Reading { id: self.id, file: Arc::new(self.file), rest: range, readers: self.readers };
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

/// Bytes of all chunks that readers were given and still hold.
#[derive(Debug, Default)]
pub(super) struct Readers(AtomicU64);

impl Readers {
    /// A buffer for the next chunk of a reader that wants so many bytes.
    fn chunk(self: &Arc<Self>, wanted: u64) -> Chunk {
        let share = READ_BUDGET.saturating_sub(self.0.load(Ordering::Relaxed)) / SHARE;
        // Whole pages.
        let length = wanted.min(share.clamp(MIN_CHUNK, MAX_CHUNK) & !4095);
        self.0.fetch_add(length, Ordering::Relaxed);
        // At most `MAX_CHUNK`.
        let bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        Chunk { bytes, length, readers: Arc::clone(self) }
    }
}

/// A chunk in a reader's hands; counted until it is dropped.
struct Chunk {
    bytes: Vec<u8>,
    length: u64,
    readers: Arc<Readers>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.readers.0.fetch_sub(self.length, Ordering::Relaxed);
    }
}

/// A stream in the middle: between two chunks it holds no buffer.
struct Reading {
    id: ImageId,
    file: Arc<File>,
    rest: Range<u64>,
    readers: Arc<Readers>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut chunk = self.readers.chunk(self.rest.end - self.rest.start);
        let offset = self.rest.start;
        let mut read = read_cached(&self.file, &mut chunk.bytes, offset);
        if read == 0 {
            let (id, file) = (self.id, Arc::clone(&self.file));
            (chunk, read) = blocking(move || {
                let read = read_full(&file, &mut chunk.bytes, offset)
                    .map_err(|error| failed("read the image", Path::new(&id.to_string()), error))?;
                Ok((chunk, read))
            })
            .await?;
        }
        if read == 0 {
            let reason = format!("it ends at byte {offset}, {} were asked for", self.rest.end);
            return Err(Error::Corrupt { id: self.id, reason });
        }
        chunk.bytes.truncate(read);
        self.rest.start += read as u64;
        Ok(Some((Bytes::from_owner(chunk), self)))
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
    fn chunks_in_hand_make_further_ones_smaller_until_they_are_dropped() {
        let readers = Arc::new(Readers::default());
        let mut held = vec![readers.chunk(u64::MAX)];
        assert_eq!(held[0].length, MAX_CHUNK);
        held.extend((0..255).map(|_| readers.chunk(u64::MAX)));
        assert!(held.windows(2).all(|pair| pair[0].length >= pair[1].length));
        assert_eq!(held[255].length, MIN_CHUNK);
        let bytes = held.iter().map(|chunk| chunk.length).sum::<u64>();
        assert!(bytes < READ_BUDGET + 256 * MIN_CHUNK, "{bytes}");
        assert_eq!(readers.0.load(Ordering::Relaxed), bytes);
        drop(held);
        assert_eq!(readers.chunk(u64::MAX).length, MAX_CHUNK);
        assert_eq!(readers.chunk(7).length, 7);
        assert_eq!(readers.0.load(Ordering::Relaxed), 0);
    }
}
