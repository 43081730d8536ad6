use std::time::SystemTime;

use async_trait::async_trait;

use super::{
    Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery, RecordStore, RecordVersion,
    StoredRecord, SweptRecords,
};
use crate::storage::Error;

/// The records of a backend that keeps none: there are none, and none can be created.
#[derive(Debug)]
pub struct NoRecords {
    backend: &'static str,
}

impl NoRecords {
    /// No records of this backend.
    #[must_use]
    pub const fn new(backend: &'static str) -> Self {
        Self { backend }
    }
}

#[async_trait]
impl RecordStore for NoRecords {
    fn kind(&self) -> &'static str {
        self.backend
    }

    async fn create(&self, _: RecordKind, _: &RecordKey, _: Record) -> Result<RecordVersion, RecordError> {
        let reason = format!("the {} backend keeps no records yet", self.backend);
        Err(Error::Unavailable(reason.into()).into())
    }

    async fn get(&self, _: RecordKind, _: &RecordKey) -> Result<StoredRecord, RecordError> {
        Err(RecordError::NotFound)
    }

    async fn replace(
        &self,
        _: RecordKind,
        _: &RecordKey,
        _: Record,
        _: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        Err(RecordError::NotFound)
    }

    async fn delete(&self, _: RecordKind, _: &RecordKey) -> Result<bool, RecordError> {
        Ok(false)
    }

    async fn list(&self, _: RecordKind, _: RecordQuery) -> Result<RecordPage, RecordError> {
        Ok(RecordPage::default())
    }

    async fn sweep(&self, _: SystemTime) -> Result<SweptRecords, RecordError> {
        Ok(SweptRecords::default())
    }
}
