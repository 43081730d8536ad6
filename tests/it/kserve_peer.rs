//! The KServe V1 predictor against the real KServe server with `tests/peers/kserve_model.py`, whose
//! address is in `KSERVE_PEER_URL`. Without one these tests are left out, and say so.

use std::time::Duration;

use crate::peers::left_out;
use mcp_image_server::predictor::kserve_v1::{KserveV1, endpoint};
use mcp_image_server::predictor::{
    Error, KserveV1Config, Prediction, Predictor, Progress, Request, State, progress_channel,
};

/// The peer's model of that name.
fn peer(model: &str) -> Option<KserveV1Config> {
    let Ok(url) = std::env::var("KSERVE_PEER_URL") else {
        left_out("the real KServe server", "KSERVE_PEER_URL is not set");
        return None;
    };
    let endpoint = endpoint(&url, Some(model)).expect("KSERVE_PEER_URL");
    Some(KserveV1Config {
        predict_url: endpoint.predict_url,
        model_url: endpoint.model_url,
        model_name: endpoint.model_name,
        // The peer draws one picture after the other, for all tests.
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(5),
        max_retries: 0,
        max_image_bytes: 10 << 20,
        takes_seed: false,
        omit_parameters: vec![],
        bearer: None,
        headers: vec![],
        host: None,
        ca_file: None,
    })
}

fn request(prompt: &str) -> Request {
    Request {
        prompt: prompt.to_owned(),
        negative_prompt: None,
        width: 320,
        height: 256,
        num_inference_steps: 20,
        guidance_scale: 7.5,
        seed: None,
    }
}

async fn predict(config: KserveV1Config, request: &Request) -> Result<Prediction, Error> {
    let predictor = KserveV1::new(config).expect("built");
    predictor.predict(request, &progress_channel().0).await
}

#[tokio::test]
async fn peer_given_a_prompt_draws_an_image_of_the_size_asked_for() {
    for (model, told) in [
        ("stable-diffusion", Some("stable-diffusion")),
        ("strict", Some("strict")),
        ("flat", None),
        ("pixels", None),
    ] {
        let Some(config) = peer(model) else { return };
        let prediction = predict(config, &request("a fox \u{1f98a} in \"snow\"")).await.expect(model);
        let image = image::load_from_memory(&prediction.image).expect("a PNG");
        assert_eq!((image.width(), image.height()), (320, 256), "{model}");
        assert_eq!(prediction.model.as_deref(), told);
    }
}

#[tokio::test]
async fn peer_given_a_long_prompt_and_a_large_size_draws_too() {
    let Some(config) = peer("stable-diffusion") else { return };
    let request = Request { width: 2048, height: 2048, ..request(&"\u{1f98a}".repeat(10_000)) };
    let prediction = predict(config, &request).await.expect("an image");
    let image = image::load_from_memory(&prediction.image).expect("a PNG");
    assert_eq!((image.width(), image.height()), (2048, 2048));
}

#[tokio::test]
async fn peer_that_fails_is_told_apart() {
    let seed = Request { seed: Some(7), ..request("a fox") };
    let uneven = Request { width: 100, ..request("a fox") };
    for (model, request, kind) in [
        ("nope", request("a fox"), "no_such_model"),
        ("loading", request("a fox"), "not_ready"),
        ("stable-diffusion", request("a fox [oom]"), "out_of_memory"),
        ("stable-diffusion", request("a fox [crash]"), "failed"),
        ("stable-diffusion", uneven, "rejected"),
        ("strict", seed, "rejected"),
    ] {
        let Some(config) = peer(model) else { return };
        let error = predict(config, &request).await.expect_err(model);
        assert_eq!(error.kind(), kind, "{model} {}: {error}", request.prompt);
        if let Error::Rejected { parameter, .. } = error {
            assert!(matches!(parameter.as_deref(), Some("seed" | "height" | "width")), "{parameter:?}");
        }
    }
}

#[tokio::test]
async fn peer_that_takes_too_long_is_given_up() {
    let Some(config) = peer("stable-diffusion") else { return };
    let timeout = Duration::from_millis(500);
    let error = predict(KserveV1Config { timeout, max_retries: 3, ..config }, &request("[sleep:2]")).await;
    assert!(matches!(error, Err(Error::TimedOut(_))), "{error:?}");
}

#[tokio::test]
async fn peer_that_draws_has_its_progress_estimated() {
    let Some(config) = peer("stable-diffusion") else { return };
    let predictor = KserveV1::new(config).expect("built");
    let (sender, mut receiver) = progress_channel();
    let request = request("[sleep:4]");
    let mut steps = vec![];
    let mut call = predictor.predict(&request, &sender);
    loop {
        tokio::select! {
            biased;
            result = &mut call => {
                result.expect("an image");
                break;
            }
            _ = receiver.changed() => match *receiver.borrow_and_update() {
                Progress::Drawing { step, total: 20, estimated: true } => steps.push(step),
                other => panic!("{other:?}"),
            },
        }
    }
    assert!(steps.len() >= 3 && steps.is_sorted() && steps.iter().all(|&step| step < 20.0), "{steps:?}");
}

#[tokio::test]
async fn peer_is_probed() {
    for (model, states) in [
        // A stock server's probe hangs while it draws for another test.
        ("stable-diffusion", vec![State::Ready, State::Busy]),
        ("loading", vec![State::Starting, State::Busy]),
        (
            "nope",
            vec![
                State::Unavailable { reason: "it has no such model (404 Not Found)".to_owned() },
                State::Busy,
            ],
        ),
    ] {
        let Some(config) = peer(model) else { return };
        let state = KserveV1::new(config).expect("built").probe().await;
        assert!(states.contains(&state), "{model}: {state:?}");
    }
}
