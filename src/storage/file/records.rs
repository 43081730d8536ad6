//! Records in the folder.
//!
//! ```text
//! <base>/records/<kind>/<key>.json           a record; its exclusive creation is the claim
//!                       <key>.<nonce>.tmp    what will replace it
//! ```
//!
//! Whoever changes a record holds the lock of its file, so a file that is locked and not whole is
//! the leftover of a crash. Readers need no lock: they find what was there before or after, or, in
//! the middle of a creation, nothing.

mod lock;
mod name;
mod sweep;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use self::{
    lock::Locked,
    name::{file_name, parse_record},
};
use super::{Shared, failed, folder::Folder};
use crate::storage::{
    Error, Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery, RecordStore, RecordVersion,
    StoredRecord, SweptRecords,
    records::{Envelope, MAX_RECORD_BYTES},
};

/// Where records are, below the base folder.
const FOLDER: &str = "records";

/// A file that is longer is not ours: there is room for the value and what is around it.
const MAX_FILE_BYTES: u64 = MAX_RECORD_BYTES as u64 + 1024;

/// How often a change starts anew when others are faster.
const ATTEMPTS: usize = 64;

/// Where there are no locks, a file that is not whole is taken for a leftover at this age.
const UNLOCKED_LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// Records in the folder of a [`FileStore`](super::FileStore).
#[derive(Debug, Clone)]
pub struct FileRecords {
    pub(super) shared: Arc<Shared>,
}

impl FileRecords {
    async fn run<T: Send + 'static>(
        &self,
        kind: RecordKind,
        job: impl FnOnce(&Kept) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let shared = Arc::clone(&self.shared);
        super::blocking(move || Ok(job(&Kept { shared: &shared, kind }))).await?
    }
}

#[async_trait]
impl RecordStore for FileRecords {
    fn kind(&self) -> &'static str {
        "file"
    }

    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        let key = key.clone();
        self.run(kind, move |kept| kept.create(&key, record)).await
    }

    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError> {
        let key = key.clone();
        self.run(kind, move |kept| kept.get(key)).await
    }

    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        let (key, seen) = (key.clone(), seen.clone());
        self.run(kind, move |kept| kept.replace(&key, record, &seen)).await
    }

    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError> {
        let key = key.clone();
        self.run(kind, move |kept| kept.delete(&key)).await
    }

    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError> {
        self.run(kind, move |kept| kept.list(&query)).await
    }

    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError> {
        let mut total = SweptRecords::default();
        for kind in RecordKind::ALL {
            let swept = self.run(kind, move |kept| sweep::sweep(kept, now)).await?;
            total.removed += swept.removed;
            total.swept += swept.swept;
            total.failed += swept.failed;
        }
        Ok(total)
    }
}

/// The records of one kind.
struct Kept<'a> {
    shared: &'a Shared,
    kind: RecordKind,
}

/// What a record's file holds.
enum Found {
    Live(Envelope<Value>),
    Expired,
    /// A creation under way or interrupted, or not ours.
    Damaged,
}

impl Kept<'_> {
    fn create(&self, key: &RecordKey, record: Record) -> Result<RecordVersion, RecordError> {
        let (version, text) = Envelope::seal(record)?;
        let name = file_name(key);
        for _ in 0..ATTEMPTS {
            let folder = self.open_or_make()?;
            let created = match folder.create_new(&name) {
                Ok(file) => self.fill(&folder, &name, file, &text),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.take_over(&folder, key, &name, &text)
                }
                // The folder was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            match created.map_err(|error| self.failed("create a record in", error))? {
                Some(true) => return Ok(version),
                Some(false) => return Err(RecordError::AlreadyExists),
                None => {}
            }
        }
        let busy = io::Error::other("others create and remove it again and again");
        Err(self.failed("create a record in", busy).into())
    }

    /// Writes a record into a file that was just made; `None` if another took it for a leftover.
    fn fill(&self, folder: &Folder, name: &str, file: File, text: &[u8]) -> io::Result<Option<bool>> {
        let Some(mut locked) = Locked::made(folder, name, file)? else { return Ok(None) };
        let written = locked.file.write_all(text).and_then(|()| self.sync(&locked.file, folder));
        if let Err(error) = written {
            folder.remove(name)?;
            return Err(error);
        }
        Ok(Some(true))
    }

    /// Puts a record in the place of one that is over; `None` if it went away meanwhile.
    fn take_over(
        &self,
        folder: &Folder,
        key: &RecordKey,
        name: &str,
        text: &[u8],
    ) -> io::Result<Option<bool>> {
        let Some(mut locked) = Locked::open(folder, name)? else { return Ok(None) };
        let over = match read(&mut locked.file, Utc::now())? {
            Found::Live(_) => false,
            Found::Expired => true,
            Found::Damaged => locked.exclusive || age(&locked.file)? >= UNLOCKED_LEFTOVER_AGE,
        };
        if over {
            self.put(folder, key, text)?;
        }
        Ok(Some(over))
    }

    fn get(&self, key: RecordKey) -> Result<StoredRecord, RecordError> {
        let folder = self.open()?.ok_or(RecordError::NotFound)?;
        self.look(&folder, key, Utc::now())?.ok_or(RecordError::NotFound)
    }

    fn look(
        &self,
        folder: &Folder,
        key: RecordKey,
        now: DateTime<Utc>,
    ) -> Result<Option<StoredRecord>, Error> {
        let found = folder.read(&file_name(&key)).and_then(|file| match file {
            Some(mut file) => read(&mut file, now).map(Some),
            None => Ok(None),
        });
        match found.map_err(|error| self.failed("read a record in", error))? {
            Some(Found::Live(envelope)) => Ok(Some(envelope.open(key))),
            Some(Found::Expired) | None => Ok(None),
            Some(Found::Damaged) => {
                tracing::debug!(kind = self.kind.name(), %key, "not a record, or one that is being created");
                Ok(None)
            }
        }
    }

    fn replace(
        &self,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        let (version, text) = Envelope::seal(record)?;
        let folder = self.open()?.ok_or(RecordError::NotFound)?;
        let failed = |error| self.failed("replace a record in", error);
        let mut locked =
            Locked::open(&folder, &file_name(key)).map_err(failed)?.ok_or(RecordError::NotFound)?;
        match read(&mut locked.file, Utc::now()).map_err(failed)? {
            Found::Live(there) if there.version == *seen => {}
            Found::Live(_) => return Err(RecordError::Changed),
            Found::Expired | Found::Damaged => return Err(RecordError::NotFound),
        }
        self.put(&folder, key, &text).map_err(failed)?;
        Ok(version)
    }

    /// Writes a whole file and gives it the record's name, whose lock is held.
    fn put(&self, folder: &Folder, key: &RecordKey, text: &[u8]) -> io::Result<()> {
        let temporary = format!("{key}.{}.tmp", uuid::Uuid::now_v7().simple());
        let mut file = folder.create_new(&temporary)?;
        let written = file.write_all(text).and_then(|()| {
            if self.shared.sync {
                file.sync_all()?;
            }
            folder.rename(&temporary, &file_name(key))
        });
        if let Err(error) = written {
            folder.remove(&temporary)?;
            return Err(error);
        }
        if self.shared.sync { self.sync_names(folder) } else { Ok(()) }
    }

    fn delete(&self, key: &RecordKey) -> Result<bool, RecordError> {
        let Some(folder) = self.open()? else { return Ok(false) };
        let name = file_name(key);
        let delete = || -> io::Result<bool> {
            let Some(mut locked) = Locked::open(&folder, &name)? else { return Ok(false) };
            let live = match read(&mut locked.file, Utc::now())? {
                Found::Live(_) => true,
                Found::Expired => false,
                Found::Damaged => return Ok(false),
            };
            let removed = folder.remove(&name)?;
            if self.shared.sync {
                folder.sync()?;
            }
            Ok(live && removed)
        };
        delete().map_err(|error| self.failed("delete a record in", error).into())
    }

    fn list(&self, query: &RecordQuery) -> Result<RecordPage, RecordError> {
        let mut page = RecordPage::default();
        let Some(folder) = self.open()?.filter(|_| query.limit > 0) else { return Ok(page) };
        let mut keys = Vec::new();
        let listed = folder.each_name(|name| {
            keys.extend(parse_record(name.to_bytes()).filter(|key| {
                key.as_str().starts_with(&query.prefix)
                    && query.after.as_ref().is_none_or(|after| key > after)
            }));
            Ok(())
        });
        listed.map_err(|error| self.failed("list", error))?;
        keys.sort_unstable();
        let now = Utc::now();
        for key in keys {
            if page.records.len() == query.limit {
                page.next = page.records.last().map(|last| last.key.clone());
                break;
            }
            page.records.extend(self.look(&folder, key, now)?);
        }
        Ok(page)
    }

    fn path(&self) -> PathBuf {
        self.shared.path.join(FOLDER).join(self.kind.name())
    }

    /// The folder of this kind; `None` if there is none yet.
    fn open(&self) -> Result<Option<Folder>, Error> {
        let opened = match Folder::open_in(&self.shared.path, FOLDER) {
            Ok(Some(records)) => Folder::open_in(records.path(), self.kind.name()),
            other => other,
        };
        opened.map_err(|error| self.failed("open the folder", error))
    }

    fn open_or_make(&self) -> Result<Folder, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(folder) = self.open()? {
                return Ok(folder);
            }
            self.make().map_err(|error| self.failed("make the folder", error))?;
        }
        Err(self.failed("make the folder", io::Error::from(ErrorKind::NotADirectory)))
    }

    fn make(&self) -> io::Result<()> {
        super::make_base(&self.shared.path)?;
        for path in [self.shared.path.join(FOLDER), self.path()] {
            match fs::create_dir(path) {
                Err(error) if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        self.shared.durable_records.fetch_and(!self.bit(), Ordering::AcqRel);
        Ok(())
    }

    fn sync(&self, file: &File, folder: &Folder) -> io::Result<()> {
        if self.shared.sync {
            file.sync_all()?;
            self.sync_names(folder)?;
        }
        Ok(())
    }

    /// Waits until the disk has the names in the folder, and, once a process, those that lead to it,
    /// whoever made them.
    fn sync_names(&self, folder: &Folder) -> io::Result<()> {
        folder.sync()?;
        let known = &self.shared.durable_records;
        if known.load(Ordering::Acquire) & self.bit() == 0 {
            Folder::open(&self.shared.path.join(FOLDER))?.sync()?;
            Folder::open(&self.shared.path)?.sync()?;
            known.fetch_or(self.bit(), Ordering::AcqRel);
        }
        Ok(())
    }

    /// This kind among those whose folders are known to be on disk.
    fn bit(&self) -> u32 {
        1 << self.kind as u32
    }

    fn failed(&self, action: &'static str, error: io::Error) -> Error {
        failed(action, &self.path(), error)
    }
}

fn read(file: &mut File, now: DateTime<Utc>) -> io::Result<Found> {
    let mut text = Vec::with_capacity(1024);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    Ok(match serde_json::from_slice::<Envelope<Value>>(&text) {
        Ok(envelope) if envelope.expires_at <= now => Found::Expired,
        Ok(envelope) if text.len() as u64 <= MAX_FILE_BYTES => Found::Live(envelope),
        _ => Found::Damaged,
    })
}

fn age(file: &File) -> io::Result<Duration> {
    let modified = file.metadata()?.modified()?;
    Ok(SystemTime::now().duration_since(modified).unwrap_or_default())
}

#[cfg(test)]
mod tests;
