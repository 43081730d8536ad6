use std::{future::pending, io::Cursor, time::SystemTime};

use async_trait::async_trait;
use futures_util::FutureExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::*;
use crate::{
    generate::progress_channel,
    predictor::{self, Description, Held, State},
    storage::{self, Expired, ListQuery, Opened, Page},
};

const LIMIT: Duration = Duration::from_secs(100);

/// Draws at once, or never.
struct Artist {
    draws: bool,
}

#[async_trait]
impl Predictor for Artist {
    fn describe(&self) -> Description {
        Description {
            protocol: "test",
            model: "m".to_owned(),
            endpoint: None,
            takes_seed: false,
            reports_steps: false,
        }
    }

    async fn predict(&self, _: &Request, _: &ProgressSender) -> Result<Prediction, predictor::Error> {
        if !self.draws {
            return pending().await;
        }
        let mut image = Cursor::new(Vec::new());
        ::image::DynamicImage::new_rgb8(64, 64)
            .write_to(&mut image, ::image::ImageFormat::Png)
            .expect("encodes");
        Ok(Prediction { image: image.into_inner().into(), model: None, seed: None, held: Held::default() })
    }

    async fn probe(&self) -> State {
        State::Ready
    }
}

/// A store that never gets done with saving, and is asked for nothing else.
struct Stuck;

#[async_trait]
impl ImageStore for Stuck {
    fn kind(&self) -> &'static str {
        "stuck"
    }

    async fn save(&self, _: NewImage) -> Result<(), storage::Error> {
        pending().await
    }

    async fn open(&self, _: ImageId) -> Result<Opened, storage::Error> {
        unreachable!()
    }

    async fn metadata(&self, _: ImageId) -> Result<Metadata, storage::Error> {
        unreachable!()
    }

    async fn delete(&self, _: ImageId) -> Result<bool, storage::Error> {
        unreachable!()
    }

    async fn list(&self, _: ListQuery) -> Result<Page, storage::Error> {
        unreachable!()
    }

    async fn expire(&self, _: SystemTime) -> Result<Expired, storage::Error> {
        unreachable!()
    }

    async fn check(&self) -> Result<(), storage::Error> {
        Ok(())
    }
}

/// A pipeline with one place, whose queue is more patient than the whole.
fn generator(artist: Artist, queue_size: usize) -> Generator {
    let config = Config {
        concurrency: 1,
        queue_size,
        queue_timeout: LIMIT * 10,
        timeout: LIMIT,
        image_ttl: LIMIT,
        limits: Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 },
        urls: ImageUrls::new("http://images.example"),
    };
    Generator::new(Arc::new(artist), Arc::new(Stuck), config)
}

async fn generate(generator: &Generator, client: Client) -> Result<Generated, Error> {
    let arguments = serde_json::json!({"prompt": "a fox"});
    let params = Params::from_json(arguments.as_object().expect("an object")).expect("allowed");
    generator.generate(params, client, &progress_channel().0).await
}

fn client(last_byte: u8) -> Client {
    Some(std::net::IpAddr::from([10, 0, 0, last_byte]).into())
}

fn assert_timed_out(result: &Result<Generated, Error>) {
    assert!(matches!(result, Err(Error::TimedOut(LIMIT))), "{result:?}");
}

/// The value of a series.
fn value(metrics: &PrometheusHandle, series: &str) -> Option<String> {
    let text = metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map(|value| value.trim().to_owned())
}

#[tokio::test(start_paused = true)]
async fn generation_over_its_time_ends_while_it_draws_and_while_it_waits() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let generator = generator(Artist { draws: false }, 1);
    let started = tokio::time::Instant::now();
    let drawing = generate(&generator, client(1)).await;
    assert_timed_out(&drawing);
    let Ok(place) = generator.admission.enter(client(1), |_| {}).await else { panic!("it is free again") };
    assert_timed_out(&generate(&generator, client(2)).await);
    drop(place);
    // Who goes away is still another thing.
    assert!(generate(&generator, client(2)).now_or_never().is_none());
    assert_eq!(started.elapsed(), LIMIT * 2);
    assert_eq!(generator.load(), Load { running: 0, waiting: 0 });
    for (series, expected) in [
        ("mcp_image_generations_total{outcome=\"timed_out\",model=\"m\"}", "2"),
        ("mcp_image_generations_total{outcome=\"cancelled\",model=\"m\"}", "1"),
        ("mcp_image_generations_in_flight", "0"),
        ("mcp_image_generation_queue_depth", "0"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}: {}", metrics.render());
    }
    let told = drawing.expect_err("timed out").to_string();
    assert!(told.contains("100 s") && told.contains("GENERATION_TIMEOUT"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn generation_over_its_time_ends_while_it_is_stored() {
    let generator = generator(Artist { draws: true }, 1);
    assert_timed_out(&generate(&generator, client(1)).await);
    assert_eq!(generator.load(), Load { running: 0, waiting: 0 });
}

#[tokio::test(start_paused = true)]
async fn client_that_fills_the_queue_loses_its_last_seat_and_has_waited_for_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let generator = generator(Artist { draws: false }, 2);
    let mut greedy: Vec<_> = (0..3).map(|_| Box::pin(generate(&generator, client(1)))).collect();
    for generation in &mut greedy {
        assert!(futures_util::poll!(generation).is_pending());
    }
    assert!(matches!(generate(&generator, client(1)).await, Err(Error::Overloaded { waiting: 2, .. })));
    let waits = || value(&metrics, "mcp_image_generation_queue_wait_seconds_count");
    assert_eq!(waits().as_deref(), Some("1"), "the first had its place; who was refused did not wait");

    let mut other = Box::pin(generate(&generator, client(2)));
    assert!(futures_util::poll!(&mut other).is_pending());
    let displaced = greedy.pop().expect("the last").now_or_never().expect("ready");
    assert!(matches!(displaced, Err(Error::Overloaded { waiting: 2, .. })), "{displaced:?}");
    assert_eq!(waits().as_deref(), Some("2"));
    assert_eq!(generator.load(), Load { running: 1, waiting: 2 });
    assert_eq!(value(&metrics, "mcp_image_generation_queue_depth").as_deref(), Some("2"));
    assert_eq!(value(&metrics, "mcp_image_generations_in_flight").as_deref(), Some("3"));
}
