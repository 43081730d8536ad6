//! What holds for every answer, whatever was asked.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use mcp_image_server::image::{Limits, inspect};
use serde_json::Value;
use url::form_urlencoded;

use super::{PICTURE, PICTURE_TAG};

/// Checks an answer for itself and against its request.
pub fn check(request: &Request<Bytes>, response: &Response<Bytes>) {
    let status = response.status();
    let told = || format!("{request:?}\n{response:?}");
    assert!(status.as_u16() < 500, "bad input makes no server error: {}", told());
    let id = text(response.headers(), "x-request-id");
    assert!(
        !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()),
        "{}",
        told()
    );

    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || request.method() == Method::HEAD {
        assert!(response.body().is_empty(), "{}", told());
        return;
    }
    let content_type = text(response.headers(), "content-type");
    match content_type.split(';').next().unwrap_or_default() {
        "application/problem+json" => problem(response),
        "application/json" => assert!(serde_json::from_slice::<Value>(response.body()).is_ok(), "{}", told()),
        "text/event-stream" => events(response.body()).for_each(drop),
        "text/plain" | "text/html" => assert!(std::str::from_utf8(response.body()).is_ok(), "{}", told()),
        "image/png" | "image/jpeg" | "image/webp" if asks_for_variant(request) => variant(response),
        "image/png" => picture(response),
        "" => assert!(response.body().is_empty(), "a body without a type: {}", told()),
        other => panic!("what type is {other}? {}", told()),
    }
}

/// The JSON messages of a stream of server-sent events.
pub fn events(body: &[u8]) -> impl Iterator<Item = Value> {
    let text = std::str::from_utf8(body).expect("a stream of events is UTF-8");
    assert!(text.is_empty() || text.ends_with("\n\n"), "an event without its end: {text:?}");
    text.lines().filter_map(|line| {
        let known = ["event:", "data:", "id:", "retry:", ":"];
        assert!(line.is_empty() || known.iter().any(|field| line.starts_with(field)), "{line:?}");
        let data = line.strip_prefix("data:")?.trim();
        (!data.is_empty())
            .then(|| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}")))
    })
}

/// RFC 9457.
fn problem(response: &Response<Bytes>) {
    let problem: Value = serde_json::from_slice(response.body()).expect("a problem is JSON");
    assert_eq!(problem["status"], response.status().as_u16(), "{problem}");
    assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
    assert_eq!(text(response.headers(), "cache-control"), "no-store", "{problem}");
}

/// Whether the query may ask for another size or format, as it is written.
fn asks_for_variant(request: &Request<Bytes>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| ["w", "h", "fit", "format", "q"].contains(&&*name))
}

/// An image of the type that it says, no larger than the picture; or a part of one.
fn variant(response: &Response<Bytes>) {
    assert_ne!(text(response.headers(), "etag"), PICTURE_TAG, "a variant has a tag of its own");
    if response.status() == StatusCode::OK {
        let limits = Limits { max_bytes: 1 << 20, max_pixels: 96 * 64 };
        let inspected = inspect(response.body(), limits).expect("a variant is an image");
        assert_eq!(inspected.format.media_type(), text(response.headers(), "content-type"));
        assert_eq!(inspected.length, response.body().len());
    } else {
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    }
}

/// All of the picture, or the part that `Content-Range` names (RFC 9110, sections 14.4 and 15.3.7).
fn picture(response: &Response<Bytes>) {
    assert_eq!(text(response.headers(), "etag"), PICTURE_TAG);
    assert_eq!(text(response.headers(), "x-content-type-options"), "nosniff");
    let part = match response.status() {
        StatusCode::OK => PICTURE,
        StatusCode::PARTIAL_CONTENT => {
            let range = text(response.headers(), "content-range");
            let (range, length) =
                range.strip_prefix("bytes ").and_then(|it| it.split_once('/')).expect(range);
            assert_eq!(length, PICTURE.len().to_string());
            let (first, last) = range.split_once('-').expect(range);
            let (first, last): (usize, usize) = (first.parse().expect(range), last.parse().expect(range));
            &PICTURE[first..=last]
        }
        other => panic!("a picture with status {other}"),
    };
    assert!(response.body() == part, "other bytes than the picture's");
    assert_eq!(text(response.headers(), header::CONTENT_LENGTH.as_str()), part.len().to_string());
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().expect("a readable field")).unwrap_or_default();
    assert!(values.next().is_none(), "two fields of one name: {name}");
    value
}
