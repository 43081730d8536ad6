//! Liveness, readiness and the health report.
//!
//! Readiness is our own: it fails while the server drains and while its storage is known to fail.
//! The predictor does not decide it: replicas share one predictor, so taking them all out of
//! rotation would only hide the images that can still be served; its state is in the report.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use layers::Body;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    generate::{Generator, input_schema},
    predictor::{Description, State},
    problem::Problem,
    storage::ImageStore,
};

/// From the end of one background probe to the start of the next.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// A probe of the storage that takes longer counts as failed.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known about this server's health; cheap to clone, shared.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    draining: AtomicBool,
    generator: Generator,
    store: Arc<dyn ImageStore>,
    limits: Limits,
    probed: watch::Sender<Probed>,
}

/// What whoever asks of this server has to keep to, as the report tells it. The arguments of a
/// generation are told besides.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    /// How long an image lives.
    pub image_ttl_seconds: u64,
    /// Bytes of a stored image at most.
    pub max_image_bytes: u64,
    /// Generations that draw at once.
    pub generations_at_once: usize,
    /// Generations that may wait for a place.
    pub generations_waiting: usize,
    /// Widths and heights in which images may be asked for.
    pub variant_sizes: Vec<u32>,
    /// What a client may ask of MCP and REST; `None`: as much as it likes.
    pub request_rate: Option<Rate>,
    /// What a client may ask of the images; `None`: as much as it likes.
    pub image_rate: Option<Rate>,
}

/// Requests of one client.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// What the last background probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probed {
    predictor: State,
    storage: Storage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Storage {
    Unknown,
    Ready,
    Failing,
}

/// The health report, as `/health` shows it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    status: &'static str,
    version: &'static str,
    predictor: PredictorReport,
    storage: StorageReport,
    generations: crate::generate::Load,
    limits: LimitsReport<'a>,
}

#[derive(Debug, Serialize)]
struct LimitsReport<'a> {
    /// The arguments of a generation: the properties of their JSON Schema.
    arguments: serde_json::Value,
    #[serde(flatten)]
    server: &'a Limits,
}

#[derive(Debug, Serialize)]
struct PredictorReport {
    #[serde(flatten)]
    description: Description,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct StorageReport {
    backend: &'static str,
    state: Storage,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("probed", &*self.0.probed.borrow()).finish_non_exhaustive()
    }
}

impl Health {
    /// The health of a server made of these parts, with these limits; nothing is known yet.
    #[must_use]
    pub fn new(generator: Generator, store: Arc<dyn ImageStore>, limits: Limits) -> Self {
        let probed = watch::Sender::new(Probed { predictor: State::Unknown, storage: Storage::Unknown });
        Self(Arc::new(Shared { draining: AtomicBool::new(false), generator, store, limits, probed }))
    }

    /// From now on this server is not ready: it finishes what it has and goes.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new requests should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.0.draining.load(Ordering::Relaxed) && self.0.probed.borrow().storage != Storage::Failing
    }

    /// Probes predictor and storage again and again; never returns.
    pub async fn watch(self) {
        loop {
            self.probe().await;
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Probes predictor and storage once.
    pub async fn probe(&self) {
        let predictor = self.0.generator.predictor();
        let (predictor, storage) = tokio::join!(predictor.probe(), self.probe_storage());
        let seen = Probed { predictor, storage };
        let before = self.0.probed.send_replace(seen.clone());
        if before.predictor != seen.predictor {
            match &seen.predictor {
                State::Unavailable { reason } => warn!(reason, "predictor unavailable"),
                state => info!(?state, "predictor state changed"),
            }
        }
        if before.storage == Storage::Failing && seen.storage == Storage::Ready {
            info!("storage works again");
        }
    }

    /// The answer of `/health/live`: this process serves.
    #[must_use]
    pub fn live(&self) -> Response<Body> {
        json_response(StatusCode::OK, &json!({"status": "ok"}))
    }

    /// The answer of `/health/ready`.
    #[must_use]
    pub fn ready(&self) -> Response<Body> {
        if self.is_ready() {
            json_response(StatusCode::OK, &json!({"status": "ready"}))
        } else {
            let status = self.status(&self.0.probed.borrow());
            json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": status}))
        }
    }

    /// The answer of `/health`: the whole report. 200 while this process serves, whatever its
    /// parts do; `status` tells how it stands.
    #[must_use]
    pub fn report(&self) -> Response<Body> {
        let probed = self.0.probed.borrow().clone();
        let description = self.0.generator.predictor().describe();
        let note = (description.protocol == "embedded")
            .then_some("a procedural artist, not a model; set KSERVE_ENDPOINT to use a model");
        let report = Report {
            status: self.status(&probed),
            version: env!("CARGO_PKG_VERSION"),
            predictor: PredictorReport { description, state: probed.predictor, note },
            storage: StorageReport { backend: self.0.store.kind(), state: probed.storage },
            generations: self.0.generator.load(),
            limits: LimitsReport {
                arguments: input_schema().remove("properties").unwrap_or_default(),
                server: &self.0.limits,
            },
        };
        json_response(StatusCode::OK, &report)
    }

    fn answer(&self, path: &str) -> Response<Body> {
        match path {
            "/health" => self.report(),
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            _ => Problem::not_found().into_response(),
        }
    }

    fn status(&self, probed: &Probed) -> &'static str {
        if self.0.draining.load(Ordering::Relaxed) {
            "draining"
        } else if probed.storage == Storage::Failing || matches!(probed.predictor, State::Unavailable { .. })
        {
            "degraded"
        } else {
            "ok"
        }
    }

    async fn probe_storage(&self) -> Storage {
        match tokio::time::timeout(STORAGE_TIMEOUT, self.0.store.check()).await {
            Ok(Ok(())) => Storage::Ready,
            Ok(Err(error)) => {
                warn!(%error, cause = error_cause(&error), "storage probe failed");
                Storage::Failing
            }
            Err(_) => {
                warn!(timeout_seconds = STORAGE_TIMEOUT.as_secs(), "storage probe timed out");
                Storage::Failing
            }
        }
    }
}

impl tower::Service<Request<Body>> for Health {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = match *request.method() {
            Method::GET | Method::HEAD => self.answer(request.uri().path()),
            _ => Problem::method_not_allowed("GET, HEAD").into_response(),
        };
        ready(Ok(response))
    }
}

fn error_cause(error: &dyn std::error::Error) -> Option<String> {
    error.source().map(ToString::to_string)
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
