//! The S3 store against a real Ceph RADOS Gateway, whose address is in `S3_TEST_ENDPOINT` (see
//! `tests/peers/ceph.sh`). Without one these tests are left out, and say so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    secret::Secret,
    storage::{self, Backend, Config, Delivery, Error, S3Config, S3Credentials, S3Identity, S3Timeouts},
};
use tempfile::TempDir;

use crate::store_conformance::{
    HOUR, Store, assert_absent, assert_whole, conforms, fresh, image, list_all, saved,
};

const BASE_URL: &str = "http://images.example";

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("S3_TEST_{name}")).ok()
}

/// The peer's bucket, with a prefix of the test's own.
pub(crate) fn peer() -> Option<S3Config> {
    let Some(endpoint) = variable("ENDPOINT") else {
        let required = std::env::var("REQUIRE_PEERS").is_ok_and(|required| required == "1");
        assert!(!required, "REQUIRE_PEERS is 1, but S3_TEST_ENDPOINT is not set");
        // Written past the harness, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "left out: the real S3 server (S3_TEST_ENDPOINT is not set)");
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
    let store = storage::open(&Config { backend, public_base_url: BASE_URL.to_owned(), sync: false })?;
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
