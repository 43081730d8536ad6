//! The KServe V1 predictor against a predictor with faults, over a socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mcp_image_server::predictor::kserve_v1::{BuildError, KserveV1, endpoint};
use mcp_image_server::predictor::{
    Bearer, Error, KserveV1Config, Prediction, Predictor, Progress, Request, State, progress_channel,
};
use mcp_image_server::secret::Secret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::fake_predictor::{Answer, Counts, FakePredictor};

pub(crate) fn config(url: &str) -> KserveV1Config {
    let endpoint = endpoint(url, Some("sd")).expect("an endpoint");
    KserveV1Config {
        predict_url: endpoint.predict_url,
        model_url: endpoint.model_url,
        model_name: endpoint.model_name,
        timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        max_retries: 2,
        max_image_bytes: 1 << 20,
        takes_seed: false,
        omit_parameters: vec![],
        bearer: None,
        headers: vec![],
        host: None,
        ca_file: None,
    }
}

fn predictor(fake: &FakePredictor) -> KserveV1 {
    KserveV1::new(config(&fake.url())).expect("built")
}

pub(crate) fn request() -> Request {
    Request {
        prompt: "a fox".to_owned(),
        negative_prompt: None,
        width: 64,
        height: 96,
        num_inference_steps: 20,
        guidance_scale: 7.5,
        seed: None,
    }
}

async fn predict(predictor: &KserveV1, request: &Request) -> Result<Prediction, Error> {
    predictor.predict(request, &progress_channel().0).await
}

#[tokio::test]
async fn prediction_is_asked_for_as_the_protocol_says() {
    let fake = FakePredictor::start([]).await;
    let config = KserveV1Config {
        bearer: Some(Bearer::Value(Secret::new("hush"))),
        headers: vec![("x-team".parse().expect("a name"), "art".parse().expect("a value"))],
        host: Some("sd.models.example".parse().expect("a value")),
        ..config(&fake.url())
    };
    let predictor = KserveV1::new(config).expect("built");
    let prediction = predict(&predictor, &request()).await.expect("an image");
    let image = image::load_from_memory(&prediction.image).expect("a PNG");
    assert_eq!((image.width(), image.height()), (64, 96));
    assert_eq!((prediction.model.as_deref(), prediction.seed), (Some("fake"), None));

    let recorded = &fake.requests()[0];
    assert_eq!((recorded.method.as_str(), recorded.path.as_str()), ("POST", "/v1/models/sd:predict"));
    let expected = json!({"instances": [{"prompt": "a fox", "width": 64, "height": 96,
        "num_inference_steps": 20, "guidance_scale": 7.5}]});
    assert_eq!(recorded.body, expected);
    for (name, value) in [
        ("authorization", "Bearer hush"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("host", "sd.models.example"),
        ("x-team", "art"),
    ] {
        assert_eq!(recorded.headers[name], value, "{name}");
    }
    assert!(!format!("{predictor:?}").contains("hush"));
}

#[tokio::test]
async fn prediction_with_a_seed_tells_it_only_when_the_model_takes_one() {
    for (takes_seed, omit, told) in
        [(true, vec![], Some(7)), (false, vec![], None), (true, vec!["seed".to_owned()], None)]
    {
        let fake = FakePredictor::start([]).await;
        let is_sent = omit.is_empty();
        let predictor =
            KserveV1::new(KserveV1Config { takes_seed, omit_parameters: omit, ..config(&fake.url()) });
        let request = Request { seed: Some(7), ..request() };
        let prediction = predict(&predictor.expect("built"), &request).await.expect("an image");
        assert_eq!(prediction.seed, told);
        assert_eq!(fake.requests()[0].instance().get("seed").is_some(), is_sent);
    }
}

#[tokio::test]
async fn prediction_in_each_form_is_read() {
    for body in [
        json!({"predictions": [{"image": {"b64": "AAEC"}}]}),
        json!({"predictions": [{"image": "data:image/png;base64,AAEC"}]}),
        json!({"predictions": ["AAEC"]}),
        json!({"predictions": [{"image_data": "AAEC"}]}),
        json!({"instances": "AAEC"}),
    ] {
        let fake = FakePredictor::start([
            Answer::json(200, &body),
            Answer::text(200, body.to_string()),
            Answer::json(200, &body).drip(1, Duration::ZERO),
        ])
        .await;
        for _ in 0..3 {
            let prediction = predict(&predictor(&fake), &request()).await.expect("an image");
            assert_eq!(prediction.image, [0, 1, 2][..], "{body}");
        }
    }
}

#[tokio::test]
async fn prediction_as_lists_of_pixels_becomes_png() {
    let fake =
        FakePredictor::start([Answer::json(200, &json!({"predictions": [[[[1, 2, 3], [4, 5, 6]]]]}))]).await;
    let prediction = predict(&predictor(&fake), &request()).await.expect("an image");
    let image = image::load_from_memory(&prediction.image).expect("a PNG").into_rgb8();
    assert_eq!(image.into_raw(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn failures_that_cost_the_model_time_are_not_repeated() {
    let huge = Bytes::from(format!("[\"{}\",", "A".repeat(1 << 16)));
    let whole = json!({"predictions": [{"image": "AAEC"}]});
    for (answer, kind) in [
        (Answer::error(400, "Prediction failed: CUDA out of memory"), "out_of_memory"),
        (Answer::error(400, "Missing required parameter: prompt"), "rejected"),
        (Answer::error(404, "Model with name sd does not exist."), "no_such_model"),
        (Answer::error(500, "RuntimeError : crash"), "failed"),
        (Answer::text(502, "EOF"), "interrupted"),
        (Answer::text(504, "activator request timeout"), "timed_out"),
        (Answer::text(401, ""), "unauthorized"),
        (Answer::text(403, "RBAC: access denied"), "unauthorized"),
        (Answer::text(307, "").header("location", "/v1/models/sd:predict"), "bad_reply"),
        (Answer::text(200, "<html>").header("content-type", "text/html; charset=utf-8"), "bad_reply"),
        (Answer::text(200, "not JSON"), "bad_reply"),
        (Answer::text(204, ""), "bad_reply"),
        (Answer::json(200, &json!({"predictions": [{"label": 3}]})), "bad_reply"),
        (Answer::json(200, &whole).then_reset(), "interrupted"),
        (Answer::text(200, "").then_reset(), "interrupted"),
        (Answer::text(200, huge).endless(), "too_large"),
        (Answer::text(200, vec![b'A'; 2 << 20]).header("content-length", "2097152"), "too_large"),
    ] {
        let shown = format!("{answer:?}").chars().take(200).collect::<String>();
        let fake = FakePredictor::start([answer]).await;
        let error = predict(&predictor(&fake), &request()).await.expect_err(&shown);
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
        assert_eq!(fake.counts().started, 1, "{shown}");
    }
}

#[tokio::test]
async fn refusals_that_cost_nothing_are_repeated_until_it_works() {
    let again = |answer: Answer| answer.header("retry-after", "0");
    let fake = FakePredictor::start([
        again(Answer::error(503, "Model with name sd is not ready.")),
        again(Answer::text(429, "slow down")),
    ])
    .await;
    predict(&predictor(&fake), &request()).await.expect("an image");
    assert_eq!(fake.counts(), Counts { started: 3, answered: 3, abandoned: 0 });
}

#[tokio::test]
async fn refusals_beyond_the_retries_are_final() {
    let fake = FakePredictor::start(vec![Answer::text(503, "").header("retry-after", "0"); 9]).await;
    let error = predict(&predictor(&fake), &request()).await.expect_err("refused");
    assert!(matches!(error, Error::NotReady { retry_after: Some(Duration::ZERO) }), "{error:?}");
    assert_eq!(fake.counts().started, 3);
}

#[tokio::test]
async fn refusals_that_ask_for_more_time_than_there_is_are_final() {
    let fake = FakePredictor::start([Answer::text(429, "").header("retry-after", "31")]).await;
    let error = predict(&predictor(&fake), &request()).await.expect_err("refused");
    assert!(matches!(error, Error::Busy { retry_after: Some(wait) } if wait.as_secs() == 31), "{error:?}");
    assert_eq!(fake.counts().started, 1);
}

#[tokio::test]
async fn silence_is_given_up_at_the_timeout_and_not_repeated() {
    for answer in [
        Answer::hang(),
        Answer::text(200, "{").then_hang(),
        Answer::text(200, vec![b' '; 1_000]).drip(1, Duration::from_millis(40)),
        Answer::text(500, "half").then_hang(),
    ] {
        let fake = FakePredictor::start([answer]).await;
        let timeout = Duration::from_millis(300);
        let predictor = KserveV1::new(KserveV1Config { timeout, ..config(&fake.url()) }).expect("built");
        let error = predict(&predictor, &request()).await.expect_err("given up");
        assert!(matches!(error, Error::TimedOut(after) if after == timeout), "{error:?}");
        fake.wait_until(|counts| counts.abandoned == 1).await;
        assert_eq!(fake.counts().started, 1);
    }
}

#[tokio::test]
async fn replies_that_stall_do_not_hold_up_others() {
    const STALLED: usize = 6;
    let stalled = || Answer::text(200, r#"{"predictions": [{"image": "iVBO"#).then_hang();
    let fake = FakePredictor::start((0..STALLED).map(|_| stalled())).await;
    let predictor = Arc::new(predictor(&fake));
    let waiting: Vec<_> = (0..STALLED)
        .map(|_| {
            let predictor = Arc::clone(&predictor);
            tokio::spawn(async move { predict(&predictor, &request()).await })
        })
        .collect();
    fake.wait_until(|counts| counts.started == STALLED).await;
    predict(&predictor, &request()).await.expect("a prediction");
    // They are given up after 10 s, and only then would others have had their turn.
    assert!(waiting.iter().all(|call| !call.is_finished()));
}

#[tokio::test]
async fn predictor_that_is_not_there_is_unreachable_and_tried_again() {
    let url = FakePredictor::start([]).await.url();
    let predictor = KserveV1::new(KserveV1Config { max_retries: 1, ..config(&url) }).expect("built");
    let (sender, receiver) = progress_channel();
    let error = predictor.predict(&request(), &sender).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert_eq!(*receiver.borrow(), Progress::Starting);
    let State::Unavailable { reason } = predictor.probe().await else { panic!("it answered") };
    assert!(reason.contains("refused") && !reason.contains("127.0.0.1"), "{reason}");
}

#[tokio::test]
async fn cold_start_is_told_and_dropping_the_call_closes_the_connection() {
    let starting = Answer::error(503, "Model with name sd is not ready.").header("retry-after", "0");
    let fake = FakePredictor::start([starting, Answer::hang()]).await;
    let predictor = predictor(&fake);
    let (sender, mut receiver) = progress_channel();
    {
        let request = request();
        let mut call = predictor.predict(&request, &sender);
        tokio::select! {
            result = &mut call => panic!("{result:?}"),
            () = fake.wait_until(|counts| counts.started == 2) => {}
        }
        assert_eq!(*receiver.borrow_and_update(), Progress::Starting);
        // Later the model is taken to be drawing, at a pace that is an estimate.
        tokio::select! {
            result = &mut call => panic!("{result:?}"),
            progress = receiver.changed() => progress.expect("the sender lives"),
        }
        let now = *receiver.borrow_and_update();
        let Progress::Drawing { step, total: 20, estimated: true } = now else { panic!("{now:?}") };
        assert!(step > 0.0 && step <= 19.0, "{step}");
    }
    fake.wait_until(|counts| counts.abandoned == 1).await;
    assert!(!receiver.has_changed().expect("the sender lives"));
}

#[tokio::test]
async fn parameter_with_a_default_that_the_model_does_not_know_is_left_out_from_then_on() {
    let unknown = |name: &str| {
        Answer::error(400, &format!("Prediction failed: call() got an unexpected keyword argument '{name}'"))
    };
    let fake = FakePredictor::start([unknown("guidance_scale"), unknown("num_inference_steps")]).await;
    let predictor = KserveV1::new(KserveV1Config { max_retries: 0, ..config(&fake.url()) }).expect("built");
    for _ in 0..2 {
        predict(&predictor, &request()).await.expect("an image");
    }
    let sent: Vec<Value> = fake.requests().iter().map(|recorded| recorded.instance().clone()).collect();
    let known = json!({"prompt": "a fox", "width": 64, "height": 96});
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[1].get("guidance_scale"), None);
    assert_eq!((&sent[2], &sent[3]), (&known, &known));
}

#[tokio::test]
async fn parameter_that_was_asked_for_and_is_unknown_is_an_error_that_says_so() {
    for (name, request) in [
        ("seed", Request { seed: Some(7), ..request() }),
        ("negative_prompt", Request { negative_prompt: Some("rain".to_owned()), ..request() }),
        ("prompt", request()),
    ] {
        let unknown = format!("Prediction failed: call() got an unexpected keyword argument '{name}'");
        let fake = FakePredictor::start([Answer::error(400, &unknown)]).await;
        let error = predict(&predictor(&fake), &request).await.expect_err("refused");
        let Error::Rejected { parameter, message } = error else { panic!("{error}") };
        assert_eq!(parameter.as_deref(), Some(name));
        assert!(message.contains(&format!("leave `{name}` out")), "{message}");
        assert_eq!(fake.counts().started, 1);
    }
}

#[tokio::test]
async fn probe_tells_how_the_model_is() {
    let unavailable = |reason: &str| State::Unavailable { reason: reason.to_owned() };
    let fake = FakePredictor::start([]).await;
    let predictor = predictor(&fake);
    assert_eq!(predictor.probe().await, State::Ready);
    assert_eq!(fake.requests()[0].path, "/v1/models/sd");
    for (answer, state) in [
        (Answer::json(200, &json!({"name": "sd", "ready": "True"})), State::Ready),
        (Answer::json(200, &json!({"name": "sd", "ready": false})), State::Starting),
        (Answer::error(503, "Model with name sd is not ready."), State::Starting),
        (Answer::text(502, "bad gateway"), State::Starting),
        (
            Answer::error(404, "Model with name sd does not exist."),
            unavailable("it has no such model (404 Not Found)"),
        ),
        (Answer::text(401, ""), unavailable("it refuses the server's credentials (401 Unauthorized)")),
        (Answer::text(500, "secret"), unavailable("it answers 500 Internal Server Error")),
        (
            Answer::text(302, "").header("location", "http://127.0.0.1:1/"),
            unavailable("it redirects, which is never followed (302 Found)"),
        ),
        (Answer::text(200, "<html>"), unavailable("it does not answer as a KServe V1 model does")),
        (Answer::hang(), State::Busy),
        (Answer::text(200, "{").then_hang(), State::Busy),
    ] {
        let shown = format!("{answer:?}");
        fake.answer_probes(answer);
        assert_eq!(predictor.probe().await, state, "{shown}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let busy = Answer::text(429, "").header("retry-after", "0");
    let fake =
        FakePredictor::start([busy, Answer::drawn(), Answer::error(500, "crash"), Answer::hang()]).await;
    let predictor = predictor(&fake);
    predict(&predictor, &request()).await.expect("an image");
    predict(&predictor, &request()).await.expect_err("crashed");
    let request = request();
    tokio::select! {
        result = predict(&predictor, &request) => panic!("{result:?}"),
        () = fake.wait_until(|counts| counts.started == 4) => {}
    }
    let rendered = handle.render();
    for line in [
        r#"mcp_image_predictor_requests_total{protocol="kserve-v1",outcome="ok"} 1"#,
        r#"mcp_image_predictor_requests_total{protocol="kserve-v1",outcome="failed"} 1"#,
        r#"mcp_image_predictor_requests_total{protocol="kserve-v1",outcome="cancelled"} 1"#,
        r#"mcp_image_predictor_request_duration_seconds_count{protocol="kserve-v1"} 3"#,
        r#"mcp_image_predictor_retries_total{reason="busy"} 1"#,
    ] {
        assert!(rendered.contains(line), "{line} is not in\n{rendered}");
    }
}

#[test]
fn predictor_with_unusable_files_is_not_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    let built =
        || KserveV1::new(KserveV1Config { ca_file: Some(path.clone()), ..config("https://models.example") });
    assert!(matches!(built(), Err(BuildError::CaFile { .. })));
    std::fs::write(&path, "no certificate").expect("written");
    let error = built().expect_err("no certificate");
    assert!(error.to_string().contains("ca.pem"), "{error}");
}

#[tokio::test]
async fn description_names_the_protocol_the_model_and_the_place() {
    let fake = FakePredictor::start([]).await;
    let description = serde_json::to_value(predictor(&fake).describe()).expect("JSON");
    let expected = json!({"protocol": "kserve-v1", "model": "sd", "endpoint": format!("{}/v1/models/sd", fake.url()),
        "takes_seed": false, "reports_steps": false});
    assert_eq!(description, expected);
}

/// Answers each request as `status`, and counts connections and requests.
async fn counting(
    status: &'static str,
) -> (String, Arc<(AtomicUsize, AtomicUsize)>, tokio::task::AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1/models/sd", listener.local_addr().expect("an address"));
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&counts);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.0.fetch_add(1, Ordering::SeqCst);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let (mut seen, mut read) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut read).await {
                    seen.extend_from_slice(&read[..count]);
                    // Requests end with the brackets of their JSON.
                    if seen.ends_with(b"]}") {
                        seen.clear();
                        counted.1.fetch_add(1, Ordering::SeqCst);
                        let answer = format!(
                            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{{\"error\": \"no\"}}"
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    (url, counts, serving.abort_handle())
}

#[tokio::test]
async fn connection_of_a_failure_is_not_used_again() {
    for (status, connections) in [("500 Internal Server Error", 3), ("400 Bad Request", 1)] {
        let (url, counts, serving) = counting(status).await;
        let predictor = KserveV1::new(config(&url)).expect("built");
        for _ in 0..3 {
            predict(&predictor, &request()).await.expect_err("refused");
        }
        let counts = (counts.0.load(Ordering::SeqCst), counts.1.load(Ordering::SeqCst));
        assert_eq!(counts, (connections, 3), "{status}");
        serving.abort();
    }
}
