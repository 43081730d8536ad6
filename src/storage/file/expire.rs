use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};

use super::{
    Shared, blocking,
    delete::remove,
    failed,
    folder::Folder,
    name::{Bucket, Group, Kind, Name},
    probe::is_probe,
    read::Sidecar,
};
use crate::{
    image::{Format, ImageId},
    storage::{Error, Expired},
};

/// A file of ours that belongs to no image is a leftover at this age; younger, it may be a save
/// under way. Saves give up at half of it.
pub(super) const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// An image without readable metadata answers 404, and nobody knows when it is due. It goes at
/// this age, which leaves a day to look at what happened.
const DAMAGED_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Buckets behind the first image that is not due, looked through for leftovers in one cycle: so
/// many, or as few as have so many names.
const SWEPT_BUCKETS: usize = 256;
const SWEPT_NAMES: usize = 4096;

/// Empty folders go when their time was over for so long. Until then who saves into one may rely on its
/// name's being on disk, though clocks differ, and nobody takes it away from under a save.
const EMPTY_AGE: Duration = Duration::from_secs(60 * 60);

/// After so many failures in one cycle the folder is at fault, not its files.
const MOST_FAILURES: u64 = 100;

/// Removes what is due, from the oldest on, until the first image that is not due.
///
/// Leftovers go as the walk comes by. Behind its end, where long-lived images may keep it from
/// coming for long, each bucket is looked through once more when all that began in it must have
/// ended. Dropped in the middle, it stops at the next image.
pub(super) async fn expire(shared: &Arc<Shared>, now: SystemTime) -> Result<Expired, Error> {
    let stop = StopOnDrop::default();
    let listing = Arc::clone(shared);
    let (groups, swept) = blocking(move || Ok((listing.groups()?, sweep_probes(&listing, now)))).await?;
    let mut total = Expired { swept, ..Expired::default() };

    let mut end = None;
    for &group in &groups {
        let (shared, mut walk) = (Arc::clone(shared), Walk::new(now, Arc::clone(&stop.0)));
        let (cleaned, reached) = blocking(move || {
            walk.group(&shared, group);
            Ok((walk.done, walk.end))
        })
        .await?;
        total.add(cleaned);
        end = reached;
        if end.is_some() || total.failed >= MOST_FAILURES {
            break;
        }
    }

    if let Some(end) = end {
        let (shared, mut walk) = (Arc::clone(shared), Walk::new(now, Arc::clone(&stop.0)));
        let groups = groups.into_iter().filter(move |group| *group >= end.group());
        total.add(
            blocking(move || {
                walk.behind(&shared, end, groups);
                Ok(walk.done)
            })
            .await?,
        );
    }
    Ok(total)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Images {
    /// Remove the images that are due, up to the first that is not.
    Remove,
    /// Remove leftovers only.
    Keep,
}

/// What there is of one image.
#[derive(Debug, Default)]
struct Files {
    images: Vec<Format>,
    sidecar: bool,
    temporary: bool,
}

struct Walk {
    now: SystemTime,
    now_utc: DateTime<Utc>,
    stopped: Arc<AtomicBool>,
    done: Expired,
    /// Names that were read.
    names: usize,
    /// The bucket of the first image that is not due, if it was reached.
    end: Option<Bucket>,
}

impl Walk {
    fn new(now: SystemTime, stopped: Arc<AtomicBool>) -> Self {
        Self { now, now_utc: now.into(), stopped, done: Expired::default(), names: 0, end: None }
    }

    /// Removes what is due in a group.
    fn group(&mut self, shared: &Shared, group: Group) {
        for bucket in self.buckets(shared, group) {
            self.bucket(shared, bucket, Images::Remove);
            if self.end.is_some() || self.is_over() {
                return;
            }
        }
        if age(self.now, group.last().end_millis()) >= EMPTY_AGE {
            remove_empty(&shared.path.join(group.to_string()));
        }
    }

    /// Removes leftovers from `end` on that no cycle of this process came by, in part.
    fn behind(&mut self, shared: &Shared, end: Bucket, groups: impl Iterator<Item = Group>) {
        let first = shared.swept.load(Ordering::Acquire).max(u64::from(end.0));
        let mut buckets = 0;
        for group in groups.filter(|group| u64::from(group.last().0) >= first) {
            for bucket in self.buckets(shared, group) {
                if u64::from(bucket.0) < first {
                    continue;
                }
                let finished = age(self.now, bucket.end_millis()) >= LEFTOVER_AGE;
                if !finished || buckets == SWEPT_BUCKETS || self.names >= SWEPT_NAMES || self.is_over() {
                    return;
                }
                self.bucket(shared, bucket, Images::Keep);
                buckets += 1;
                shared.swept.store(u64::from(bucket.0) + 1, Ordering::Release);
            }
        }
    }

    fn buckets(&mut self, shared: &Shared, group: Group) -> Vec<Bucket> {
        shared.buckets(group).unwrap_or_else(|error| {
            self.failed(&group, &error);
            Vec::new()
        })
    }

    /// Whether nobody waits for it, or it fails again and again.
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.done.failed >= MOST_FAILURES
    }

    fn bucket(&mut self, shared: &Shared, bucket: Bucket, images: Images) {
        let found = shared.bucket(bucket).and_then(|folder| {
            let Some(folder) = folder else { return Ok(None) };
            let names = names(&folder).map_err(|error| failed("list", folder.path(), error))?;
            Ok(Some((folder, names)))
        });
        let (folder, names) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => return self.failed(&bucket, &error),
        };
        self.names += names.len();
        for names in names.chunk_by(|one, next| one.id == next.id) {
            let (id, files) = (names[0].id, Files::of(names));
            if self.is_over() {
                return;
            }
            let outcome = if files.images.is_empty() {
                self.leftover(&folder, id, &files)
            } else if images == Images::Remove {
                self.image(&folder, id, &files)
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                self.failed(&id, &error);
            }
            if self.end.is_some() {
                return;
            }
        }
        if images == Images::Remove && age(self.now, bucket.end_millis()) >= EMPTY_AGE {
            remove_empty(&shared.bucket_path(bucket));
        }
    }

    fn failed(&mut self, what: &dyn fmt::Display, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(%what, error, "cannot be cleaned; the next cycle tries again");
        self.done.failed += 1;
    }

    fn image(&mut self, folder: &Folder, id: ImageId, files: &Files) -> io::Result<()> {
        match Sidecar::read(folder, id)? {
            Sidecar::Whole(metadata) if !metadata.is_expired(self.now_utc) => self.end = Some(Bucket::of(id)),
            Sidecar::Whole(metadata) if files.images.contains(&metadata.format) => {
                if remove(folder, &metadata)? {
                    self.done.note(id, metadata.size_bytes);
                }
            }
            Sidecar::Whole(_) | Sidecar::Absent | Sidecar::Damaged(_) => self.damaged(folder, id, files)?,
        }
        Ok(())
    }

    fn damaged(&mut self, folder: &Folder, id: ImageId, files: &Files) -> io::Result<()> {
        let names: Vec<_> = files.images.iter().map(|format| Name::image(id, *format).to_string()).collect();
        let old = age(self.now, id.created_millis()) >= DAMAGED_AGE;
        for name in &names {
            let Some(status) = folder.status(name)? else { continue };
            if old && since(self.now, status.modified) >= DAMAGED_AGE && folder.remove(name)? {
                tracing::warn!(path = %folder.path().join(name).display(), "removed a damaged image");
                self.done.swept += 1;
            }
        }
        Ok(())
    }

    /// Removes files of an id that has no image.
    fn leftover(&mut self, folder: &Folder, id: ImageId, files: &Files) -> io::Result<()> {
        let sidecar = files.sidecar.then(|| Name::sidecar(id));
        let temporary = files.temporary.then(|| Name::temporary(id));
        // The sidecar last: it reserves the id.
        for name in [temporary, sidecar].into_iter().flatten() {
            let name = name.to_string();
            let Some(status) = folder.status(&name)? else { continue };
            if since(self.now, status.modified) >= LEFTOVER_AGE && folder.remove(&name)? {
                self.done.swept += 1;
            }
        }
        Ok(())
    }
}

/// The names in a bucket that are ours, by id. They are many; what is of one image is put together
/// when the walk comes to it.
fn names(folder: &Folder) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    folder.each_name(|name| {
        names.extend(Name::parse(name.to_bytes()));
        Ok(())
    })?;
    names.sort_unstable_by_key(|name| name.id);
    Ok(names)
}

impl Files {
    fn of(names: &[Name]) -> Self {
        let mut files = Self::default();
        for name in names {
            match name.kind {
                Kind::Image(format) => files.images.push(format),
                Kind::Sidecar => files.sidecar = true,
                Kind::Temporary => files.temporary = true,
            }
        }
        files
    }
}

/// Removes a folder if nothing is in it. A save that wanted to use it makes it again.
fn remove_empty(path: &Path) {
    if let Err(error) = std::fs::remove_dir(path) {
        tracing::trace!(path = %path.display(), %error, "the folder stays");
    }
}

/// Removes probes that were interrupted.
fn sweep_probes(shared: &Shared, now: SystemTime) -> u64 {
    let sweep = || -> io::Result<u64> {
        let base = Folder::open(&shared.path)?;
        let mut swept = 0;
        base.each_name(|name| {
            if is_probe(name.to_bytes())
                && let Some(status) = base.status(name)?
                && since(now, status.modified) >= LEFTOVER_AGE
                && base.remove(name)?
            {
                swept += 1;
            }
            Ok(())
        })?;
        Ok(swept)
    };
    sweep().unwrap_or(0)
}

pub(super) fn since(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn age(now: SystemTime, millis: u64) -> Duration {
    let now = since(now, SystemTime::UNIX_EPOCH);
    now.saturating_sub(Duration::from_millis(millis))
}

#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
