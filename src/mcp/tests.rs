//! The endpoint as a client meets it: HTTP in, HTTP out.

mod broken;
mod calls;
mod eras;
mod plain;
mod streams;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use layers::Body;
use serde_json::{Map, Value, json};
use tower::{ServiceExt, util::BoxCloneService};

use super::{
    ImageServer,
    fake::{Act, Fake},
    service,
};

const MAX_BYTES: usize = 64 * 1024;
const MODERN: &str = "2026-07-28";

type Endpoint = BoxCloneService<Request<Body>, Response<Body>, std::convert::Infallible>;

/// An endpoint over a fake that does `act`.
fn endpoint(act: Act) -> (Endpoint, Arc<Fake>) {
    let fake = Arc::new(Fake { act, ..Fake::default() });
    let server = ImageServer::new("test-server", fake.clone());
    (BoxCloneService::new(service(server, MAX_BYTES)), fake)
}

/// A request as the older revisions send it.
fn legacy(method: &str, params: Value) -> Request<Body> {
    raw(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

/// A request as 2026-07-28 has it.
fn modern(method: &str, params: Value) -> Request<Body> {
    let mut params = match params {
        Value::Object(params) => params,
        _ => Map::new(),
    };
    let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
    let meta = params.entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let mut request = legacy(method, params.into());
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", MODERN.parse().unwrap());
    headers.insert("mcp-method", method.parse().unwrap());
    if let Some(name) = name {
        headers.insert("mcp-name", name.parse().unwrap());
    }
    request
}

fn raw(body: impl Into<Bytes>) -> Request<Body> {
    Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Body::full(body))
        .unwrap()
}

fn call(arguments: Value) -> Value {
    json!({"name": "generate_image", "arguments": arguments})
}

/// The same request in both eras.
fn both(method: &str, params: Value) -> [Request<Body>; 2] {
    [legacy(method, params.clone()), modern(method, params)]
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    fn result(&self) -> Value {
        let json = self.json();
        assert_eq!(self.status, 200, "{json}");
        assert!(json["result"].is_object(), "{json}");
        json["result"].clone()
    }

    /// The status and the code of a JSON-RPC error.
    fn error(&self) -> (u16, i64) {
        (self.status.as_u16(), self.json()["error"]["code"].as_i64().expect(&self.text))
    }

    /// The messages of an event stream.
    fn events(&self) -> Vec<Value> {
        assert_eq!(self.headers["content-type"], "text/event-stream", "{}", self.text);
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|json| serde_json::from_str(json.trim()).unwrap()).collect()
    }
}

async fn send(endpoint: &Endpoint, request: Request<Body>) -> Answer {
    let response = endpoint.clone().oneshot(request).await.unwrap();
    read(response).await
}

async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(text.to_vec()).unwrap() }
}
