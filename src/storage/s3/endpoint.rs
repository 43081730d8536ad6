use s3::{region::Region, signing::uri_encode};
use url::Url;

use super::S3Config;

/// Where a bucket is, and how it is addressed.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The bucket's own URL, without a trailing slash.
    base: String,
    host: String,
}

/// The endpoint cannot have the bucket in its host's name.
#[derive(Debug, thiserror::Error)]
#[error("the bucket `{bucket}` cannot stand in front of the host `{host}`; set S3_PATH_STYLE=on")]
pub(super) struct NoSuchHost {
    bucket: String,
    host: String,
}

impl Endpoint {
    /// Where the configured bucket is; with `public`, where clients find it.
    pub(super) fn new(config: &S3Config, public: bool) -> Result<Self, NoSuchHost> {
        let own = config.public_endpoint_url.as_ref().filter(|_| public).or(config.endpoint_url.as_ref());
        let aws = || format!("https://{}", host_of_region(&config.region));
        let url = own.map_or_else(aws, |url| url.as_str().trim_end_matches('/').to_owned());
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
        // A bucket with dots has no certificate in front of a host.
        let dotted = scheme == "https" && config.bucket.contains('.');
        let path_style = config.path_style.unwrap_or(own.is_some() || dotted);
        let base = if path_style {
            format!("{url}/{}", config.bucket)
        } else {
            format!("{scheme}://{}.{rest}", config.bucket)
        };
        let no_such_host = || NoSuchHost { bucket: config.bucket.clone(), host: rest.to_owned() };
        let parsed = Url::parse(&base).map_err(|_| no_such_host())?;
        Ok(Self { base, host: authority(&parsed) })
    }

    /// `host` or `host:port`, for messages.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The URL of an object; `None` for a key that no URL can hold.
    pub(super) fn object(&self, key: &str, query: &[(&str, &str)]) -> Option<Url> {
        let text = format!("{}/{}{}", self.base, uri_encode(key, false), query_string(query));
        let url = Url::parse(&text).ok()?;
        // A parser that takes dots for steps would ask for another object.
        (url.as_str() == text).then_some(url)
    }

    /// The URL of the bucket itself.
    pub(super) fn bucket(&self, query: &[(&str, &str)]) -> Option<Url> {
        Url::parse(&format!("{}/{}", self.base, query_string(query))).ok()
    }
}

/// The host as a `Host` header gives it.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn query_string(query: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{}={}", uri_encode(name, true), uri_encode(value, true)))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// The host of a region, by the one scheme that holds for all of AWS's.
fn host_of_region(region: &str) -> String {
    match region.parse() {
        Ok(Region::CnNorth1 | Region::CnNorthwest1) => format!("s3.{region}.amazonaws.com.cn"),
        _ => format!("s3.{region}.amazonaws.com"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::tests::config;

    fn object(change: impl FnOnce(&mut S3Config), public: bool) -> String {
        let mut config = config();
        config.endpoint_url = None;
        change(&mut config);
        let endpoint = Endpoint::new(&config, public).expect("an endpoint");
        endpoint.object("p/a b.png", &[]).expect("a URL").to_string()
    }

    fn url(text: &str) -> Option<Url> {
        Some(Url::parse(text).expect("a URL"))
    }

    #[test]
    fn endpoint_follows_style_region_and_bucket() {
        assert_eq!(object(|_| {}, false), "https://images.s3.us-east-1.amazonaws.com/p/a%20b.png");
        assert_eq!(
            object(|c| c.region = "cn-north-1".to_owned(), false),
            "https://images.s3.cn-north-1.amazonaws.com.cn/p/a%20b.png"
        );
        assert_eq!(
            object(|c| c.bucket = "my.images".to_owned(), false),
            "https://s3.us-east-1.amazonaws.com/my.images/p/a%20b.png"
        );
        assert_eq!(
            object(|c| c.path_style = Some(true), false),
            "https://s3.us-east-1.amazonaws.com/images/p/a%20b.png"
        );
        let minio = |c: &mut S3Config| c.endpoint_url = url("http://minio:9000/s3/");
        assert_eq!(object(minio, false), "http://minio:9000/s3/images/p/a%20b.png");
        let virtual_host = |c: &mut S3Config| {
            c.endpoint_url = url("http://minio:9000");
            c.path_style = Some(false);
        };
        assert_eq!(object(virtual_host, false), "http://images.minio:9000/p/a%20b.png");
    }

    #[test]
    fn endpoint_of_clients_is_the_public_one() {
        let both = |c: &mut S3Config| {
            c.endpoint_url = url("http://minio:9000");
            c.public_endpoint_url = url("https://s3.example");
        };
        assert_eq!(object(both, true), "https://s3.example/images/p/a%20b.png");
        assert_eq!(object(both, false), "http://minio:9000/images/p/a%20b.png");
    }

    #[test]
    fn endpoint_that_is_an_address_has_no_room_for_a_bucket() {
        let mut config = config();
        config.endpoint_url = url("http://127.0.0.1:9000");
        config.path_style = Some(false);
        assert!(Endpoint::new(&config, false).expect_err("refused").to_string().contains("S3_PATH_STYLE=on"));
    }

    #[test]
    fn key_that_a_parser_would_change_has_no_url() {
        let endpoint = Endpoint::new(&config(), false).expect("an endpoint");
        assert!(endpoint.object("a/../b", &[]).is_none());
        assert!(endpoint.object("a/ü+&=?#%.png", &[("x", "a/b c")]).is_some());
    }
}
