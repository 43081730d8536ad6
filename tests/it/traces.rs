//! Traces: one from the caller through this server to the predictor and the store, whoever collects it.

use http::StatusCode;
use mcp_image_server::api::GENERATE_IMAGE;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Era, until},
    collector::{Collector, Seen},
    fake_predictor::{Answer as Prediction, FakePredictor},
    fake_s3::FakeS3,
    process::Process,
    server::TestServer,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const PROMPT: &str = "a zebra that nobody may hear of";

fn arguments() -> Value {
    json!({"prompt": PROMPT, "width": 64, "height": 64})
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<_> = spans.iter().filter(|span| span.name() == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

/// The trace and the span that the predictor was told.
fn told(predictor: &FakePredictor) -> (String, String, String) {
    let request = predictor.requests().into_iter().rfind(|request| request.path.ends_with(":predict"));
    let headers = request.expect("a prediction").headers;
    let parts: Vec<_> =
        headers["traceparent"].to_str().expect("text").split('-').map(str::to_owned).collect();
    (parts[1].clone(), parts[2].clone(), parts[3].clone())
}

async fn traced_server(
    predictor: &FakePredictor,
    collector: &Collector,
    variables: &[(&str, &str)],
) -> TestServer {
    let url = collector.url();
    let own = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=images"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("KSERVE_MODEL_NAME", "sd"),
    ];
    let all: Vec<_> = own.into_iter().chain(variables.iter().copied()).collect();
    TestServer::in_front_of(predictor, &all).await
}

#[tokio::test]
async fn mcp_call_is_one_trace_from_the_caller_to_predictor_and_store() {
    let (predictor, collector) = (FakePredictor::start([]).await, Collector::start().await);
    let server = traced_server(&predictor, &collector, &[]).await;
    let request = server.client().rpc(
        Era::Modern,
        "tools/call",
        json!({"name": "generate_image", "arguments": arguments()}),
    );
    let answer = Answer::of(request.header("traceparent", PARENT).header("x-request-id", "request-1")).await;
    assert_eq!(answer.status, 200);
    assert!(server.stop().await);

    let spans = collector.spans();
    let server = named(&spans, "POST /mcp");
    let tool = named(&spans, "execute_tool generate_image");
    let predict = named(&spans, "generate_content sd");
    let save = named(&spans, "store save");
    assert_eq!(spans.len(), 4, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id() == TRACE && !span.has_failed()), "{spans:#?}");
    assert_eq!(server.parent_id(), "b7ad6b7169203331");
    assert_eq!(tool.parent_id(), server.span_id());
    assert_eq!((predict.parent_id(), save.parent_id()), (tool.span_id(), tool.span_id()));
    assert_eq!(
        [server, tool, predict, save].map(Seen::kind),
        [SpanKind::Server, SpanKind::Internal, SpanKind::Client, SpanKind::Internal]
    );
    assert!(tool.is_within(server) && predict.is_within(tool) && save.is_within(tool));
    assert_eq!(told(&predictor), (TRACE.to_owned(), predict.span_id(), "01".to_owned()));

    for (span, name, value) in [
        (server, "http.request.method", "POST"),
        (server, "http.route", "/mcp"),
        (server, "http.response.status_code", "200"),
        (server, "client.address", "127.0.0.1"),
        (server, "request_id", "request-1"),
        (tool, "gen_ai.tool.name", "generate_image"),
        (tool, "mcp_image.outcome", "ok"),
        (predict, "gen_ai.request.model", "sd"),
        (predict, "server.address", "127.0.0.1"),
        (save, "mcp_image.storage.backend", "file"),
    ] {
        assert_eq!(span.text(name), value, "{name}");
    }
    assert!(!format!("{spans:?}").contains("zebra"));
    assert_eq!(collector.resource("service.name"), "mcp-image-server");
    assert_eq!(collector.resource("deployment.environment.name"), "test");
    let (path, headers) = collector.head();
    assert_eq!(path, "/v1/traces");
    assert_eq!(
        (&headers["x-tenant"], &headers["content-type"]),
        (&"images".parse().unwrap(), &"application/x-protobuf".parse().unwrap())
    );
    assert!(!headers.contains_key("traceparent"), "exports are no part of a trace");
}

#[tokio::test]
async fn trace_without_a_caller_has_a_root_and_bears_the_id_of_the_log() {
    let fails = Prediction::error(500, "a crash");
    let (predictor, collector) = (FakePredictor::start([fails]).await, Collector::start().await);
    let (url, endpoint) = (predictor.url(), collector.url());
    let settings = [
        ("KSERVE_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*format!("{endpoint}/in")),
        ("OTEL_SERVICE_NAME", "painter"),
    ];
    let mut server = Process::start(&settings).await;
    let client = server.client();
    assert_eq!(client.generate(&arguments()).await.status, 502);
    // No probe is a trace.
    for path in ["/health/live", "/health", "/metrics"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    server.signal("INT");
    assert_eq!(server.exit_code().await, Some(0));

    let spans = collector.spans();
    let root = named(&spans, "POST /mcp/v1/tools/generate_image");
    let predict = named(&spans, "generate_content stable-diffusion");
    assert_eq!((root.parent_id(), spans.len()), (String::new(), 3), "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id() == root.trace_id() && span.has_failed()));
    assert_eq!(
        (root.text("error.type"), predict.text("error.type")),
        ("502".to_owned(), "failed".to_owned())
    );
    assert_eq!(told(&predictor), (root.trace_id(), predict.span_id(), "01".to_owned()));
    let log = server.log();
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ended: Vec<_> = lines.iter().filter(|line| line["message"] == "request ended").collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["trace_id"], root.trace_id());
    assert_eq!(collector.resource("service.name"), "painter");
    assert_eq!(collector.head().0, "/in");
}

#[tokio::test]
async fn caller_that_does_not_sample_is_followed_and_the_trace_goes_on_all_the_same() {
    let (predictor, collector) = (FakePredictor::start([]).await, Collector::start().await);
    let server = traced_server(&predictor, &collector, &[]).await;
    let unsampled = PARENT.replace("-01", "-00");
    let request = server.client().post(GENERATE_IMAGE, arguments().to_string());
    assert_eq!(Answer::of(request.header("traceparent", unsampled)).await.status, 200);
    assert!(server.stop().await);
    assert_eq!(collector.exports(), 0);
    assert_eq!(told(&predictor), (TRACE.to_owned(), "b7ad6b7169203331".to_owned(), "00".to_owned()));
}

#[tokio::test]
async fn without_a_collector_the_predictor_is_told_the_callers_span() {
    let predictor = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&predictor, &[]).await;
    let ask = async |headers: &[(&str, &str)]| {
        let request = server.client().post(GENERATE_IMAGE, arguments().to_string());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        assert_eq!(Answer::of(request).await.status, 200);
    };
    ask(&[("traceparent", PARENT), ("tracestate", "vendor=1")]).await;
    // Nothing here is recorded, so what comes after hangs on a span that exists.
    assert_eq!(told(&predictor), (TRACE.to_owned(), "b7ad6b7169203331".to_owned(), "01".to_owned()));
    assert_eq!(predictor.requests().last().expect("a request").headers["tracestate"], "vendor=1");
    ask(&[]).await;
    let (trace, _, flags) = told(&predictor);
    assert!(trace != TRACE && flags == "00", "{trace} {flags}");
    for era in Era::BOTH {
        let params = json!({"name": "generate_image", "arguments": arguments()});
        let request = server.client().rpc(era, "tools/call", params).header("traceparent", PARENT);
        assert_eq!(Answer::of(request).await.status, 200);
        assert_eq!(told(&predictor).0, TRACE, "{era:?}");
    }
}

#[tokio::test]
async fn bucket_is_told_the_trace_of_saves_and_reads() {
    let (predictor, collector, bucket) =
        (FakePredictor::start([]).await, Collector::start().await, FakeS3::start().await);
    let bucket_url = format!("http://{}", bucket.addr);
    let variables = [
        ("STORAGE_BACKEND", "s3"),
        ("S3_BUCKET", "images"),
        ("S3_ENDPOINT_URL", bucket_url.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("IMAGE_CACHE_BYTES", "0"),
    ];
    let server = traced_server(&predictor, &collector, &variables).await;
    let client = server.client();
    let before = bucket.traceparents();
    assert!(before.iter().all(Option::is_none), "what goes on in the background is no trace: {before:?}");
    let drawn =
        Answer::of(client.post(GENERATE_IMAGE, arguments().to_string()).header("traceparent", PARENT)).await;
    let url = drawn.json()["url"].as_str().expect("a URL").to_owned();
    assert_eq!(client.get(&url).await.status, 200);
    assert!(server.stop().await);

    let spans = collector.spans();
    let (save, open) = (named(&spans, "store save"), named(&spans, "store open"));
    let read = named(&spans, "GET /images/{id}");
    assert_eq!((save.kind(), open.kind()), (SpanKind::Client, SpanKind::Client));
    assert_eq!((save.trace_id(), open.parent_id()), (TRACE.to_owned(), read.span_id()));
    assert_ne!(read.trace_id(), TRACE);
    let of = |span: &Seen| {
        let expected = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        bucket.traceparents().into_iter().flatten().filter(|told| *told == expected).count()
    };
    assert_eq!(of(save), 2, "metadata and image: {:?}", bucket.traceparents());
    assert!(of(open) > 0, "{:?}", bucket.traceparents());
    let log = format!("{spans:?}");
    assert!(!log.contains("hunter2") && !log.contains(url.rsplit('/').next().expect("a name")));
}

#[tokio::test]
async fn collector_that_is_away_costs_its_spans_and_one_warning() {
    let (predictor, collector) = (FakePredictor::start([]).await, Collector::start().await);
    let (url, endpoint) = (predictor.url(), collector.url());
    drop(collector);
    let settings = [("KSERVE_ENDPOINT", url.as_str()), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let server = Process::start(&settings).await;
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.generate(&arguments()).await.status, 200);
    }
    server.signal("INT");
    let (_, log) = server.ended().await;
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let warnings: Vec<_> =
        lines.iter().filter(|line| line["message"] == "traces cannot be exported").collect();
    assert_eq!(warnings.len(), 1, "{log:#?}");
    assert_eq!(warnings[0]["level"], "WARN");
    // All of them, unless the machine is so slow that some were lost before.
    assert!(warnings[0]["lost_spans"].as_u64().is_some_and(|lost| (1..=12).contains(&lost)), "{warnings:?}");
}

#[tokio::test]
async fn export_that_is_put_off_is_tried_again_and_counted() {
    let (predictor, collector) = (FakePredictor::start([]).await, Collector::start().await);
    collector.answer(StatusCode::SERVICE_UNAVAILABLE);
    let (url, endpoint) = (predictor.url(), collector.url());
    let settings = [("KSERVE_ENDPOINT", url.as_str()), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let server = Process::start(&settings).await;
    let client = server.client();
    assert_eq!(client.generate(&arguments()).await.status, 200);
    until(async || collector.spans().len() == 4).await;
    assert!(collector.exports() >= 2);
    let exported = async |client: &Client| {
        let text = client.get("/metrics").await.text();
        text.lines().any(|line| line == "mcp_image_trace_spans_total{outcome=\"exported\"} 4")
    };
    until(async || exported(&client).await).await;
}

#[tokio::test]
async fn collector_that_hangs_holds_the_end_no_longer_than_the_grace() {
    let predictor = FakePredictor::start([]).await;
    // It takes connections and never answers.
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (url, endpoint) =
        (predictor.url(), format!("http://{}", collector.local_addr().expect("an address")));
    let settings = [
        ("KSERVE_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ("SHUTDOWN_GRACE", "1"),
    ];
    let server = Process::start(&settings).await;
    assert_eq!(server.client().generate(&arguments()).await.status, 200);
    server.signal("TERM");
    let (_, log) = server.ended().await;
    assert!(log.iter().any(|line| line.contains("no time was left to export all traces")), "{log:#?}");
}

#[tokio::test]
async fn sampler_that_is_off_exports_nothing() {
    let (predictor, collector) = (FakePredictor::start([]).await, Collector::start().await);
    let server = traced_server(&predictor, &collector, &[("OTEL_TRACES_SAMPLER", "always_off")]).await;
    let request = server.client().post(GENERATE_IMAGE, arguments().to_string());
    assert_eq!(Answer::of(request.header("traceparent", PARENT)).await.status, 200);
    assert!(server.stop().await);
    assert_eq!(collector.exports(), 0);
    assert_eq!(told(&predictor).2, "00");
}
