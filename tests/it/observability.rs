//! What operators see: metrics, logs and health.

use std::collections::{BTreeMap, BTreeSet};

use mcp_image_server::{
    api::GENERATE_IMAGE,
    metrics::{Kind, METRICS},
};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Era, send_raw, until},
    fake_predictor::{Answer as Prediction, FakePredictor},
    process::Process,
    server::TestServer,
};

/// What a client can send, and metrics must not repeat.
const MARK: &str = "zebra";
const TOKEN: &str = "token-that-nobody-may-see";

/// A scrape, read.
#[derive(Debug, Default)]
struct Scrape {
    /// Families with a help text, and families with a type.
    help: BTreeSet<String>,
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    async fn of(client: &Client) -> Self {
        let answer = client.get("/metrics").await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let mut scrape = Self::default();
        for line in answer.text().lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').expect("a help text");
                assert!(!text.is_empty());
                scrape.help.insert(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                scrape.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                scrape.samples.push(Sample::of(line));
            }
        }
        scrape
    }

    /// The family that a sample is of.
    fn family(&self, sample: &Sample) -> String {
        let stems = ["_bucket", "_sum", "_count"].iter().filter_map(|end| sample.name.strip_suffix(end));
        let histogram =
            |stem: &&str| matches!(self.kinds.get(*stem).map(String::as_str), Some("histogram" | "summary"));
        stems.into_iter().find(histogram).unwrap_or(&sample.name).to_owned()
    }

    fn families(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| self.family(sample)).collect()
    }

    /// The sum of the samples of this name.
    fn total(&self, name: &str) -> f64 {
        self.samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    }

    /// The sum of the samples of this name with such a label.
    fn sum(&self, name: &str, label: (&str, &str)) -> f64 {
        let has = |sample: &&Sample| sample.labels.iter().any(|(n, v)| (n.as_str(), v.as_str()) == label);
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples.filter(has).map(|sample| sample.value).sum()
    }
}

impl Sample {
    fn of(line: &str) -> Self {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.strip_suffix('}').expect("labels end");
        let labels = labels.split_terminator("\",").map(|label| {
            let (name, value) = label.split_once("=\"").expect("a label");
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self { name: name.to_owned(), labels: labels.collect(), value: value.parse().expect("a number") }
    }
}

/// Sends all kinds of requests, with words of the client's own in each place.
async fn send_odd_requests(client: &Client, authority: &str) {
    for method in [MARK, "GET", "TRACE"] {
        for path in [format!("/{MARK}"), format!("/images/{MARK}"), format!("/health/{MARK}")] {
            let path = format!("{path}?{MARK}={MARK}");
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {MARK}\r\n\
                 User-Agent: {MARK}\r\nConnection: close\r\n\r\n"
            );
            send_raw(authority, request.as_bytes()).await;
        }
    }
    let tool = json!({"name": MARK, "arguments": {MARK: MARK}});
    let prompt = json!({"prompt": "x", MARK: MARK});
    for era in Era::BOTH {
        Answer::of(client.rpc(era, MARK, json!({}))).await;
        Answer::of(client.rpc(era, "tools/call", tool.clone())).await;
        assert_eq!(client.tool_result(era, &prompt).await["isError"], true);
    }
    Answer::of(client.post("/mcp", MARK)).await.rpc_error(400);
    Answer::of(client.request("POST", GENERATE_IMAGE).header("content-type", MARK)).await;
    Answer::of(client.request("POST", GENERATE_IMAGE).header("origin", format!("http://{MARK}"))).await;
    client.generate(&prompt).await;
}

#[tokio::test]
async fn every_metric_is_described_counts_and_has_labels_from_fixed_sets() {
    let busy = Prediction::text(429, "").header("retry-after", "0");
    let fake = FakePredictor::start([busy]).await;
    let settings = [
        ("KSERVE_ENDPOINT", fake.url()),
        ("IMAGE_CLEANUP_INTERVAL", "1".to_owned()),
        ("KSERVE_MODEL_NAME", "sd".to_owned()),
    ];
    let server = Process::start(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let client = server.client();
    let arguments = json!({"prompt": MARK, "width": 64, "height": 64});
    let result = client.tool_result(Era::Modern, &arguments).await;
    client.fetch_whole(&result["structuredContent"]).await;
    let variant = format!("{}?w=64", result["structuredContent"]["url"].as_str().expect("a URL"));
    assert_eq!(client.get(&variant).await.status, 200);
    send_odd_requests(&client, server.authority()).await;

    // The cleaner comes by within its interval.
    let runs = async || Scrape::of(&client).await.sum("mcp_image_cleaner_runs_total", ("outcome", "ok"));
    until(async || runs().await > 0.0).await;
    let scrape = Scrape::of(&client).await;
    let families = scrape.families();
    for family in &families {
        assert!(scrape.help.contains(family), "{family} has no help text");
        assert!(scrape.kinds.contains_key(family), "{family} has no type");
    }
    // Nothing expires and nothing fails here.
    let rare = [
        "mcp_image_cleaner_removed_images_total",
        "mcp_image_cleaner_removed_bytes_total",
        "mcp_image_cleaner_removed_records_total",
        "mcp_image_cleaner_evicted_images_total",
        "mcp_image_cleaner_evicted_bytes_total",
        "mcp_image_cleaner_failed_images_total",
        "mcp_image_cleaner_swept_total",
    ];
    // Counted with a bucket, a purge webhook or a collector alone: their own tests see them.
    let elsewhere = ["mcp_image_s3_", "mcp_image_fallback_", "mcp_image_purge", "mcp_image_trace_"];
    for metric in METRICS.iter().filter(|metric| !elsewhere.iter().any(|part| metric.name.starts_with(part)))
    {
        assert!(families.contains(metric.name), "{} has no sample", metric.name);
        assert!(
            metric.kind != Kind::Counter || rare.contains(&metric.name) || scrape.total(metric.name) > 0.0,
            "{} counts nothing",
            metric.name
        );
    }
    for name in [
        "http_server_requests_total",
        "http_server_request_duration_seconds",
        "process_resident_memory_bytes",
    ] {
        assert!(families.contains(name), "{name} has no sample");
    }

    let labels: BTreeSet<_> =
        scrape.samples.iter().flat_map(|sample| &sample.labels).map(|(name, _)| name.as_str()).collect();
    let fixed = [
        "backend",
        "commit",
        "format",
        "kind",
        "le",
        "limiter",
        "method",
        "model",
        "operation",
        "outcome",
        "part",
        "protocol",
        "reason",
        "route",
        "status",
        "tool",
        "version",
    ];
    assert!(labels.is_subset(&fixed.into()), "{labels:?}");
    for sample in &scrape.samples {
        assert!(sample.labels.iter().all(|(_, value)| !value.contains(MARK)), "{sample:?}");
    }
    let methods = ["GET", "POST", "OTHER", "TRACE"];
    let http = scrape.samples.iter().filter(|sample| sample.name == "http_server_requests_total");
    for (name, value) in http.flat_map(|sample| &sample.labels) {
        assert!(name != "method" || methods.contains(&value.as_str()), "{value}");
    }
    assert!(scrape.sum("http_server_requests_total", ("method", "OTHER")) >= 3.0);
    assert_eq!(scrape.sum("mcp_image_generations_total", ("outcome", "ok")), 1.0);
    assert_eq!(scrape.sum("mcp_image_predictor_retries_total", ("reason", "busy")), 1.0);
    assert_eq!(scrape.sum("mcp_image_tool_calls_total", ("tool", "unknown")), 2.0);
}

#[tokio::test]
async fn counters_are_there_before_their_first_event() {
    let fake = FakePredictor::start([Prediction::error(500, "a crash")]).await;
    let endpoint = fake.url();
    let settings = [
        ("KSERVE_ENDPOINT", endpoint.as_str()),
        ("KSERVE_MODEL_NAME", "sd"),
        ("GENERATION_CONCURRENCY", "1"),
        ("GENERATION_QUEUE_SIZE", "0"),
    ];
    let server = Process::start(&settings).await;
    let client = server.client();
    let before = Scrape::of(&client).await;
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Counter) {
        let elsewhere = ["mcp_image_s3_", "mcp_image_fallback_", "mcp_image_purge", "mcp_image_trace_"];
        let is_here = !elsewhere.iter().any(|part| metric.name.starts_with(part));
        assert!(!is_here || before.families().contains(metric.name), "{} has no sample", metric.name);
    }
    let zero = |name: &str, labels: &[(&str, &str)]| {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(n, v)| sample.labels.iter().any(|(name, value)| name == n && value == v))
        };
        before.samples.iter().find(has).map(|sample| sample.value)
    };
    for (name, labels) in [
        ("http_server_panics_total", &[][..]),
        ("http_server_requests_total", &[("route", "images"), ("status", "503")]),
        ("mcp_image_generations_total", &[("outcome", "failed"), ("model", "sd")]),
        ("mcp_image_predictor_requests_total", &[("outcome", "failed")]),
        ("mcp_image_storage_operations_total", &[("operation", "save"), ("outcome", "full")]),
    ] {
        assert_eq!(zero(name, labels), Some(0.0), "{name} {labels:?}");
    }
    assert_eq!(client.generate(&json!({"prompt": "x"})).await.status, 502);
    let after = Scrape::of(&client).await;
    // The same series, not another beside it.
    let series =
        |scrape: &Scrape, name: &str| scrape.samples.iter().filter(|sample| sample.name == name).count();
    for name in ["mcp_image_generations_total", "mcp_image_predictor_requests_total"] {
        assert_eq!(series(&before, name), series(&after, name), "{name}");
        assert_eq!(after.sum(name, ("outcome", "failed")), 1.0, "{name}");
    }
}

#[tokio::test]
async fn generation_that_is_refused_at_once_is_no_wait() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let endpoint = fake.url();
    let settings = [
        ("KSERVE_ENDPOINT", endpoint.as_str()),
        ("GENERATION_CONCURRENCY", "1"),
        ("GENERATION_QUEUE_SIZE", "0"),
    ];
    let server = Process::start(&settings).await;
    let client = server.client();
    let drawing = tokio::spawn({
        let client = server.client();
        async move { client.generate(&json!({"prompt": "x"})).await }
    });
    until(async || fake.counts().started == 1).await;
    assert_eq!(client.generate(&json!({"prompt": "x"})).await.status, 503);
    let scrape = Scrape::of(&client).await;
    assert_eq!(scrape.total("mcp_image_generation_queue_wait_seconds_count"), 1.0);
    drawing.abort();
}

#[tokio::test]
async fn metrics_on_a_port_of_their_own_are_there_alone() {
    let server = Process::start(&[("METRICS_PORT", "0")]).await;
    let client = server.client();
    client.get("/metrics").await.problem(404, "not-found");
    let line = || server.output().into_iter().find(|line| line.trim().starts_with("Metrics"));
    until(async || line().is_some()).await;
    let line = line().expect("found");
    let port = line.split("localhost:").nth(1).expect("a port").trim_end_matches("/metrics");
    let operations = Client::new(&format!("http://127.0.0.1:{port}"));
    for path in ["/metrics", "/health", "/health/live", "/health/ready"] {
        assert_eq!(operations.get(path).await.status, 200, "{path}");
    }
    for path in ["/images/", "/mcp", GENERATE_IMAGE] {
        operations.get(path).await.problem(404, "not-found");
    }
}

/// Text that would break a log: lines, quotes, an escape sequence, control characters, a line that
/// looks like one of ours.
const NASTY: &str = "one\ntwo\r\n\t\"quoted\" \\ \u{1b}[31mred\u{1b}[0m \u{7}\u{8}\u{7f}\u{85}\u{2028}\u{202e} \
                     {\"level\":\"ERROR\"}\n{\"level\":\"ERROR\",\"message\":\"forged\"}";

#[tokio::test]
async fn log_is_one_json_object_a_line_whatever_comes_in_and_holds_no_secret() {
    let fails = Prediction::error(500, &format!("a crash: {NASTY}"));
    let fake = FakePredictor::start([Prediction::drawn(), fails]).await;
    let settings =
        [("KSERVE_ENDPOINT", &*fake.url()), ("KSERVE_BEARER_TOKEN", TOKEN), ("LOG_LEVEL", "DEBUG")];
    let server = Process::start(&settings).await;
    let client = server.client();
    let arguments = json!({"prompt": NASTY, "width": 64, "height": 64, "seed": 7}).to_string();
    let traced = |id: &str| {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        client
            .post(GENERATE_IMAGE, arguments.clone())
            .header("x-request-id", id)
            .header("traceparent", parent)
    };
    let drawn = Answer::of(traced("request-17")).await;
    assert_eq!((drawn.status, drawn.header("x-request-id")), (200, "request-17"));
    let failed = Answer::of(traced("request-18")).await;
    assert_eq!((failed.status, failed.header("x-request-id")), (502, "request-18"));
    let refused = client.generate(&json!({"prompt": 1, NASTY: NASTY})).await;
    assert_eq!(refused.status, 422);
    assert_eq!(client.tool_result(Era::Legacy, &json!({"prompt": "", NASTY: NASTY})).await["isError"], true);
    Answer::of(client.rpc(Era::Legacy, NASTY, json!({}))).await.rpc_error(200);
    let reports = [client.get("/health").await, client.get("/metrics").await];

    assert_eq!(
        fake.requests().last().expect("a request").headers["authorization"],
        format!("Bearer {TOKEN}")
    );
    server.signal("INT");
    let (out, log) = server.ended().await;
    let answers = [drawn.clone(), failed, refused].into_iter().chain(reports).map(|answer| answer.text());
    for text in answers.chain(out).chain(log.clone()) {
        assert!(!text.contains(TOKEN), "{text}");
    }
    let lines: Vec<_> = log.iter().map(|line| event(line)).collect();
    assert!(lines.iter().all(|line| line["message"] != "forged"));
    let of_request = |id: &str| lines.iter().filter(|line| line["request_id"] == id).collect::<Vec<_>>();
    let image_id = &drawn.json()["image_id"];
    for (id, message, status) in
        [("request-17", "image generated", 200), ("request-18", "no image generated", 502)]
    {
        let lines = of_request(id);
        let generation = lines.iter().find(|line| line["message"] == message).expect("the generation's line");
        assert_eq!(generation["image_id"] == *image_id, status == 200);
        let end = lines.iter().find(|line| line["message"] == "request ended").expect("the request's line");
        assert_eq!(end["status"], status);
        assert!(
            lines.iter().all(|line| line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"),
            "{lines:#?}"
        );
    }
}

/// A line of the log, which is one event.
fn event(line: &str) -> Value {
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for name in ["timestamp", "level", "service", "target", "message"] {
        assert!(event[name].is_string(), "{name}: {line}");
    }
    event
}

#[tokio::test]
async fn health_tells_the_predictor_and_the_storage() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = server.client();
    let state = async |name: &str| client.get("/health").await.json()[name]["state"].clone();
    until(async || state("predictor").await["status"] == "ready").await;
    until(async || state("storage").await == "ready").await;
    let health = client.get("/health").await.json();
    assert_eq!((&health["status"], &health["version"]), (&json!("ok"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(health["predictor"]["protocol"], "kserve-v1");
    assert_eq!(health["storage"]["backend"], "file");
    assert_eq!(health["generations"], json!({"running": 0, "waiting": 0}));
    let post = Answer::of(client.request("POST", "/health")).await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn predictor_that_is_gone_degrades_health_but_leaves_the_server_ready() {
    let fake = FakePredictor::start([]).await;
    let url = fake.url();
    drop(fake);
    let server = TestServer::start_with(&[("KSERVE_ENDPOINT", &url)]).await;
    let client = server.client();
    until(async || client.get("/health").await.json()["status"] == "degraded").await;
    assert_eq!(client.get("/health").await.json()["predictor"]["state"]["status"], "unavailable");
    assert_eq!(client.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn embedded_predictor_is_said_to_be_no_model() {
    let server = TestServer::start().await;
    let health = server.client().get("/health").await.json();
    assert!(health["predictor"]["note"].as_str().expect("a note").contains("not a model"), "{health}");
}
