use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::Utc;
use tracing::{Instrument, info, info_span, warn};

use super::{Client, Config, Error, Generated, Params, placeholder::Placeholders};
use crate::{
    admission::{Admission, Full},
    image::{Generation, ImageId, ImageUrls, Inspected, Limits, Metadata, inspect},
    predictor::{Prediction, Predictor, Progress, ProgressSender, Request},
    storage::{ImageStore, NewImage},
};

/// Bytes up to which an image is inspected and hashed in place: below, a thread hop costs more.
const INLINE_BYTES: usize = 1024 * 1024;

/// The pipeline: admit, predict, inspect, store.
///
/// Cheap to clone. Dropping the future of [`generate`](Self::generate) cancels the generation: it
/// leaves the queue, or its call to the predictor is closed.
#[derive(Clone)]
pub struct Generator {
    predictor: Arc<dyn Predictor>,
    store: Arc<dyn ImageStore>,
    admission: Admission,
    placeholders: Placeholders,
    config: Arc<Config>,
}

/// How busy the pipeline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Load {
    /// Generations that draw now.
    pub running: usize,
    /// Generations that wait for a place.
    pub waiting: usize,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("predictor", &self.predictor.describe()).finish_non_exhaustive()
    }
}

impl Generator {
    /// The pipeline from `predictor` to `store`.
    #[must_use]
    pub fn new(predictor: Arc<dyn Predictor>, store: Arc<dyn ImageStore>, config: Config) -> Self {
        let admission = Admission::new(config.concurrency, config.queue_size, queue_depth);
        Self { predictor, store, admission, placeholders: Placeholders::default(), config: Arc::new(config) }
    }

    /// Who draws.
    #[must_use]
    pub fn predictor(&self) -> &Arc<dyn Predictor> {
        &self.predictor
    }

    /// Generations that draw now, and that wait.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { running: self.admission.running(), waiting: self.admission.waiting() }
    }

    /// What an image may be at most.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Where clients get images.
    #[must_use]
    pub fn urls(&self) -> &ImageUrls {
        &self.config.urls
    }

    /// Makes one image and stores it, within the time that the configuration gives to a generation.
    ///
    /// # Errors
    /// See [`Error`]; nothing is stored then, unless the time was over while the store was at work.
    pub async fn generate(
        &self,
        params: Params,
        client: Client,
        progress: &ProgressSender,
    ) -> Result<Generated, Error> {
        let mut outcome = Outcome::start(self.predictor.describe().model);
        let image_id = ImageId::now();
        let span = info_span!("generation", %image_id);
        let run = self.run(image_id, params, client, progress).instrument(span.clone());
        // What is being saved then is given up as if the caller had gone: whole, or not there.
        let result = tokio::time::timeout(self.config.timeout, run)
            .await
            .unwrap_or_else(|_| Err(Error::TimedOut(self.config.timeout)));
        outcome.finish(&result);
        span.in_scope(|| report(&result));
        result
    }

    async fn run(
        &self,
        image_id: ImageId,
        params: Params,
        client: Client,
        progress: &ProgressSender,
    ) -> Result<Generated, Error> {
        let place = self.admit(client, progress).await?;
        let request = self.request(params);
        let started = Instant::now();
        let prediction = self.predictor.predict(&request, progress).await?;
        let elapsed = started.elapsed();
        // The next one may draw while this one is stored.
        drop(place);

        progress.send(Progress::Storing);
        let image = examine(prediction.image.clone(), self.config.limits).await?;
        let mut metadata = self.metadata(image_id, request, &prediction, &image, elapsed);
        metadata.thumbhash = self.placeholders.make(&image.bytes, image.inspected).await;
        self.store.save(NewImage { bytes: image.bytes.clone(), metadata: metadata.clone() }).await?;
        let url = self.config.urls.url(&metadata, Utc::now());
        Ok(Generated { url, metadata, bytes: image.bytes, held: prediction.held })
    }

    async fn admit(&self, client: Client, progress: &ProgressSender) -> Result<impl Drop + use<>, Error> {
        let started = Instant::now();
        let progress = progress.clone();
        let tell = move |ahead| progress.send(Progress::Queued { ahead });
        let entered =
            tokio::time::timeout(self.config.queue_timeout, self.admission.enter(client, tell)).await;
        // Who is refused at once has not waited.
        if !matches!(entered, Ok(Err(Full { displaced: false, .. }))) {
            metrics::histogram!("mcp_image_generation_queue_wait_seconds").record(started.elapsed());
        }
        match entered {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(Full { waiting, .. })) => Err(Error::Overloaded { waiting, retry_after: RETRY_AFTER }),
            Err(_) => {
                Err(Error::WaitedTooLong { waited: self.config.queue_timeout, retry_after: RETRY_AFTER })
            }
        }
    }

    fn request(&self, params: Params) -> Request {
        // A drawn seed is recorded, so that a picture someone likes can be made again.
        let draws_seed = self.predictor.describe().takes_seed;
        Request {
            prompt: params.prompt,
            negative_prompt: params.negative_prompt,
            width: params.width,
            height: params.height,
            num_inference_steps: params.num_inference_steps,
            guidance_scale: params.guidance_scale,
            seed: params.seed.or_else(|| draws_seed.then(rand::random)),
        }
    }

    fn metadata(
        &self,
        image_id: ImageId,
        request: Request,
        prediction: &Prediction,
        image: &Examined,
        elapsed: Duration,
    ) -> Metadata {
        let description = self.predictor.describe();
        let created_at = image_id.created_at();
        Metadata {
            image_id,
            format: image.inspected.format,
            width: image.inspected.dimensions.width,
            height: image.inspected.dimensions.height,
            size_bytes: image.bytes.len() as u64,
            blake3: image.blake3.clone(),
            created_at,
            // Counted from now, not from the id: a slow model does not eat into the image's life.
            expires_at: Utc::now() + self.config.image_ttl,
            thumbhash: None,
            generation: Generation {
                prompt: request.prompt,
                negative_prompt: request.negative_prompt,
                num_inference_steps: request.num_inference_steps,
                guidance_scale: request.guidance_scale,
                seed: prediction.seed.or(request.seed),
                model: prediction.model.clone().unwrap_or(description.model),
                predictor: description.protocol.to_owned(),
                generation_seconds: seconds(elapsed),
            },
        }
    }
}

/// What a caller that finds the queue full is told to wait: about one generation.
const RETRY_AFTER: Duration = Duration::from_secs(10);

struct Examined {
    bytes: Bytes,
    inspected: Inspected,
    blake3: String,
}

/// Inspects and hashes an image, off the runtime's threads where it takes long.
async fn examine(bytes: Bytes, limits: Limits) -> Result<Examined, Error> {
    if bytes.len() <= INLINE_BYTES {
        return examine_now(bytes, limits);
    }
    match tokio::task::spawn_blocking(move || examine_now(bytes, limits)).await {
        Ok(examined) => examined,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn examine_now(bytes: Bytes, limits: Limits) -> Result<Examined, Error> {
    let inspected = inspect(&bytes, limits)?;
    let bytes = bytes.slice(..inspected.length);
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    Ok(Examined { bytes, inspected, blake3 })
}

#[expect(clippy::cast_precision_loss, reason = "queues are far shorter than 2^52")]
fn queue_depth(waiting: usize) {
    metrics::gauge!("mcp_image_generation_queue_depth").set(waiting as f64);
}

/// Seconds, to the millisecond: finer is noise.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

/// One line a generation.
fn report(result: &Result<Generated, Error>) {
    match result {
        Ok(image) => {
            let metadata = &image.metadata;
            info!(
                model = %metadata.generation.model,
                format = %metadata.format,
                width = metadata.width,
                height = metadata.height,
                size_bytes = metadata.size_bytes,
                generation_seconds = metadata.generation.generation_seconds,
                expires_at = %metadata.expires_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                "image generated"
            );
        }
        Err(error) => {
            let cause = std::error::Error::source(error).map(chain);
            warn!(outcome = error.outcome(), %error, cause, "no image generated");
        }
    }
}

/// An error and what is behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Counts a generation, also one whose caller went away.
struct Outcome {
    started: Instant,
    model: String,
    outcome: &'static str,
}

impl Outcome {
    fn start(model: String) -> Self {
        metrics::gauge!("mcp_image_generations_in_flight").increment(1);
        Self { started: Instant::now(), model, outcome: "cancelled" }
    }

    fn finish(&mut self, result: &Result<Generated, Error>) {
        self.outcome = match result {
            Ok(image) => {
                metrics::counter!("mcp_image_generated_bytes_total").increment(image.metadata.size_bytes);
                "ok"
            }
            Err(error) => error.outcome(),
        };
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        metrics::gauge!("mcp_image_generations_in_flight").decrement(1);
        metrics::histogram!("mcp_image_generation_duration_seconds", "outcome" => self.outcome)
            .record(self.started.elapsed());
        let model = std::mem::take(&mut self.model);
        metrics::counter!("mcp_image_generations_total", "outcome" => self.outcome, "model" => model)
            .increment(1);
        if self.outcome == "cancelled" {
            info!("generation cancelled: the caller went away");
        }
    }
}

#[cfg(test)]
mod tests;
