//! REST: success, bad input, and predictors that fail.

use std::time::{Duration, Instant};

use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, send_raw, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    server::TestServer,
};

/// Arguments that are not allowed, the field that an error names, how it shows the value, and what
/// it says is allowed.
pub(crate) const BAD_ARGUMENTS: &[(&str, &str, &str, &str)] = &[
    (r#"{}"#, "prompt", "missing", "1 to 10000"),
    (r#"{"prompt":null}"#, "prompt", "missing", "1 to 10000"),
    (r#"{"prompt":""}"#, "prompt", "\"\"", "1 to 10000"),
    (r#"{"prompt":" \t\n"}"#, "prompt", "\\t\\n", "not blank"),
    (r#"{"prompt":"a\u0000b"}"#, "prompt", "\\u0000", "without NUL"),
    (r#"{"prompt":7}"#, "prompt", "7", "1 to 10000"),
    (r#"{"prompt":["a fox"]}"#, "prompt", "a fox", "1 to 10000"),
    (r#"{"prompt":"x","negative_prompt":"\u0000"}"#, "negative_prompt", "\\u0000", "without NUL"),
    (r#"{"prompt":"x","width":"512"}"#, "width", "\"512\"", "64 to 2048"),
    (r#"{"prompt":"x","width":511}"#, "width", "511", "multiple of 8"),
    (r#"{"prompt":"x","width":56}"#, "width", "56", "64 to 2048"),
    (r#"{"prompt":"x","width":2056}"#, "width", "2056", "64 to 2048"),
    (r#"{"prompt":"x","width":-512}"#, "width", "-512", "64 to 2048"),
    (r#"{"prompt":"x","width":1e300}"#, "width", "1e+300", "64 to 2048"),
    (r#"{"prompt":"x","height":512.5}"#, "height", "512.5", "64 to 2048"),
    (r#"{"prompt":"x","height":true}"#, "height", "true", "64 to 2048"),
    (r#"{"prompt":"x","num_inference_steps":0}"#, "num_inference_steps", "0", "1 to 200"),
    (r#"{"prompt":"x","num_inference_steps":201}"#, "num_inference_steps", "201", "1 to 200"),
    (r#"{"prompt":"x","guidance_scale":0.9}"#, "guidance_scale", "0.9", "1.0 to 20.0"),
    (r#"{"prompt":"x","guidance_scale":20.1}"#, "guidance_scale", "20.1", "1.0 to 20.0"),
    (r#"{"prompt":"x","guidance_scale":"7"}"#, "guidance_scale", "\"7\"", "1.0 to 20.0"),
    (r#"{"prompt":"x","seed":-1}"#, "seed", "-1", "0 to 4294967295"),
    (r#"{"prompt":"x","seed":4294967296}"#, "seed", "4294967296", "0 to 4294967295"),
    (r#"{"prompt":"x","widht":512}"#, "widht", "512", "width"),
    (r#"{"prompt":"x","Width":512}"#, "Width", "512", "width"),
    (r#"{"prompt":"x","n":4}"#, "n", "4", "prompt"),
];

#[tokio::test]
async fn generation_answers_url_id_and_metadata() {
    let server = TestServer::start().await;
    let client = server.client();
    let arguments = json!({"prompt": "a fox in the snow", "width": 256, "height": 192, "seed": 11,
        "negative_prompt": "blur", "num_inference_steps": 3, "guidance_scale": 2.5});
    let answer = client.generate(&arguments).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    let image = answer.json();
    let metadata = &image["metadata"];
    for (name, value) in arguments.as_object().expect("an object") {
        assert_eq!(&metadata[name], value, "{name}");
    }
    assert_eq!(metadata["image_id"], image["image_id"]);
    assert_eq!(
        (metadata["predictor"].as_str(), metadata["format"].as_str()),
        (Some("embedded"), Some("png"))
    );
    let bytes = client.fetch_whole(&image).await;
    let picture = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (256, 192));

    let again = client.generate(&arguments).await.json();
    assert_ne!(again["image_id"], image["image_id"]);
    assert_eq!(again["metadata"]["blake3"], metadata["blake3"], "the same seed draws the same");
}

#[tokio::test]
async fn generation_as_events_tells_progress_then_the_result() {
    let server = TestServer::start().await;
    let body = json!({"prompt": "a fox", "width": 512, "height": 512}).to_string();
    let client = server.client();
    let answer = Answer::of(client.post(GENERATE_IMAGE, body).header("accept", "text/event-stream")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    let text = answer.text();
    let events: Vec<_> = text.split("\n\n").filter(|event| event.starts_with("event:")).collect();
    let (result, progress) = events.split_last().expect("events");
    assert!(!progress.is_empty() && progress.iter().all(|event| event.starts_with("event: progress\n")));
    let image = result.strip_prefix("event: result\ndata: ").expect("the result comes last");
    client.fetch_whole(&serde_json::from_str(image).expect("JSON")).await;
}

#[tokio::test]
async fn generation_is_answered_as_the_client_likes_it_best() {
    let server = TestServer::start().await;
    let client = server.client();
    let body = json!({"prompt": "a fox", "width": 64, "height": 64, "num_inference_steps": 1}).to_string();
    for (accept, kind) in [
        ("application/json, text/event-stream;q=0", "application/json"),
        ("application/json, text/event-stream;q=0.5", "application/json"),
        ("application/json;q=0.5, text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
    ] {
        let answer = Answer::of(client.post(GENERATE_IMAGE, body.clone()).header("accept", accept)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{accept}");
    }
}

#[tokio::test]
async fn arguments_not_allowed_are_422_and_draw_nothing() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = server.client();
    for (arguments, field, value, allowed) in BAD_ARGUMENTS {
        let answer = Answer::of(client.post(GENERATE_IMAGE, *arguments)).await;
        let problem = answer.problem(422, "invalid-arguments");
        let [error] = problem["errors"].as_array().expect("errors").as_slice() else {
            panic!("one error: {problem}")
        };
        assert_eq!(error["field"], *field, "{problem}");
        match error["value"].as_str() {
            Some(shown) => assert!(shown.contains(value), "{problem}"),
            None => assert_eq!(*value, "missing", "{problem}"),
        }
        assert!(error["allowed"].as_str().expect("words").contains(allowed), "{problem}");
    }
    let several = Answer::of(client.post(GENERATE_IMAGE, r#"{"width":1,"height":2,"x":3}"#)).await;
    let problem = several.problem(422, "invalid-arguments");
    let fields: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|e| &e["field"]).collect();
    assert_eq!(fields, ["x", "prompt", "width", "height"]);
    assert_eq!((fake.counts().started, server.files().len()), (0, 0));
}

#[tokio::test]
async fn longest_prompt_is_taken_and_one_character_more_is_not() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = server.client();
    let longest = "\u{1f98a}".repeat(10_000);
    assert_eq!(client.generate(&json!({"prompt": longest})).await.status, 200);
    assert_eq!(fake.requests().last().expect("a request").instance()["prompt"], longest);
    client.generate(&json!({"prompt": format!("{longest}x")})).await.problem(422, "invalid-arguments");
    assert_eq!(fake.counts().started, 1);
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = server.client();
    for body in
        ["", "{", "{\"prompt\":\"a\"", "{\"prompt\":\"a\"} x", "[\"a\"]", "\"a\"", "null", "\u{feff}{}"]
    {
        Answer::of(client.post(GENERATE_IMAGE, body)).await.problem(400, "bad-request");
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data", ""]
    {
        let request = client.request("POST", GENERATE_IMAGE).header("content-type", kind);
        Answer::of(request.body(r#"{"prompt":"a fox"}"#)).await.problem(415, "bad-request");
    }
    for encoding in ["gzip", "br", "identity, gzip"] {
        let request =
            client.post(GENERATE_IMAGE, r#"{"prompt":"a fox"}"#).header("content-encoding", encoding);
        Answer::of(request).await.problem(415, "bad-request");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "BREW"] {
        let answer = Answer::of(client.request(method, GENERATE_IMAGE)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST, OPTIONS"), "{method}");
    }
    assert_eq!(fake.counts().started, 0);
}

#[tokio::test]
async fn body_over_the_limit_is_413_by_length_and_by_chunks() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[("MAX_REQUEST_BYTES", "2048")]).await;
    let client = server.client();
    let body = json!({"prompt": "x".repeat(4096)}).to_string();
    for path in [GENERATE_IMAGE, "/mcp"] {
        let request = client.post(path, body.clone()).header("accept", "*/*");
        Answer::of(request).await.assert_refused(path, 413, "body-too-large");
        let chunks = body.as_bytes().chunks(512).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()));
        let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks.collect::<Vec<_>>()));
        let request = client.post(path, chunked).header("accept", "*/*");
        Answer::of(request).await.assert_refused(path, 413, "body-too-large");
        // Refused by its head alone, before a byte of the body.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: */*\r\nContent-Length: 99999999999\r\n\r\n"
        );
        let answer = send_raw(server.authority(), head.as_bytes()).await.answer();
        answer.assert_refused(path, 413, "body-too-large");
        assert_eq!(answer.header("connection"), "close");
    }
    assert_eq!(fake.counts().started, 0);
}

#[tokio::test]
async fn bad_framing_is_refused() {
    let fake = FakePredictor::start([]).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let body = r#"{"prompt":"a fox"}"#;
    let framings = [
        (
            "length beside chunks, body by length",
            "Transfer-Encoding: chunked\r\nContent-Length: 18",
            body.to_owned(),
        ),
        ("lengths that differ", "Content-Length: 18\r\nContent-Length: 19", format!("{body}x")),
        ("length that is no number", "Content-Length: 18x", body.to_owned()),
        ("negative length", "Content-Length: -18", body.to_owned()),
        ("length with a sign", "Content-Length: +18", body.to_owned()),
        ("bad chunk size", "Transfer-Encoding: chunked", format!("zz\r\n{body}\r\n0\r\n\r\n")),
        (
            "huge chunk size",
            "Transfer-Encoding: chunked",
            format!("fffffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        ),
        ("chunk without its end", "Transfer-Encoding: chunked", format!("12\r\n{body}0\r\n\r\n")),
        ("unknown coding", "Transfer-Encoding: gzip", body.to_owned()),
        ("chunked not last", "Transfer-Encoding: chunked, gzip", format!("12\r\n{body}\r\n0\r\n\r\n")),
    ];
    for (what, headers, body) in framings {
        for path in [GENERATE_IMAGE, "/mcp"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Accept: */*\r\nConnection: close\r\n{headers}\r\n\r\n"
            );
            let raw = send_raw(server.authority(), format!("{head}{body}").as_bytes()).await;
            let statuses = raw.statuses();
            assert!(matches!(statuses[..], [400..=499]), "{what} at {path}: {}", raw.text());
        }
    }
    assert_eq!(fake.counts().started, 0);
}

/// A length beside chunks counts for nothing, and nothing behind the body is taken for a request
/// (RFC 9112, section 6.1): nothing can be smuggled past a proxy that reads it otherwise.
#[tokio::test]
async fn length_beside_chunks_is_not_believed() {
    let server = TestServer::start().await;
    let smuggled = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let (chunked, length) = ("Transfer-Encoding: chunked", chunks.len() + smuggled.len());
    for framing in
        [format!("{chunked}\r\nContent-Length: {length}"), format!("Content-Length: {length}\r\n{chunked}")]
    {
        let bytes = format!(
            "POST {GENERATE_IMAGE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {framing}\r\n\r\n{chunks}{smuggled}"
        );
        let raw = send_raw(server.authority(), bytes.as_bytes()).await;
        assert_eq!(raw.statuses(), [422], "{}", raw.text());
    }
}

/// What a predictor does, and how its failure is told.
struct Failure {
    prediction: Prediction,
    status: u16,
    slug: &'static str,
    /// What the detail names, so that somebody knows what to check.
    names: &'static str,
}

fn failures() -> Vec<Failure> {
    let failure = |prediction, status, slug, names| Failure { prediction, status, slug, names };
    let image = |bytes: &[u8]| {
        let b64 = base64_simd::STANDARD.encode_to_string(bytes);
        Prediction::json(200, &json!({"predictions": [{"image": {"b64": b64}}]}))
    };
    let elsewhere = Prediction::text(307, "").header("location", "http://127.0.0.1:1/");
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"64\" height=\"64\"></svg>";
    vec![
        failure(Prediction::hang(), 504, "model-timed-out", "KSERVE_TIMEOUT"),
        failure(Prediction::text(200, "{").then_hang(), 504, "model-timed-out", "KSERVE_TIMEOUT"),
        failure(Prediction::text(200, "{").then_reset(), 502, "model-failed", "try again"),
        failure(
            Prediction::text(200, "[1, 2".repeat(10_000)).endless(),
            502,
            "model-failed",
            "not a prediction",
        ),
        failure(Prediction::text(200, "<html>"), 502, "model-failed", "not a prediction"),
        failure(Prediction::json(200, &json!({"predictions": []})), 502, "model-failed", "not a prediction"),
        failure(image(&[0; 300_000]), 502, "model-failed", "MAX_IMAGE_SIZE"),
        failure(image(b"not an image"), 502, "bad-image", "refused"),
        failure(image(svg.as_bytes()), 502, "bad-image", "refused"),
        failure(image(b"\x89PNG\r\n\x1a\n"), 502, "bad-image", "refused"),
        failure(elsewhere, 502, "model-failed", "redirect"),
        failure(
            Prediction::error(404, "Model with name sd does not exist."),
            502,
            "no-such-model",
            "KSERVE_MODEL_NAME",
        ),
        failure(Prediction::text(401, ""), 502, "model-failed", "credentials"),
        failure(
            Prediction::error(503, "Model with name sd is not ready."),
            503,
            "model-starting",
            "starting",
        ),
        failure(Prediction::text(429, ""), 503, "model-busy", "busy"),
        failure(Prediction::error(500, "CUDA out of memory"), 422, "model-out-of-memory", "smaller"),
        failure(Prediction::error(500, "a crash"), 502, "model-failed", "a crash"),
    ]
}

#[tokio::test]
async fn predictor_that_fails_is_a_typed_error_and_nothing_is_stored() {
    let failures = failures();
    let fake = FakePredictor::start(failures.iter().map(|failure| failure.prediction.clone())).await;
    let settings = [("KSERVE_TIMEOUT", "1"), ("MAX_IMAGE_SIZE", "200000")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let client = server.client();
    for Failure { prediction, status, slug, names } in failures {
        let started = Instant::now();
        let problem = client.generate(&json!({"prompt": "a fox"})).await.problem(status, slug);
        assert!(started.elapsed() < Duration::from_secs(10), "{prediction:?}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(names), "{prediction:?}: {detail}");
    }
    assert_nothing_stored(&server, &client).await;
    let small = json!({"prompt": "a fox", "width": 64, "height": 64});
    assert_eq!(client.generate(&small).await.status, 200, "it recovers");
}

#[tokio::test]
async fn predictor_that_is_down_is_unreachable_and_named() {
    let fake = FakePredictor::start([]).await;
    let url = fake.url();
    drop(fake);
    let server = TestServer::start_with(&[("KSERVE_ENDPOINT", &url), ("KSERVE_MAX_RETRIES", "1")]).await;
    let client = server.client();
    let problem = client.generate(&json!({"prompt": "a fox"})).await.problem(502, "model-unreachable");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("address") && !detail.contains("127.0.0.1"), "{detail}");
    assert_nothing_stored(&server, &client).await;
}

#[tokio::test]
async fn full_queue_is_503_with_a_time_to_come_again() {
    let fake = FakePredictor::start([Prediction::hang()]).await;
    let settings = [("GENERATION_CONCURRENCY", "1"), ("GENERATION_QUEUE_SIZE", "0")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let client = server.client();
    let first = tokio::spawn(client.post(GENERATE_IMAGE, r#"{"prompt":"a fox"}"#).send());
    within(fake.wait_until(|counts| counts.started == 1)).await;
    let answer = client.generate(&json!({"prompt": "another"})).await;
    answer.problem(503, "overloaded");
    assert!(answer.header("retry-after").parse::<u32>().expect("seconds") > 0);
    first.abort();
    within(fake.wait_until(|counts| counts.abandoned == 1)).await;
}

async fn assert_nothing_stored(server: &TestServer, client: &Client) {
    assert_eq!(client.get("/images/").await.json()["images"], Value::Array(vec![]));
    assert_eq!(server.files().len(), 0, "{:?}", server.files());
}
