//! What the tests of this room share.

use super::*;

/// A configuration for `http://s3.example`, with a key that signs nothing of value.
pub(super) fn config() -> S3Config {
    S3Config {
        bucket: "images".to_owned(),
        prefix: "p/".to_owned(),
        endpoint_url: url::Url::parse("http://s3.example").ok(),
        public_endpoint_url: None,
        path_style: None,
        region: "us-east-1".to_owned(),
        identity: S3Identity {
            keys: Some(S3Credentials {
                access_key_id: crate::secret::Secret::new("AKIDEXAMPLE"),
                secret_access_key: crate::secret::Secret::new("hunter2"),
                session_token: None,
            }),
            web_identity: None,
            profile_file: None,
            profile: "default".to_owned(),
        },
        ca_file: None,
        timeouts: S3Timeouts::default(),
        max_retries: 0,
        delivery: Delivery::Proxy,
        fallback: None,
    }
}

#[test]
fn debug_of_a_store_shows_no_secret() {
    let store = S3Store::new(&config()).expect("a store");
    assert!(!format!("{store:?} {:?}", config()).contains("hunter2"));
}
