//! What every store of records must do. A backend is done when it passes.

#![expect(clippy::unwrap_used, reason = "a contract fails by panicking")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use mcp_image_server::storage::{
    MAX_RECORD_BYTES, Record, RecordError, RecordKey, RecordKind, RecordQuery, RecordStore, RecordVersion,
    SweptRecords,
};
use serde_json::{Value, json};

/// A store of records under test.
pub(crate) type Records = Arc<dyn RecordStore>;

const HOUR: Duration = Duration::from_secs(3600);
const JOBS: RecordKind = RecordKind::Jobs;
const KEYS: RecordKind = RecordKind::IdempotencyKeys;

/// Runs every contract on a new store each. `$new` is an expression for a `(Records, guard)`; the
/// guard keeps what the store needs alive.
macro_rules! records_conform {
    ($room:ident, $new:expr) => {
        $crate::record_conformance::records_conform!(@each $room, $new,
            record_created_is_got_as_it_was
            unknown_record_is_not_found
            key_taken_is_refused_and_the_first_stays
            creations_of_one_key_at_once_let_one_through
            kinds_do_not_mix
            replacement_of_what_was_seen_takes_its_place
            replacement_of_what_was_not_seen_is_refused
            replacements_at_once_let_one_through_each_time
            replacement_of_a_record_made_anew_is_refused
            record_deleted_is_not_found_and_deleted_twice_is_false
            deletes_of_one_record_at_once_let_one_through
            record_expired_is_absent_and_its_key_is_free
            creations_over_an_expired_record_at_once_let_one_through
            listing_is_by_key_and_pages_without_gap_or_repeat
            listing_by_prefix_finds_exactly_those
            any_json_is_kept
            record_too_large_is_refused_and_leaves_nothing
            sweep_removes_exactly_what_is_due
            sweeps_at_once_remove_each_once
            record_given_more_time_is_not_swept
        );
    };
    (@each $room:ident, $new:expr, $($contract:ident)*) => {
        mod $room {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $contract() {
                    let (records, _guard) = $new;
                    $crate::record_conformance::$contract(records).await;
                }
            )*
        }
    };
}
pub(crate) use records_conform;

fn key(text: &str) -> RecordKey {
    text.parse().unwrap()
}

/// A record with an hour to live.
fn fresh(value: impl Into<Value>) -> Record {
    Record { value: value.into(), expires_at: (SystemTime::now() + HOUR).into() }
}

/// A record whose time is over.
fn expired(value: impl Into<Value>) -> Record {
    Record { value: value.into(), expires_at: (SystemTime::now() - HOUR).into() }
}

async fn created(records: &Records, name: &str, record: Record) -> RecordVersion {
    records.create(JOBS, &key(name), record).await.expect("a creation")
}

async fn assert_is(records: &Records, name: &str, value: impl Into<Value>) {
    let stored = records.get(JOBS, &key(name)).await.expect("a record");
    assert_eq!((stored.key, stored.record.value), (key(name), value.into()));
}

async fn assert_absent(records: &Records, name: &str) {
    let got = records.get(JOBS, &key(name)).await;
    assert!(matches!(got, Err(RecordError::NotFound)), "{got:?}");
    assert!(!list(records, "", 1000).await.contains(&name.to_owned()));
}

/// The keys of a listing from its first page to its last.
async fn list(records: &Records, prefix: &str, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut query = RecordQuery { prefix: prefix.to_owned(), after: None, limit };
    loop {
        let page = records.list(JOBS, query.clone()).await.expect("a page");
        assert!(page.records.len() <= limit);
        assert!(page.next.is_none() || page.records.len() == limit, "a page that is not full has a next one");
        keys.extend(page.records.iter().map(|record| record.key.to_string()));
        assert!(keys.len() < 10_000, "the listing does not end");
        match page.next {
            Some(next) => query.after = Some(next),
            None => return keys,
        }
    }
}

pub(crate) async fn record_created_is_got_as_it_was(records: Records) {
    let record = fresh(json!({"state": "waiting", "images": [1, 2]}));
    let version = created(&records, "a", record.clone()).await;
    let stored = records.get(JOBS, &key("a")).await.unwrap();
    assert_eq!((&stored.key, &stored.record, &stored.version), (&key("a"), &record, &version));
    let page = records.list(JOBS, RecordQuery { limit: 10, ..RecordQuery::default() }).await.unwrap();
    assert_eq!(page.records, [stored]);
}

pub(crate) async fn unknown_record_is_not_found(records: Records) {
    assert_absent(&records, "a").await;
    let version = created(&records, "a", fresh(1)).await;
    assert_absent(&records, "b").await;
    assert!(!records.delete(JOBS, &key("b")).await.unwrap());
    let replaced = records.replace(JOBS, &key("b"), fresh(2), &version).await;
    assert!(matches!(replaced, Err(RecordError::NotFound)), "{replaced:?}");
    assert_absent(&records, "b").await;
}

pub(crate) async fn key_taken_is_refused_and_the_first_stays(records: Records) {
    created(&records, "a", fresh(1)).await;
    let again = records.create(JOBS, &key("a"), fresh(2)).await;
    assert!(matches!(again, Err(RecordError::AlreadyExists)), "{again:?}");
    assert_is(&records, "a", 1).await;
}

/// Creates one key by many at once; returns the one whose creation went through.
async fn race(records: &Records, name: &str) -> u32 {
    let contenders = (0..16_u32).map(|i| {
        let (records, key) = (Arc::clone(records), key(name));
        tokio::spawn(async move { records.create(JOBS, &key, fresh(i)).await })
    });
    let results: Vec<_> = join_all(contenders).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = (0..).zip(&results).filter(|(_, result)| result.is_ok()).collect();
    let refused = |result: &Result<_, _>| matches!(result, Ok(_) | Err(RecordError::AlreadyExists));
    assert!(winners.len() == 1 && results.iter().all(refused), "{results:?}");
    winners[0].0
}

pub(crate) async fn creations_of_one_key_at_once_let_one_through(records: Records) {
    for round in 0..10 {
        let name = format!("round-{round}");
        let winner = race(&records, &name).await;
        assert_is(&records, &name, winner).await;
    }
}

pub(crate) async fn kinds_do_not_mix(records: Records) {
    created(&records, "a", fresh("job")).await;
    records.create(KEYS, &key("a"), fresh("answer")).await.unwrap();
    assert_is(&records, "a", "job").await;
    assert!(records.delete(JOBS, &key("a")).await.unwrap());
    assert_eq!(records.get(KEYS, &key("a")).await.unwrap().record.value, "answer");
    let page = records.list(KEYS, RecordQuery { limit: 10, ..RecordQuery::default() }).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(list(&records, "", 10).await, Vec::<String>::new());
}

pub(crate) async fn replacement_of_what_was_seen_takes_its_place(records: Records) {
    let first = created(&records, "a", fresh(1)).await;
    let second = records.replace(JOBS, &key("a"), fresh(2), &first).await.unwrap();
    assert_is(&records, "a", 2).await;
    assert_ne!(first, second);
    assert_eq!(records.get(JOBS, &key("a")).await.unwrap().version, second);
    let later = Record { value: 3.into(), expires_at: (SystemTime::now() + HOUR * 5).into() };
    records.replace(JOBS, &key("a"), later.clone(), &second).await.unwrap();
    assert_eq!(records.get(JOBS, &key("a")).await.unwrap().record, later);
}

pub(crate) async fn replacement_of_what_was_not_seen_is_refused(records: Records) {
    let first = created(&records, "a", fresh(1)).await;
    let other = created(&records, "b", fresh(1)).await;
    // Even where nothing but the version changed.
    records.replace(JOBS, &key("a"), fresh(1), &first).await.unwrap();
    for seen in [&first, &other] {
        let stale = records.replace(JOBS, &key("a"), fresh(9), seen).await;
        assert!(matches!(stale, Err(RecordError::Changed)), "{stale:?}");
    }
    assert_is(&records, "a", 1).await;
}

pub(crate) async fn replacements_at_once_let_one_through_each_time(records: Records) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 10;
    created(&records, "count", fresh(0)).await;
    let writers = (0..WRITERS).map(|_| {
        let records = Arc::clone(&records);
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let seen = records.get(JOBS, &key("count")).await.unwrap();
                    let next = fresh(seen.record.value.as_u64().unwrap() + 1);
                    match records.replace(JOBS, &key("count"), next, &seen.version).await {
                        Ok(_) => break,
                        Err(RecordError::Changed) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        })
    });
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    assert_is(&records, "count", WRITERS * ROUNDS).await;
}

pub(crate) async fn replacement_of_a_record_made_anew_is_refused(records: Records) {
    let first = created(&records, "a", fresh(1)).await;
    assert!(records.delete(JOBS, &key("a")).await.unwrap());
    let second = created(&records, "a", fresh(1)).await;
    assert_ne!(first, second);
    let stale = records.replace(JOBS, &key("a"), fresh(2), &first).await;
    assert!(matches!(stale, Err(RecordError::Changed)), "{stale:?}");
    assert_is(&records, "a", 1).await;
}

pub(crate) async fn record_deleted_is_not_found_and_deleted_twice_is_false(records: Records) {
    created(&records, "a", fresh(1)).await;
    created(&records, "b", fresh(2)).await;
    assert!(records.delete(JOBS, &key("a")).await.unwrap());
    assert!(!records.delete(JOBS, &key("a")).await.unwrap());
    assert_absent(&records, "a").await;
    assert_is(&records, "b", 2).await;
}

pub(crate) async fn deletes_of_one_record_at_once_let_one_through(records: Records) {
    for _ in 0..8 {
        created(&records, "a", fresh(1)).await;
        let key = key("a");
        let results = join_all((0..8).map(|_| records.delete(JOBS, &key))).await;
        assert_eq!(results.into_iter().filter(|result| *result.as_ref().unwrap()).count(), 1);
        assert_absent(&records, "a").await;
    }
}

pub(crate) async fn record_expired_is_absent_and_its_key_is_free(records: Records) {
    let version = created(&records, "a", expired(1)).await;
    assert_absent(&records, "a").await;
    let replaced = records.replace(JOBS, &key("a"), fresh(2), &version).await;
    assert!(matches!(replaced, Err(RecordError::NotFound)), "{replaced:?}");
    created(&records, "a", fresh(3)).await;
    assert_is(&records, "a", 3).await;
    created(&records, "b", expired(1)).await;
    assert!(!records.delete(JOBS, &key("b")).await.unwrap());
}

pub(crate) async fn creations_over_an_expired_record_at_once_let_one_through(records: Records) {
    for round in 0..10 {
        let name = format!("round-{round}");
        created(&records, &name, expired("old")).await;
        let winner = race(&records, &name).await;
        assert_is(&records, &name, winner).await;
    }
}

pub(crate) async fn listing_is_by_key_and_pages_without_gap_or_repeat(records: Records) {
    assert_eq!(list(&records, "", 10).await, Vec::<String>::new());
    let mut expected = Vec::new();
    for i in 0..25_u32 {
        let name = format!("{:03}-{i}", i * 37 % 101);
        let over = i % 5 == 0;
        created(&records, &name, if over { expired(i) } else { fresh(i) }).await;
        expected.extend((!over).then_some(name));
    }
    expected.sort();
    for limit in [1, 2, 7, expected.len() - 1, expected.len(), expected.len() + 1] {
        assert_eq!(list(&records, "", limit).await, expected, "limit {limit}");
    }
    let none = records.list(JOBS, RecordQuery::default()).await.unwrap();
    assert!(none.records.is_empty() && none.next.is_none());
}

pub(crate) async fn listing_by_prefix_finds_exactly_those(records: Records) {
    for name in ["a", "ab", "abc", "abd", "b", "a-b", "a_b", "0"] {
        created(&records, name, fresh(name)).await;
    }
    for (prefix, expected) in [
        ("ab", &["ab", "abc", "abd"][..]),
        ("abc", &["abc"]),
        ("a-", &["a-b"]),
        ("a_", &["a_b"]),
        ("", &["0", "a", "a-b", "a_b", "ab", "abc", "abd", "b"]),
        ("c", &[]),
        ("../", &[]),
        ("A", &[]),
    ] {
        for limit in [1, 100] {
            assert_eq!(list(&records, prefix, limit).await, expected, "{prefix}, limit {limit}");
        }
    }
}

pub(crate) async fn any_json_is_kept(records: Records) {
    let values = [
        Value::Null,
        json!("\u{0}\u{1b}[31m \u{202e} 雪の灯台 👩‍👩‍👧‍👦 \"quotes\" \\ </script>"),
        json!({"a": [1.5, -7, u64::MAX, i64::MIN, true, null], "": {"nested": {}}}),
        json!("x".repeat(MAX_RECORD_BYTES - 2)),
    ];
    for (i, value) in values.into_iter().enumerate() {
        let name = i.to_string();
        created(&records, &name, fresh(value.clone())).await;
        assert_is(&records, &name, value).await;
    }
    let longest = "k".repeat(128);
    created(&records, &longest, fresh(1)).await;
    assert_is(&records, &longest, 1).await;
}

pub(crate) async fn record_too_large_is_refused_and_leaves_nothing(records: Records) {
    let large = || fresh("x".repeat(MAX_RECORD_BYTES - 1));
    let refused = records.create(JOBS, &key("a"), large()).await;
    assert!(matches!(refused, Err(RecordError::TooLarge { .. })), "{refused:?}");
    assert_absent(&records, "a").await;
    let version = created(&records, "a", fresh(1)).await;
    let refused = records.replace(JOBS, &key("a"), large(), &version).await;
    assert!(matches!(refused, Err(RecordError::TooLarge { .. })), "{refused:?}");
    assert_is(&records, "a", 1).await;
}

pub(crate) async fn sweep_removes_exactly_what_is_due(records: Records) {
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap(), SweptRecords::default());
    for i in 0..3 {
        created(&records, &format!("due-{i}"), expired(i)).await;
        created(&records, &format!("live-{i}"), fresh(i)).await;
    }
    records.create(KEYS, &key("due"), expired(1)).await.unwrap();
    let swept = records.sweep(SystemTime::now()).await.unwrap();
    assert_eq!(swept, SweptRecords { removed: 4, swept: 0, failed: 0 });
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap(), SweptRecords::default());
    assert_eq!(list(&records, "", 10).await, ["live-0", "live-1", "live-2"]);
    // And at its time, the rest.
    assert_eq!(records.sweep(SystemTime::now() + HOUR * 2).await.unwrap().removed, 3);
    assert_eq!(list(&records, "", 10).await, Vec::<String>::new());
}

pub(crate) async fn sweeps_at_once_remove_each_once(records: Records) {
    for i in 0..40 {
        created(&records, &format!("due-{i}"), expired(i)).await;
    }
    let now = SystemTime::now();
    let sweeps: Vec<_> = (0..2)
        .map(|_| {
            let records = Arc::clone(&records);
            tokio::spawn(async move { records.sweep(now).await.unwrap() })
        })
        .collect();
    let swept: Vec<_> = join_all(sweeps).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(swept.iter().map(|swept| swept.removed).sum::<u64>(), 40, "{swept:?}");
    assert_eq!(swept.iter().map(|swept| swept.failed).sum::<u64>(), 0, "{swept:?}");
}

pub(crate) async fn record_given_more_time_is_not_swept(records: Records) {
    let version = created(&records, "a", fresh(0)).await;
    let longer = Record { value: 1.into(), expires_at: (SystemTime::now() + HOUR * 3).into() };
    records.replace(JOBS, &key("a"), longer, &version).await.unwrap();
    assert_eq!(records.sweep(SystemTime::now() + HOUR * 2).await.unwrap(), SweptRecords::default());
    assert_is(&records, "a", 1).await;
}
