//! The header fields that answers with an image have.

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, header};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What a 200, a 206 and a 304 have in common, whoever asks and whenever.
pub(super) fn common(entity_tag: HeaderValue, last_modified: HeaderValue) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(14);
    fields.insert(header::ETAG, entity_tag);
    fields.insert(header::LAST_MODIFIED, last_modified);
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    fields.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    fields
}

/// Adds what comes with content.
pub(super) fn set_content(
    fields: &mut HeaderMap,
    media_type: &'static str,
    length: u64,
    disposition: HeaderValue,
) {
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(header::CONTENT_LENGTH, length.into());
    fields.insert(header::CONTENT_DISPOSITION, disposition);
}

/// How long caches may keep an image: one that is asked for often is told the same for a second.
#[derive(Debug, Default)]
pub(super) struct CacheControl(Mutex<Option<(i64, HeaderValue)>>);

impl CacheControl {
    /// For whoever asks with so many seconds left.
    pub(super) fn public(&self, max_age: i64) -> HeaderValue {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((seconds, value)) if *seconds == max_age => value.clone(),
            _ => last.insert((max_age, written("public", max_age))).1.clone(),
        }
    }

    /// For whoever asks with a credential or a signature.
    pub(super) fn private(max_age: i64) -> HeaderValue {
        written("private", max_age)
    }
}

fn written(audience: &str, max_age: i64) -> HeaderValue {
    let value = HeaderValue::try_from(format!("{audience}, max-age={max_age}, immutable"));
    // Digits and words: always a value.
    value.unwrap_or(HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_follows_the_seconds() {
        let control = CacheControl::default();
        for seconds in [60, 60, 59, 60, 0] {
            assert_eq!(control.public(seconds), format!("public, max-age={seconds}, immutable"));
        }
        assert_eq!(CacheControl::private(7), "private, max-age=7, immutable");
    }
}
