use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

/// An open folder. Everything in it is reached through its handle and by a bare name, and links
/// are not followed: no file outside of it can be meant.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

/// What is asked of a file without opening it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    /// Length in bytes.
    pub(super) length: u64,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

impl Folder {
    /// Opens the folder that a path leads to; links in the path are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { handle: open_folder(CWD, path, OFlags::empty())?, path: path.to_owned() })
    }

    /// Opens a folder inside of `base`; `None` if there is none with this name.
    pub(super) fn open_in(base: &Path, name: &str) -> io::Result<Option<Self>> {
        let path = base.join(name);
        let handle = open_folder(CWD, &path, OFlags::NOFOLLOW);
        Self::if_there(handle, path)
    }

    /// Opens a folder inside of this one; `None` if there is none with this name.
    pub(super) fn folder(&self, name: &str) -> io::Result<Option<Self>> {
        Self::if_there(open_folder(&self.handle, Path::new(name), OFlags::NOFOLLOW), self.path.join(name))
    }

    fn if_there(handle: rustix::io::Result<OwnedFd>, path: PathBuf) -> io::Result<Option<Self>> {
        match handle {
            Ok(handle) => Ok(Some(Self { handle, path })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a folder inside of this one, if there is none with this name.
    pub(super) fn make_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file that was not there.
    pub(super) fn create_new(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o666))?.into())
    }

    /// Opens a file for reading; `None` if there is none with this name.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<File>> {
        // NONBLOCK: a pipe that someone put there must not hold the thread; files ignore it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file that may be changed; `None` if there is none with this name.
    pub(super) fn update(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a name still leads to this open file.
    pub(super) fn leads_to(&self, name: &str, file: &File) -> io::Result<bool> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => {
                let open = rustix::fs::fstat(file)?;
                Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at a file; `None` if there is none with this name.
    pub(super) fn status(&self, name: impl rustix::path::Arg) -> io::Result<Option<Status>> {
        let status = match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let since_epoch = Duration::from_secs(u64::try_from(status.st_mtime).unwrap_or(0));
        Ok(Some(Status {
            length: u64::try_from(status.st_size).unwrap_or(0),
            modified: SystemTime::UNIX_EPOCH + since_epoch,
        }))
    }

    /// Gives a file another name. The caller sees to it that the new one is free.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Removes a file; `false` if it was not there.
    pub(super) fn remove(&self, name: impl rustix::path::Arg) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the disk has the folder's entries.
    pub(super) fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.handle) {
            // Some network and user-space file systems have no such thing for folders.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Comes by the names in it, in no order.
    pub(super) fn each_name(&self, mut visit: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
        let entries = match rustix::fs::Dir::read_from(&self.handle) {
            // The folder itself was removed meanwhile.
            Err(Errno::NOENT | Errno::STALE) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            visit(entry?.file_name())?;
        }
        Ok(())
    }
}

fn open_folder(base: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(base, path, flags, Mode::empty())
}
