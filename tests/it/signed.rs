//! Signed URLs, against the whole server.

use serde_json::{Value, json};

use crate::{
    client::{Client, Era, until},
    server::TestServer,
};

const OLD: &str = "old:0123456789abcdef0123456789abcdef";
const NEW: &str = "new:fedcba9876543210fedcba9876543210";

async fn drawn(client: &Client) -> (Value, String) {
    let arguments = json!({"prompt": "a fox", "width": 64, "height": 64, "num_inference_steps": 1});
    let image = client.generate(&arguments).await.json();
    let url = image["url"].as_str().expect("a URL").to_owned();
    (image, url)
}

#[tokio::test]
async fn image_is_read_by_its_signed_url_alone() {
    let server = TestServer::start_with(&[("IMAGE_URL_SIGNING_KEYS", NEW)]).await;
    let client = server.client();
    let (image, url) = drawn(&client).await;
    let signed = client.get(&url).await;
    assert_eq!(signed.status, 200);
    assert!(signed.header("cache-control").starts_with("private, "));
    client.fetch_whole(&image).await;
    let absent = client.get("/images/00000000-0000-7000-8000-000000000000").await;
    let unsigned = client.get(&format!("/images/{}.png", image["image_id"].as_str().expect("an id"))).await;
    assert_eq!((unsigned.status, &unsigned.body), (404, &absent.body));
    assert_eq!(client.get(&format!("{url}&w=64")).await.status, 404, "a variant has a signature of its own");

    let listing = client.get("/images/").await.json();
    for name in ["url", "preview_url"] {
        let url = listing["images"][0][name].as_str().expect("a URL");
        assert_eq!(client.get(url).await.status, 200, "{name}");
    }
    for era in Era::BOTH {
        let arguments = json!({"prompt": "a hare", "width": 64, "height": 64, "include_preview": false});
        let result = client.tool_result(era, &arguments).await;
        let url = result["structuredContent"]["url"].as_str().expect("a URL");
        assert_eq!(client.get(url).await.status, 200, "{era:?}");
    }
}

#[tokio::test]
async fn keys_are_rotated_without_a_break() {
    let first = TestServer::start_with(&[("IMAGE_URL_SIGNING_KEYS", OLD)]).await;
    let folder = first.folder().to_str().expect("UTF-8").to_owned();
    let (_, url) = drawn(&first.client()).await;
    for (keys, status) in [(format!("{NEW},{OLD}"), 200), (NEW.to_owned(), 404)] {
        let next =
            TestServer::start_with(&[("IMAGE_URL_SIGNING_KEYS", &keys), ("STORAGE_PATH", &folder)]).await;
        assert_eq!(next.client().get(&url).await.status, status);
        let (_, url) = drawn(&next.client()).await;
        assert!(url.contains("key=new&"), "{url}");
        assert_eq!(next.client().get(&url).await.status, 200);
    }
}

#[tokio::test]
async fn signed_url_ends_before_the_image_where_it_is_to() {
    let variables = [("IMAGE_URL_SIGNING_KEYS", NEW), ("IMAGE_URL_TTL", "1")];
    let server = TestServer::start_with(&variables).await;
    let client = server.client();
    let (_, url) = drawn(&client).await;
    let age = client.get(&url).await;
    assert!(matches!(
        age.header("cache-control"),
        "private, max-age=0, immutable" | "private, max-age=1, immutable"
    ));
    until(async || client.get(&url).await.status == 404).await;
    let listing = client.get("/images/").await.json();
    assert_eq!(listing["images"].as_array().map(Vec::len), Some(1), "the image lives on");
}

#[tokio::test]
async fn urls_begin_with_the_cdn_and_answers_tell_it_what_to_keep() {
    let server = TestServer::start_with(&[("IMAGE_CDN_BASE_URL", "https://cdn.example/i/")]).await;
    let client = server.client();
    let (image, url) = drawn(&client).await;
    let id = image["image_id"].as_str().expect("an id");
    assert_eq!(url, format!("https://cdn.example/i/images/{id}.png"));
    let path = format!("/images/{id}.png");
    let answer = crate::client::Answer::of(client.request("GET", &path).header("host", "cdn.example")).await;
    assert_eq!((answer.status, answer.header("surrogate-key"), answer.header("cache-tag")), (200, id, id));
    assert!(answer.header("cdn-cache-control").starts_with("public, max-age="));
}
