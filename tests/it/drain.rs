//! The process: how it ends, how it fails to start, and its commands.

use std::{fs, iter::repeat_n, net::TcpListener, process::Output, time::Duration};

use mcp_image_server::storage::{FileStore, ImageStore};
use serde_json::{Value, json};

use crate::{
    client::{Client, Era, content_hash, until, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    large,
    process::{Process, run},
    server::TestServer,
    store_conformance,
};

/// Longer than any test waits: what ends earlier did not wait for it.
const LONG: &str = "3600";
const HOUR: Duration = store_conformance::HOUR;

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// One of sixteen, over REST and in both eras of MCP, each on a connection of its own.
async fn generated(client: Client, number: usize) -> Value {
    let arguments = json!({"prompt": format!("number {number}"), "width": 64, "height": 64});
    match number % 3 {
        0 => {
            let answer = client.generate(&arguments).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        }
        1 => client.tool_result(Era::Legacy, &arguments).await["structuredContent"].take(),
        _ => client.tool_result(Era::Modern, &arguments).await["structuredContent"].take(),
    }
}

#[tokio::test]
async fn sigterm_in_the_middle_of_generations_loses_none() {
    const CALLS: usize = 16;
    let fake = FakePredictor::start(repeat_n(Prediction::drawn().delay(Duration::from_secs(2)), CALLS)).await;
    let settings = [
        ("KSERVE_ENDPOINT", fake.url()),
        ("GENERATION_CONCURRENCY", CALLS.to_string()),
        ("SHUTDOWN_DELAY", "1".to_owned()),
        ("SHUTDOWN_GRACE", LONG.to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut server = Process::start(&settings).await;
    let calls: Vec<_> = (0..CALLS).map(|number| tokio::spawn(generated(server.client(), number))).collect();
    within(fake.wait_until(|counts| counts.started == CALLS)).await;
    assert_eq!(server.client().get("/health/ready").await.status, 200);

    server.signal("TERM");
    // New connections are still taken for a while; those who route them are told to stop.
    let client = server.client();
    until(async || client.get("/health/ready").await.status == 503).await;
    assert_eq!(client.get("/health/live").await.status, 200);
    assert_eq!(client.get("/health").await.json()["status"], "draining");

    let images = within(futures_util::future::join_all(calls)).await;
    assert_eq!(server.exit_code().await, Some(0));
    assert_eq!((fake.counts().answered, fake.counts().abandoned), (CALLS, 0));

    let store = FileStore::open(&server.images(), false).expect("a store");
    for image in images {
        let image = image.expect("no panic");
        let id = image["image_id"].as_str().expect("an id").parse().expect("an id");
        let opened = store.open(id).await.expect("stored");
        let length = opened.metadata.size_bytes;
        let bytes = store_conformance::read(opened, 0..length).await.expect("readable");
        assert_eq!(content_hash(&bytes), image["metadata"]["blake3"]);
    }
    assert!(tokio::net::TcpStream::connect(server.authority()).await.is_err(), "the port is free");
}

#[tokio::test]
async fn sigint_without_work_ends_at_once() {
    let settings = [("SHUTDOWN_DELAY", "3000"), ("SHUTDOWN_GRACE", LONG), ("IDLE_TIMEOUT", LONG)];
    let mut server = Process::start(&settings).await;
    // An idle connection does not hold it up.
    let client = server.client();
    assert_eq!(client.get("/health/live").await.status, 200);
    server.signal("INT");
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn second_signal_ends_at_once_whatever_runs() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let settings = [("KSERVE_ENDPOINT", &*fake.url()), ("SHUTDOWN_GRACE", LONG)];
    let mut server = Process::start(&settings).await;
    let call = tokio::spawn(server.client().call(Era::Legacy, &json!({"prompt": "a fox"})).send());
    within(fake.wait_until(|counts| counts.started == 1)).await;
    server.signal("TERM");
    let says = |server: &Process, words: &str| server.log().iter().any(|line| line.contains(words));
    until(async || says(&server, "a second signal stops at once")).await;
    server.signal("TERM");
    assert_eq!(server.exit_code().await, Some(130));
    assert!(says(&server, "second signal: stopping at once"));
    call.abort();
}

#[tokio::test]
async fn generation_longer_than_the_grace_is_cut_off_and_the_process_ends() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let settings = [("KSERVE_ENDPOINT", &*fake.url()), ("SHUTDOWN_GRACE", "0.5"), ("KSERVE_TIMEOUT", LONG)];
    let mut server = Process::start(&settings).await;
    let call = tokio::spawn(server.client().call(Era::Legacy, &json!({"prompt": "a fox"})).send());
    within(fake.wait_until(|counts| counts.started == 1)).await;
    server.signal("TERM");
    assert_eq!(server.exit_code().await, Some(0));
    within(fake.wait_until(|counts| counts.abandoned == 1)).await;
    call.abort();
}

#[tokio::test]
async fn drain_waits_for_requests_and_not_for_idle_connections() {
    let server = TestServer::start_with(&[("SHUTDOWN_GRACE", LONG), ("IDLE_TIMEOUT", LONG)]).await;
    let client = server.client();
    assert_eq!(client.get("/health").await.status, 200);
    assert!(within(server.stop()).await);

    let fake = FakePredictor::start([Prediction::hang()]).await;
    let server = TestServer::in_front_of(&fake, &[("SHUTDOWN_GRACE", "0.5")]).await;
    let call = tokio::spawn(server.client().call(Era::Modern, &json!({"prompt": "a fox"})).send());
    within(fake.wait_until(|counts| counts.started == 1)).await;
    assert!(!within(server.stop()).await, "it did not wait for what runs");
    call.abort();
}

#[tokio::test]
async fn configuration_that_is_wrong_is_told_whole_and_exits_78() {
    let wrong = [
        ("PORT", "eighty"),
        ("IMAGE_TTL", "-1"),
        ("STORAGE_BACKEND", "tape"),
        ("PREDICTOR", "kserve"),
        ("AWS_SECRET_ACCESS_KEY", "hush hush"),
    ];
    for arguments in [&[][..], &["serve"], &["check"], &["clean"]] {
        let (code, out, err) = text(&run(arguments, &wrong).await);
        assert_eq!(code, Some(78), "{arguments:?}: {err}");
        assert_eq!(out, "");
        for name in ["PORT", "eighty", "IMAGE_TTL", "STORAGE_BACKEND", "tape", "file", "KSERVE_ENDPOINT"] {
            assert!(err.contains(name), "{name}: {err}");
        }
        assert!(err.contains("AWS_SECRET_ACCESS_KEY") && !err.contains("hush"), "{err}");
    }
}

#[tokio::test]
async fn port_in_use_is_named_with_its_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    for variable in ["PORT", "METRICS_PORT"] {
        let settings = [("HOST", "127.0.0.1"), ("PORT", "0"), ("STORAGE_PATH", path), (variable, &*port)];
        let (code, out, err) = text(&run(&[], &settings).await);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        let error: Value = serde_json::from_str(err.lines().last().expect("a line")).expect("JSON");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(&port) && message.contains(&format!("({variable})")), "{message}");
    }
}

#[tokio::test]
async fn storage_that_cannot_be_opened_is_named_with_its_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a-file");
    fs::write(&file, "").expect("written");
    let path = file.to_str().expect("UTF-8");
    for arguments in [&[][..], &["clean"]] {
        let settings = [("HOST", "127.0.0.1"), ("PORT", "0"), ("STORAGE_PATH", path)];
        let (code, _, err) = text(&run(arguments, &settings).await);
        assert_eq!(code, Some(1), "{err}");
        let line = err.lines().last().expect("a line");
        assert!(line.contains(path) && line.contains("STORAGE_PATH"), "{line}");
    }
}

#[tokio::test]
async fn banner_says_where_things_are_and_the_log_stays_apart() {
    let server = Process::start(&[]).await;
    let port = server.authority().rsplit(':').next().expect("a port").to_owned();
    server.signal("INT");
    let (out, log) = server.ended().await;
    let banner = out.join("\n");
    for part in ["/mcp", "/images/", "/health", "claude mcp add", "NOT a model"] {
        assert!(banner.contains(part), "{part}: {banner}");
    }
    assert!(banner.contains(&format!("http://localhost:{port}/mcp")), "{banner}");
    assert!(log.iter().any(|line| line.contains("procedural artist")));
}

#[tokio::test]
async fn check_prints_what_is_in_effect_without_secrets() {
    let settings =
        [("PORT", "9000"), ("KSERVE_ENDPOINT", "http://sd:80"), ("KSERVE_BEARER_TOKEN", "hunter2")];
    let (code, out, err) = text(&run(&["check"], &settings).await);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("http://localhost:9000") && out.contains("stable-diffusion"), "{out}");
    assert!(out.contains("KSERVE_BEARER_TOKEN") && !out.contains("hunter2"), "{out}");
}

#[tokio::test]
async fn clean_removes_what_is_due_and_counts_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let due = large::stored(folder.path(), 0, HOUR * 5, HOUR).await;
    let alive = large::stored(folder.path(), 0, HOUR, HOUR * 5).await;
    let settings = [("STORAGE_PATH", folder.path().to_str().expect("UTF-8")), ("LOG_FORMAT", "json")];
    for (removed, bytes) in [(1, due.bytes.len()), (0, 0)] {
        let (code, out, err) = text(&run(&["clean", "--json"], &settings).await);
        assert_eq!(code, Some(0), "{err}");
        let counts: Value = serde_json::from_str(&out).expect("JSON");
        let expected = json!({
            "removed": removed, "removed_bytes": bytes, "swept": 0, "failed": 0,
            "evicted": 0, "evicted_bytes": 0, "removed_records": 0,
        });
        assert_eq!(counts, expected);
    }
    let (code, out, _) = text(&run(&["clean"], &settings).await);
    assert_eq!((code, out.contains("removed 0 images")), (Some(0), true), "{out}");
    let left = crate::server::files(folder.path());
    let id = alive.metadata.image_id.to_string();
    assert!(left.len() == 2 && left.iter().all(|path| path.to_string_lossy().contains(&id)), "{left:?}");
}

#[tokio::test]
async fn clean_tells_the_purge_webhook_before_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let due = large::stored(folder.path(), 0, HOUR * 5, HOUR).await;
    let webhook = FakePredictor::start([Prediction::text(204, "")]).await;
    let settings = [
        ("STORAGE_PATH", folder.path().to_str().expect("UTF-8")),
        ("IMAGE_PURGE_WEBHOOK", &*webhook.url()),
        ("IMAGE_PURGE_SECRET", "a-secret-of-the-webhook"),
    ];
    let (code, _, err) = text(&run(&["clean"], &settings).await);
    assert_eq!(code, Some(0), "{err}");
    let told = webhook.requests().into_iter().map(|request| request.body).collect::<Vec<_>>();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["type"], "image.expired");
    assert_eq!(told[0]["data"]["images"][0]["image_id"], due.metadata.image_id.to_string());
}

#[tokio::test]
async fn health_command_follows_the_server() {
    let mut server = Process::start(&[]).await;
    let port = server.authority().rsplit(':').next().expect("a port").to_owned();
    let settings = [("HOST", "127.0.0.1"), ("PORT", &*port)];
    assert_eq!(text(&run(&["health"], &settings).await), (Some(0), String::new(), String::new()));
    server.signal("INT");
    assert_eq!(server.exit_code().await, Some(0));
    let (code, _, err) = text(&run(&["health"], &settings).await);
    assert!(code == Some(1) && err.contains("does not answer"), "{err}");
}
