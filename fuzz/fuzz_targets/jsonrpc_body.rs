//! A body posted to `/mcp`, as both eras send it: through the guard, the protocol and the tool.
//!
//! Invariants: a body is answered by JSON-RPC, with the id of the request if it was whole; never by a
//! server error; arguments that are taken are within every range that the schema promises, and a call
//! succeeds exactly when its arguments are taken.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use mcp_image_server::{
    generate::{Params, input_schema},
    mcp::{Arguments, Message, TOOL_NAME, parse_body},
};
use serde_json::{Map, Value, json};
use support::{Server, answers};

const MODERN: &str = "2026-07-28";

static SERVER: LazyLock<Server> = LazyLock::new(Server::new);
static SCHEMA: LazyLock<Value> = LazyLock::new(|| input_schema().into());

fuzz_target!(|body: &[u8]| {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let arguments = value.as_ref().and_then(arguments);
    if let Some(arguments) = &arguments {
        check_arguments(arguments);
    }
    for request in [legacy(body), modern(value.as_ref())].into_iter().flatten() {
        let response = SERVER.call(request.clone());
        answers::check(&request, &response);
        check_answer(request.body(), &response);
        if let Some(arguments) = &arguments {
            check_call(arguments, &response);
        }
    }
});

fn legacy(body: &[u8]) -> Option<Request<Bytes>> {
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    request.body(Bytes::copy_from_slice(body)).ok()
}

/// The same message as 2026-07-28 has it: with its `_meta`, and headers that repeat what the body says.
fn modern(value: Option<&Value>) -> Option<Request<Bytes>> {
    let mut value = value?.clone();
    let message = value.as_object_mut()?;
    let params = message.entry("params").or_insert_with(|| json!({})).as_object_mut()?;
    let meta = params.entry("_meta").or_insert_with(|| json!({})).as_object_mut()?;
    meta.entry("io.modelcontextprotocol/protocolVersion").or_insert(MODERN.into());
    meta.entry("io.modelcontextprotocol/clientCapabilities").or_insert_with(|| json!({}));
    let mut request = legacy(value.to_string().as_bytes())?;
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", HeaderValue::from_static(MODERN));
    for (name, pointer) in [("mcp-method", "/method"), ("mcp-name", "/params/name")] {
        if let Some(text) = value.pointer(pointer).and_then(Value::as_str) {
            headers.insert(name, HeaderValue::from_str(text).ok()?);
        }
    }
    Some(request)
}

/// The arguments of a call of our tool; none at all count as an empty object.
fn arguments(body: &Value) -> Option<Map<String, Value>> {
    if body["method"] != "tools/call" || body["params"]["name"] != TOOL_NAME {
        return None;
    }
    match body.pointer("/params/arguments") {
        None | Some(Value::Null) => Some(Map::new()),
        Some(Value::Object(arguments)) => Some(arguments.clone()),
        Some(_) => None,
    }
}

fn check_answer(body: &[u8], response: &Response<Bytes>) {
    let status = response.status();
    let Ok(Message { id, .. }) = parse_body(body) else {
        assert_eq!(status, StatusCode::BAD_REQUEST, "what is no message is a bad request");
        let answer: Value = serde_json::from_slice(response.body()).expect("JSON");
        assert!(answer["error"]["code"].is_i64() && answer["jsonrpc"] == "2.0", "{answer}");
        return;
    };
    // None where JSON is nested more deeply than serde_json reads.
    let body: Option<Value> = serde_json::from_slice(body).ok();
    assert!(body.as_ref().is_none_or(Value::is_object), "a message is an object");
    let is_response = body.is_some_and(|body| !body["method"].is_string());
    if status == StatusCode::ACCEPTED {
        assert!(id.is_none() && response.body().is_empty(), "only a notification is merely accepted");
        return;
    }
    // A response's id is the id of nothing that is answered here.
    let id = serde_json::to_value(id.filter(|_| !is_response)).expect("an id");
    let mut messages = messages(response);
    let last = messages.pop().expect("a message");
    assert_eq!(last["jsonrpc"], "2.0", "{last}");
    assert_eq!(last["id"], id, "{last}");
    assert!(last["result"].is_object() != last["error"].is_object(), "{last}");
    for message in messages {
        assert_eq!(message["method"], "notifications/progress", "{message}");
    }
}

fn messages(response: &Response<Bytes>) -> Vec<Value> {
    match response.headers()["content-type"].as_bytes() {
        b"text/event-stream" => answers::events(response.body()).collect(),
        _ => vec![serde_json::from_slice(response.body()).expect("JSON")],
    }
}

fn check_call(arguments: &Map<String, Value>, response: &Response<Bytes>) {
    if !response.status().is_success() || response.body().is_empty() {
        return;
    }
    let last = messages(response).pop().expect("a message");
    if last["result"]["content"].is_array() {
        let failed = last["result"]["isError"] == true;
        assert_eq!(failed, Arguments::from_json(arguments).is_err(), "{last}");
        assert_eq!(failed, last["result"]["structuredContent"].is_null(), "{last}");
    }
}

fn check_arguments(arguments: &Map<String, Value>) {
    match Params::from_json(arguments) {
        Ok(params) => within_schema(&params),
        Err(invalid) => {
            assert!((1..=32).contains(&invalid.0.len()));
            for error in invalid.0 {
                assert!(!error.allowed.is_empty());
                assert!(error.to_string().len() < 2_000, "an error is short, whatever the value is");
            }
        }
    }
}

fn within_schema(params: &Params) {
    let bounds = |name: &str, value: f64| {
        let property = &SCHEMA["properties"][name];
        let (minimum, maximum) = (property["minimum"].as_f64(), property["maximum"].as_f64());
        assert!(minimum.expect(name) <= value && value <= maximum.expect(name), "{name} {value}");
        let multiple = property["multipleOf"].as_f64();
        assert!(multiple.is_none_or(|multiple| value % multiple == 0.0), "{name} {value}");
    };
    bounds("width", params.width.into());
    bounds("height", params.height.into());
    bounds("num_inference_steps", params.num_inference_steps.into());
    bounds("guidance_scale", params.guidance_scale);
    bounds("seed", params.seed.unwrap_or_default().into());
    assert!((1..=10_000).contains(&params.prompt.chars().count()));
    assert!(!params.prompt.contains('\0'));
}
