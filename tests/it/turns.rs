//! What one client does about its own generation is not another's wait.

use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    client::{Answer, Client, Era, until, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    http2,
    server::TestServer,
};

const FOX: &str = r#"{"prompt":"a fox"}"#;
const EVENTS: &str = "text/event-stream";

/// A client of HTTP/2 that asks for events and takes ten bytes of them: less than one.
async fn ask_and_take_nothing(server: &TestServer) -> TcpStream {
    let mut stream = TcpStream::connect(server.authority()).await.expect("connected");
    let request = http2::post_accepting(1, GENERATE_IMAGE, EVENTS, FOX);
    let bytes = [http2::preface_with_window(10), request].concat();
    stream.write_all(&bytes).await.expect("taken");
    stream
}

async fn waiting(client: &Client) -> Value {
    client.get("/health").await.json()["generations"]["waiting"].clone()
}

async fn running(client: &Client) -> Value {
    client.get("/health").await.json()["generations"]["running"].clone()
}

#[tokio::test]
async fn events_that_are_not_taken_do_not_hold_a_place() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[("GENERATION_CONCURRENCY", "1")]).await;
    let _stream = ask_and_take_nothing(&server).await;
    within(fake.wait_until(|counts| counts.answered == 1)).await;
    assert_eq!(within(server.client().generate(&json!({"prompt": "another"}))).await.status, 200);
    // The first gives its place back once it is drawn, and is stored beside the second.
    let stored = async || server.client().get("/images/").await.json()["images"].as_array().map(Vec::len);
    until(async || stored().await == Some(2)).await;
}

#[tokio::test]
async fn events_that_are_not_taken_end_in_time_and_with_their_client() {
    let fake = FakePredictor::start([Prediction::hang(), Prediction::hang()]).await;
    let settings = [("GENERATION_CONCURRENCY", "1"), ("GENERATION_TIMEOUT", "0.5")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let stream = ask_and_take_nothing(&server).await;
    within(fake.wait_until(|counts| counts.abandoned == 1)).await;
    drop(stream);

    let server = TestServer::in_front_of(&fake, &[("GENERATION_CONCURRENCY", "1")]).await;
    let stream = ask_and_take_nothing(&server).await;
    within(fake.wait_until(|counts| counts.started == 2)).await;
    drop(stream);
    within(fake.wait_until(|counts| counts.abandoned == 2)).await;
    let client = server.client();
    until(async || running(&client).await == 0).await;
}

/// MCP and events have sent their head long before: the deadline holds all the same.
#[tokio::test]
async fn generation_over_its_time_is_told_at_every_door() {
    let fake = FakePredictor::start(std::iter::repeat_with(Prediction::hang).take(5)).await;
    // Longer than MCP waits with the head of its answer.
    let server = TestServer::in_front_of(&fake, &[("GENERATION_TIMEOUT", "2")]).await;
    let client = server.client();
    let arguments = json!({"prompt": "a fox"});
    let events = client.post(GENERATE_IMAGE, FOX).header("accept", EVENTS);
    let progress = json!({"name": "generate_image", "arguments": arguments, "_meta": {"progressToken": 1}});
    let (json, events, legacy, modern, told) = within(futures_util::future::join5(
        client.generate(&arguments),
        Answer::of(events),
        client.tool_result(Era::Legacy, &arguments),
        client.tool_result(Era::Modern, &arguments),
        Answer::of(client.rpc(Era::Modern, "tools/call", progress)),
    ))
    .await;
    let words = "there was no image within 2 s; ask for fewer steps or a smaller image, or ask the operator to \
                 raise GENERATION_TIMEOUT";
    let problem = json.problem(504, "timed-out");
    assert_eq!(problem["detail"], words);
    let text = events.text();
    let (_, last) = text.split_once("event: error\ndata: ").expect("an error, though the head said 200");
    assert_eq!(serde_json::from_str::<Value>(last.trim_end()).expect("JSON"), problem);
    for result in [legacy, modern, told.rpc_result()] {
        assert_eq!((&result["isError"], &result["content"][0]["text"]), (&json!(true), &json!(words)));
    }
    within(fake.wait_until(|counts| counts.abandoned == 5)).await;
    assert_eq!(running(&client).await, 0);
}

#[tokio::test]
async fn client_that_fills_the_queue_does_not_keep_others_out() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let settings = [("GENERATION_CONCURRENCY", "1"), ("GENERATION_QUEUE_SIZE", "2")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let ask = |address: &str| {
        let client = Client::from_address(&server.url(""), address);
        tokio::spawn(async move { client.generate(&json!({"prompt": "a fox"})).await })
    };
    let drawing = ask("127.0.0.2");
    within(fake.wait_until(|counts| counts.started == 1)).await;
    let client = server.client();
    let first = ask("127.0.0.2");
    until(async || waiting(&client).await == 1).await;
    let last = ask("127.0.0.2");
    until(async || waiting(&client).await == 2).await;
    within(ask("127.0.0.2")).await.expect("answered").problem(503, "overloaded");

    let other = ask("127.0.0.3");
    let displaced = within(last).await.expect("answered");
    displaced.problem(503, "overloaded");
    assert!(displaced.header("retry-after").parse::<u32>().expect("seconds") > 0);
    drawing.abort();
    assert_eq!(within(other).await.expect("answered").status, 200);
    assert_eq!(within(first).await.expect("answered").status, 200);
}
