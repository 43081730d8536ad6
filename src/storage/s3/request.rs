use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    error::Failure,
    sign::{EMPTY_SHA256, hex},
};

/// The hash of an image's bytes, kept with it and checked when it is read whole.
pub(super) const META_SHA256: HeaderName = HeaderName::from_static("x-amz-meta-sha256");

/// Which save wrote an object: tells one's own lost acknowledgement from another's object.
pub(super) const META_SAVE: HeaderName = HeaderName::from_static("x-amz-meta-save");

/// A request before it is signed: the same one can be sent again.
///
/// No header's name may be the beginning of another's, because rust-s3 sorts names together with
/// what is behind them.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// SHA-256 of the body, in lower-case hex.
    pub(super) sha256: String,
    /// Sent even while the other side is left alone, and once only.
    pub(super) probe: bool,
}

/// What a request does, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    Head,
    Put,
    Delete,
    List,
    DeleteMany,
}

impl Operation {
    pub(super) const ALL: [Self; 6] =
        [Self::Get, Self::Head, Self::Put, Self::Delete, Self::List, Self::DeleteMany];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::DeleteMany => "delete_many",
        }
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::Get | Self::List => Method::GET,
            Self::Head => Method::HEAD,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
            Self::DeleteMany => Method::POST,
        }
    }
}

impl Request {
    pub(super) fn new(operation: Operation, url: Url) -> Self {
        Self {
            operation,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            sha256: EMPTY_SHA256.to_owned(),
            probe: false,
        }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a body and the header that has the other side check it.
    pub(super) fn with_body(self, body: Bytes, digests: &Digests, media_type: &'static str) -> Self {
        let sha256 = digests.sha256.clone();
        let this = Self { body, sha256, ..self }
            .with_header(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        match HeaderValue::from_str(&base64_simd::STANDARD.encode_to_string(digests.md5)) {
            Ok(md5) => this.with_header(HeaderName::from_static("content-md5"), md5),
            Err(_) => this,
        }
    }

    /// Whether this may be how the other side says that another one's change came first: the gateway
    /// of Ceph answers 500 to whoever loses a race for a replacement.
    pub(super) fn is_contested(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::Refused { status, .. } if status.as_u16() == 500)
            && self.operation == Operation::Put
            && self.headers.contains_key(http::header::IF_MATCH)
    }

    /// Sent even while the other side is left alone, and once only.
    pub(super) fn into_probe(self) -> Self {
        Self { probe: true, ..self }
    }
}

/// The digests of a body.
#[derive(Debug, Clone)]
pub(super) struct Digests {
    /// In lower-case hex.
    pub(super) sha256: String,
    pub(super) md5: [u8; 16],
}

impl Digests {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { sha256: hex(&Sha256::digest(bytes)), md5: md5::compute(bytes).0 }
    }

    /// Whether an entity tag is that of these bytes; `None` if it is none that tells (encrypted
    /// objects have others).
    pub(super) fn match_tag(&self, tag: &str) -> Option<bool> {
        let tag = tag.trim_matches('"');
        let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_md5.then(|| tag.eq_ignore_ascii_case(&hex(&self.md5)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_an_entity_tag_of_the_bytes_from_another() {
        let digests = Digests::of(b"hello");
        assert_eq!(digests.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(digests.match_tag("\"5d41402abc4b2a76b9719d911017c592\""), Some(true));
        assert_eq!(digests.match_tag("5D41402ABC4B2A76B9719D911017C592"), Some(true));
        assert_eq!(digests.match_tag("\"00000000000000000000000000000000\""), Some(false));
        assert_eq!(digests.match_tag("\"5d41402abc4b2a76b9719d911017c592-2\""), None);
        assert_eq!(Digests::of(b"").sha256, EMPTY_SHA256);
    }

    #[test]
    fn names_of_headers_are_no_beginnings_of_each_other() {
        let (sha256, save) = (META_SHA256, META_SAVE);
        let names = [
            "host",
            "content-type",
            "content-md5",
            "if-match",
            "if-none-match",
            "range",
            "x-amz-date",
            "x-amz-content-sha256",
            "x-amz-security-token",
            sha256.as_str(),
            save.as_str(),
        ];
        for (one, other) in names.iter().flat_map(|one| names.iter().map(move |other| (one, other))) {
            assert!(one == other || !one.starts_with(other), "{one} and {other}");
        }
    }
}
