//! Images over HTTP: what is stored comes back, as long as it lives, to whom it may.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, send_raw, until, within},
    server::TestServer,
};

/// Draws a small picture; gives `{url, image_id, metadata}` and the path of the URL.
async fn drawn(client: &Client) -> (Value, String) {
    let arguments = json!({"prompt": "a small fox", "width": 128, "height": 128, "num_inference_steps": 1});
    let image = client.generate(&arguments).await.json();
    let path = format!("/images/{}.png", image["image_id"].as_str().expect("an id"));
    (image, path)
}

#[tokio::test]
async fn image_comes_with_its_type_length_validators_and_time_to_live() {
    let server = TestServer::start_with(&[("IMAGE_TTL", "100")]).await;
    let client = server.client();
    let (image, path) = drawn(&client).await;
    let bytes = client.fetch_whole(&image).await;
    let hash = image["metadata"]["blake3"].as_str().expect("a hash");
    for path in [path.as_str(), path.trim_end_matches(".png")] {
        for method in ["GET", "HEAD"] {
            let answer = Answer::of(client.request(method, path)).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"), "{method} {path}");
            assert_eq!(answer.header("content-length"), bytes.len().to_string());
            assert!(answer.body == if method == "GET" { bytes.clone() } else { "".into() });
            let tag = answer.header("etag");
            assert!(
                tag.starts_with('"') && hash.starts_with(tag.trim_matches('"')),
                "strong, of the content"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
            let age = answer.header("cache-control").split("max-age=").nth(1).expect("max-age");
            let age: u32 = age.split(',').next().expect("seconds").parse().expect("seconds");
            assert!((1..=100).contains(&age), "{age}");
        }
    }
}

#[tokio::test]
async fn image_the_client_has_is_304() {
    let server = TestServer::start().await;
    let client = server.client();
    let (_, path) = drawn(&client).await;
    let first = client.get(&path).await;
    for (name, value) in
        [("if-none-match", first.header("etag")), ("if-modified-since", first.header("last-modified"))]
    {
        let answer = Answer::of(client.request("GET", &path).header(name, value)).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{name}");
        assert_eq!(answer.header("etag"), first.header("etag"));
    }
    let other = client.request("GET", &path).header("if-none-match", "\"another\"");
    assert!(Answer::of(other).await.body == first.body);
    Answer::of(client.request("GET", &path).header("if-match", "\"another\""))
        .await
        .problem(412, "precondition-failed");
}

#[tokio::test]
async fn range_of_an_image_is_206_and_beyond_it_416() {
    let server = TestServer::start().await;
    let client = server.client();
    let (image, path) = drawn(&client).await;
    let bytes = client.fetch_whole(&image).await;
    let length = bytes.len();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=10-99".to_owned(), 10..100),
        ("bytes=100-".to_owned(), 100..length),
        ("bytes=-7".to_owned(), length - 7..length),
        (format!("bytes=5-{}", length * 2), 5..length),
    ] {
        let answer = Answer::of(client.request("GET", &path).header("range", &range)).await;
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == bytes[part.clone()], "{range}");
        let told = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), told);
    }
    let beyond = client.request("GET", &path).header("range", format!("bytes={length}-"));
    let answer = Answer::of(beyond).await;
    answer.problem(416, "range-not-satisfiable");
    assert_eq!(answer.header("content-range"), format!("bytes */{length}"));
}

#[tokio::test]
async fn what_is_not_there_is_one_and_the_same_404() {
    let server = TestServer::start().await;
    let client = server.client();
    let (image, path) = drawn(&client).await;
    let id = image["image_id"].as_str().expect("an id");
    assert_eq!(Answer::of(client.request("DELETE", &path)).await.status, 204);
    let never = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut answers = Vec::new();
    for name in [
        format!("{id}.png"),
        format!("{id}.webp"),
        never.to_owned(),
        format!("{never}.png"),
        "no-id".to_owned(),
        "..%2f..%2fetc%2fpasswd".to_owned(),
        "%00".to_owned(),
        id.to_uppercase(),
        "x".repeat(4096),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = Answer::of(client.request(method, &format!("/images/{name}"))).await;
            assert_eq!(answer.status, 404, "{method} {name}");
            let mut headers = answer.headers.clone();
            for varying in ["x-request-id", "date"] {
                headers.remove(varying);
            }
            answers.push((method, headers, answer.body));
        }
    }
    for (method, headers, body) in &answers {
        let (_, same_headers, same_body) =
            answers.iter().find(|(other, ..)| other == method).expect("itself");
        assert_eq!((headers, body), (same_headers, same_body));
    }
}

#[tokio::test]
async fn image_is_gone_at_its_expiry_though_no_cleaner_came() {
    let server = TestServer::start_with(&[("IMAGE_TTL", "1"), ("IMAGE_CLEANUP_INTERVAL", "86400")]).await;
    let client = server.client();
    let (image, path) = drawn(&client).await;
    client.fetch_whole(&image).await;
    let expires: DateTime<Utc> =
        image["metadata"]["expires_at"].as_str().expect("a time").parse().expect("a time");
    while Utc::now() <= expires {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.get(&path).await.problem(404, "not-found");
    assert_eq!(Answer::of(client.request("HEAD", &path)).await.status, 404);
    assert_eq!(client.get("/images/").await.json()["images"], json!([]));
    assert_eq!(server.files().len(), 2, "it still lies there");
}

#[tokio::test]
async fn cleaner_removes_what_has_expired() {
    let server = TestServer::start_with(&[("IMAGE_TTL", "1"), ("IMAGE_CLEANUP_INTERVAL", "1")]).await;
    drawn(&server.client()).await;
    until(async || server.files().is_empty()).await;
}

#[tokio::test]
async fn listing_is_newest_first_in_pages() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, drawn(&client).await.0);
    }
    let mut listed = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = client.get(&format!("/images/{query}")).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "no-store"));
        let mut page = page.json();
        listed.append(page["images"].as_array_mut().expect("images"));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    let pairs = |images: &[Value]| {
        images.iter().map(|i| (i["image_id"].clone(), i["url"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&listed), pairs(&expected));
    client.get("/images/?limit=0&order=size").await.problem(400, "invalid-query");
}

#[tokio::test]
async fn listing_and_deleting_are_for_clients_on_this_machine() {
    // A connection of the machine to itself through a proxy that is trusted: the client is who it names.
    let server = TestServer::start_with(&[("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let client = server.client();
    let (_, path) = drawn(&client).await;
    for (method, path) in [("GET", "/images/"), ("HEAD", "/images"), ("DELETE", path.as_str())] {
        let answer = Answer::of(client.request(method, path).header("x-forwarded-for", "192.0.2.7")).await;
        assert_eq!(answer.status, 403, "{method}");
        if method != "HEAD" {
            answer.problem(403, "forbidden");
        }
    }
    // Reading takes no more than the URL.
    let read = client.request("GET", &path).header("x-forwarded-for", "192.0.2.7");
    assert_eq!(Answer::of(read).await.status, 200);
    assert_eq!(client.get("/images/").await.status, 200);
    assert_eq!(Answer::of(client.request("DELETE", &path)).await.status, 204);
    assert_eq!(Answer::of(client.request("DELETE", &path)).await.status, 404);
    assert!(server.files().is_empty());
}

#[tokio::test]
async fn listing_behind_a_proxy_that_is_not_trusted_is_refused() {
    let server = TestServer::start().await;
    let client = server.client();
    drawn(&client).await;
    for forwarded in ["192.0.2.7", "127.0.0.1", "127.0.0.1, 192.0.2.7", "garbage"] {
        let answer = Answer::of(client.request("GET", "/images/").header("x-forwarded-for", forwarded)).await;
        answer.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn listing_turned_off_or_on_is_so_for_everyone() {
    for (listing, status) in [("off", 403), ("on", 200)] {
        let server =
            TestServer::start_with(&[("IMAGE_LISTING", listing), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
        let client = server.client();
        let (image, path) = drawn(&client).await;
        for client_address in ["127.0.0.1", "192.0.2.7"] {
            let request = client.request("GET", "/images/").header("x-forwarded-for", client_address);
            assert_eq!(Answer::of(request).await.status, status, "{listing} {client_address}");
        }
        client.fetch_whole(&image).await;
        if status == 403 {
            Answer::of(client.request("DELETE", &path)).await.problem(403, "forbidden");
            assert_eq!(server.files().len(), 2);
        }
    }
}

#[tokio::test]
async fn other_methods_are_405_with_those_allowed() {
    let server = TestServer::start().await;
    let client = server.client();
    let (_, path) = drawn(&client).await;
    for (path, allow) in [("/images/", "GET, HEAD, OPTIONS"), (path.as_str(), "GET, HEAD, DELETE, OPTIONS")] {
        for method in ["POST", "PUT", "PATCH"] {
            let answer = Answer::of(client.request(method, path)).await;
            answer.problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), allow, "{method}");
        }
        assert_eq!(Answer::of(client.request("OPTIONS", path)).await.header("allow"), allow);
    }
}

#[tokio::test]
async fn image_over_http_2_is_the_same() {
    let server = TestServer::start().await;
    let (image, path) = drawn(&server.client()).await;
    let response = Client::http2(&server.url("")).request("GET", &path).send().await.expect("an answer");
    assert_eq!(response.version(), http::Version::HTTP_2);
    let body = within(reqwest::Body::from(response).collect()).await.expect("a body").to_bytes();
    assert!(body == server.client().fetch_whole(&image).await);
}

#[tokio::test]
async fn paths_that_are_written_otherwise_are_other_paths() {
    let server = TestServer::start().await;
    for path in
        ["/images/../health", "//health", "/HEALTH", "/health/", "/nowhere", "/mcp/", "/images/%2e%2e/health"]
    {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = send_raw(server.authority(), request.as_bytes()).await.answer();
        answer.problem(404, "not-found");
    }
}

#[tokio::test]
async fn image_deleted_while_its_file_is_held_open_is_404_at_once() {
    let server = TestServer::start_with(&[("IMAGE_CACHE_BYTES", "0"), ("IMAGE_LISTING", "on")]).await;
    let client = server.client();
    let (image, path) = drawn(&client).await;
    let bytes = client.fetch_whole(&image).await;
    for _ in 0..3 {
        assert!(client.get(&path).await.body == bytes, "the same from a file that is open");
    }
    assert_eq!(Answer::of(client.request("DELETE", &path)).await.status, 204);
    client.get(&path).await.problem(404, "not-found");
}
