//! Two replicas as one store: each operation goes to the next of them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use async_trait::async_trait;
use mcp_image_server::storage::{
    Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery, RecordStore, RecordVersion,
    StoredRecord, SweptRecords,
};

use crate::record_conformance::Records;

pub(super) struct InTurn {
    replicas: [Records; 2],
    turn: AtomicUsize,
}

impl InTurn {
    pub(super) fn new(replicas: [Records; 2]) -> Self {
        Self { replicas, turn: AtomicUsize::new(0) }
    }

    fn next(&self) -> &Records {
        &self.replicas[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[async_trait]
impl RecordStore for InTurn {
    fn kind(&self) -> &'static str {
        self.replicas[0].kind()
    }

    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        self.next().create(kind, key, record).await
    }

    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError> {
        self.next().get(kind, key).await
    }

    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        self.next().replace(kind, key, record, seen).await
    }

    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError> {
        self.next().delete(kind, key).await
    }

    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError> {
        self.next().list(kind, query).await
    }

    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError> {
        self.next().sweep(now).await
    }
}
