//! Bytes that a connection sends from a file, without reading them into memory.
//!
//! A body is made of [`Bytes`] all the way through a stack. A **promise** is `Bytes` too, as long as the part of an open
//! file that it stands for, so that whatever counts, times or limits the body need not know of it. Its content is a
//! stand-in of zeros. The connection knows a promise by where in memory it points, and has the kernel send that part of
//! the file in its place.
//!
//! The connection hands out a [`FileSender`], in the extensions of each request whose body reaches the socket in order and
//! as it is: HTTP/1 in plain text. What a sender promised is sent in the order in which it was promised. A connection that
//! is made to send a stand-in in any other order, or in part, fails: it sends no byte of it.
//!
//! ```
//! use std::fs::File;
//! use std::sync::Arc;
//! use layers::send_file::{FileSender, is_promise};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("send-file-{}", std::process::id()));
//! # std::fs::write(&dir, "0123456789")?;
//! let file = Arc::new(File::open(&dir)?);
//! # std::fs::remove_file(&dir)?;
//! let sender = FileSender::default();
//! let promise = sender.promise(&file, 4, 6);
//! assert_eq!(promise.len(), 6);
//! assert!(is_promise(&promise) && !is_promise(b"456789"));
//!
//! let part = sender.next(&promise).expect("what was promised first");
//! assert_eq!((part.offset, part.length), (4, 6));
//! sender.sent(2);
//! assert!(sender.next(&promise).is_none()); // two bytes of it are sent: this is not what comes next
//! assert_eq!(sender.next(&promise[2..]).map(|part| (part.offset, part.length)), Some((6, 4)));
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of one promise at most.
pub const MAX_PROMISE: usize = 256 << 10;

/// What promises point into. It is never written nor read, so it takes no memory.
static STAND_IN: [u8; MAX_PROMISE] = [0; MAX_PROMISE];

/// Promises what a connection is to send. Clones promise for the same connection.
#[derive(Clone, Default)]
pub struct FileSender(Arc<Mutex<VecDeque<Part>>>);

/// A part of a file.
#[derive(Debug, Clone)]
pub struct Part {
    /// The open file; where it stands does not matter.
    pub file: Arc<File>,
    /// The first byte that is still to be sent.
    pub offset: u64,
    /// How many are still to be sent.
    pub length: usize,
    /// Bytes of the promise that were sent.
    sent: usize,
}

impl FileSender {
    /// What stands for `length` bytes of a file, of which [`MAX_PROMISE`] are promised at most. It has to be sent next
    /// after what was promised before.
    pub fn promise(&self, file: &Arc<File>, offset: u64, length: usize) -> Bytes {
        let length = length.min(MAX_PROMISE);
        if length > 0 {
            self.parts().push_back(Part { file: Arc::clone(file), offset, length, sent: 0 });
        }
        Bytes::from_static(&STAND_IN[..length])
    }

    /// For the connection: what the bytes, which [are a promise](is_promise), stand for. `None` if they are not what was
    /// promised next, or more than that.
    pub fn next(&self, promise: &[u8]) -> Option<Part> {
        let part = self.parts().front().cloned()?;
        let in_order = std::ptr::eq(promise.as_ptr(), &raw const STAND_IN[part.sent]);
        (in_order && promise.len() <= part.length).then_some(part)
    }

    /// For the connection: so many bytes of what is next were sent.
    pub fn sent(&self, bytes: usize) {
        let mut parts = self.parts();
        let Some(part) = parts.front_mut() else { return };
        let bytes = bytes.min(part.length);
        part.sent += bytes;
        part.length -= bytes;
        part.offset += bytes as u64;
        if part.length == 0 {
            parts.pop_front();
        }
    }

    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FileSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSender").field("promised", &self.parts().len()).finish()
    }
}

/// Whether bytes are a promise, or what is left of one.
pub fn is_promise(bytes: &[u8]) -> bool {
    !bytes.is_empty() && STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<File> {
        Arc::new(File::open("Cargo.toml").unwrap())
    }

    fn next(sender: &FileSender, promise: &[u8]) -> Option<(u64, usize)> {
        sender.next(promise).map(|part| (part.offset, part.length))
    }

    #[test]
    fn promises_are_kept_in_their_order_only() {
        let (sender, file) = (FileSender::default(), file());
        let first = sender.clone().promise(&file, 10, 100);
        let second = sender.promise(&file, 500, MAX_PROMISE + 1);
        assert_eq!(second.len(), MAX_PROMISE);
        assert_eq!(next(&sender, &second), None, "longer than what is next");
        assert_eq!(next(&sender, &first), Some((10, 100)));
        sender.sent(99);
        assert_eq!(next(&sender, &first), None);
        assert_eq!(next(&sender, &first[99..]), Some((109, 1)));
        sender.sent(1);
        assert_eq!(next(&sender, &second), Some((500, MAX_PROMISE)));
        sender.sent(MAX_PROMISE);
        assert_eq!(next(&sender, &second), None, "nothing is promised any more");
    }

    #[test]
    fn promise_of_nothing_is_nothing() {
        let (sender, file) = (FileSender::default(), file());
        let nothing = sender.promise(&file, 0, 0);
        assert!(nothing.is_empty() && !is_promise(&nothing));
        assert_eq!(next(&sender, &sender.promise(&file, 7, 1)), Some((7, 1)));
    }
}
