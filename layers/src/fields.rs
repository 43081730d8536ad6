//! Looking for header fields. Few requests have many: to look at each is cheaper than to look one up.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The values of a field, in order.
pub(crate) fn values(headers: &HeaderMap, wanted: HeaderName) -> impl Iterator<Item = &HeaderValue> {
    headers.iter().filter(move |(name, _)| **name == wanted).map(|(_, value)| value)
}

/// The value of a field that comes exactly once.
pub(crate) fn only(headers: &HeaderMap, wanted: HeaderName) -> Option<&HeaderValue> {
    let mut values = values(headers, wanted);
    values.next().filter(|_| values.next().is_none())
}
