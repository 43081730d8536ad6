//! The bytes of an open image: as far as they are in memory, read without leaving the thread.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use layers::send_file::{FileSender, MAX_PROMISE};

use super::{blocking, failed};
use crate::{
    image::ImageId,
    storage::{ByteStream, Content, Error, MOST_SENT},
};

/// Bytes that the chunks of all readers together may have, before they become short.
const READ_BUDGET: u64 = 8 << 20;

/// A chunk's length at most: large ones cost less.
const MAX_CHUNK: u64 = 256 << 10;

/// A chunk's length at least: beyond the budget each reader takes this much.
const MIN_CHUNK: u64 = 16 << 10;

/// Buffers of the largest length that are kept to be used again: fresh memory is dear.
const MOST_FREE: usize = 8;

/// The bytes of an image, whose file several may read.
#[derive(Clone)]
pub(super) struct FileContent {
    id: ImageId,
    file: Arc<ImageFile>,
    readers: Arc<Readers>,
}

impl FileContent {
    pub(super) fn new(id: ImageId, file: File, readers: &Arc<Readers>) -> Self {
        Self { id, file: Arc::new(ImageFile::new(file)), readers: Arc::clone(readers) }
    }

    fn reading(self, rest: Range<u64>, sender: Option<FileSender>) -> ByteStream {
        let reading = Reading { id: self.id, file: self.file, rest, readers: self.readers, sender };
        Box::pin(futures_util::stream::try_unfold(reading, Reading::next))
    }
}

#[async_trait]
impl Content for FileContent {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        Ok(self.reading(range, None))
    }

    async fn send(self: Box<Self>, range: Range<u64>, sender: FileSender) -> Result<ByteStream, Error> {
        let sender = (range.end.saturating_sub(range.start) <= MOST_SENT).then_some(sender);
        Ok(self.reading(range, sender))
    }

    async fn read(self: Box<Self>, range: Range<u64>) -> Result<Bytes, Error> {
        let length = range.end.saturating_sub(range.start);
        let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
        let mut read = 0;
        if length <= MAX_CHUNK {
            read = self.file.read_at_hand(&mut buffer, range.start);
        }
        if read < buffer.len() {
            let (id, file) = (self.id, self.file);
            (buffer, read) = blocking(move || {
                let read = read_full(&file.file, &mut buffer, range.start)
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

    /// The file is read by offset: all readers can have the same.
    fn share(&self) -> Option<Box<dyn Content>> {
        Some(Box::new(self.clone()))
    }

    /// No more than the smallest chunk, which each reader may have.
    fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let length = range.end.checked_sub(range.start).filter(|length| *length <= MIN_CHUNK)?;
        let mut buffer = vec![0; usize::try_from(length).ok()?];
        let read = self.file.read_at_hand(&mut buffer, range.start);
        (read == buffer.len()).then(|| Bytes::from(buffer))
    }
}

/// Bytes that the chunks of so many readers have at most: where the budget is spent, each may still have
/// the smallest chunk.
pub(super) const fn delivery_memory(readers: u64) -> u64 {
    READ_BUDGET.saturating_add(readers.saturating_mul(MIN_CHUNK))
}

/// What the chunks of all readers hold, and buffers to be used again.
#[derive(Debug, Default)]
pub(super) struct Readers {
    held: AtomicU64,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Readers {
    /// The length of the next chunk. While there is room it is long; the chunks of slow readers stay
    /// where they are and take the room, and then it is short.
    fn chunk(&self) -> u64 {
        let room = READ_BUDGET.saturating_sub(self.held.load(Ordering::Relaxed));
        // Whole pages; and no one takes all that is left.
        (room / 16).clamp(MIN_CHUNK, MAX_CHUNK) & !4095
    }

    /// A buffer of at least this length, counted until the chunk is let go.
    fn take(self: &Arc<Self>, length: usize) -> Chunk {
        let used = if length as u64 == MAX_CHUNK { self.free().pop() } else { None };
        let buffer = used.unwrap_or_else(|| vec![0; length]);
        self.held.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Chunk { buffer, length, readers: Arc::clone(self) }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes on their way to a client.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    readers: Arc<Readers>,
}

impl Chunk {
    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let length = self.buffer.len() as u64;
        self.readers.held.fetch_sub(length, Ordering::Relaxed);
        let mut free = self.readers.free();
        if length == MAX_CHUNK && free.len() < MOST_FREE {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// A stream in the middle: between two chunks it holds no buffer.
struct Reading {
    id: ImageId,
    file: Arc<ImageFile>,
    rest: Range<u64>,
    readers: Arc<Readers>,
    /// Who sends what is at hand without reading it.
    sender: Option<FileSender>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if let Some(promise) = self.promise() {
            self.rest.start += promise.len() as u64;
            return Ok(Some((promise, self)));
        }
        let wanted = self.readers.chunk().min(self.rest.end - self.rest.start);
        // At most `MAX_CHUNK`.
        let mut chunk = self.readers.take(usize::try_from(wanted).unwrap_or_default());
        let offset = self.rest.start;
        let mut read = self.file.read_at_hand(chunk.room(), offset);
        if read == 0 {
            let (id, file) = (self.id, Arc::clone(&self.file));
            (chunk, read) = blocking(move || {
                let read = read_full(&file.file, chunk.room(), offset)
                    .map_err(|error| failed("read the image", Path::new(&id.to_string()), error))?;
                Ok((chunk, read))
            })
            .await?;
        }
        if read == 0 {
            let reason = format!("it ends at byte {offset}, {} were asked for", self.rest.end);
            return Err(Error::Corrupt { id: self.id, reason });
        }
        chunk.length = read;
        self.rest.start += read as u64;
        Ok(Some((Bytes::from_owner(chunk), self)))
    }
}

impl Reading {
    /// What stands for the next bytes, if someone sends them and need not wait for the disk.
    fn promise(&self) -> Option<Bytes> {
        let sender = self.sender.as_ref()?;
        let length = (self.rest.end - self.rest.start).min(MAX_PROMISE as u64);
        let last = self.rest.start + length - 1;
        // The system reads ahead: where the first byte and the last one are, so is what is between them.
        let at_hand = |offset| self.file.read_at_hand(&mut [0], offset) == 1;
        if !at_hand(self.rest.start) || !at_hand(last) {
            return None;
        }
        Some(sender.promise(&self.file.file, self.rest.start, usize::try_from(length).ok()?))
    }
}

/// An open image.
struct ImageFile {
    file: Arc<File>,
    /// Whether its file system is memory, and reading never waits for a disk.
    in_memory: bool,
}

impl ImageFile {
    fn new(file: File) -> Self {
        let in_memory = is_in_memory(&file);
        Self { file: Arc::new(file), in_memory }
    }

    /// Reads what is in memory, without waiting for the disk and so without leaving this thread; 0 if
    /// nothing is, or it cannot be said.
    fn read_at_hand(&self, buffer: &mut [u8], offset: u64) -> usize {
        if self.in_memory {
            return read_full(&self.file, buffer, offset).unwrap_or(0);
        }
        read_cached(&self.file, buffer, offset)
    }
}

/// Whether a file is on tmpfs, which refuses `RWF_NOWAIT` although it has nothing to wait for (but what
/// was swapped out).
#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    /// `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: i128 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|status| i128::from(status.f_type) == TMPFS)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: &File) -> bool {
    false
}

/// Reads what the page cache has; 0 if it has nothing or cannot say.
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
    use futures_util::{StreamExt, TryStreamExt};
    use layers::send_file::is_promise;

    use super::*;

    #[test]
    fn chunks_become_short_while_slow_readers_hold_theirs_and_long_again() {
        let readers = Arc::new(Readers::default());
        assert_eq!(readers.chunk(), MAX_CHUNK);
        let mut held = Vec::new();
        for _ in 0..10_000 {
            held.push(readers.take(usize::try_from(readers.chunk()).expect("short")));
        }
        assert_eq!(readers.chunk(), MIN_CHUNK);
        let bytes = readers.held.load(Ordering::Relaxed);
        assert!(bytes <= READ_BUDGET + 10_000 * MIN_CHUNK, "{bytes}");
        drop(held);
        assert_eq!((readers.chunk(), readers.held.load(Ordering::Relaxed)), (MAX_CHUNK, 0));
        assert_eq!(readers.free().len(), MOST_FREE);
    }

    #[test]
    fn chunk_shows_what_was_read_and_nothing_of_the_one_before() {
        let readers = Arc::new(Readers::default());
        let length = usize::try_from(MAX_CHUNK).expect("short");
        let mut chunk = readers.take(length);
        chunk.room().fill(7);
        drop(chunk);
        let mut chunk = readers.take(length);
        chunk.room()[..3].copy_from_slice(b"abc");
        chunk.length = 3;
        assert_eq!(&Bytes::from_owner(chunk)[..], b"abc");
    }

    fn content(length: usize, in_memory: bool) -> FileContent {
        let file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..length).map(|number| (number % 251).to_le_bytes()[0]).collect();
        file.write_all_at(&bytes, 0).expect("written");
        let file = Arc::new(ImageFile { file: Arc::new(file), in_memory });
        FileContent { id: ImageId::now(), file, readers: Arc::default() }
    }

    #[tokio::test]
    async fn file_is_read_whole_whether_it_is_at_hand_or_not() {
        // One that is taken to be in memory is at hand; of others, that depends on the file system.
        for (length, in_memory) in [(4000, true), (4000, false), (700_000, true), (700_000, false)] {
            let content = content(length, in_memory);
            let shared = content.share().expect("shared");
            let range = 10..length as u64;
            let at_hand = shared.at_hand(range.clone());
            assert!(at_hand.is_some() == (length == 4000) || !in_memory);
            let read = content.share().expect("shared").read(range.clone()).await.expect("read");
            assert!(at_hand.is_none_or(|bytes| bytes == read));
            let chunks: Vec<Bytes> =
                shared.stream(range).await.expect("open").try_collect().await.expect("read");
            assert_eq!(chunks.concat(), read);
            assert!(read.iter().zip(10_usize..).all(|(byte, number)| usize::from(*byte) == number % 251));
        }
    }

    #[tokio::test]
    async fn what_is_at_hand_is_promised_to_who_sends_files() {
        let (content, length) = (content(700_000, true), MAX_PROMISE as u64);
        let sender = FileSender::default();
        let shared = content.share().expect("shared");
        let chunks = shared.send(10..700_000, sender.clone()).await.expect("open");
        let chunks: Vec<Bytes> = chunks.try_collect().await.expect("promised");
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), 699_990);
        let mut offset = 10;
        for chunk in chunks {
            let part = sender.next(&chunk).expect("in order");
            assert_eq!((part.offset, part.length as u64), (offset, length.min(700_000 - offset)));
            sender.sent(part.length);
            offset += part.length as u64;
        }
        // Of one that became shorter, no byte is promised that is not there.
        content.file.file.set_len(600_000).expect("cut");
        let chunks = content.share().expect("shared").send(0..700_000, sender.clone()).await.expect("open");
        let (promised, error): (Vec<_>, Vec<_>) = chunks
            .map(|chunk| chunk.map(|bytes| (is_promise(&bytes), bytes.len())))
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .partition(Result::is_ok);
        let promised =
            promised.into_iter().flatten().filter(|(promised, _)| *promised).map(|(_, length)| length);
        assert_eq!(promised.sum::<usize>() as u64, 2 * length);
        assert!(matches!(error[..], [Err(Error::Corrupt { .. })]), "{error:?}");
    }

    #[tokio::test]
    async fn file_that_was_cut_short_is_corrupt_and_not_at_hand() {
        for in_memory in [true, false] {
            let content = content(4000, in_memory);
            content.file.file.set_len(3000).expect("cut");
            assert_eq!(content.at_hand(0..4000), None);
            let stream = content.share().expect("shared").stream(0..4000).await.expect("open");
            let read: Result<Vec<Bytes>, Error> = stream.try_collect().await;
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
            let read = Box::new(content).read(0..4000).await;
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
        }
    }
}
