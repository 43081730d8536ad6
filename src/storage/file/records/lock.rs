use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};

use rustix::{fs::FlockOperation, io::Errno};

use super::Folder;

/// A lock is held for one small write; who waits longer gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Pauses between two tries, doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// A record's file, which nobody else changes until this is dropped.
///
/// The kernel takes the lock away from a process that dies. A network file system gives it to one
/// machine at a time.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) file: File,
    /// Whether the file system has locks at all. Without, two who change a record at the same
    /// moment may both succeed, and the later one stays.
    pub(super) exclusive: bool,
}

impl Locked {
    /// Locks the file with this name, waiting for others; `None` if there is none.
    pub(super) fn open(folder: &Folder, name: &str) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + LONGEST_WAIT;
        while let Some(file) = folder.update(name)? {
            let locked = Self::take(file, deadline)?;
            if folder.leads_to(name, &locked.file)? {
                return Ok(Some(locked));
            }
            // It was replaced or removed while we waited.
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
        Ok(None)
    }

    /// Locks a file that was just made; `None` if another took its name meanwhile.
    pub(super) fn made(folder: &Folder, name: &str, file: File) -> io::Result<Option<Self>> {
        let locked = Self::take(file, Instant::now() + LONGEST_WAIT)?;
        Ok(folder.leads_to(name, &locked.file)?.then_some(locked))
    }

    fn take(file: File, deadline: Instant) -> io::Result<Self> {
        let (mut pause, longest) = PAUSES;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, exclusive: true }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(pause),
                Err(Errno::WOULDBLOCK) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
                Err(Errno::INTR) => {}
                Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) => {
                    tracing::debug!("the file system has no locks");
                    return Ok(Self { file, exclusive: false });
                }
                Err(error) => return Err(error.into()),
            }
            pause = longest.min(pause * 2);
        }
    }
}
