//! Traces over OTLP: HTTP with protobuf, in batches, in the background.
//!
//! Spans come through a bounded queue. Whoever ends one never waits: a span that finds the queue full is dropped and
//! counted. A collector that is away costs the batches that it misses, and a warning a minute.

mod encode;
mod export;
mod sampler;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use layers::trace::{Finished, Record, TraceId};
use metrics::counter;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tracing::warn;
use url::Url;

pub use self::sampler::Sampler;
use self::{encode::Encoder, export::Worker};

/// Spans that wait to be exported at most, as the specification's batch processor has it.
const QUEUE: usize = 2048;

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Config {
    /// The URL that is posted to, such as `http://collector:4318/v1/traces`.
    pub url: Url,
    /// Headers of each export; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one export may take.
    pub timeout: Duration,
    /// A PEM file of certificate authorities trusted besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// What the spans are of: `service.name` and its like.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of certificate authorities cannot be read.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE {path} cannot be read: {source}")]
    CaFile {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE {0} holds no PEM certificate")]
    NoCertificate(String),
    /// The HTTP client cannot be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Takes spans for the exporter.
pub struct Recorder {
    queue: mpsc::Sender<Finished>,
    sampler: Sampler,
}

/// The exporter at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    recorder: Arc<Recorder>,
    stop: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

/// Begins to export. The exporter lives in the background of the current runtime.
///
/// # Errors
/// Certificates that cannot be read, or a client that cannot be built.
pub fn start(config: Config) -> Result<Exporter, Error> {
    register_counters();
    let client = export::client(&config)?;
    let (queue, spans) = mpsc::channel(QUEUE);
    let (stop, stopped) = mpsc::channel(1);
    let recorder = Arc::new(Recorder { queue, sampler: config.sampler });
    let encoder = Encoder::new(&config.resource);
    let worker = Worker::new(client, config, encoder, spans, stopped);
    let task = tokio::spawn(worker.run());
    Ok(Exporter { recorder, stop, task })
}

impl Exporter {
    /// Who takes the spans.
    #[must_use]
    pub fn recorder(&self) -> Arc<dyn Record> {
        self.recorder.clone()
    }

    /// Exports what waits, and ends; what is not exported by the `deadline` is lost.
    pub async fn shutdown(mut self, deadline: Instant) {
        let _ = self.stop.try_send(());
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            warn!("no time was left to export all traces");
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record for Recorder {
    fn samples(&self, trace_id: TraceId, caller: Option<bool>) -> bool {
        self.sampler.samples(trace_id, caller)
    }

    fn record(&self, span: Finished) {
        if self.queue.try_send(span).is_err() {
            count("dropped", 1);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("sampler", &self.sampler).finish_non_exhaustive()
    }
}

/// Counts from zero.
fn register_counters() {
    for outcome in ["exported", "dropped", "failed"] {
        count(outcome, 0);
    }
}

fn count(outcome: &'static str, spans: usize) {
    counter!("mcp_image_trace_spans_total", "outcome" => outcome).increment(spans as u64);
}

#[cfg(test)]
mod tests;
