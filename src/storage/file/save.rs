use std::{
    fs::{self, File},
    io::{self, Write},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use super::{
    NO_BUCKET, Shared, failed,
    folder::Folder,
    name::{Bucket, Name},
    read::{MAX_SIDECAR_BYTES, image_format},
};
use crate::storage::{Error, NewImage};

/// How often a save tries again when a cleaner removes the empty bucket under its feet. Each try is two or three system calls;
/// one that ran cycle after cycle has been seen to win eight times in a row.
const ATTEMPTS: usize = 64;

/// A save that takes longer gives up before it commits. Well below the age at which the cleaner
/// takes its files for leftovers.
const LONGEST_SAVE: Duration = Duration::from_secs(30 * 60);

/// For so long after its time nobody removes a bucket, whatever the difference of clocks: the cleaner
/// leaves empty ones for longer.
const BUCKET_STAYS: Duration = Duration::from_secs(30 * 60);

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
    /// Wait until it has the metadata.
    SyncMetadata,
    /// Rename the image: the commit.
    Commit,
    /// Wait until the disk has the names.
    SyncFolder,
    /// Wait until the disk has the bucket's name, if it may be new.
    SyncGroup,
    /// Wait until the disk has the group's name, if it may be new.
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
        let folders = open_or_make(shared, bucket)?;
        match write(shared, &folders, image, &sidecar, before) {
            Ok(()) => return Ok(()),
            Err(Failure::Taken) => return Err(Error::AlreadyExists),
            Err(Failure::BucketGone) => {}
            Err(Failure::Io(error)) => {
                return Err(failed("save an image in", folders.bucket.path(), error));
            }
        }
    }
    let gone = io::Error::other("the folder is removed again and again");
    Err(failed("save an image in", &shared.bucket_path(bucket), gone))
}

/// Where an image is saved.
struct Folders {
    group: Folder,
    bucket: Folder,
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
    folders: &Folders,
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
    let (folder, started) = (&folders.bucket, Instant::now());

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
        begin_writing(&image_file);
        before(Step::SyncImage)?;
        image_file.sync_all()?;
        // A journal commits what it has of both files together: most of this was done by now.
        before(Step::SyncMetadata)?;
        sidecar_file.sync_all()?;
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
        sync_names(shared, &folders.group, Bucket::of(id), before)?;
    }
    undo.made.clear();
    Ok(())
}

/// Has the disk begin with a file, so that waiting for it later adds little to waiting for others.
fn begin_writing(file: &File) {
    // A hint: where it is not taken, nothing is lost but time.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Makes the names of the bucket and its group durable: once a process for each, whoever made them.
fn sync_names(shared: &Shared, group: &Folder, bucket: Bucket, before: Before<'_>) -> io::Result<()> {
    // What is older may have been removed, and made again by another process, any time.
    let stays = SystemTime::UNIX_EPOCH + Duration::from_millis(bucket.end_millis()) + BUCKET_STAYS;
    let stays = SystemTime::now() < stays;
    let durable = if stays { shared.durable.load(Ordering::Acquire) } else { NO_BUCKET };
    if durable == u64::from(bucket.0) {
        return Ok(());
    }
    before(Step::SyncGroup)?;
    group.sync()?;
    if u32::try_from(durable).map(Bucket).map(Bucket::group) != Ok(bucket.group()) {
        before(Step::SyncBase)?;
        Folder::open(&shared.path)?.sync()?;
    }
    if stays {
        shared.durable.store(bucket.0.into(), Ordering::Release);
    }
    Ok(())
}

fn open_or_make(shared: &Shared, bucket: Bucket) -> Result<Folders, Error> {
    let group = bucket.group().to_string();
    let made = || -> io::Result<Folders> {
        for _ in 0..ATTEMPTS {
            let Some(group) = Folder::open_in(&shared.path, &group)? else {
                make_group(shared, &group)?;
                continue;
            };
            if let Some(bucket) = group.folder(&bucket.name())? {
                return Ok(Folders { group, bucket });
            }
            // If it was there before, it will be new: forgotten before another save can find it.
            let (durable, order) = (u64::from(bucket.0), Ordering::AcqRel);
            let _ = shared.durable.compare_exchange(durable, NO_BUCKET, order, Ordering::Relaxed);
            match group.make_folder(&bucket.name()) {
                // The group was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => made?,
            }
        }
        Err(io::Error::from(io::ErrorKind::NotADirectory))
    };
    made().map_err(|error| failed("make the folder", &shared.bucket_path(bucket), error))
}

fn make_group(shared: &Shared, name: &str) -> io::Result<()> {
    shared.durable.store(NO_BUCKET, Ordering::Release);
    match fs::create_dir(shared.path.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The whole store was removed: it starts anew.
        Err(error) if error.kind() == io::ErrorKind::NotFound => super::make_base(&shared.path),
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
