//! MCP, as rmcp's own client and as raw JSON-RPC speak it.

use std::sync::{Arc, Mutex};

use base64_simd::STANDARD;
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient,
    model::{CallToolRequestParams, ClientRequest, ProgressNotificationParam, ProtocolVersion, Request},
    service::{NotificationContext, PeerRequestOptions, RequestHandle, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Era, until, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    server::TestServer,
};

/// rmcp's client; it keeps the progress that it is told.
#[derive(Clone, Default)]
struct Listener {
    progress: Arc<Mutex<Vec<ProgressNotificationParam>>>,
}

impl ClientHandler for Listener {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().expect("not poisoned").push(progress);
    }
}

type Connected = RunningService<RoleClient, Listener>;

async fn connect(server: &TestServer, era: Era) -> Connected {
    let transport = StreamableHttpClientTransport::from_uri(server.url("/mcp"));
    let lifecycle = match era {
        Era::Legacy => ClientLifecycleMode::Initialize,
        Era::Modern => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
    };
    within(Listener::default().serve_with_lifecycle(transport, lifecycle)).await.expect("connected")
}

fn request(arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("an object of arguments") };
    CallToolRequestParams::new("generate_image").with_arguments(arguments)
}

/// Begins a call, which can then be cancelled.
async fn begin(client: &Connected, arguments: Value) -> RequestHandle<RoleClient> {
    let call = ClientRequest::CallToolRequest(Request::new(request(arguments)));
    client.send_cancellable_request(call, PeerRequestOptions::no_options()).await.expect("sent")
}

async fn call(client: &Connected, arguments: Value) -> Value {
    let result = within(client.call_tool(request(arguments))).await.expect("a result");
    serde_json::to_value(result).expect("JSON")
}

#[tokio::test]
async fn client_of_each_era_learns_what_the_server_is_and_its_tool() {
    let server = TestServer::start().await;
    for (era, version) in
        [(Era::Legacy, ProtocolVersion::V_2025_11_25), (Era::Modern, ProtocolVersion::V_2026_07_28)]
    {
        let client = connect(&server, era).await;
        let info = client.peer_info().expect("told");
        assert_eq!(info.protocol_version, version);
        let tools = within(client.list_all_tools()).await.expect("a list");
        assert_eq!(tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["generate_image"]);
        assert!(tools[0].output_schema.is_some() && tools[0].annotations.is_some());
        assert_eq!(tools[0].input_schema["required"], json!(["prompt"]));
        client.cancel().await.expect("closed");
    }
}

#[tokio::test]
async fn call_gives_progress_an_image_and_its_url() {
    let server = TestServer::start().await;
    for era in Era::BOTH {
        let client = connect(&server, era).await;
        let arguments = json!({"prompt": "a lighthouse at dusk", "width": 1024, "height": 768, "seed": 7});
        let result = call(&client, arguments).await;
        assert_ne!(result["isError"], true, "{result}");
        assert_shape(&result);
        let image = &result["structuredContent"];
        assert_eq!((&image["metadata"]["width"], &image["metadata"]["height"]), (&json!(1024), &json!(768)));
        assert_eq!(image["metadata"]["seed"], 7);
        server.client().fetch_whole(image).await;

        let progress = client.service().progress.lock().expect("not poisoned").clone();
        assert!(progress.len() >= 2, "{era:?}: {progress:?}");
        assert!(progress.windows(2).all(|pair| pair[0].progress < pair[1].progress), "{progress:?}");
        assert!(progress.iter().all(|update| update.message.is_some() && update.total == Some(100.0)));
        client.cancel().await.expect("closed");
    }
}

/// A text, a preview, a link and structured content, which agree with each other.
fn assert_shape(result: &Value) {
    let image = &result["structuredContent"];
    let (url, id) = (image["url"].as_str().expect("a URL"), image["image_id"].as_str().expect("an id"));
    assert!(url.ends_with(&format!("/images/{id}.png")), "{url}");
    let [text, preview, link] = result["content"].as_array().expect("content").as_slice() else {
        panic!("three blocks: {result}")
    };
    assert!(text["text"].as_str().expect("a text").contains(url), "{text}");
    assert_eq!(preview["type"], "image");
    let small = STANDARD.decode_to_vec(preview["data"].as_str().expect("base64")).expect("base64");
    assert!(small.len() <= 90_000, "{}", small.len());
    let small = image::load_from_memory(&small).expect("a preview that can be shown");
    assert_eq!(small.width().max(small.height()), 512);
    assert_eq!((link["type"].as_str(), link["uri"].as_str()), (Some("resource_link"), Some(url)));
    assert_eq!(link["size"], image["metadata"]["size_bytes"]);
    let length = result.to_string().chars().count();
    assert!(length < 130_000, "{length}");
}

#[tokio::test]
async fn arguments_not_allowed_are_told_as_an_error_of_the_tool_and_draw_nothing() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = connect(&server, Era::Legacy).await;
    for (arguments, field, value, allowed) in crate::rest::BAD_ARGUMENTS {
        let arguments: Value = serde_json::from_str(arguments).expect("JSON");
        let result = call(&client, arguments.clone()).await;
        assert_eq!(result["isError"], true, "{arguments}");
        assert_eq!(result["structuredContent"], Value::Null);
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains(&format!("`{field}`")), "{arguments}: {text}");
        assert!(text.contains(value) && text.contains(allowed), "{arguments}: {text}");
    }
    let modern = server.client().tool_result(Era::Modern, &json!({"prompt": "", "widht": 1})).await;
    assert_eq!(modern["isError"], true);
    let text = modern["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("`prompt`") && text.contains("`widht`"), "both are named: {text}");
    assert_eq!(fake.counts().started, 0);
    assert_eq!(server.files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn cancel_by_notification_stops_the_call_to_the_predictor() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = connect(&server, Era::Legacy).await;
    let handle = begin(&client, json!({"prompt": "a fox"})).await;
    within(fake.wait_until(|counts| counts.started == 1)).await;
    handle.cancel(Some("enough".to_owned())).await.expect("sent");
    within(fake.wait_until(|counts| counts.abandoned == 1)).await;
    let again = call(&client, json!({"prompt": "another fox"})).await;
    assert_ne!(again["isError"], true, "{again}");
}

#[tokio::test]
async fn cancel_of_the_current_client_stops_the_call_to_the_predictor() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = connect(&server, Era::Modern).await;
    let handle = begin(&client, json!({"prompt": "a fox"})).await;
    within(fake.wait_until(|counts| counts.started == 1)).await;
    handle.cancel(None).await.expect("sent");
    within(fake.wait_until(|counts| counts.abandoned == 1)).await;
}

#[tokio::test]
async fn client_that_closes_its_stream_stops_the_call_to_the_predictor() {
    for era in Era::BOTH {
        let fake = FakePredictor::start([Prediction::hang(), Prediction::hang()]).await;
        let server = TestServer::in_front_of(&fake, &[]).await;
        let arguments = json!({"prompt": "a fox"});

        // Before there is an answer.
        let pending = tokio::spawn(server.client().call(era, &arguments).send());
        within(fake.wait_until(|counts| counts.started == 1)).await;
        pending.abort();
        within(fake.wait_until(|counts| counts.abandoned == 1)).await;

        // In the middle of it.
        let params = json!({"name": "generate_image", "arguments": arguments, "_meta": {"progressToken": 1}});
        let mut response =
            within(server.client().rpc(era, "tools/call", params).send()).await.expect("a head");
        within(response.chunk()).await.expect("read").expect("progress");
        within(fake.wait_until(|counts| counts.started == 2)).await;
        drop(response);
        within(fake.wait_until(|counts| counts.abandoned == 2)).await;
        let client = server.client();
        until(async || client.get("/health").await.json()["generations"]["running"] == 0).await;
    }
}

#[tokio::test]
async fn calls_at_once_each_get_their_own_image() {
    const CALLS: usize = 64;
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = server.client();
    let calls = (0..CALLS).map(|number| own_image(&client, number));
    let images = within(futures_util::future::join_all(calls)).await;
    let mut ids: Vec<_> = images.iter().map(|image| image["image_id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CALLS);
    for image in &images {
        let bytes = client.fetch_whole(image).await;
        let stored = server.files().into_iter().find(|path| path.ends_with(file_name(image)));
        assert!(std::fs::read(stored.expect("a file")).expect("readable") == bytes);
    }
    assert_eq!((fake.counts().started, server.files().len()), (CALLS, 2 * CALLS));
}

/// Every third call over REST, in each era of MCP; the size tells whose picture it is.
async fn own_image(client: &Client, number: usize) -> Value {
    let side = 64 + 8 * number;
    let prompt = format!("picture number {number}");
    let arguments = json!({"prompt": prompt, "width": side, "height": 64, "num_inference_steps": 1});
    let image = match number % 3 {
        0 => client.generate(&arguments).await.json(),
        1 => client.tool_result(Era::Legacy, &arguments).await["structuredContent"].take(),
        _ => client.tool_result(Era::Modern, &arguments).await["structuredContent"].take(),
    };
    assert_eq!(image["metadata"]["prompt"], prompt, "{image}");
    assert_eq!(image["metadata"]["width"], side, "{image}");
    image
}

fn file_name(image: &Value) -> &str {
    image["url"].as_str().expect("a URL").rsplit('/').next().expect("a name")
}

#[tokio::test]
async fn messages_that_are_none_get_json_rpc_errors() {
    let server = TestServer::start_with(&[("MAX_REQUEST_BYTES", "4096")]).await;
    let client = server.client();
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y".repeat(4096)}});
    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 400, -32600),
        ("{}", 400, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600),
        (&large.to_string(), 413, -32600),
    ] {
        let request = client.post("/mcp", body.to_owned()).header("accept", "*/*");
        assert_eq!(Answer::of(request).await.rpc_error(status)["code"], code, "{body}");
    }
    for (name, value, status) in [
        ("content-type", "text/plain", 415),
        ("content-encoding", "gzip", 415),
        ("accept", "application/json", 406),
    ] {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let content_type = if name == "content-type" { value } else { "application/json" };
        let request = client.request("POST", "/mcp").header("content-type", content_type).body(body);
        let request = if name == "content-type" { request } else { request.header(name, value) };
        let request = if name == "accept" { request } else { request.header("accept", "*/*") };
        Answer::of(request).await.rpc_error(status);
    }
    let get = client.get("/mcp").await;
    get.rpc_error(405);
    assert_eq!(get.header("allow"), "POST, OPTIONS");
}

#[tokio::test]
async fn headers_of_the_current_era_must_agree_with_the_body() {
    let server = TestServer::start().await;
    let client = server.client();
    let agreeing = client.rpc(Era::Modern, "tools/list", json!({}));
    assert_eq!(Answer::of(agreeing).await.rpc_result()["resultType"], "complete");
    let mut other = client.rpc(Era::Modern, "tools/list", json!({})).build().expect("a request");
    other.headers_mut().insert("mcp-method", http::HeaderValue::from_static("tools/call"));
    let other = reqwest::RequestBuilder::from_parts(reqwest::Client::new(), other);
    assert_eq!(Answer::of(other).await.rpc_error(400)["code"], -32020);
    let unknown = Answer::of(client.rpc(Era::Modern, "no/such", json!({}))).await;
    assert_eq!(unknown.rpc_error(404)["code"], -32601);
    let unknown = Answer::of(client.rpc(Era::Legacy, "no/such", json!({}))).await;
    assert_eq!(unknown.rpc_error(200)["code"], -32601);
    let tool = json!({"name": "no_such_tool", "arguments": {}});
    assert_eq!(Answer::of(client.rpc(Era::Legacy, "tools/call", tool)).await.rpc_error(200)["code"], -32602);
}
