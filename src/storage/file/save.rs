use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::{
    Shared, failed,
    folder::Folder,
    name::{Bucket, Name},
    read::{MAX_SIDECAR_BYTES, image_format},
};
use crate::storage::{Error, NewImage};

/// How often a save tries again when the cleaner removes the empty bucket under its feet.
const ATTEMPTS: usize = 8;

/// A save that takes longer gives up before it commits. Well below the age at which the cleaner
/// takes its files for leftovers.
const LONGEST_SAVE: Duration = Duration::from_secs(30 * 60);

/// What a save does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Create `<id>.json`, exclusively: this reserves the id for all formats and all replicas.
    Reserve,
    /// Write the metadata.
    WriteMetadata,
    /// Create `<id>.tmp`, exclusively.
    CreateImage,
    /// Write the image.
    WriteImage,
    /// Wait until the disk has the image.
    SyncImage,
    /// And, at the same time, until it has the metadata.
    SyncMetadata,
    /// Rename the image: the commit.
    Commit,
    /// Wait until the disk has the names.
    SyncFolder,
    /// Wait until the disk has the bucket's name, if it may be new.
    SyncBase,
}

/// Called before each step; an error stands for the step's own.
pub(super) type Before<'a> = &'a dyn Fn(Step) -> io::Result<()>;

/// Saves an image: absent or whole at every moment, and durable when this returns `Ok`.
///
/// A plain rename is the commit, because network and user-space file systems lack links or
/// `RENAME_NOREPLACE`. It overwrites nothing: whoever created the sidecar owns the id, and
/// exclusive creation is atomic everywhere.
pub(super) fn save(shared: &Shared, image: &NewImage, before: Before<'_>) -> Result<(), Error> {
    let id = image.metadata.image_id;
    let sidecar = encode_sidecar(image)?;
    let bucket = Bucket::of(id);
    for _ in 0..ATTEMPTS {
        let folder = open_or_make(shared, bucket)?;
        match write(shared, &folder, image, &sidecar, before) {
            Ok(()) => return Ok(()),
            Err(Failure::Taken) => return Err(Error::AlreadyExists),
            Err(Failure::BucketGone) => {}
            Err(Failure::Io(error)) => {
                return Err(failed("save an image in", folder.path(), error));
            }
        }
    }
    let gone = io::Error::other("the folder is removed again and again");
    Err(failed("save an image in", &shared.bucket_path(bucket), gone))
}

enum Failure {
    Taken,
    BucketGone,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn encode_sidecar(image: &NewImage) -> Result<Vec<u8>, Error> {
    let refused = |reason: String| Error::Corrupt { id: image.metadata.image_id, reason };
    let length = image.bytes.len() as u64;
    if length != image.metadata.size_bytes {
        return Err(refused(format!(
            "its metadata says {} bytes, it has {length}",
            image.metadata.size_bytes
        )));
    }
    let sidecar = serde_json::to_vec(&image.metadata)
        .map_err(|error| refused(format!("its metadata cannot be written: {error}")))?;
    if sidecar.len() as u64 > MAX_SIDECAR_BYTES {
        return Err(refused(format!("its metadata is larger than {MAX_SIDECAR_BYTES} bytes")));
    }
    Ok(sidecar)
}

fn write(
    shared: &Shared,
    folder: &Folder,
    image: &NewImage,
    sidecar: &[u8],
    before: Before<'_>,
) -> Result<(), Failure> {
    let id = image.metadata.image_id;
    let names = [
        Name::sidecar(id).to_string(),
        Name::temporary(id).to_string(),
        Name::image(id, image.metadata.format).to_string(),
    ];
    let [sidecar_name, temporary_name, image_name] = &names;
    let started = Instant::now();

    before(Step::Reserve)?;
    let mut sidecar_file = folder.create_new(sidecar_name).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Taken,
        io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle => Failure::BucketGone,
        _ => Failure::Io(error),
    })?;
    let mut undo = Undo { folder, made: vec![sidecar_name] };
    if image_format(folder, id)?.is_some() {
        // Its metadata was lost; it is the cleaner's.
        return Err(Failure::Taken);
    }
    before(Step::WriteMetadata)?;
    sidecar_file.write_all(sidecar)?;
    if shared.sync {
        begin_writing(&sidecar_file);
    }
    before(Step::CreateImage)?;
    let mut image_file = folder.create_new(temporary_name)?;
    undo.made.push(temporary_name);
    before(Step::WriteImage)?;
    image_file.write_all(&image.bytes)?;
    if shared.sync {
        before(Step::SyncImage)?;
        before(Step::SyncMetadata)?;
        sync_both(&image_file, &sidecar_file)?;
    }
    drop((image_file, sidecar_file));
    if started.elapsed() > LONGEST_SAVE {
        return Err(io::Error::from(io::ErrorKind::TimedOut).into());
    }
    before(Step::Commit)?;
    folder.rename(temporary_name, image_name)?;
    undo.made[1] = image_name;
    if shared.sync {
        before(Step::SyncFolder)?;
        folder.sync()?;
        sync_base(shared, Bucket::of(id), before)?;
    }
    undo.made.clear();
    Ok(())
}

/// Has the disk begin with a file, so that waiting for it later adds little to waiting for others.
fn begin_writing(file: &File) {
    // A hint: where it is not taken, nothing is lost but time.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Waits until the disk has both files. At the same time: a journal commits them together, which
/// takes little longer than one.
fn sync_both(image: &File, sidecar: &File) -> io::Result<()> {
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, || sidecar.sync_all());
        image.sync_all()?;
        match other {
            Ok(other) => other.join().unwrap_or_else(|_| Err(io::Error::other("the sync panicked"))),
            // No more threads to be had.
            Err(_) => sidecar.sync_all(),
        }
    })
}

/// Makes the bucket's own name durable: once a process for each bucket, whoever made it.
fn sync_base(shared: &Shared, bucket: Bucket, before: Before<'_>) -> io::Result<()> {
    if shared.durable.load(Ordering::Acquire) == bucket.0 {
        return Ok(());
    }
    before(Step::SyncBase)?;
    Folder::open(&shared.path)?.sync()?;
    shared.durable.store(bucket.0, Ordering::Release);
    Ok(())
}

fn open_or_make(shared: &Shared, bucket: Bucket) -> Result<Folder, Error> {
    let path = shared.bucket_path(bucket);
    let made = || -> io::Result<Folder> {
        for _ in 0..ATTEMPTS {
            if let Some(folder) = Folder::open_in(&shared.path, &bucket.to_string())? {
                return Ok(folder);
            }
            make_folder(&shared.path, &path)?;
            shared.durable.store(super::NO_BUCKET, Ordering::Release);
        }
        Err(io::Error::from(io::ErrorKind::NotADirectory))
    };
    made().map_err(|error| failed("make the folder", &path, error))
}

fn make_folder(base: &Path, path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The whole store was removed: it starts anew.
        Err(error) if error.kind() == io::ErrorKind::NotFound => super::make_base(base),
        made => made,
    }
}

/// Removes what a failed save made, newest first, so that the id stays reserved to the last.
struct Undo<'a> {
    folder: &'a Folder,
    made: Vec<&'a str>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(name) = self.made.pop() {
            if let Err(error) = self.folder.remove(name) {
                let path = self.folder.path().join(name);
                tracing::warn!(path = %path.display(), %error, "a leftover of a failed save stays until it is swept");
            }
        }
    }
}
