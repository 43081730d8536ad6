//! Records in the bucket: `<prefix>records/<kind>/<key>`.
//!
//! A record is created where nothing is (`If-None-Match: *`) and changed where its entity tag is still
//! the one that was seen (`If-Match`), so of several replicas one succeeds. A deletion knows no such
//! condition everywhere. So whoever removes a record first changes it into a mark: that decides who
//! removed it. Then, for [`HOLD`], he may delete the mark, and nobody else touches it for [`LEASE`]: no
//! deletion meets a record that was made anew.
//!
//! Where the bucket does not honour these conditions, and where it keeps versions it often does not,
//! each change is preceded by a look and followed by another one. Within a process that is exact;
//! of two replicas that change one record within the same moment both may then succeed.

mod sweep;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Failure, Shared,
    list::AT_ONCE,
    object::{Conditional, NewObject, Replacing},
    probe,
    request::Digests,
    save::save_name,
};
use crate::storage::{
    Error, MAX_RECORD_BYTES, Record, RecordError, RecordKey, RecordKind, RecordPage, RecordQuery,
    RecordStore, RecordVersion, StoredRecord, SweptRecords, records::Envelope,
};

/// An object that is longer is not ours: there is room for the value and what is around it.
const MAX_BYTES: usize = MAX_RECORD_BYTES + 1024;

/// What takes the place of a record that is being removed.
const MARK: &[u8] = b"{\"removed\":true}";

/// Who made a mark may send its deletion for so long.
const HOLD: Duration = Duration::from_secs(15);

/// Nobody else touches a mark for so long: a deletion that was sent has arrived, or never will.
const LEASE: Duration = Duration::from_secs(60);

/// A creation waits so long for a mark to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a change starts anew when others are faster.
const ATTEMPTS: usize = 64;

/// Records in the bucket of an [`S3Store`](super::S3Store).
#[derive(Debug, Clone)]
pub struct S3Records {
    shared: Arc<Shared>,
    /// Records that the last sweep found alive, so that the next one need not read them again. One
    /// sweep at a time.
    alive: Arc<tokio::sync::Mutex<HashMap<String, Alive>>>,
}

/// When a record ends, as long as its entity tag is this one.
#[derive(Debug, Clone)]
struct Alive {
    tag: String,
    expires_at: DateTime<Utc>,
}

/// What is under a record's key.
#[derive(Debug)]
struct Seen {
    what: What,
    tag: HeaderValue,
    /// How long it has been like that, by the bucket's own clock.
    age: Duration,
}

#[derive(Debug)]
enum What {
    Record(Envelope<Value>),
    Mark,
    /// Nothing of ours.
    Other,
}

impl S3Records {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, alive: Arc::default() }
    }

    /// Whether conditions are honoured, which is found out first if nobody did.
    async fn is_exact(&self) -> Result<bool, Error> {
        let shared = &*self.shared;
        let is_known =
            || shared.conditional() != Conditional::Unknown && shared.replacing() != Replacing::Unknown;
        if !is_known() {
            probe::check(shared).await?;
        }
        if !is_known() {
            // Others may know, and rely on it.
            let failure = Failure::BadAnswer("whether it honours conditions is not known yet".to_owned());
            return Err(shared.failed("keep records in")(failure).into());
        }
        Ok(shared.conditional() == Conditional::Honoured && shared.replacing() != Replacing::Ignored)
    }

    /// What is under an object's key; `None` if nothing is.
    async fn look(&self, object: &str) -> Result<Option<Seen>, Failure> {
        let answer = match self.shared.get(object, MAX_BYTES).await {
            Ok(answer) => answer,
            Err(Failure::Absent) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let what = match serde_json::from_slice(&answer.body) {
            Ok(envelope) => What::Record(envelope),
            Err(_) if answer.body == MARK => What::Mark,
            // Something in front of S3 may answer for it.
            Err(_) if !super::read::says_json(&answer.headers) => {
                return Err(Failure::BadAnswer("a record that is not JSON".to_owned()));
            }
            Err(_) => What::Other,
        };
        let tag = answer.headers.get(header::ETAG).cloned();
        let tag = tag.ok_or_else(|| Failure::BadAnswer("it does not tell an entity tag".to_owned()))?;
        Ok(Some(Seen { what, tag, age: age(&answer.headers) }))
    }

    /// The record under a key, if it is alive.
    async fn find(
        &self,
        kind: RecordKind,
        key: &RecordKey,
    ) -> Result<Option<(Envelope<Value>, Seen)>, Failure> {
        let seen = self.look(&self.shared.keys.record(kind, key)).await?;
        Ok(seen.and_then(|mut seen| match std::mem::replace(&mut seen.what, What::Other) {
            What::Record(envelope) if envelope.expires_at > Utc::now() => Some((envelope, seen)),
            _ => None,
        }))
    }

    /// Writes an object where nothing is, or in the place of what was seen.
    async fn put(&self, object: &str, text: &Bytes, seen: Option<&HeaderValue>) -> Result<(), Failure> {
        let (digests, save) = (Digests::of(text), save_name());
        let new = NewObject {
            key: object,
            body: text.clone(),
            digests: &digests,
            media_type: "application/json",
            save: &save,
        };
        match seen {
            None => self.shared.create(&new).await,
            Some(tag) => self.shared.change(&new, tag).await,
        }
    }

    /// One try to create a record; `None` if another is needed.
    async fn try_create(&self, object: &str, text: &Bytes) -> Result<Option<bool>, Failure> {
        match self.put(object, text, None).await {
            Err(Failure::Precondition) => {}
            created => return created.map(|()| Some(true)),
        }
        let Some(seen) = self.look(object).await? else { return Ok(None) };
        match seen.what {
            What::Record(envelope) if envelope.expires_at > Utc::now() => return Ok(Some(false)),
            What::Mark if seen.age < LEASE => return Ok(None),
            _ => {}
        }
        match self.put(object, text, Some(&seen.tag)).await {
            Err(Failure::Precondition) => Ok(None),
            changed => changed.map(|()| Some(true)),
        }
    }

    /// Removes what was seen; `false` if it is not there any more.
    async fn take(&self, object: &str, seen: &HeaderValue, is_exact: bool) -> Result<bool, Failure> {
        if !is_exact {
            return self.shared.remove(object).await.map(|()| true);
        }
        let begun = Instant::now();
        match self.put(object, &Bytes::from_static(MARK), Some(seen)).await {
            Err(Failure::Precondition) => return Ok(false),
            marked => marked?,
        }
        let deleted = timeout(HOLD.saturating_sub(begun.elapsed()), self.shared.remove(object)).await;
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::debug!(object, "the mark of a removed record stays until it is swept");
        }
        Ok(true)
    }

    fn failed(&self, action: &'static str) -> impl Fn(Failure) -> RecordError + '_ {
        move |failure| match failure {
            // Said of an object, these are no news of a record.
            Failure::Absent | Failure::Precondition => self.contested(action),
            failure => Error::from(self.shared.failed(action)(failure)).into(),
        }
    }

    fn contested(&self, action: &'static str) -> RecordError {
        let contested = Failure::BadAnswer("others change the record again and again".to_owned());
        Error::from(self.shared.failed(action)(contested)).into()
    }
}

#[async_trait]
impl RecordStore for S3Records {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn create(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
    ) -> Result<RecordVersion, RecordError> {
        const ACTION: &str = "create a record in";
        let (version, text) = Envelope::seal(record)?;
        let (text, object) = (Bytes::from(text), self.shared.keys.record(kind, key));
        self.is_exact().await?;
        let _turn = self.shared.record_locks.turn((kind, key.clone())).await;
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        while begun.elapsed() < PATIENCE {
            match self.try_create(&object, &text).await.map_err(self.failed(ACTION))? {
                Some(true) => return Ok(version),
                Some(false) => return Err(RecordError::AlreadyExists),
                None => sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Err(self.contested(ACTION))
    }

    async fn get(&self, kind: RecordKind, key: &RecordKey) -> Result<StoredRecord, RecordError> {
        let found = self.find(kind, key).await.map_err(self.failed("read a record in"))?;
        found.map(|(envelope, _)| envelope.open(key.clone())).ok_or(RecordError::NotFound)
    }

    async fn replace(
        &self,
        kind: RecordKind,
        key: &RecordKey,
        record: Record,
        seen: &RecordVersion,
    ) -> Result<RecordVersion, RecordError> {
        const ACTION: &str = "replace a record in";
        let (version, text) = Envelope::seal(record)?;
        let (text, object) = (Bytes::from(text), self.shared.keys.record(kind, key));
        self.is_exact().await?;
        let _turn = self.shared.record_locks.turn((kind, key.clone())).await;
        for _ in 0..ATTEMPTS {
            let found = self.find(kind, key).await.map_err(self.failed(ACTION))?;
            let (envelope, there) = found.ok_or(RecordError::NotFound)?;
            if envelope.version != *seen {
                return Err(RecordError::Changed);
            }
            match self.put(&object, &text, Some(&there.tag)).await {
                // The next look tells what came first.
                Err(Failure::Precondition) => {}
                changed => return changed.map(|()| version).map_err(self.failed(ACTION)),
            }
        }
        Err(self.contested(ACTION))
    }

    async fn delete(&self, kind: RecordKind, key: &RecordKey) -> Result<bool, RecordError> {
        const ACTION: &str = "delete a record in";
        let object = self.shared.keys.record(kind, key);
        let is_exact = self.is_exact().await?;
        let _turn = self.shared.record_locks.turn((kind, key.clone())).await;
        for _ in 0..ATTEMPTS {
            let found = self.find(kind, key).await.map_err(self.failed(ACTION))?;
            let Some((_, there)) = found else { return Ok(false) };
            if self.take(&object, &there.tag, is_exact).await.map_err(self.failed(ACTION))? {
                return Ok(true);
            }
        }
        Err(self.contested(ACTION))
    }

    async fn list(&self, kind: RecordKind, query: RecordQuery) -> Result<RecordPage, RecordError> {
        let mut page = RecordPage::default();
        // A prefix that no key has is no matter for a request.
        if query.limit == 0 || !query.prefix.is_empty() && query.prefix.parse::<RecordKey>().is_err() {
            return Ok(page);
        }
        let (shared, failed) = (&*self.shared, self.failed("list the records in"));
        let prefix = format!("{}{}", shared.keys.records(kind), query.prefix);
        let mut next = Some(query.after.map(|key| shared.keys.record(kind, &key)).unwrap_or_default());
        while let Some(after) = next {
            let listed = shared.keys_below(&prefix, &after).await.map_err(&failed)?;
            next = listed.objects.last().map(|last| last.key.clone()).filter(|_| listed.truncated);
            let keys = listed.objects.iter().filter_map(|object| shared.keys.parse_record(kind, &object.key));
            let keys: Vec<_> = keys.collect();
            let read = |key: RecordKey| async move {
                let found = self.find(kind, &key).await;
                found.map(|found| found.map(|(envelope, _)| envelope.open(key)))
            };
            let mut records = std::pin::pin!(stream::iter(keys).map(read).buffered(AT_ONCE));
            while let Some(record) = records.next().await {
                let Some(record) = record.map_err(&failed)? else { continue };
                if page.records.len() == query.limit {
                    page.next = page.records.last().map(|last| last.key.clone());
                    return Ok(page);
                }
                page.records.push(record);
            }
        }
        Ok(page)
    }

    async fn sweep(&self, now: SystemTime) -> Result<SweptRecords, RecordError> {
        sweep::sweep(self, now.into()).await
    }
}

/// How old an object is, by the clock of whoever answers.
fn age(headers: &HeaderMap) -> Duration {
    let time = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(text).ok()
    };
    let now = time(header::DATE).unwrap_or_else(SystemTime::now);
    let written = time(header::LAST_MODIFIED).unwrap_or(now);
    now.duration_since(written).unwrap_or_default()
}
