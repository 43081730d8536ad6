//! Calls that go past the protocol machinery, held against what it would have answered.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{ACCEPT, HeaderName, HeaderValue};
use tower::{Layer, ServiceBuilder};

use super::*;
use crate::mcp::{guard::GuardLayer, plain::PlainCall, replies::Id, replies::Replies};

/// An endpoint that hands every call to the machinery, and counts those that it would not have had to.
fn machinery(act: Act) -> (Endpoint, Arc<AtomicUsize>) {
    let plain = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&plain);
    let server = ImageServer::new("test-server", Arc::new(Fake { act, ..Fake::default() }));
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Bytes>| {
            if let Some(call) = request.extensions_mut().remove::<PlainCall>() {
                counted.fetch_add(1, Ordering::Relaxed);
                request.extensions_mut().insert(Id(Some(call.id)));
                let both = HeaderValue::from_static("application/json, text/event-stream");
                request.headers_mut().insert(ACCEPT, both);
            }
            request
        })
        .service(Replies::new(server, MAX_BYTES));
    (BoxCloneService::new(GuardLayer::new(MAX_BYTES).layer(service)), plain)
}

/// `params` of calls, usual and not, as they stand in a body. `META` stands for what 2026-07-28 asks for.
const PARAMS: [&str; 31] = [
    r#"{"name":"generate_image","arguments":{"prompt":"a fox"},"_meta":{META}}"#,
    r#"{"arguments":{"prompt":"a \ud83e\udd8a","seed":7},"name":"generate_imag\u0065","_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a fox","include_preview":false},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"one","prompt":"two"},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a","guidance_scale":7,"width":1e2},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a","seed":18446744073709551616},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":null,"_meta":{META}}"#,
    r#"{"name":"generate_image","_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a","include_preview":1,"more":null},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":["a"]},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":{"a":{}}},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"\ud83e"},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a","width":1e999},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":[],"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":"a fox","_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"task":{"ttl":1},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"requestState":"x","_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"inputResponses":7,"_meta":{META}}"#,
    r#"{"name":"generate_image","name":"generate_image","arguments":{"prompt":"a"},"_meta":{META}}"#,
    r#"{"name":"Generate_Image","arguments":{"prompt":"a"},"_meta":{META}}"#,
    r#"{"name":7,"arguments":{"prompt":"a"},"_meta":{META}}"#,
    r#"{"arguments":{"prompt":"a"},"_meta":{META}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":null}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":[]}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"traceparent":"00-1-2-3"}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"progressToken":7}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"progressToken":{}}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"io.modelcontextprotocol/protocolVersion":7}}"#,
    r#"{"name":"generate_image","arguments":{"prompt":"a"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}}"#,
];

/// What the headers of a call are changed to.
const HEADERS: [&[(&str, &[&str])]; 17] = [
    &[],
    &[("mcp-session-id", &["a"])],
    &[("accept", &["*/*"])],
    &[("mcp-protocol-version", &[])],
    &[("mcp-protocol-version", &["2025-03-26"])],
    &[("mcp-protocol-version", &["2025-06-18"])],
    &[("mcp-protocol-version", &["2025-11-25"])],
    &[("mcp-protocol-version", &["2024-11-05"])],
    &[("mcp-protocol-version", &["2099-01-01"])],
    &[("mcp-protocol-version", &["2026-07-28"])],
    &[("mcp-protocol-version", &["2025-06-18", "2026-07-28"])],
    &[("mcp-method", &[])],
    &[("mcp-method", &["tools/list"])],
    &[("mcp-method", &["tools/call", "tools/call"])],
    &[("mcp-name", &[])],
    &[("mcp-name", &["another"])],
    &[("mcp-name", &["=?base64?Z2VuZXJhdGVfaW1hZ2U=?="])],
];

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

fn asked(
    params: &str,
    is_modern: bool,
    changes: &[(&'static str, &[&'static str])],
    id: &str,
) -> Request<Body> {
    let params = params.replace("META", if is_modern { META } else { "" });
    let mut request =
        raw(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#));
    let headers = request.headers_mut();
    if is_modern {
        for (name, value) in
            [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "generate_image")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    for (name, values) in changes {
        headers.remove(*name);
        for value in *values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    request
}

/// The answer's status, headers and text, but for the image's id.
fn comparable(answer: &Answer) -> (StatusCode, HeaderMap, String) {
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let text = match json["result"]["structuredContent"]["image_id"].as_str() {
        Some(id) => answer.text.replace(id, "ID"),
        None => answer.text.split("/images/").next().unwrap_or_default().to_owned(),
    };
    (answer.status, answer.headers.clone(), text)
}

#[tokio::test]
async fn plain_call_is_answered_as_the_machinery_would() {
    let (ours, (theirs, plain)) = (endpoint(Act::Answer).0, machinery(Act::Answer));
    let mut asked_in_all = 0;
    for (params, changes, is_modern) in PARAMS
        .iter()
        .flat_map(|params| HEADERS.iter().map(move |changes| (params, changes)))
        .flat_map(|(params, changes)| [(params, changes, false), (params, changes, true)])
    {
        let mut answers = Vec::new();
        for endpoint in [&ours, &theirs] {
            answers.push(comparable(&send(endpoint, asked(params, is_modern, changes, "1")).await));
        }
        asked_in_all += 1;
        assert_eq!(answers[0], answers[1], "{params} {changes:?} {is_modern}");
    }
    let plain = plain.load(Ordering::Relaxed);
    assert!((200..asked_in_all / 2).contains(&plain), "{plain} of {asked_in_all} were plain");
}

#[tokio::test]
async fn id_of_a_plain_call_comes_back_as_it_was() {
    let (ours, (theirs, plain)) = (endpoint(Act::Answer).0, machinery(Act::Answer));
    for id in ["0", "-7", "9007199254740993", "\"a\\u0001\\\"b\"", "\"\"", "1e3", "[1]"] {
        for is_modern in [false, true] {
            let ours = send(&ours, asked(PARAMS[6], is_modern, &[], id)).await;
            let theirs = send(&theirs, asked(PARAMS[6], is_modern, &[], id)).await;
            assert_eq!(comparable(&ours), comparable(&theirs), "{id}");
        }
    }
    assert_eq!(plain.load(Ordering::Relaxed), 12);
}

#[tokio::test]
async fn failure_and_panic_of_a_plain_call_are_told_as_by_the_machinery() {
    for act in [Act::Fail, Act::Panic] {
        let (ours, (theirs, plain)) = (endpoint(act).0, machinery(act));
        for is_modern in [false, true] {
            let ours = send(&ours, asked(PARAMS[0], is_modern, &[], "1")).await;
            let theirs = send(&theirs, asked(PARAMS[0], is_modern, &[], "1")).await;
            assert_eq!(comparable(&ours), comparable(&theirs), "{act:?}");
        }
        assert_eq!(plain.load(Ordering::Relaxed), 2);
    }
}
