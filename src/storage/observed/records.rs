use std::time::{Instant, SystemTime};

use async_trait::async_trait;

use super::{Measured, outcome};
use crate::storage::{
    Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery, RecordStore, RecordVersion,
    StoredRecord, SweptRecords,
};

/// A store of records that counts and times what another one does.
#[derive(Debug)]
pub struct ObservedRecords<S> {
    inner: S,
}

impl<S: RecordStore> ObservedRecords<S> {
    /// Measures `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        run: impl Future<Output = Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        let mut measured = Measured::new(self.inner.kind(), operation);
        let started = Instant::now();
        let result = run.await;
        measured.seconds = started.elapsed().as_secs_f64();
        measured.outcome = result.as_ref().map_or_else(record_outcome, |_| "ok");
        result
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: RecordStore> RecordStore for ObservedRecords<S> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        self.measure("create_record", self.inner.create(kind, key, record)).await
    }

    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError> {
        self.measure("get_record", self.inner.get(kind, key)).await
    }

    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        self.measure("replace_record", self.inner.replace(kind, key, record, seen)).await
    }

    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError> {
        self.measure("delete_record", self.inner.delete(kind, key)).await
    }

    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError> {
        self.measure("list_records", self.inner.list(kind, query)).await
    }

    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError> {
        self.measure("sweep_records", self.inner.sweep(now)).await
    }
}

fn record_outcome(error: &RecordError) -> &'static str {
    match error {
        RecordError::NotFound => "not_found",
        RecordError::AlreadyExists => "already_exists",
        RecordError::Changed => "changed",
        RecordError::TooLarge { .. } => "too_large",
        RecordError::Storage(error) => outcome(error),
    }
}
