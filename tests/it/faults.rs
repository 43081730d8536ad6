//! A storage that fails: told as it is, with nothing left behind; reads go on, and it recovers.

use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Era, until},
    fake_predictor::FakePredictor,
    mount::Mount,
    server::{TestServer, files},
};

/// A server in front of a predictor, with its store on a disk of its own.
async fn server_on(mount: &Mount, fake: &FakePredictor) -> TestServer {
    let path = mount.path();
    let path = path.to_str().expect("UTF-8");
    TestServer::in_front_of(fake, &[("STORAGE_PATH", path), ("STORAGE_SYNC", "on")]).await
}

/// A picture of about 330 kB.
fn arguments() -> Value {
    json!({"prompt": "a fox", "width": 512, "height": 512})
}

async fn delete(client: &Client, image: &Value) -> Answer {
    let path = image["url"].as_str().expect("a URL");
    Answer::of(client.request("DELETE", path)).await
}

/// The tool's error text, in each era.
async fn assert_tool_fails(client: &Client, words: &str) {
    for era in Era::BOTH {
        let result = client.tool_result(era, &arguments()).await;
        assert_eq!(
            (&result["isError"], &result["structuredContent"]),
            (&json!(true), &Value::Null),
            "{result}"
        );
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains(words), "{text}");
    }
}

/// Images until the storage takes no more.
async fn fill(client: &Client) -> Vec<Value> {
    let mut kept = Vec::new();
    loop {
        let answer = client.generate(&arguments()).await;
        if answer.status != 200 {
            answer.problem(507, "storage-full");
            return kept;
        }
        kept.push(answer.json());
        assert!(kept.len() < 100, "it never fills up");
    }
}

#[tokio::test]
async fn disk_that_is_full_is_507_and_recovers() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let fake = FakePredictor::start([]).await;
    let server = server_on(&mount, &fake).await;
    let client = server.client();
    let kept = fill(&client).await;
    assert!(!kept.is_empty());
    let before = files(&mount.path());
    assert_eq!(before.len(), 2 * kept.len(), "{before:?}");

    assert_tool_fails(&client, "full").await;
    client.generate(&arguments()).await.problem(507, "storage-full");
    assert_eq!(files(&mount.path()), before);
    for image in &kept {
        client.fetch_whole(image).await;
    }
    let listed = client.get("/images/").await.json();
    assert_eq!(listed["images"].as_array().map(Vec::len), Some(kept.len()));

    assert_eq!(delete(&client, &kept[0]).await.status, 204);
    let image = client.generate(&arguments()).await.json();
    client.fetch_whole(&image).await;
}

#[tokio::test]
async fn disk_that_turns_read_only_is_503_and_recovers_without_a_restart() {
    let Some(mount) = Mount::new("size=8m") else { return };
    let fake = FakePredictor::start([]).await;
    let server = server_on(&mount, &fake).await;
    let client = server.client();
    let kept = client.generate(&arguments()).await.json();
    let before = files(&mount.path());

    mount.remount("ro");
    let refused = client.generate(&arguments()).await;
    refused.problem(503, "storage-unavailable");
    assert!(refused.header("retry-after").parse::<u32>().expect("seconds") > 0);
    assert_tool_fails(&client, "read-only").await;
    assert_eq!(delete(&client, &kept).await.status, 503);
    client.fetch_whole(&kept).await;
    assert_eq!(files(&mount.path()), before);

    mount.remount("rw");
    let image = client.generate(&arguments()).await.json();
    client.fetch_whole(&image).await;
    assert_eq!(delete(&client, &kept).await.status, 204);
}

#[tokio::test]
async fn storage_that_cannot_be_written_from_the_start_serves_what_it_has_but_is_not_ready() {
    let Some(mount) = Mount::new("size=8m") else { return };
    let fake = FakePredictor::start([]).await;
    let kept = server_on(&mount, &fake).await.client().generate(&arguments()).await.json();
    mount.remount("ro");
    let server = server_on(&mount, &fake).await;
    let client = server.client();
    until(async || client.get("/health/ready").await.status == 503).await;
    let health = client.get("/health").await.json();
    assert_eq!((&health["status"], &health["storage"]["state"]), (&json!("degraded"), &json!("failing")));
    assert_eq!(client.get("/health/live").await.status, 200);
    client.fetch_whole(&kept).await;
}

#[tokio::test]
async fn memory_that_is_full_is_507_and_recovers() {
    let fake = FakePredictor::start([]).await;
    let settings = [
        ("STORAGE_BACKEND", "memory"),
        ("STORAGE_MEMORY_MAX_BYTES", "1048576"),
        ("MAX_IMAGE_SIZE", "1048576"),
    ];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let client = server.client();
    let kept = fill(&client).await;
    assert_tool_fails(&client, "full").await;
    for image in &kept {
        client.fetch_whole(image).await;
    }
    assert_eq!(delete(&client, &kept[0]).await.status, 204);
    assert_eq!(client.generate(&arguments()).await.status, 200);
    assert!(server.files().is_empty());
}
