//! KServe's V1 inference protocol: `POST /v1/models/<name>:predict`, as the diffusers runtimes
//! speak it.
//!
//! One image per call. What is learned from calls (how long they take, which keys the model does
//! not know) is kept for the life of the process and shared by all calls.

mod classify;
mod client;
mod credentials;
mod endpoint;
mod estimate;
mod instance;
mod observe;
mod reply;
mod retry;
mod transport;

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, interval_at, sleep, timeout_at};

use self::client::{Client, Failure};
pub use self::endpoint::{DEFAULT_MODEL_NAME, Endpoint, InvalidEndpoint, endpoint};
use self::estimate::Estimate;
use self::instance::{Key, Omitted};
use self::observe::Observed;
pub use self::reply::{Reply, max_reply_bytes, parse_reply};
use self::retry::Retries;
use super::{
    Description, Error, Held, KserveV1Config, Prediction, Predictor, Progress, ProgressSender, Request, State,
};

const PROTOCOL: &str = "kserve-v1";

/// How often an estimate is told.
const TICK: Duration = Duration::from_secs(1);

/// A KServe V1 predictor.
///
/// [`KserveV1Config::timeout`] bounds a whole [`Predictor::predict`], retries and the waits between
/// them included: a call that cannot end in time is given up, and no retry begins that would start
/// too late.
#[derive(Debug)]
pub struct KserveV1 {
    client: Client,
    omitted: Omitted,
    estimate: Estimate,
}

/// Why a configuration gives no predictor.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The bearer token is empty, or holds characters that a header cannot.
    #[error("the predictor's bearer token is empty or holds characters that a header cannot")]
    BearerValue,
    /// The bearer token's file cannot be read.
    #[error("the predictor's bearer token cannot be read from {}: {source}", path.display())]
    BearerFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The bearer token's file does not hold one.
    #[error("the predictor's bearer token file {} is empty or holds characters that a header cannot", .0.display())]
    BearerFileContent(PathBuf),
    /// The CA file cannot be read.
    #[error("the predictor's CA file {} cannot be read: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The CA file does not hold certificates.
    #[error("the predictor's CA file {} does not hold certificates in PEM form", .0.display())]
    CaFileContent(PathBuf),
    /// No TLS connection can be made with what this server is built with.
    #[error("the predictor's TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The address does not fit into a request.
    #[error("the predictor's address {0} holds characters that a request cannot")]
    Url(url::Url),
}

impl KserveV1 {
    /// Prepares calls to a model; nothing is sent yet.
    ///
    /// # Errors
    /// Credentials or certificates that cannot be read or used.
    pub fn new(config: KserveV1Config) -> Result<Self, BuildError> {
        observe::register_counters(PROTOCOL);
        Ok(Self {
            omitted: Omitted::new(&config.omit_parameters),
            client: Client::new(config)?,
            estimate: Estimate::default(),
        })
    }

    async fn call(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error> {
        let config = self.client.config();
        let deadline = Instant::now() + config.timeout;
        let mut retries = Retries::new(config.max_retries, deadline);
        let mut starting = false;
        loop {
            let omitted = self.omitted.keys();
            let body = instance::body(request, omitted);
            let attempt = self.attempt(request, body, progress, starting);
            let Failure { error, unknown_key } = match timeout_at(deadline, attempt).await {
                Ok(Ok((reply, held))) => {
                    let sent = request.seed.filter(|_| config.takes_seed && !omitted.contains(Key::Seed));
                    return Ok(Prediction {
                        image: reply.image,
                        model: reply.model,
                        seed: reply.seed.or(sent),
                        held,
                    });
                }
                Ok(Err(failure)) => failure,
                Err(_) => return Err(Error::TimedOut(config.timeout)),
            };
            if let Some(key) = unknown_key
                && self.omitted.learn(key, omitted)
            {
                tracing::info!(
                    model = config.model_name,
                    parameter = key.name(),
                    "the model does not take this parameter; it is left out from now on"
                );
                continue;
            }
            if unknown_key == Some(Key::Seed) && config.takes_seed {
                tracing::warn!(
                    model = config.model_name,
                    "the model is configured to take a seed, but refuses one"
                );
            }
            let Some(wait) = retries.wait_after(&error, Instant::now(), rand::random()) else {
                return Err(error);
            };
            if matches!(error, Error::NotReady { .. } | Error::Unreachable(_)) {
                starting = true;
                progress.send(Progress::Starting);
            }
            observe::retry(&config.model_name, &error, wait);
            sleep(wait).await;
        }
    }

    /// One try, with an estimate of its progress every second.
    async fn attempt(
        &self,
        request: &Request,
        body: Bytes,
        progress: &ProgressSender,
        starting: bool,
    ) -> Result<(Reply, Held), Failure> {
        let dispatched = Instant::now();
        let expected = self.estimate.expected(request);
        // A model that was starting a moment ago may still be: the first second decides.
        if !starting {
            progress.send(estimate::progress(request, Duration::ZERO, expected));
        }
        let mut ticks = interval_at(dispatched + TICK, TICK);
        let mut call = pin!(self.client.predict(body));
        loop {
            tokio::select! {
                biased;
                result = &mut call => {
                    if result.is_ok() {
                        self.estimate.learn(request, dispatched.elapsed());
                    }
                    return result;
                }
                _ = ticks.tick() => {
                    progress.send(estimate::progress(request, dispatched.elapsed(), expected));
                }
            }
        }
    }
}

#[async_trait]
impl Predictor for KserveV1 {
    fn describe(&self) -> Description {
        let config = self.client.config();
        Description {
            protocol: PROTOCOL,
            model: config.model_name.clone(),
            endpoint: Some(config.model_url.to_string()),
            takes_seed: config.takes_seed,
            reports_steps: false,
        }
    }

    async fn predict(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error> {
        let observed = Observed::start(PROTOCOL);
        let result = self.call(request, progress).await;
        observed.end(result.as_ref().map_or_else(Error::kind, |_| "ok"));
        result
    }

    async fn probe(&self) -> State {
        self.client.probe().await
    }
}
