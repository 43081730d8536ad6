//! What `/mcp` and REST read of a request alike: its media type, what it accepts, and its body.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use layers::{BodyTooLarge, BoxError};

/// A weight of 1, in thousandths.
const FULL: u16 = 1000;

/// How a client accepts a media type (RFC 9110, section 12.5.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Whether the type is named, not only meant by a wildcard.
    pub by_name: bool,
    /// The weight in thousandths; 0 for a type that is not acceptable.
    pub weight: u16,
}

/// How the `Accept` fields take a media type: by the most specific range that matches. What is no
/// weight (section 12.4.2) counts as 0; a client without the field names nothing.
#[must_use]
pub fn accepted(headers: &HeaderMap, media_type: &str) -> Accepted {
    let family = media_type.split('/').next().unwrap_or_default();
    let fields = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
    // Specificity, and the weight.
    let mut found = (0, 0);
    for range in fields.flat_map(|field| field.split(',')) {
        let mut parts = range.split(';');
        let media = parts.next().unwrap_or_default().trim();
        let specific = if media.eq_ignore_ascii_case(media_type) {
            3
        } else if media.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(family)) {
            2
        } else if media == "*/*" {
            1
        } else {
            continue;
        };
        if specific > found.0 {
            found = (specific, parts.find_map(weight).unwrap_or(FULL));
        }
    }
    Accepted { by_name: found.0 == 3, weight: found.1 }
}

/// Whether the body is JSON by its own word.
///
/// A page may send `text/plain` across origins without asking; JSON it may not. So this is a rule of
/// safety, not of taste.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Whether the body is compressed, or coded in another way.
#[must_use]
pub fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Reads a body. One of many small frames is copied into one buffer: kept apart, each would hold on
/// to the buffer that it was read into.
///
/// # Errors
/// [`BodyTooLarge`] if it has more than `max_bytes`; else what the body broke off with.
pub async fn read_body<B>(body: B, max_bytes: usize) -> Result<Bytes, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let too_large = BodyTooLarge { limit: max_bytes };
    // `Content-Length`, where there is one: refused before a byte is read.
    if usize::try_from(body.size_hint().lower()).map_or(true, |bytes| bytes > max_bytes) {
        return Err(too_large.into());
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
        if data.len() > max_bytes.saturating_sub(first.len() + whole.len()) {
            return Err(too_large.into());
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The weight that a parameter is, if it is one.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
}

fn thousandths(value: &str) -> u16 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let thousandths = format!("{fraction:0<3}").parse().unwrap_or(0);
    if whole == "1" { FULL } else { thousandths }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures_util::{StreamExt, stream};
    use http::HeaderValue;
    use layers::{Body, find_cause};

    use super::*;

    fn weight_of(accept: &[&'static str], media_type: &str) -> (bool, u16) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        let accepted = accepted(&headers, media_type);
        (accepted.by_name, accepted.weight)
    }

    #[test]
    fn weight_is_that_of_the_most_specific_range() {
        for (accept, expected) in [
            (&[][..], (false, 0)),
            (&[""], (false, 0)),
            (&["text/html"], (false, 0)),
            (&["application/jsonx"], (false, 0)),
            (&["*/*"], (false, 1000)),
            (&["application/*;q=0.25, */*"], (false, 250)),
            (&["*/*, Application/JSON; q=0.5"], (true, 500)),
            (&["*/*", "application/json;q=0"], (true, 0)),
            (&["application/json;charset=utf-8;Q = 0.125"], (true, 125)),
            (&["application/json;quality=0"], (true, 1000)),
            (&["application/json;q=1.000"], (true, 1000)),
            (&["application/json;q=0.0001"], (true, 0)),
            (&["application/json;q=2"], (true, 0)),
            (&["application/json;q"], (true, 0)),
        ] {
            assert_eq!(weight_of(accept, "application/json"), expected, "{accept:?}");
        }
    }

    /// A buffer that is alive as long as a byte of it is held.
    struct Buffer(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            b"0123456789"
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn body_of_small_frames_lets_go_of_their_buffers() {
        let alive = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (counted, peak) = (Arc::clone(&alive), Arc::clone(&most));
        let frames = stream::iter(0..1000).map(move |_| {
            peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Ok::<_, io::Error>(Bytes::from_owner(Buffer(Arc::clone(&counted))).slice(3..4))
        });
        let body = read_body(Body::stream(frames), 1000).await.unwrap();
        assert_eq!(body, "3".repeat(1000));
        // The first frame is kept as it is until there is a second one.
        assert_eq!((most.load(Ordering::SeqCst), alive.load(Ordering::SeqCst)), (2, 0));
    }

    #[tokio::test]
    async fn body_in_one_piece_is_not_copied() {
        let bytes = Bytes::from("one piece".to_owned());
        let read = read_body(Body::full(bytes.clone()), 9).await.unwrap();
        assert_eq!(read.as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn body_over_the_limit_is_refused_by_length_and_by_frames() {
        let frames = stream::iter(["abc", "def"].map(|data| Ok::<_, io::Error>(Bytes::from(data))));
        for body in [Body::full("abcdef"), Body::stream(frames)] {
            let error = read_body(body, 5).await.unwrap_err();
            assert_eq!(find_cause(&*error), Some(&BodyTooLarge { limit: 5 }));
        }
    }
}
