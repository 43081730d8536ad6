//! Requests that are not what they should be.

use futures_util::stream;
use http::Method;
use http_body::Frame;
use http_body_util::{Limited, StreamBody};
use layers::{BodyStalled, BodyTooLarge, BoxError};

use super::*;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn method_other_than_post_is_405() {
    let (endpoint, _) = endpoint(Act::Answer);
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::OPTIONS, Method::HEAD] {
        let mut request = raw(PING);
        *request.method_mut() = method.clone();
        let answer = send(&endpoint, request).await;
        assert_eq!(answer.error(), (405, -32600), "{method}");
        assert_eq!(answer.headers["allow"], "POST, OPTIONS");
    }
}

#[tokio::test]
async fn media_type_other_than_json_is_415() {
    let (endpoint, _) = endpoint(Act::Answer);
    for (name, value) in [
        ("content-type", Some("text/plain")),
        ("content-type", Some("application/json-seq")),
        ("content-type", None),
        ("content-encoding", Some("gzip")),
    ] {
        let mut request = raw(PING);
        request.headers_mut().remove(name);
        if let Some(value) = value {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(send(&endpoint, request).await.error(), (415, -32600), "{name} {value:?}");
    }
    let mut request = raw(PING);
    request.headers_mut().insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(send(&endpoint, request).await.status, 200);
}

#[tokio::test]
async fn accept_without_both_types_is_406() {
    let (endpoint, _) = endpoint(Act::Answer);
    for value in [None, Some("application/json"), Some("text/event-stream"), Some("text/html")] {
        let mut request = raw(PING);
        request.headers_mut().remove("accept");
        if let Some(value) = value {
            request.headers_mut().insert("accept", value.parse().unwrap());
        }
        assert_eq!(send(&endpoint, request).await.error(), (406, -32600), "{value:?}");
    }
    let mut request = raw(PING);
    request.headers_mut().insert("accept", "*/*".parse().unwrap());
    assert_eq!(send(&endpoint, request).await.status, 200);
}

#[tokio::test]
async fn body_that_is_not_one_message_is_400() {
    let (endpoint, _) = endpoint(Act::Answer);
    let bomb = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}"#, "[".repeat(20_000));
    let closed_bomb = format!("{bomb}{}}}}}", "]".repeat(20_000));
    for (body, code) in [
        (b"".to_vec(), -32700),
        (b"{".to_vec(), -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), -32700),
        (bomb.into_bytes(), -32700),
        (closed_bomb.into_bytes(), -32700),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800"}}"#.to_vec(), -32700),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1e999}}"#.to_vec(), -32700),
        (format!("[{PING}]").into_bytes(), -32600),
        (b"7".to_vec(), -32600),
        (b"{}".to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#.to_vec(), -32602),
    ] {
        let shown = String::from_utf8_lossy(&body).chars().take(80).collect::<String>();
        let answer = send(&endpoint, raw(body)).await;
        assert_eq!(answer.error(), (400, code), "{shown} {}", answer.text);
        assert_eq!(answer.json()["jsonrpc"], "2.0");
    }
}

/// A body that comes in frames.
fn streamed(frames: Vec<Result<Bytes, BoxError>>) -> Body {
    Body::new(StreamBody::new(stream::iter(frames.into_iter().map(|frame| frame.map(Frame::data)))))
}

#[tokio::test]
async fn body_over_the_cap_is_413() {
    let (endpoint, _) = endpoint(Act::Answer);
    let padded = |length: usize| format!("{PING}{}", " ".repeat(length - PING.len()));
    assert_eq!(send(&endpoint, raw(padded(MAX_BYTES))).await.status, 200);
    assert_eq!(send(&endpoint, raw(padded(MAX_BYTES + 1))).await.error(), (413, -32600));

    let chunks = |length| padded(length).into_bytes().chunks(1_000).map(|c| Ok(c.to_vec().into())).collect();
    let mut request = raw("");
    *request.body_mut() = streamed(chunks(MAX_BYTES));
    assert_eq!(send(&endpoint, request).await.status, 200);
    let mut request = raw("");
    *request.body_mut() = streamed(chunks(MAX_BYTES + 1));
    assert_eq!(send(&endpoint, request).await.error(), (413, -32600));
}

#[tokio::test]
async fn body_that_a_layer_in_front_refuses_gets_its_status() {
    let (endpoint, _) = endpoint(Act::Answer);
    let mut request = raw("");
    *request.body_mut() = Body::new(Limited::new(streamed(vec![Ok(PING.into())]), 10));
    assert_eq!(send(&endpoint, request).await.error(), (413, -32600));

    let stalled = BodyStalled { within: std::time::Duration::from_secs(9), min_bytes: 1 };
    for (cause, status) in [(BoxError::from(BodyTooLarge { limit: 4 }), 413), (stalled.into(), 408)] {
        let mut request = raw("");
        *request.body_mut() = streamed(vec![Ok(PING.into()), Err(std::io::Error::other(cause).into())]);
        assert_eq!(send(&endpoint, request).await.error(), (status, -32600));
    }
}

#[tokio::test]
async fn body_that_breaks_off_is_400_and_says_nothing_of_the_cause() {
    let (endpoint, _) = endpoint(Act::Answer);
    let mut request = raw("");
    *request.body_mut() = streamed(vec![Ok(PING.into()), Err("invalid chunk size at 0x7f".into())]);
    let answer = send(&endpoint, request).await;
    assert_eq!(answer.error(), (400, -32600));
    assert!(!answer.text.contains("0x7f"), "{}", answer.text);
}
