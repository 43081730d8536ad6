//! Configuration to built parts, and the parts to a running server.

mod memory;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::Instant};
use tracing::{info, warn};

use crate::{
    banner::Banner,
    cleaner::{Cleaned, Cleaner, CleanerHandle},
    config::Config,
    generate::{self, Generator},
    health::{self, Health},
    images::{Delivery, Purger, PurgerHandle},
    mcp::ImageServer,
    metrics::Exporter,
    predictor::{self, Predictor},
    serve::Server,
    stack::{self, Listing, Rooms, Stack},
    storage::{self, ImageStore, Storage, Watched},
    telemetry::traces,
};

/// How long a server that ends goes on telling the purge webhook what it has not heard yet.
const PURGE_GRACE: Duration = Duration::from_secs(5);
/// How long the command that cleans does: nobody waits for an answer there.
const PURGE_PATIENCE: Duration = Duration::from_secs(60);

/// A server, built and bound, not yet serving.
#[derive(Debug)]
pub struct App {
    server: Server,
    stack: Stack,
    metrics_stack: Stack,
    health: Health,
    cleaner: CleanerHandle,
    background: [JoinHandle<()>; 2],
    purger: Option<PurgerHandle>,
    traces: Option<traces::Exporter>,
    banner: String,
}

/// Why a server cannot start. The message says which part, and what to check.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage cannot be opened.
    #[error("the storage cannot be opened ({backend}): {}", causes(.source))]
    Storage {
        /// The backend.
        backend: &'static str,
        /// Why.
        source: storage::Error,
    },
    /// The predictor's client cannot be built.
    #[error("the predictor cannot be set up: {0}")]
    Predictor(#[source] layers::BoxError),
    /// The client of the purge webhook cannot be built.
    #[error("IMAGE_PURGE_WEBHOOK cannot be set up: {0}")]
    Purge(#[source] layers::BoxError),
    /// The exporter of traces cannot be built.
    #[error("traces cannot be exported: {0}")]
    Traces(#[from] traces::Error),
    /// A configured host or origin is not one.
    #[error(transparent)]
    Stack(#[from] stack::Error),
    /// The socket cannot be bound.
    #[error("{0}")]
    Bind(#[from] std::io::Error),
}

impl App {
    /// Builds every part and binds the sockets.
    ///
    /// # Errors
    /// The first part that cannot be built.
    pub async fn build(mut config: Config, metrics: Exporter) -> Result<Self, Error> {
        let server = Server::bind(config.serve.clone()).await?;
        name_the_port(&mut config, server.local_addr().port());
        let mut storage = open_storage(&config.storage)?;
        let backend = config.storage.backend.kind();
        storage.images.start().await.map_err(|source| Error::Storage { backend, source })?;
        let (delivery, store, purger) = delivery(&config, Arc::clone(&storage.images))?;
        storage.images = store.clone();
        let traces = config.traces.take().map(traces::start).transpose()?;
        let predictor = predictor(&config.predictor, traces.is_some())?;
        let description = predictor.describe();
        let generator = Generator::new(predictor, store.clone(), config.generate.clone());
        generate::register_counters(&description.model);
        let health = Health::new(generator.clone(), store.clone(), limits(&config));

        let upkeep = tokio::spawn(metrics.clone().upkeep());
        let mcp = ImageServer::new(&config.telemetry.service_name, Arc::new(generator.clone()));
        let recorder = traces.as_ref().map(traces::Exporter::recorder);
        let rooms = Rooms { mcp, generator, delivery, health: health.clone(), metrics, recorder };
        let stack = Stack::new(&rooms, &config.stack, config.serve.metrics_port.is_none())?;
        let metrics_stack = Stack::operations(&rooms, &config.stack);

        let cleaner = Cleaner::new(storage, config.cleaner.clone()).start();
        let background = [tokio::spawn(health.clone().watch()), upkeep];
        let banner = Banner {
            base_url: &config.public_base_url,
            metrics_url: server.metrics_addr().map(|addr| format!("http://localhost:{}", addr.port())),
            predictor: &description,
            storage: config.storage.backend.to_string(),
        }
        .text();
        memory::tell(&config);
        warn_of_openness(&server, &config.stack);
        Ok(Self { server, stack, metrics_stack, health, cleaner, background, purger, traces, banner })
    }

    /// What a person who starts the server reads.
    #[must_use]
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// The main listener's address.
    #[must_use]
    pub fn local_addr(&self) -> std::net::SocketAddr {
        self.server.local_addr()
    }

    /// Serves until `shutdown` is ready with the delay before requests are no longer taken; then
    /// drains. Returns whether every request in flight was finished.
    pub async fn run(self, shutdown: impl Future<Output = Duration>) -> bool {
        info!(addr = %self.server.local_addr(), version = env!("CARGO_PKG_VERSION"), "serving");
        let grace = self.server.grace();
        let mut over = Instant::now();
        let shutdown = async {
            let delay = shutdown.await;
            over = Instant::now() + grace;
            delay
        };
        let drained = self.server.run(self.stack, self.metrics_stack, self.health, shutdown).await;
        self.background.iter().for_each(JoinHandle::abort);
        self.cleaner.stop().await;
        if let Some(purger) = self.purger {
            purger.finish(PURGE_GRACE).await;
        }
        if let Some(traces) = self.traces {
            // Requests go before: traces have what they left of the grace.
            traces.shutdown(over).await;
        }
        drained
    }
}

/// One cleaning cycle on the configured storage, as the server's own do it: the purge webhook is told
/// what was removed.
///
/// # Errors
/// A storage that cannot be opened or looked through, or a part that cannot be built.
pub async fn clean(config: Config) -> Result<Cleaned, Error> {
    let backend = config.storage.backend.kind();
    let mut storage = open_storage(&config.storage)?;
    let (_, store, purger) = delivery(&config, Arc::clone(&storage.images))?;
    storage.images = store;
    let cleaned = Cleaner::new(storage, config.cleaner).run_once().await;
    if let Some(purger) = purger {
        purger.finish(PURGE_PATIENCE).await;
    }
    cleaned.map_err(|source| Error::Storage { backend, source })
}

/// Opens the configured storage.
///
/// # Errors
/// A folder that cannot be made or read.
pub fn open_storage(config: &storage::Config) -> Result<Storage, Error> {
    Storage::open(config).map_err(|source| Error::Storage { backend: config.backend.kind(), source })
}

/// An error and what is behind it, on one line: here the reader is the operator.
fn causes(error: &dyn std::error::Error) -> String {
    let behind = std::iter::successors(error.source(), |error| error.source());
    behind.fold(error.to_string(), |text, error| format!("{text}: {error}"))
}

type Delivered = (Delivery, Arc<dyn ImageStore>, Option<PurgerHandle>);

/// Delivery of what is in `store`, and the store for all others: what they remove, delivery hears of.
fn delivery(config: &Config, store: Arc<dyn ImageStore>) -> Result<Delivered, Error> {
    let purger = config.images.purge.clone().map(Purger::start).transpose();
    let (purger, handle) = purger.map_err(|error| Error::Purge(error.into()))?.unzip();
    let delivery = Delivery::new(store.clone(), &config.images, purger);
    let store = Arc::new(Watched::new(store, Arc::new(delivery.clone())));
    Ok((delivery, store, handle))
}

fn predictor(config: &predictor::Config, traced: bool) -> Result<Arc<dyn Predictor>, Error> {
    match config {
        predictor::Config::Embedded => {
            warn!(
                "PREDICTOR=embedded: pictures come from a procedural artist, not from a model; \
                 set KSERVE_ENDPOINT to use a model"
            );
            Ok(shared(predictor::embedded::Embedded::new(), traced))
        }
        predictor::Config::KserveV1(config) => {
            let predictor = predictor::kserve_v1::KserveV1::new((**config).clone())
                .map_err(|error| Error::Predictor(error.into()))?;
            Ok(shared(predictor, traced))
        }
    }
}

/// What clients have to keep to.
fn limits(config: &Config) -> health::Limits {
    let rate =
        |rate: stack::Rate| health::Rate { per_second: rate.per_second.get(), burst: rate.burst.get() };
    health::Limits {
        image_ttl_seconds: config.generate.image_ttl.as_secs(),
        max_image_bytes: config.generate.limits.max_bytes,
        generations_at_once: config.generate.concurrency,
        generations_waiting: config.generate.queue_size,
        variant_sizes: config.images.variant_sizes.as_slice().to_vec(),
        request_rate: config.stack.request_rate.map(rate),
        image_rate: config.stack.image_rate.map(rate),
    }
}

fn shared(predictor: impl Predictor, traced: bool) -> Arc<dyn Predictor> {
    if traced { Arc::new(predictor::Traced::new(predictor)) } else { Arc::new(predictor) }
}

/// With `PORT=0` the system chose the port: URLs must name that one.
fn name_the_port(config: &mut Config, port: u16) {
    if config.serve.port == 0
        && let Some(base) = config.public_base_url.strip_suffix(":0")
    {
        config.public_base_url = format!("{base}:{port}");
        if !config.images.cdn {
            config.images.urls = config.images.urls.with_base(&config.public_base_url);
            config.generate.urls = config.images.urls.clone();
            if let Some(purge) = &mut config.images.purge {
                purge.base_url.clone_from(&config.public_base_url);
            }
        }
    }
}

/// Says so where anyone who reaches the port may generate, list or delete.
fn warn_of_openness(server: &Server, config: &stack::Config) {
    let addr = server.local_addr();
    if addr.ip().is_loopback() {
        return;
    }
    let listing = match config.listing {
        Listing::Auto => "only from this machine",
        Listing::On => "for everyone",
        Listing::Off => "for no one",
    };
    warn!(
        %addr,
        listing,
        "listening beyond this machine without credentials: whoever reaches the port may generate; \
         list and delete are open {listing} (IMAGE_LISTING)"
    );
}
