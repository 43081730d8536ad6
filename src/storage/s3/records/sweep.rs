use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use tokio::time::{Instant, timeout};

use super::{Alive, HOLD, LEASE, MARK, S3Records, Seen, What};
use crate::storage::{
    RecordError, RecordKey, RecordKind, SweptRecords,
    s3::{Failure, delete::remove_many, list::AT_ONCE},
};

/// Something under a record's key that is none of ours, and that nobody changed for so long, is a
/// leftover.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Records removed by one batch: so many that they are marked well within the time for it.
const BATCH: usize = 100;

/// Living records that are kept in mind: some 20 MB. Others are read by each sweep.
const MOST_KNOWN: usize = 100_000;

const ACTION: &str = "sweep the records in";

/// A record that is to go.
struct Due {
    key: RecordKey,
    object: String,
    tag: HeaderValue,
    /// Its time was over; otherwise it is a leftover.
    is_record: bool,
}

/// Removes the records of all kinds that are over at `now`, and leftovers.
///
/// A listing tells the entity tags: a record that was found alive by the sweep before, and is the same
/// still, is not read again until its time is over. So a sweep costs a request for a thousand records,
/// and a few for each one that is new or due.
pub(super) async fn sweep(records: &S3Records, now: DateTime<Utc>) -> Result<SweptRecords, RecordError> {
    let is_exact = records.is_exact().await?;
    let mut alive = records.alive.lock().await;
    let mut sweep = Sweep { records, now, is_exact, known: HashMap::new(), done: SweptRecords::default() };
    for kind in RecordKind::ALL {
        sweep.kind(kind, &alive).await.map_err(records.failed(ACTION))?;
    }
    *alive = sweep.known;
    Ok(sweep.done)
}

struct Sweep<'a> {
    records: &'a S3Records,
    now: DateTime<Utc>,
    is_exact: bool,
    known: HashMap<String, Alive>,
    done: SweptRecords,
}

impl Sweep<'_> {
    async fn kind(&mut self, kind: RecordKind, before: &HashMap<String, Alive>) -> Result<(), Failure> {
        let keys = &self.records.shared.keys;
        let prefix = keys.records(kind);
        let mut next = Some(String::new());
        while let Some(after) = next {
            let page = self.records.shared.keys_below(&prefix, &after).await?;
            next = page.objects.last().map(|last| last.key.clone()).filter(|_| page.truncated);
            let mut unknown = Vec::new();
            for object in page.objects {
                let Some(key) = keys.parse_record(kind, &object.key) else { continue };
                match before.get(&object.key) {
                    Some(alive) if object.tag.as_ref() == Some(&alive.tag) && alive.expires_at > self.now => {
                        self.remember(object.key, alive.clone());
                    }
                    _ => unknown.push((key, object.key)),
                }
            }
            let due = self.due(unknown).await?;
            for batch in due.chunks(BATCH) {
                if self.is_exact {
                    self.remove(batch).await?;
                } else {
                    self.remove_each(kind, batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads those of which nothing is known, and gives those that are to go.
    async fn due(&mut self, unknown: Vec<(RecordKey, String)>) -> Result<Vec<Due>, Failure> {
        let records = self.records;
        let looks = stream::iter(unknown).map(|(key, object)| async move {
            let seen = records.look(&object).await;
            (key, object, seen)
        });
        let mut due = Vec::new();
        let mut looks = std::pin::pin!(looks.buffered(AT_ONCE));
        while let Some((key, object, seen)) = looks.next().await {
            let Some(seen) = seen? else { continue };
            match self.verdict(&seen) {
                Some(is_record) => due.push(Due { key, object, tag: seen.tag, is_record }),
                None => {
                    if let (What::Record(envelope), Ok(tag)) = (&seen.what, seen.tag.to_str()) {
                        let tag = tag.trim_matches('"').to_owned();
                        self.remember(object, Alive { tag, expires_at: envelope.expires_at });
                    }
                }
            }
        }
        Ok(due)
    }

    /// Whether what was seen is to go: `Some(true)` for a record, `Some(false)` for a leftover.
    fn verdict(&self, seen: &Seen) -> Option<bool> {
        match &seen.what {
            What::Record(envelope) => (envelope.expires_at <= self.now).then_some(true),
            What::Mark => (seen.age >= LEASE).then_some(false),
            What::Other => (seen.age >= LEFTOVER_AGE).then_some(false),
        }
    }

    /// Marks what is still as it was seen, and deletes the marks at once.
    async fn remove(&mut self, due: &[Due]) -> Result<(), Failure> {
        let (records, begun) = (self.records, Instant::now());
        let each: Vec<_> = due.iter().map(|due| (due.object.clone(), due.tag.clone())).collect();
        let marks = stream::iter(each).map(|(object, tag)| async move {
            records.put(&object, &Bytes::from_static(MARK), Some(&tag)).await
        });
        let marked: Vec<_> = marks.buffered(AT_ONCE).collect().await;
        let mut gone = Vec::new();
        let mut failed = None;
        for (due, marked) in due.iter().zip(marked) {
            match marked {
                Ok(()) => {
                    gone.push(due.object.clone());
                    self.count(due);
                }
                // It was given more time, or another replica took it.
                Err(Failure::Precondition) => {}
                Err(failure) => {
                    self.done.failed += 1;
                    failed = Some(failure);
                }
            }
        }
        let shared = &records.shared;
        let deleted = timeout(HOLD.saturating_sub(begun.elapsed()), remove_many(shared, &gone)).await;
        if !matches!(&deleted, Ok(Ok(stay)) if stay.is_empty()) {
            tracing::debug!("marks of removed records stay until they are swept");
        }
        match failed {
            Some(failure) if failure.is_outage() => Err(failure),
            _ => Ok(()),
        }
    }

    /// Removes each after another look: without conditions there is little time between the two.
    async fn remove_each(&mut self, kind: RecordKind, due: &[Due]) -> Result<(), Failure> {
        for due in due {
            let _turn = self.records.shared.record_locks.turn((kind, due.key.clone())).await;
            let seen = self.records.look(&due.object).await?;
            if seen.is_some_and(|seen| self.verdict(&seen).is_some()) {
                self.records.shared.remove(&due.object).await?;
                self.count(due);
            }
        }
        Ok(())
    }

    fn count(&mut self, due: &Due) {
        if due.is_record {
            self.done.removed += 1;
        } else {
            self.done.swept += 1;
        }
    }

    fn remember(&mut self, object: String, alive: Alive) {
        if self.known.len() < MOST_KNOWN {
            self.known.insert(object, alive);
        }
    }
}
