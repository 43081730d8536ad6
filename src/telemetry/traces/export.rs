//! Batches, and how they are sent.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use layers::trace::Finished;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use super::{Config, Error, count, encode::Encoder};

/// Spans sent together at most, and how long the first one waits for others: as the specification's batch processor
/// has it.
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(5);

/// Tries after the first one, for what may pass; spans wait in the queue meanwhile.
const RETRIES: u32 = 2;

/// The wait before the first of them; it doubles.
const WAIT: Duration = Duration::from_secs(1);

/// No wait is longer, whatever the collector asks for.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A collector that is away is told of no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Collects spans and sends them.
pub(super) struct Worker {
    client: reqwest::Client,
    config: Config,
    encoder: Encoder,
    spans: mpsc::Receiver<Finished>,
    stopped: mpsc::Receiver<()>,
    running: bool,
    batch: Vec<Finished>,
    warned: Option<Instant>,
    /// Spans lost since the last warning.
    lost: usize,
}

/// Why a batch was not taken.
struct Refusal {
    reason: String,
    /// Whether it may be taken later, and when if the collector says so.
    again: Option<Option<Duration>>,
}

impl Worker {
    pub(super) fn new(
        client: reqwest::Client,
        config: Config,
        encoder: Encoder,
        spans: mpsc::Receiver<Finished>,
        stopped: mpsc::Receiver<()>,
    ) -> Self {
        let batch = Vec::with_capacity(BATCH);
        Self { client, config, encoder, spans, stopped, running: true, batch, warned: None, lost: 0 }
    }

    /// Sends until it is told to stop; then all that still waits, each batch in one try.
    pub(super) async fn run(mut self) {
        while self.running {
            self.collect().await;
            if self.running {
                self.send().await;
            }
        }
        self.spans.close();
        loop {
            while self.batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                return;
            }
            self.send().await;
        }
    }

    /// Waits for a batch, or to be told to stop.
    async fn collect(&mut self) {
        let mut until = None;
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            tokio::select! {
                biased;
                _ = self.stopped.recv() => {
                    self.running = false;
                    return;
                }
                received = self.spans.recv_many(&mut self.batch, room) => {
                    if received == 0 {
                        self.running = false;
                        return;
                    }
                    until.get_or_insert_with(|| Instant::now() + DELAY);
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return,
            }
        }
    }

    /// Sends the batch; again, where that may help, until it is told to stop.
    async fn send(&mut self) {
        let body = bytes::Bytes::from(self.encoder.request(&self.batch));
        let mut tried = 0;
        let refusal = loop {
            let Err(refusal) = self.post(body.clone()).await else {
                count("exported", self.batch.len());
                self.batch.clear();
                return;
            };
            let Some(wait) = refusal.again.filter(|_| self.running && tried < RETRIES) else {
                break refusal;
            };
            tokio::select! {
                biased;
                _ = self.stopped.recv() => self.running = false,
                () = sleep(wait.unwrap_or(WAIT * 2_u32.pow(tried)).min(MAX_WAIT)) => {}
            }
            tried += 1;
        };
        count("failed", self.batch.len());
        self.lost += self.batch.len();
        self.batch.clear();
        self.tell(&refusal.reason);
    }

    async fn post(&self, body: bytes::Bytes) -> Result<(), Refusal> {
        let sent = self.client.post(self.config.url.clone()).body(body).send().await;
        let response = sent.map_err(|error| Refusal { reason: innermost(&error), again: Some(None) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // What the protocol names as passing; anything else would fail again.
        let passes = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let again = passes.then(|| retry_after(response.headers()));
        Err(Refusal { reason: format!("the collector answers {status}"), again })
    }

    fn tell(&mut self, reason: &str) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        warn!(reason, lost_spans = self.lost, "traces cannot be exported");
        self.warned = Some(Instant::now());
        self.lost = 0;
    }
}

pub(super) fn client(config: &Config) -> Result<reqwest::Client, Error> {
    let mut headers: HeaderMap = config.headers.iter().cloned().collect();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        // A redirect would take the credentials to another host.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(config.timeout)
        .pool_max_idle_per_host(1)
        .default_headers(headers);
    if config.url.scheme() == "http" {
        // Loading the system's certificates takes longer than all the rest of the start.
        builder = builder.tls_built_in_root_certs(false);
    } else if let Some(path) = &config.ca_file {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|source| Error::CaFile { path: shown.clone(), source })?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(Error::NoCertificate(shown));
        }
        builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    Ok(builder.build()?)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok())
}

/// The cause at the bottom, which holds no URL.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
