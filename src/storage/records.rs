//! What replicas must agree on: small JSON records, each with an expiry.
//!
//! A record is created by exactly one of those who try, and replaced only by one who has seen what
//! it replaces. After its expiry it is absent at once, whether [`RecordStore::sweep`] has come by or
//! not, and its key is free.

mod key;

use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::key::{InvalidRecordKey, RecordKey};
use super::Error;

/// The JSON text of a record's value may have this many bytes.
pub const MAX_RECORD_BYTES: usize = 256 << 10;

/// What records are about. A key names one record of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// Generations that someone asked for and did not wait for.
    Jobs,
    /// What was answered to a request that may come again.
    IdempotencyKeys,
}

impl RecordKind {
    /// Every kind there is.
    pub const ALL: [Self; 2] = [Self::Jobs, Self::IdempotencyKeys];

    /// The name of its folder: `jobs` or `idempotency-keys`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::IdempotencyKeys => "idempotency-keys",
        }
    }
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Any JSON.
    pub value: serde_json::Value,
    /// From this moment on the record is absent.
    pub expires_at: DateTime<Utc>,
}

impl Record {
    /// Whether the record's time is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at <= now
    }
}

/// Which of a key's successive records is meant; no two are alike, not even with equal values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordVersion(pub(super) String);

/// A record as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// Its key.
    pub key: RecordKey,
    /// What it says.
    pub record: Record,
    /// What [`RecordStore::replace`] wants to know.
    pub version: RecordVersion,
}

/// Which records of a kind are wanted.
#[derive(Debug, Clone, Default)]
pub struct RecordQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// Only keys behind this one: the last key of the page before.
    pub after: Option<RecordKey>,
    /// Records on a page at most.
    pub limit: usize,
}

/// One page of records, by key.
#[derive(Debug, Clone, Default)]
pub struct RecordPage {
    /// The records, expired ones left out.
    pub records: Vec<StoredRecord>,
    /// What the next page begins after, if there may be more.
    pub next: Option<RecordKey>,
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SweptRecords {
    /// Expired records that were removed.
    pub removed: u64,
    /// Leftovers of interrupted operations that were removed.
    pub swept: u64,
    /// Records that were due but could not be removed; the next sweep tries again.
    pub failed: u64,
}

/// Why a store of records could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No such record: never created, deleted or expired.
    #[error("no such record")]
    NotFound,
    /// The key is taken.
    #[error("a record with this key exists already")]
    AlreadyExists,
    /// The record is not the one that was to be replaced.
    #[error("the record was changed meanwhile")]
    Changed,
    /// The record is not small.
    #[error("the record has {bytes} bytes of JSON; {MAX_RECORD_BYTES} are allowed")]
    TooLarge {
        /// The length of its JSON.
        bytes: usize,
    },
    /// The storage failed. The operation may have taken place or not.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// A place that keeps records, shared by all replicas.
#[async_trait]
pub trait RecordStore: Send + Sync + 'static {
    /// `file`, `s3` or `memory`.
    fn kind(&self) -> &'static str;

    /// Keeps a record under a key that is free. Of several callers at once, one succeeds. When this
    /// returns `Ok` the record survives a crash.
    ///
    /// # Errors
    /// [`RecordError::AlreadyExists`] if the key is taken by a record that is not expired.
    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError>;

    /// The record under a key.
    ///
    /// # Errors
    /// [`RecordError::NotFound`] if it is absent or expired.
    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError>;

    /// Keeps another record in the place of the one with version `seen`. Readers find the one or
    /// the other, whole. Of several callers that have seen the same version, one succeeds.
    ///
    /// # Errors
    /// [`RecordError::Changed`] if another version is there, [`RecordError::NotFound`] if none is.
    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError>;

    /// Removes a record; `false` if it was not there.
    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError>;

    /// A page of the records of a kind, by key.
    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError>;

    /// Removes the records of all kinds that are expired at `now`, and old leftovers. A record that
    /// is replaced meanwhile by one that lives longer stays.
    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError>;
}

/// A record's JSON as backends keep it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<V> {
    pub(super) version: RecordVersion,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) value: V,
}

impl Envelope<serde_json::Value> {
    /// Gives a record a version of its own, and its JSON.
    pub(super) fn seal(record: Record) -> Result<(RecordVersion, Vec<u8>), RecordError> {
        let bytes = record.value.to_string().len();
        if bytes > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes });
        }
        let version = RecordVersion(uuid::Uuid::now_v7().simple().to_string());
        let envelope = Self { version: version.clone(), expires_at: record.expires_at, value: record.value };
        let text = serde_json::to_vec(&envelope).map_err(|error| Error::Unavailable(Box::new(error)))?;
        Ok((version, text))
    }

    /// The record in here.
    pub(super) fn open(self, key: RecordKey) -> StoredRecord {
        let record = Record { value: self.value, expires_at: self.expires_at };
        StoredRecord { key, record, version: self.version }
    }
}
