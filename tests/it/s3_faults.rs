//! The S3 store against a server that fails on demand: every fault is typed, and bounded in time and
//! memory; nothing acknowledged is lost, whichever request was the last one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    error::Error as _,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt as _;
use mcp_image_server::storage::{
    ByteStream, Delivery, Error, Expired, Fallback, FileStore, ImageStore, ListQuery, NewImage, S3Config,
    S3Identity, S3Store, S3Timeouts,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    fake_s3::{FakeS3, Fault},
    s3::keys,
    store_conformance::{
        HOUR, Store, assert_absent, assert_whole, conforms, conforms_to_upkeep, fresh, image, list_all, read,
        saved,
    },
};

const SHORT: Duration = Duration::from_secs(1);
/// Longer than any fault may hold a caller, by far.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bucket of the fake server.
pub(crate) fn config(server: &FakeS3) -> S3Config {
    config_of(server.addr)
}

fn config_of(server: SocketAddr) -> S3Config {
    S3Config {
        bucket: "images".to_owned(),
        prefix: "p/".to_owned(),
        endpoint_url: Some(format!("http://{server}").parse().unwrap()),
        public_endpoint_url: None,
        path_style: None,
        region: "us-east-1".to_owned(),
        identity: S3Identity {
            keys: Some(keys("AKIDEXAMPLE", "hunter2")),
            web_identity: None,
            profile_file: None,
            profile: "default".to_owned(),
        },
        ca_file: None,
        timeouts: S3Timeouts { connect: SHORT, first_byte: SHORT, idle: SHORT },
        max_retries: 0,
        delivery: Delivery::Proxy,
        fallback: None,
    }
}

fn store(config: &S3Config) -> Store {
    std::sync::Arc::new(S3Store::new(config).unwrap())
}

/// With time enough for a busy machine, where nothing is meant to fail.
pub(crate) fn patient(server: SocketAddr) -> S3Config {
    S3Config { timeouts: S3Timeouts::default(), ..config_of(server) }
}

async fn server_and_store() -> (FakeS3, Store) {
    let server = FakeS3::start().await;
    let store = store(&config(&server));
    store.start().await.unwrap();
    (server, store)
}

conforms!(s3_fake, {
    let server = FakeS3::start().await;
    let store = store(&patient(server.addr));
    store.start().await.unwrap();
    (store, server)
});
conforms!(s3_that_overwrites, {
    let server = FakeS3::start().await;
    server.ignore_conditions();
    let store = store(&patient(server.addr));
    store.start().await.unwrap();
    (store, server)
});
conforms!(s3_with_small_pages, {
    let server = FakeS3::start().await;
    let store = store(&patient(server.addr));
    // Small, but more than comes in a millisecond: else a listing may need more pages than it is allowed.
    server.set_page(20);
    (store, server)
});
conforms!(s3_with_idle_fallback, {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    (std::sync::Arc::new(fallback(&patient(server.addr), &folder)) as Store, (server, folder))
});

conforms_to_upkeep!(s3_fake_upkeep, {
    let server = FakeS3::start().await;
    (store(&patient(server.addr)), server)
});
conforms_to_upkeep!(s3_with_small_pages_upkeep, {
    let server = FakeS3::start().await;
    server.set_page(7);
    (store(&patient(server.addr)), server)
});
conforms_to_upkeep!(s3_with_fallback_upkeep, {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    (std::sync::Arc::new(fallback(&patient(server.addr), &folder)) as Store, (server, folder))
});

fn fallback(config: &S3Config, folder: &TempDir) -> Fallback {
    let local = FileStore::open(folder.path(), false).unwrap();
    Fallback::new(S3Store::new(config).unwrap(), local)
}

/// The text of an error and of what is behind it; secrets are in neither.
pub(crate) fn told(error: &Error) -> String {
    let text = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
    assert!(!text.contains("hunter2") && !text.contains("Signature="), "{text}");
    text
}

pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an end in time")
}

/// What is told when an image that is there is opened and read whole.
async fn error_of_reading(store: &Store, image: &NewImage) -> String {
    let result = bounded(async {
        let opened = store.open(image.metadata.image_id).await?;
        read(opened, 0..image.metadata.size_bytes).await
    });
    told(&result.await.expect_err("an error"))
}

#[tokio::test]
async fn answers_that_say_no_are_unavailable_and_never_an_image() {
    const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>hunter2</Message></Error>";
    const HTML: &str = "<html>hunter2 default backend - 404</html>";
    const DENIED: &str = "<Error><Code>AccessDenied</Code><StringToSign>hunter2</StringToSign></Error>";
    const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code></Error>";
    for (status, body, expected) in [
        (500, "", "500 Internal Server Error"),
        (503, SLOW_DOWN, "503 Service Unavailable SlowDown"),
        (502, HTML, "502 Bad Gateway"),
        (403, DENIED, "403 Forbidden AccessDenied; check the rights"),
        (404, NO_BUCKET, "404 Not Found NoSuchBucket; check S3_BUCKET"),
        (404, HTML, "404 Not Found; check S3_ENDPOINT_URL"),
        (301, HTML, "301 Moved Permanently: redirects are never followed"),
        (200, SLOW_DOWN, "its answer is wrong"),
        (200, HTML, "its answer is wrong"),
        (206, HTML, "its answer is wrong"),
    ] {
        let (server, store) = server_and_store().await;
        let image = saved(&store, fresh(1000)).await;
        for object in [".png", ".json"] {
            server.fail(object, Fault::Answer(status, body), 1);
            let text = error_of_reading(&store, &image).await;
            assert!(text.contains(expected) && text.contains("unavailable"), "{object} {status}: {text}");
            let host = server.addr.to_string();
            assert!(text.contains("bucket `images`") && text.contains(&host), "{text}");
            assert_whole(&store, &image).await;
        }
    }
}

#[tokio::test]
async fn reads_that_hang_or_break_are_unavailable_in_time() {
    let drip = Fault::Drip(SHORT / 2);
    for (fault, expected) in [
        (Fault::Hang, "no answer within 1 s"),
        (Fault::Close, "the connection broke"),
        (Fault::Reset(5000), "the connection broke"),
        (Fault::Stall(5000), "no further byte of the body within 1 s"),
        (drip.clone(), "no steady flow of the body within"),
        (Fault::NoLength, "it does not tell its length"),
    ] {
        let (server, store) = server_and_store().await;
        let image = saved(&store, fresh(10_000)).await;
        server.fail(".png", fault.clone(), 1);
        let text = error_of_reading(&store, &image).await;
        assert!(text.contains(expected), "{fault:?}: {text}");
        assert_whole(&store, &image).await;
    }
    // Metadata has to be whole by a deadline.
    for (fault, expected) in [
        (Fault::Hang, "no answer within 1 s"),
        (drip, "no whole answer within 1 s"),
        (Fault::Stall(10), "no whole answer within 1 s"),
        (Fault::Reset(10), "the connection broke"),
        (Fault::Endless, "it is longer than"),
    ] {
        let (server, store) = server_and_store().await;
        let image = saved(&store, fresh(10_000)).await;
        server.fail(".json", fault.clone(), 1);
        let text = error_of_reading(&store, &image).await;
        assert!(text.contains(expected), "{fault:?}: {text}");
    }
}

#[tokio::test]
async fn read_that_breaks_off_is_resumed_where_it_broke_off() {
    let server = FakeS3::start().await;
    let store = store(&S3Config { max_retries: 3, ..config(&server) });
    let image = saved(&store, fresh(100_000)).await;
    server.fail(".png", Fault::Reset(40_000), 2);
    assert_whole(&store, &image).await;
    server.fail(".png", Fault::Stall(40_000), 1);
    server.fail(".png", Fault::Stall(1000), 1);
    assert_whole(&store, &image).await;
    let log = server.log();
    assert!(log.iter().any(|line| line.ends_with("bytes=40000-99999")), "{log:?}");
    assert!(log.iter().any(|line| line.ends_with("bytes=41000-99999")), "{log:?}");
}

#[tokio::test]
async fn read_of_an_image_that_changed_is_not_resumed() {
    let server = FakeS3::start().await;
    let store = store(&S3Config { max_retries: 3, ..config(&server) });
    let image = saved(&store, fresh(100_000)).await;
    server.fail(".png", Fault::Stall(40_000), 1);
    let mut stream: ByteStream = {
        let opened = store.open(image.metadata.image_id).await.unwrap();
        opened.content.stream(0..100_000).await.unwrap()
    };
    assert!(!stream.try_next().await.unwrap().unwrap().is_empty());
    server.remove(".png");
    let rest: Result<Vec<_>, _> = bounded(stream.try_collect()).await;
    assert!(matches!(rest, Err(Error::NotFound)), "{rest:?}");
}

#[tokio::test]
async fn bytes_that_are_not_those_saved_are_damage_and_are_not_given_whole() {
    let (server, store) = server_and_store().await;
    let image = saved(&store, fresh(100_000)).await;
    server.fail(".png", Fault::Flip, 1);
    let opened = store.open(image.metadata.image_id).await.unwrap();
    let mut stream = opened.content.stream(0..100_000).await.unwrap();
    let mut given = 0;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(chunk)) => given += chunk.len(),
            Ok(None) => panic!("a damaged image was given whole"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Corrupt { id, .. } if *id == image.metadata.image_id), "{error:?}");
    assert!(given < 100_000);
    server.overwrite(".png", b"short");
    let opened = store.open(image.metadata.image_id).await;
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

#[tokio::test]
async fn save_whose_answer_shows_other_bytes_is_refused_and_leaves_nothing() {
    let (server, store) = server_and_store().await;
    for object in [".json", ".png"] {
        let image = fresh(1000);
        server.fail(object, Fault::OtherTag, 1);
        let error = store.save(image.clone()).await.expect_err("refused");
        assert!(told(&error).contains("what it stored is not what was sent"), "{error:?}");
        assert_absent(&store, image.metadata.image_id).await;
    }
    let left = server.keys();
    assert!(left.len() <= 1 && left.iter().all(|key| key.ends_with(".json")), "{left:?}");
}

#[tokio::test]
async fn redirect_is_not_followed_and_sends_no_secret_anywhere() {
    let (server, store) = server_and_store().await;
    let image = saved(&store, fresh(1000)).await;
    let thief = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirect = || Fault::Redirect(thief.local_addr().unwrap());
    server.fail("GET /", redirect(), 2);
    server.fail("PUT /", redirect(), 1);
    server.fail("DELETE /", redirect(), 1);
    assert!(error_of_reading(&store, &image).await.contains("redirects are never followed"));
    let list = store.list(ListQuery { prefix: None, cursor: None, limit: 1 }).await.expect_err("an error");
    assert!(told(&list).contains("redirects are never followed"));
    let save = store.save(fresh(10)).await.expect_err("an error");
    assert!(told(&save).contains("redirects are never followed"));
    let delete = store.delete(image.metadata.image_id).await.expect_err("an error");
    assert!(told(&delete).contains("redirects are never followed"));
    let visited = tokio::time::timeout(Duration::from_millis(50), thief.accept()).await;
    assert!(visited.is_err(), "a redirect was followed");
}

#[tokio::test]
async fn listing_that_does_not_end_is_an_error_in_time_and_memory() {
    for fault in [Fault::EndlessList, Fault::Circle, Fault::Endless, Fault::Hang, Fault::Drip(SHORT / 2)] {
        let (server, store) = server_and_store().await;
        let image = saved(&store, fresh(1000)).await;
        server.fail("list-type=2", fault.clone(), usize::MAX);
        let query = ListQuery { prefix: None, cursor: None, limit: 10 };
        let error = bounded(store.list(query)).await.expect_err("an error");
        assert!(matches!(error, Error::Unavailable(_)), "{fault:?}: {error:?}");
        let before = server.requests();
        let expired = bounded(store.expire(SystemTime::now() + HOUR * 5)).await;
        let removed = expired.map_or(0, |expired| expired.removed);
        assert_eq!(removed, 0, "{fault:?}");
        assert!(server.requests() - before <= 2001, "{fault:?}");
        // What an endless body may have on its way: what is read, and what fits into the sockets.
        assert!(server.sent() < 64 << 20, "{} bytes", server.sent());
        server.heal();
        // One that hung is left alone until a probe finds it well.
        store.check().await.unwrap();
        assert_whole(&store, &image).await;
    }
}

#[tokio::test]
async fn requests_that_may_be_repeated_are() {
    let server = FakeS3::start().await;
    let store = store(&S3Config { max_retries: 3, ..config(&server) });
    store.start().await.unwrap();
    for (fault, times) in [
        (Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>"), 2),
        (Fault::Answer(500, ""), 2),
        (Fault::Close, 2),
        (Fault::CloseAfterwards, 2),
        (Fault::Hang, 1),
    ] {
        for request in ["PUT /", "GET /", "HEAD /", "DELETE /", "list-type=2"] {
            server.fail(request, fault.clone(), times);
        }
        let image = saved(&store, fresh(1000)).await;
        assert_whole(&store, &image).await;
        assert_eq!(list_all(&store, None, 10).await, [image.metadata.image_id], "{fault:?}");
        assert!(store.delete(image.metadata.image_id).await.unwrap(), "{fault:?}");
        assert_eq!(server.keys(), Vec::<String>::new(), "{fault:?}");
    }
}

#[tokio::test]
async fn save_that_was_done_though_its_answer_was_lost_is_one_save() {
    let server = FakeS3::start().await;
    let store = store(&S3Config { max_retries: 2, ..config(&server) });
    store.start().await.unwrap();
    server.fail(".json", Fault::CloseAfterwards, 1);
    server.fail(".png", Fault::CloseAfterwards, 2);
    let image = saved(&store, fresh(1000)).await;
    assert_whole(&store, &image).await;
    // But what another one saved is still another's.
    server.fail(".json", Fault::Close, 1);
    let again = store.save(image.clone()).await;
    assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
}

#[tokio::test]
async fn store_that_fails_again_and_again_is_left_alone_and_found_again() {
    let (server, store) = server_and_store().await;
    let image = saved(&store, fresh(1000)).await;
    server.fail("/images", Fault::Answer(503, ""), usize::MAX);
    for _ in 0..5 {
        assert!(error_of_reading(&store, &image).await.contains("503"));
    }
    let before = server.requests();
    for _ in 0..20 {
        let text = error_of_reading(&store, &image).await;
        assert!(text.contains("failed 5 times in a row and is left alone"), "{text}");
        let save = store.save(fresh(10)).await;
        assert!(matches!(save, Err(Error::Unavailable(_))), "{save:?}");
    }
    assert_eq!(server.requests(), before);
    server.heal();
    // The background probe finds that it is back.
    store.check().await.unwrap();
    assert_whole(&store, &image).await;
}

#[tokio::test]
async fn address_where_nobody_listens_is_unavailable_and_does_not_keep_the_server_from_starting() {
    let server = FakeS3::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let store =
        store(&S3Config { endpoint_url: Some(format!("http://{addr}").parse().unwrap()), ..config(&server) });
    store.start().await.unwrap();
    let error = store.check().await.expect_err("unavailable");
    assert!(told(&error).contains("it cannot be reached (Connection refused"), "{}", told(&error));
}

#[tokio::test]
async fn rights_that_are_missing_are_named_one_by_one_at_the_start() {
    const DENIED: Fault = Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>");
    let server = FakeS3::start().await;
    let store = store(&config(&server));
    for request in ["PUT /", "DELETE /", "list-type=2"] {
        server.fail(request, DENIED, 1);
    }
    let error = store.start().await.expect_err("refused");
    assert!(matches!(error, Error::ReadOnly(_)), "{error:?}");
    let text = told(&error);
    assert!(text.contains("missing: s3:PutObject, s3:ListBucket, s3:DeleteObject"), "{text}");
    for (status, code, expected) in [
        (403, "<Error><Code>InvalidAccessKeyId</Code></Error>", "check AWS_ACCESS_KEY_ID"),
        (403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", "check AWS_SECRET_ACCESS_KEY"),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", "check S3_BUCKET"),
    ] {
        server.fail("PUT /", Fault::Answer(status, code), 1);
        let error = store.start().await.expect_err("refused");
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
    store.start().await.unwrap();
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn leftovers_of_saves_and_damage_are_swept_in_their_time() {
    let (server, store) = server_and_store().await;
    let alive = saved(&store, image(100, HOUR * 30, HOUR * 100)).await;
    let (orphan, lost) =
        (saved(&store, image(100, HOUR * 4, HOUR)).await, saved(&store, image(100, HOUR * 5, HOUR)).await);
    server.remove(&format!("{}.png", orphan.metadata.image_id));
    server.remove(&format!("{}.json", lost.metadata.image_id));
    let now = SystemTime::now();
    // Behind an image that is not due: the walk does not come there.
    assert_eq!(store.expire(now + HOUR / 2).await.unwrap(), Expired::default());
    assert_eq!(store.expire(now + HOUR * 2).await.unwrap(), Expired { swept: 1, ..Expired::default() });
    assert_eq!(store.expire(now + HOUR * 23).await.unwrap(), Expired::default());
    assert_eq!(store.expire(now + HOUR * 25).await.unwrap(), Expired { swept: 1, ..Expired::default() });
    assert_whole(&store, &alive).await;
    assert_eq!(server.keys().len(), 2);
}

#[tokio::test]
async fn replicas_that_clean_at_once_remove_everything_and_nothing_early() {
    let server = FakeS3::start().await;
    let replicas = [store(&patient(server.addr)), store(&patient(server.addr))];
    for minutes in 0..40 {
        saved(&replicas[0], image(10, HOUR * 5 + Duration::from_secs(minutes * 60), HOUR)).await;
    }
    let reading = saved(&replicas[0], image(500_000, HOUR * 2, HOUR + Duration::from_secs(3600 * 2))).await;
    let alive = saved(&replicas[1], fresh(1000)).await;
    let opened = replicas[1].open(reading.metadata.image_id).await.unwrap();
    let now = SystemTime::now() + HOUR * 2;
    let (one, other) =
        tokio::join!(replicas[0].expire(SystemTime::now()), replicas[1].expire(SystemTime::now()));
    let (one, other) = (one.unwrap(), other.unwrap());
    // Both may count what they meet over; neither fails, and neither goes too far.
    assert!(one.removed + other.removed >= 40 && one.failed + other.failed == 0, "{one:?} {other:?}");
    assert_eq!(server.keys().len(), 4);
    replicas[0].expire(now).await.unwrap();
    assert!(read(opened, 0..500_000).await.unwrap() == reading.bytes);
    assert_absent(&replicas[1], reading.metadata.image_id).await;
    assert_absent(&replicas[0], alive.metadata.image_id).await;
}

#[tokio::test]
async fn objects_that_are_not_ours_are_left_alone() {
    let (server, store) = server_and_store().await;
    let image = saved(&store, image(100, HOUR * 30, HOUR)).await;
    let id = image.metadata.image_id;
    let mut others = [
        "p/notes.txt".to_owned(),
        format!("p/000000/00/{id}.png"),
        format!("p/{}/{id}.png.bak", id.bucket()),
        format!("q/{}/{id}.json", id.bucket()),
        "p/.probe-mine".to_owned(),
    ];
    others.sort();
    for key in &others {
        server.insert(key, b"not ours");
    }
    server.set_modified(SystemTime::UNIX_EPOCH);
    let expired = store.expire(SystemTime::now() + HOUR * 100).await.unwrap();
    assert_eq!((expired.removed, expired.removed_bytes, expired.swept, expired.failed), (1, 100, 0, 0));
    assert_eq!(server.keys(), others);
    assert_eq!(list_all(&store, None, 10).await, []);
}

#[tokio::test]
async fn save_that_dies_after_any_request_leaves_the_image_absent_or_whole() {
    for requests in 0..6 {
        let (server, store) = server_and_store().await;
        server.die_after(requests);
        let image = fresh(1000);
        let id = image.metadata.image_id;
        let acknowledged = store.save(image.clone()).await.is_ok();
        server.heal();
        // Another process, which knows nothing of the first one.
        let after = self::store(&config(&server));
        let found = after.open(id).await;
        assert!(found.is_ok() || matches!(found, Err(Error::NotFound)), "{requests}: {found:?}");
        assert!(found.is_ok() || !acknowledged, "{requests}");
        if found.is_ok() {
            assert_whole(&after, &image).await;
        }
        after.expire(SystemTime::now() + HOUR * 26).await.unwrap();
        assert_eq!(server.keys(), Vec::<String>::new(), "{requests}");
    }
}

#[tokio::test]
async fn images_saved_while_s3_is_away_are_served_and_moved_over() {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    let store = fallback(&config(&server), &folder);
    let there = fresh(500);
    store.save(there.clone()).await.unwrap();
    server.fail("/images", Fault::Close, usize::MAX);
    let images: Vec<_> = (0..7).map(|i| fresh(1000 + i)).collect();
    let shared: Store = std::sync::Arc::new(store.clone());
    for image in &images {
        saved(&shared, image.clone()).await;
        assert_whole(&shared, image).await;
    }
    let taken = store.save(images[0].clone()).await;
    assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
    // What only S3 can know is unavailable, not absent; readiness does not suffer.
    let unknown = store.open(there.metadata.image_id).await;
    assert!(matches!(unknown, Err(Error::Unavailable(_))), "{unknown:?}");
    let delete = store.delete(images[0].metadata.image_id).await;
    assert!(matches!(delete, Err(Error::Unavailable(_))), "{delete:?}");
    store.check().await.unwrap();
    assert!(store.move_over().await.is_err());

    server.heal();
    store.check().await.unwrap();
    assert_eq!(store.move_over().await.unwrap().moved, 7);
    assert_eq!(store.move_over().await.unwrap().moved, 0);
    let alone = self::store(&config(&server));
    for image in images.iter().chain([&there]) {
        assert_whole(&shared, image).await;
        assert_whole(&alone, image).await;
    }
    assert_eq!(list_all(&shared, None, 3).await.len(), 8);
}

#[tokio::test]
async fn saves_do_not_wait_for_s3_while_it_is_left_alone_and_it_is_found_again() {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    let store = fallback(&config(&server), &folder);
    store.start().await.unwrap();
    server.fail("/images", Fault::Hang, usize::MAX);
    // Two that hang are enough.
    for _ in 0..2 {
        bounded(store.save(fresh(10))).await.unwrap();
    }
    // Nor is it a caller who finds out whether it is back, when the pause is over.
    for _ in 0..30 {
        let puts = || server.log().iter().filter(|line| line.contains(".json")).count();
        let before = puts();
        bounded(store.save(fresh(10))).await.unwrap();
        assert_eq!(puts(), before);
        tokio::time::sleep(SHORT / 10).await;
    }
    server.heal();
    crate::client::until(async || {
        server.keys().iter().filter(|key| key.ends_with(".png")).count() == 32
            && crate::server::files(folder.path()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn move_that_dies_after_any_request_loses_nothing() {
    for requests in 0..16 {
        let server = FakeS3::start().await;
        let folder = TempDir::new().unwrap();
        let image = fresh(1000);
        FileStore::open(folder.path(), false).unwrap().save(image.clone()).await.unwrap();

        let before = fallback(&config(&server), &folder);
        server.die_after(requests);
        let _ = before.move_over().await;
        let while_dead: Store = std::sync::Arc::new(before);
        let found = while_dead.open(image.metadata.image_id).await;
        assert!(found.is_ok() || matches!(found, Err(Error::Unavailable(_))), "{requests}: {found:?}");
        server.heal();

        let after: Store = std::sync::Arc::new(fallback(&config(&server), &folder));
        assert_whole(&after, &image).await;
        let mover = fallback(&config(&server), &folder);
        mover.move_over().await.unwrap();
        assert_whole(&after, &image).await;
        assert_whole(&store(&config(&server)), &image).await;
        assert_eq!(mover.move_over().await.unwrap().moved, 0, "{requests}");
    }
}

#[tokio::test]
async fn save_that_s3_kept_without_saying_so_is_one_image() {
    let server = FakeS3::start().await;
    let folder = TempDir::new().unwrap();
    let store = fallback(&config(&server), &folder);
    store.start().await.unwrap();
    server.fail(".png", Fault::CloseAfterwards, 1);
    let image = fresh(1000);
    store.save(image.clone()).await.unwrap();
    let shared: Store = std::sync::Arc::new(store.clone());
    assert_whole(&shared, &image).await;
    assert_eq!(list_all(&shared, None, 10).await, [image.metadata.image_id]);
    store.move_over().await.unwrap();
    assert_whole(&self::store(&config(&server)), &image).await;
    assert!(store.delete(image.metadata.image_id).await.unwrap());
    assert_absent(&shared, image.metadata.image_id).await;
}

#[tokio::test]
async fn redirect_delivery_gives_a_url_that_ends_with_the_image() {
    let server = FakeS3::start().await;
    let public = Some("https://s3.example".parse().unwrap());
    let store =
        store(&S3Config { delivery: Delivery::Redirect, public_endpoint_url: public, ..config(&server) });
    for (life, most) in [(Duration::from_secs(60), 60), (HOUR, 300)] {
        let image = saved(&store, image(1000, Duration::ZERO, life)).await;
        let redirect = store.redirect(image.metadata.image_id).await.unwrap().expect("a redirect");
        assert_eq!(redirect.metadata, image.metadata);
        let url: url::Url = redirect.url.parse().unwrap();
        assert_eq!(url.host_str(), Some("s3.example"));
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        let seconds: u64 = query["X-Amz-Expires"].parse().unwrap();
        assert!((most - 5..=most).contains(&seconds), "{seconds}");
        assert_eq!(query["response-content-type"], "image/png");
    }
    let expired = saved(&store, image(1000, HOUR, HOUR)).await;
    let redirect = store.redirect(expired.metadata.image_id).await;
    assert!(matches!(redirect, Err(Error::NotFound)), "{redirect:?}");
    let proxy = self::store(&config(&server));
    assert!(proxy.redirect(expired.metadata.image_id).await.unwrap().is_none());
}
