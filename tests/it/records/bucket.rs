//! What only records in a bucket do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use mcp_image_server::storage::{
    Backend, Config, Error, Record, RecordError, RecordKey, RecordKind, S3Config, Storage, SweptRecords,
};
use tempfile::TempDir;

use super::in_bucket;
use crate::{
    fake_s3::{FakeS3, Fault},
    s3_faults::{bounded, config, patient, told},
    store_conformance::{HOUR, assert_whole, fresh, saved},
};

const JOBS: RecordKind = RecordKind::Jobs;
const PUT: &str = "PUT /images/p/records";
const GET: &str = "GET /images/p/records/jobs/";
const DELETE: &str = "DELETE /images/p/records";

fn key() -> RecordKey {
    "a".parse().unwrap()
}

fn record(value: u64, life: Duration) -> Record {
    Record { value: value.into(), expires_at: (SystemTime::now() + life).into() }
}

/// A bucket that asks again when an answer is lost.
fn persistent(server: &FakeS3) -> S3Config {
    S3Config { max_retries: 2, ..config(server) }
}

fn count(server: &FakeS3, text: &str) -> usize {
    server.log().iter().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn change_whose_answer_was_lost_is_one_change() {
    let server = FakeS3::start().await;
    let records = in_bucket(persistent(&server));
    server.fail(PUT, Fault::CloseAfterwards, 1);
    let first = records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail(PUT, Fault::CloseAfterwards, 1);
    let second = records.replace(JOBS, &key(), record(2, HOUR), &first).await.unwrap();
    assert_eq!(records.get(JOBS, &key()).await.unwrap().version, second);
    server.fail(PUT, Fault::CloseAfterwards, 1);
    assert!(records.delete(JOBS, &key()).await.unwrap());
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn conditions_are_relied_on_where_all_of_them_are_honoured() {
    for (set, relied_on) in [
        ((|_| {}) as fn(&FakeS3), true),
        (FakeS3::take_bare_tags, true),
        (FakeS3::ignore_conditions, false),
        (FakeS3::create_what_is_to_be_replaced, false),
    ] {
        let server = FakeS3::start().await;
        set(&server);
        let records = in_bucket(config(&server));
        records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
        assert_eq!(server.keys(), ["p/records/jobs/a"], "no probe is left");
        assert!(records.delete(JOBS, &key()).await.unwrap());
        // A mark comes first only where it decides something.
        assert_eq!(count(&server, PUT), if relied_on { 2 } else { 1 }, "{:#?}", server.log());
        assert_eq!(server.keys(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn records_wait_until_it_is_known_whether_conditions_are_honoured() {
    let server = FakeS3::start().await;
    let s3 = config(&server);
    let backend = Backend::S3(Box::new(s3));
    let config = Config { backend, sync: false };
    let Storage { images, records, .. } = Storage::open(&config).unwrap();
    // In the first check two uploads come before the one that is to replace something; then one.
    for spared in [2, 1] {
        server.fail("PUT /images/p/.probe", Fault::None, spared);
        server.fail("PUT /images/p/.probe", Fault::Answer(500, ""), 1);
    }
    images.start().await.unwrap();
    saved(&images, fresh(10)).await;
    let refused = records.create(JOBS, &key(), record(1, HOUR)).await;
    let Err(RecordError::Storage(error @ Error::Unavailable(_))) = refused else { panic!("{refused:?}") };
    assert!(told(&error).contains("not known yet"), "{error:?}");
    records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
}

/// The gateway of Ceph answers so to whoever loses a race.
#[tokio::test]
async fn change_that_fails_because_another_came_first_does_not_close_the_bucket() {
    let server = FakeS3::start().await;
    let records = in_bucket(persistent(&server));
    let version = records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail(PUT, Fault::Answer(500, ""), 20);
    for _ in 0..3 {
        let refused = records.replace(JOBS, &key(), record(2, HOUR), &version).await;
        assert!(matches!(refused, Err(RecordError::Storage(Error::Unavailable(_)))), "{refused:?}");
    }
    // It was asked each time: it is not left alone.
    assert_eq!(records.get(JOBS, &key()).await.unwrap().record.value, 1);
    server.heal();
    records.replace(JOBS, &key(), record(2, HOUR), &version).await.unwrap();
}

#[tokio::test]
async fn record_removed_by_one_who_died_is_absent_and_its_key_is_free_again_in_time() {
    let server = FakeS3::start().await;
    let records = in_bucket(config(&server));
    records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail(DELETE, Fault::Close, usize::MAX);
    assert!(records.delete(JOBS, &key()).await.unwrap());
    assert_eq!(server.keys(), ["p/records/jobs/a"], "the mark");
    assert!(matches!(records.get(JOBS, &key()).await, Err(RecordError::NotFound)));
    assert!(!records.delete(JOBS, &key()).await.unwrap());
    server.heal();
    // Its deletion may be on the way: nobody touches it, and nobody makes it anew.
    let other = in_bucket(config(&server));
    assert_eq!(other.sweep(SystemTime::now()).await.unwrap(), SweptRecords::default());
    let waited = bounded(other.create(JOBS, &key(), record(2, HOUR))).await;
    assert!(matches!(waited, Err(RecordError::Storage(Error::Unavailable(_)))), "{waited:?}");
    server.set_modified(SystemTime::now() - Duration::from_secs(90));
    other.create(JOBS, &key(), record(2, HOUR)).await.unwrap();
    assert_eq!(records.get(JOBS, &key()).await.unwrap().record.value, 2);
}

#[tokio::test]
async fn creation_waits_for_a_mark_that_is_about_to_go() {
    let server = FakeS3::start().await;
    let records = in_bucket(config(&server));
    records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail(DELETE, Fault::Close, 1);
    assert!(records.delete(JOBS, &key()).await.unwrap());
    let creating = tokio::spawn(async move { records.create(JOBS, &key(), record(2, HOUR)).await });
    while count(&server, GET) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.remove("/a");
    creating.await.unwrap().unwrap();
}

#[tokio::test]
async fn sweep_removes_marks_and_strange_objects_in_their_time() {
    let server = FakeS3::start().await;
    let records = in_bucket(config(&server));
    records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail(DELETE, Fault::Close, 1);
    records.delete(JOBS, &key()).await.unwrap();
    server.insert_json("p/records/jobs/strange", b"{\"what\": 1}");
    let sweep = async || records.sweep(SystemTime::now()).await.unwrap();
    assert_eq!(sweep().await, SweptRecords::default());
    server.set_modified(SystemTime::now() - Duration::from_secs(90));
    assert_eq!(sweep().await, SweptRecords { swept: 1, ..SweptRecords::default() });
    assert_eq!(server.keys(), ["p/records/jobs/strange"]);
    server.set_modified(SystemTime::now() - HOUR * 2);
    assert_eq!(sweep().await, SweptRecords { swept: 1, ..SweptRecords::default() });
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn sweep_reads_what_it_does_not_know_and_deletes_in_batches() {
    let server = FakeS3::start().await;
    let records = in_bucket(patient(server.addr));
    for i in 0..30 {
        let life = if i < 10 { Duration::ZERO } else { HOUR };
        records.create(JOBS, &format!("r{i}").parse().unwrap(), record(i, life)).await.unwrap();
    }
    let before = count(&server, GET);
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap().removed, 10);
    assert_eq!(count(&server, GET) - before, 30);
    assert_eq!(
        (count(&server, "POST /images/?delete"), count(&server, DELETE)),
        (1, 0),
        "{:#?}",
        server.log()
    );
    // Nothing is new but one.
    let seen = records.get(JOBS, &"r20".parse().unwrap()).await.unwrap();
    records.replace(JOBS, &seen.key, record(0, Duration::ZERO), &seen.version).await.unwrap();
    let before = count(&server, GET);
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap().removed, 1);
    assert_eq!(count(&server, GET) - before, 1);
    // And at its time, what is known goes.
    assert_eq!(records.sweep(SystemTime::now() + HOUR * 2).await.unwrap().removed, 19);
    assert_eq!(server.keys(), Vec::<String>::new());
}

/// Replicas have to agree on a record, and one replica's folder agrees with nobody.
#[tokio::test]
async fn records_wait_for_the_bucket_while_images_go_to_the_fallback_folder() {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    let s3 = S3Config { fallback: Some(folder.path().to_owned()), ..config(&server) };
    let backend = Backend::S3(Box::new(s3));
    let config = Config { backend, sync: false };
    let Storage { images, records, .. } = Storage::open(&config).unwrap();
    images.start().await.unwrap();
    let version = records.create(JOBS, &key(), record(1, HOUR)).await.unwrap();
    server.fail("/images", Fault::Close, usize::MAX);
    let image = saved(&images, fresh(1000)).await;
    let unavailable = |result: Result<(), RecordError>| match result {
        Err(RecordError::Storage(error @ Error::Unavailable(_))) => told(&error),
        other => panic!("{other:?}"),
    };
    let other: RecordKey = "b".parse().unwrap();
    // Never "not found" either: another replica may have made it.
    unavailable(bounded(records.create(JOBS, &other, record(1, HOUR))).await.map(|_| ()));
    unavailable(bounded(records.get(JOBS, &key())).await.map(|_| ()));
    unavailable(bounded(records.replace(JOBS, &key(), record(2, HOUR), &version)).await.map(|_| ()));
    unavailable(bounded(records.delete(JOBS, &key())).await.map(|_| ()));
    unavailable(
        bounded(
            records.list(JOBS, mcp_image_server::storage::RecordQuery { limit: 1, ..Default::default() }),
        )
        .await
        .map(|_| ()),
    );
    unavailable(bounded(records.sweep(SystemTime::now())).await.map(|_| ()));
    assert_whole(&images, &image).await;
    server.heal();
    // Which ends what the breaker began.
    images.check().await.unwrap();
    assert_eq!(records.get(JOBS, &key()).await.unwrap().record.value, 1);
    records.create(JOBS, &other, record(1, HOUR)).await.unwrap();
}
