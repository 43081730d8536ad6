//! The S3 store against a real Ceph RADOS Gateway, whose address is in `S3_TEST_ENDPOINT` (see
//! `tests/peers/ceph.sh`). Without one these tests are left out, and say so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    secret::Secret,
    storage::{
        self, Backend, Config, Delivery, Error, Expired, Fallback, FileStore, ImageStore, ListQuery, S3Config,
        S3Credentials, S3Identity, S3Store, S3Timeouts,
    },
};
use tempfile::TempDir;

use crate::store_conformance::{
    HOUR, Store, assert_absent, assert_whole, conforms, fresh, image, list_all, saved,
};

const BASE_URL: &str = "http://images.example";
const DAY: Duration = Duration::from_secs(24 * 3600);

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
