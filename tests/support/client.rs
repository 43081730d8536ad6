//! A client of a running server: whole answers over HTTP, JSON-RPC in both eras, and raw bytes.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The current revision of the protocol.
pub(crate) const MODERN: &str = "2026-07-28";
/// Longer than anything takes that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come; a test that would hang fails instead.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes far too long")
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What the metadata says of the bytes of an image.
pub(crate) fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// How a client speaks MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// As the revisions with `initialize` do.
    Legacy,
    /// As 2026-07-28 does: each request says everything.
    Modern,
}

impl Era {
    pub(crate) const BOTH: [Self; 2] = [Self::Legacy, Self::Modern];
}

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the server at `base`.
    pub(crate) fn new(base: &str) -> Self {
        Self::build(base, |builder| builder)
    }

    /// A client that comes from another address of this machine.
    pub(crate) fn from_address(base: &str, address: &str) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        Self::build(base, |builder| builder.local_address(address))
    }

    /// A client that speaks HTTP/2 from the first byte on.
    pub(crate) fn http2(base: &str) -> Self {
        Self::build(base, reqwest::ClientBuilder::http2_prior_knowledge)
    }

    fn build(base: &str, with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Self {
        let builder = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false);
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        Self { base: base.to_owned(), http: with(builder).build().expect("a client") }
    }

    /// A request to a path, or to a whole URL of this server.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse::<reqwest::Method>().expect("a method");
        let path = path.split_once("//").map_or(path, |(_, rest)| &rest[rest.find('/').expect("a path")..]);
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    /// Posts JSON text to a path.
    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.request("POST", path).header("content-type", "application/json").body(body)
    }

    /// Asks for an image over REST.
    pub(crate) async fn generate(&self, arguments: &Value) -> Answer {
        Answer::of(self.post(GENERATE_IMAGE, arguments.to_string())).await
    }

    /// A JSON-RPC request.
    pub(crate) fn rpc(&self, era: Era, method: &str, params: Value) -> reqwest::RequestBuilder {
        let mut params = match params {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
        if era == Era::Modern {
            let meta = params.entry("_meta").or_insert_with(|| json!({}));
            meta["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let request = self.post("/mcp", body).header("accept", "application/json, text/event-stream");
        match era {
            Era::Legacy => request,
            Era::Modern => {
                let request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
                name.into_iter().fold(request, |request, name| request.header("mcp-name", name))
            }
        }
    }

    /// A call of the tool.
    pub(crate) fn call(&self, era: Era, arguments: &Value) -> reqwest::RequestBuilder {
        self.rpc(era, "tools/call", json!({"name": "generate_image", "arguments": arguments}))
    }

    /// The result of a call of the tool, which may be an error of the tool.
    pub(crate) async fn tool_result(&self, era: Era, arguments: &Value) -> Value {
        Answer::of(self.call(era, arguments)).await.rpc_result()
    }

    /// Fetches an image, and checks it against its metadata.
    pub(crate) async fn fetch_whole(&self, image: &Value) -> Bytes {
        let answer = self.get(image["url"].as_str().expect("a URL")).await;
        assert_eq!(answer.status, 200, "{image}");
        assert_eq!(answer.body.len() as u64, image["metadata"]["size_bytes"].as_u64().expect("a size"));
        assert_eq!(content_hash(&answer.body), image["metadata"]["blake3"].as_str().expect("a hash"));
        answer.body
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Sends a request and reads its answer to the end.
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        within(async {
            let response = request.send().await.expect("an answer");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Self { status, headers, body: response.bytes().await.expect("a whole body") }
        })
        .await
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body of a problem of this status and kind.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }

    /// The error of a JSON-RPC answer of this status.
    #[track_caller]
    pub(crate) fn rpc_error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text());
        let message = self.json();
        assert_eq!(message["jsonrpc"], "2.0");
        assert!(message["error"]["code"].is_i64() && message["error"]["message"].is_string(), "{message}");
        message["error"].clone()
    }

    /// A refusal in the words of its path: JSON-RPC under `/mcp`, a problem elsewhere.
    #[track_caller]
    pub(crate) fn assert_refused(&self, path: &str, status: u16, slug: &str) {
        if path == "/mcp" {
            self.rpc_error(status);
        } else {
            self.problem(status, slug);
        }
    }

    /// The messages of a JSON-RPC answer, as JSON or as events.
    #[track_caller]
    pub(crate) fn rpc_messages(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        if self.header("content-type") == "application/json" {
            return vec![self.json()];
        }
        assert_eq!(self.header("content-type"), "text/event-stream", "{}", self.text());
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|json| serde_json::from_str(json.trim()).expect("JSON")).collect()
    }

    /// The result of a JSON-RPC answer.
    #[track_caller]
    pub(crate) fn rpc_result(&self) -> Value {
        let message = self.rpc_messages().pop().expect("a message");
        assert!(message["result"].is_object(), "{message}");
        message["result"].clone()
    }
}

/// Sends bytes as they are, and reads until the server closes the connection.
pub(crate) async fn send_raw(authority: &str, bytes: &[u8]) -> RawAnswer {
    let mut stream = TcpStream::connect(authority).await.expect("connected");
    // The server may have answered and closed before it took everything.
    let _ = stream.write_all(bytes).await;
    RawAnswer(read_to_close(&mut stream).await)
}

/// Everything until the server closes the connection, in whatever way.
pub(crate) async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = within(stream.read_to_end(&mut read)).await;
    read
}

/// What came back on a raw connection.
#[derive(Debug)]
pub(crate) struct RawAnswer(Vec<u8>);

impl RawAnswer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The statuses of all answers, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let heads = text.match_indices("HTTP/1.1 ").map(|(start, mark)| &text[start + mark.len()..]);
        heads.map(|head| head[..3].parse().expect("a status")).collect()
    }

    /// The one answer.
    #[track_caller]
    pub(crate) fn answer(&self) -> Answer {
        let text = self.text();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer in {text:?}"));
        let mut headers = HeaderMap::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(':').expect("a header");
            let name = name.parse::<http::HeaderName>().expect("a name");
            headers.append(name, value.trim().parse().expect("a value"));
        }
        Answer { status: self.statuses()[0], headers, body: Bytes::from(body.to_owned()) }
    }
}
