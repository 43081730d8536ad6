use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::storage::{
    Error, Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery, RecordStore, RecordVersion,
    StoredRecord, SweptRecords, records::Envelope,
};

/// Bytes of records at most.
const MAX_BYTES: usize = 64 << 20;

/// Records that are gone with the process.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    by_key: BTreeMap<(RecordKind, RecordKey), Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    version: RecordVersion,
    bytes: usize,
}

impl MemoryRecords {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn live(&self, kind: RecordKind, key: &RecordKey) -> Option<&Kept> {
        self.by_key.get(&(kind, key.clone())).filter(|kept| !kept.record.is_expired(Utc::now()))
    }

    fn put(
        &mut self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        let (version, text) = Envelope::seal(record.clone())?;
        let bytes = text.len();
        if self.bytes + bytes > MAX_BYTES {
            self.sweep(Utc::now());
        }
        let old = self.by_key.get(&(kind, key.clone())).map_or(0, |kept| kept.bytes);
        if self.bytes - old + bytes > MAX_BYTES {
            return Err(Error::Full(None).into());
        }
        self.bytes = self.bytes - old + bytes;
        self.by_key.insert((kind, key.clone()), Kept { record, version: version.clone(), bytes });
        Ok(version)
    }

    fn remove(&mut self, kind: RecordKind, key: &RecordKey) -> Option<Kept> {
        let kept = self.by_key.remove(&(kind, key.clone()))?;
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn sweep(&mut self, now: DateTime<Utc>) -> SweptRecords {
        let before = self.by_key.len();
        self.by_key.retain(|_, kept| !kept.record.is_expired(now));
        self.bytes = self.by_key.values().map(|kept| kept.bytes).sum();
        SweptRecords { removed: (before - self.by_key.len()) as u64, ..SweptRecords::default() }
    }
}

#[async_trait]
impl RecordStore for MemoryRecords {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        let mut records = self.records();
        if records.live(kind, key).is_some() {
            return Err(RecordError::AlreadyExists);
        }
        records.put(kind, key, record)
    }

    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError> {
        self.records().live(kind, key).map(|kept| kept.stored(key)).ok_or(RecordError::NotFound)
    }

    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        let mut records = self.records();
        match records.live(kind, key) {
            None => Err(RecordError::NotFound),
            Some(kept) if kept.version != *seen => Err(RecordError::Changed),
            Some(_) => records.put(kind, key, record),
        }
    }

    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError> {
        let removed = self.records().remove(kind, key);
        Ok(removed.is_some_and(|kept| !kept.record.is_expired(Utc::now())))
    }

    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError> {
        let mut page = RecordPage::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let now = Utc::now();
        let records = self.records();
        let behind = |key: &RecordKey| query.after.as_ref().is_none_or(|after| key > after);
        let wanted = records.by_key.iter().filter(|((of, key), kept)| {
            *of == kind
                && behind(key)
                && key.as_str().starts_with(&query.prefix)
                && !kept.record.is_expired(now)
        });
        for ((_, key), kept) in wanted {
            if page.records.len() == query.limit {
                page.next = page.records.last().map(|last| last.key.clone());
                break;
            }
            page.records.push(kept.stored(key));
        }
        Ok(page)
    }

    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError> {
        Ok(self.records().sweep(now.into()))
    }
}

impl Kept {
    fn stored(&self, key: &RecordKey) -> StoredRecord {
        StoredRecord { key: key.clone(), record: self.record.clone(), version: self.version.clone() }
    }
}
