//! The S3 store against a real Ceph RADOS Gateway, whose address is in `S3_TEST_ENDPOINT` (see
//! `tests/peers/ceph.sh`). Without one these tests are left out, and say so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use mcp_image_server::{
    secret::Secret,
    storage::{self, Backend, Config, Delivery, Error, S3Config, S3Credentials, S3Identity, S3Timeouts},
};
use tempfile::TempDir;

use crate::store_conformance::{
    HOUR, Store, assert_absent, assert_whole, conforms, conforms_to_upkeep, fresh, image, list_all, saved,
};
use crate::{
    client::until,
    fake_s3::{FakeS3, Fault},
    peers::left_out,
    process, s3_faults as faults,
    server::TestServer,
};

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("S3_TEST_{name}")).ok()
}

/// The peer's bucket, with a prefix of the test's own.
pub(crate) fn peer() -> Option<S3Config> {
    let Some(endpoint) = variable("ENDPOINT") else {
        left_out("the real S3 server", "S3_TEST_ENDPOINT is not set");
        return None;
    };
    let needed = |name: &str| variable(name).unwrap_or_else(|| panic!("S3_TEST_{name} is not set"));
    Some(S3Config {
        bucket: needed("BUCKET"),
        prefix: format!("tests/{}/", uuid::Uuid::now_v7()),
        endpoint_url: Some(endpoint.parse().expect("S3_TEST_ENDPOINT")),
        public_endpoint_url: None,
        path_style: None,
        region: needed("REGION"),
        identity: S3Identity {
            keys: Some(keys(&needed("ACCESS_KEY_ID"), &needed("SECRET_ACCESS_KEY"))),
            web_identity: None,
            profile_file: None,
            profile: "default".to_owned(),
        },
        ca_file: None,
        timeouts: S3Timeouts::default(),
        max_retries: 2,
        delivery: Delivery::Proxy,
        fallback: None,
    })
}

pub(crate) fn keys(id: &str, key: &str) -> S3Credentials {
    S3Credentials { access_key_id: Secret::new(id), secret_access_key: Secret::new(key), session_token: None }
}

/// Builds a store as the server does, and starts it.
async fn started(s3: S3Config) -> Result<Store, Error> {
    let backend = Backend::S3(Box::new(s3));
    let store = storage::open(&Config { backend, sync: false })?;
    store.start().await.map(|()| store)
}

macro_rules! peer {
    () => {
        match peer() {
            Some(peer) => peer,
            None => return,
        }
    };
}

conforms!(ceph, (started(peer!()).await.unwrap(), ()));
conforms!(ceph_with_versions, {
    let s3 = peer!();
    (started(S3Config { bucket: format!("{}-versioned", s3.bucket), ..s3 }).await.unwrap(), ())
});
conforms!(ceph_with_fallback, {
    let folder = TempDir::new().unwrap();
    let fallback = Some(folder.path().to_owned());
    (started(S3Config { fallback, ..peer!() }).await.unwrap(), folder)
});

conforms_to_upkeep!(ceph_upkeep, (started(peer!()).await.unwrap(), ()));
conforms_to_upkeep!(ceph_with_versions_upkeep, {
    let s3 = peer!();
    (started(S3Config { bucket: format!("{}-versioned", s3.bucket), ..s3 }).await.unwrap(), ())
});

#[tokio::test]
async fn keys_that_are_wrong_are_told_at_the_start() {
    let s3 = peer!();
    let with = |id: &str, key: &str| {
        let mut s3 = s3.clone();
        s3.identity.keys = Some(keys(id, key));
        s3
    };
    let id = variable("ACCESS_KEY_ID").unwrap();
    for (s3, expected) in [
        (with(&id, "wrong"), "check AWS_SECRET_ACCESS_KEY"),
        (with("nobody", "wrong"), "check AWS_ACCESS_KEY_ID"),
        (S3Config { bucket: "no-such-bucket-here".to_owned(), ..s3.clone() }, "check S3_BUCKET"),
    ] {
        let error = started(s3).await.err().expect("refused");
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn rights_that_a_reader_lacks_are_named_one_by_one() {
    let mut s3 = peer!();
    let (id, key) =
        (variable("READER_ACCESS_KEY_ID").unwrap(), variable("READER_SECRET_ACCESS_KEY").unwrap());
    s3.identity.keys = Some(keys(&id, &key));
    let error = started(s3).await.err().expect("refused");
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(matches!(error, Error::ReadOnly(_)), "{error:?}");
    assert!(text.contains("missing: s3:PutObject, s3:DeleteObject"), "{text}");
}

#[tokio::test]
async fn signed_url_gives_the_image_until_the_image_ends() {
    let store = started(S3Config { delivery: Delivery::Redirect, ..peer!() }).await.unwrap();
    let image = saved(&store, image(100_000, Duration::ZERO, Duration::from_secs(3))).await;
    let redirect = store.redirect(image.metadata.image_id).await.unwrap().expect("a redirect");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async || client.get(&redirect.url).send().await.unwrap();
    let response = get().await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "image/png");
    assert!(response.headers()["content-disposition"].to_str().unwrap().starts_with("inline; filename="));
    assert!(response.bytes().await.unwrap() == image.bytes);
    let tampered = redirect.url.replace("image%2Fpng", "text%2Fhtml");
    assert_eq!(client.get(tampered).send().await.unwrap().status(), 403);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(get().await.status(), 403);
}

#[tokio::test]
async fn prefix_with_any_characters_works() {
    let s3 = peer!();
    let prefix = format!("{}a b+c%2F&=?#ü/雪/", s3.prefix);
    let store = started(S3Config { prefix, ..s3 }).await.unwrap();
    let image = saved(&store, fresh(1000)).await;
    assert_whole(&store, &image).await;
    assert_eq!(list_all(&store, None, 10).await, [image.metadata.image_id]);
    assert_eq!(store.expire(SystemTime::now() + HOUR * 2).await.unwrap().removed, 1);
    assert_absent(&store, image.metadata.image_id).await;
}

/// More than a page of S3 holds, in one moment and over months.
#[tokio::test]
async fn many_images_are_listed_and_expired_in_pages() {
    let store = started(peer!()).await.unwrap();
    let ages = (0..300).map(|i| HOUR * 24 * 90 + Duration::from_millis(i));
    let ages = ages.chain((0..300).map(|i| HOUR * 2 + Duration::from_secs(i)));
    let images: Vec<_> = ages.map(|age| image(50, age, HOUR * 24 * 91)).collect();
    for batch in images.chunks(32) {
        futures_util::future::join_all(batch.iter().map(|image| saved(&store, image.clone()))).await;
    }
    let mut expected: Vec<_> = images.iter().map(|image| image.metadata.image_id).collect();
    expected.sort_by_key(|id| std::cmp::Reverse(*id));
    assert!(list_all(&store, None, 100).await == expected);
    let now = SystemTime::now() + HOUR * 24 * 2;
    assert_eq!(store.expire(now).await.unwrap().removed, 300);
    assert_eq!(store.expire(now).await.unwrap().removed, 0);
    assert!(list_all(&store, None, 1000).await == expected[..300]);
}

/// Generates an image over REST; its id and URL.
async fn generate(server: &TestServer) -> (String, String) {
    let arguments =
        serde_json::json!({"prompt": "a lighthouse", "width": 64, "height": 64, "num_inference_steps": 1});
    let response = http()
        .post(server.url("/mcp/v1/tools/generate_image"))
        .header("content-type", "application/json")
        .body(arguments.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let image: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let id = image["image_id"].as_str().unwrap().to_owned();
    (id.clone(), server.url(&format!("/images/{id}.png")))
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// What makes a server keep its images in this bucket.
pub(crate) fn variables(s3: &S3Config) -> Vec<(&'static str, String)> {
    let keys = s3.identity.keys.as_ref().unwrap();
    vec![
        ("STORAGE_BACKEND", "s3".to_owned()),
        ("S3_BUCKET", s3.bucket.clone()),
        ("S3_PREFIX", s3.prefix.clone()),
        ("S3_ENDPOINT_URL", s3.endpoint_url.as_ref().unwrap().to_string()),
        ("AWS_REGION", s3.region.clone()),
        ("AWS_ACCESS_KEY_ID", keys.access_key_id.expose().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.expose().to_owned()),
    ]
}

async fn server(s3: &S3Config, more: &[(&'static str, &str)]) -> TestServer {
    let mut all = variables(s3);
    all.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    TestServer::start_with(&all).await
}

#[tokio::test]
async fn server_keeps_what_it_draws_in_the_bucket() {
    let s3 = peer!();
    let server = server(&s3, &[]).await;
    let (id, url) = generate(&server).await;
    let response = http().get(&url).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"image/png".parse().unwrap())
    );
    let bytes = response.bytes().await.unwrap();
    assert!(bytes.starts_with(b"\x89PNG"));
    let part = http().get(&url).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert!(part.bytes().await.unwrap() == bytes[10..20]);
    // Another replica serves it under the same path.
    let other = self::server(&s3, &[]).await;
    let there = http().get(other.url(&format!("/images/{id}.png"))).send().await.unwrap();
    assert!(there.bytes().await.unwrap() == bytes);
    let deleted = http().delete(other.url(&format!("/images/{id}"))).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(http().get(other.url(&format!("/images/{id}.png"))).send().await.unwrap().status(), 404);
    // The first one may have it in memory for a moment yet.
    until(async || http().get(&url).send().await.unwrap().status() == 404).await;
    assert!(server.stop().await && other.stop().await);
}

#[tokio::test]
async fn server_that_redirects_sends_clients_to_the_bucket() {
    let fake = FakeS3::start().await;
    let server = server(&faults::config(&fake), &[("IMAGE_DELIVERY", "redirect")]).await;
    let (id, url) = generate(&server).await;
    let response = http().get(&url).send().await.unwrap();
    assert_eq!(response.status(), 307);
    let location = response.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(&format!("http://{}/images/p/", fake.addr)), "{location}");
    assert!(location.contains("X-Amz-Signature=") && !location.contains("hunter2"));
    assert!(response.headers()["cache-control"].to_str().unwrap().starts_with("private, max-age="));
    // What the server can answer itself, it does.
    let head = http().head(&url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let tag = head.headers()["etag"].clone();
    assert_eq!(http().get(&url).header("if-none-match", tag).send().await.unwrap().status(), 304);
    assert_eq!(http().get(server.url(&format!("/images/{id}.jpg"))).send().await.unwrap().status(), 404);
    let absent = server.url("/images/01900000-0000-7000-8000-000000000000.png");
    assert_eq!(http().get(absent).send().await.unwrap().status(), 404);
    fake.fail("GET /", Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>"), usize::MAX);
    let refused = http().get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(server.stop().await);
}

#[tokio::test]
async fn server_whose_rights_are_missing_does_not_start_and_says_which() {
    let fake = FakeS3::start().await;
    fake.fail("PUT /", Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>"), usize::MAX);
    let mut all = variables(&faults::config(&fake));
    all.extend([
        ("HOST", "127.0.0.1".to_owned()),
        ("PORT", "0".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
    ]);
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = process::run(&["serve"], &all).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(log.contains("missing: s3:PutObject") && log.contains("bucket `images`"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// The role of a container is asked for by a client of its own, which has to find the one crypto
/// provider that there is.
#[tokio::test]
async fn keys_of_a_container_role_are_fetched_and_used() {
    let s3 = peer!();
    let keys = s3.identity.keys.clone().unwrap();
    let body = format!(
        r#"{{"AccessKeyId":"{}","SecretAccessKey":"{}","Token":"","Expiration":"2099-01-01T00:00:00Z"}}"#,
        keys.access_key_id.expose(),
        keys.secret_access_key.expose()
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            // A greeting of TLS gets no answer that could be trusted.
            if request[..read].starts_with(b"GET ") {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        }
    });
    for (scheme, works) in [("http", true), ("https", false)] {
        let mut all = variables(&s3);
        all.retain(|(name, _)| !name.starts_with("AWS_ACCESS") && !name.starts_with("AWS_SECRET"));
        all.push(("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{scheme}://{addr}/keys")));
        all.push(("HOME", "/nowhere".to_owned()));
        let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = process::run(&["clean", "--json"], &all).await;
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), works, "{scheme}: {log}");
        assert!(works || log.contains("container role: its service does not answer"), "{log}");
    }
    serving.abort();
}
