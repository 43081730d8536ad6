//! The accept loop: connection limits and deadlines, graceful drain.

mod connection;
mod io;
mod listen;
#[cfg(target_os = "linux")]
mod socket;
mod stream;
mod turns;

use std::{future::Future, net::SocketAddr, time::Duration};

pub use connection::serve_connection;
pub use listen::Listener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{health::Health, stack::Stack};

/// How connections are taken and let go.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 lets the system choose.
    pub port: u16,
    /// A second listener for `/metrics` and `/health` alone.
    pub metrics_port: Option<u16>,
    /// Connections open at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From accept to a whole request head, and from a later head's first byte to its last.
    pub head_timeout: Duration,
    /// A connection is closed this long after its last response, if no request comes.
    pub idle_timeout: Duration,
    /// A client that takes no byte of a response for this long is cut off: the connection, or on
    /// HTTP/2 that response's stream.
    pub write_timeout: Duration,
    /// After SIGTERM: readiness fails, but new requests are still taken, for this long.
    pub shutdown_delay: Duration,
    /// After SIGTERM: requests in flight have this long to finish, the delay included.
    pub shutdown_grace: Duration,
}

/// Listeners bound, before anything is served: a port in use is an error at start.
#[derive(Debug)]
pub struct Server {
    main: Listener,
    metrics: Option<Listener>,
    config: Config,
}

impl Server {
    /// Binds the listeners.
    ///
    /// # Errors
    /// An address that cannot be bound; the message names it and the variable that sets it.
    pub async fn bind(config: Config) -> std::io::Result<Self> {
        let main = Listener::bind("PORT", &config.host, config.port, config.max_connections).await?;
        let metrics = match config.metrics_port {
            Some(port) => {
                Some(Listener::bind("METRICS_PORT", &config.host, port, METRICS_CONNECTIONS).await?)
            }
            None => None,
        };
        Ok(Self { main, metrics, config })
    }

    /// The main listener's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    /// How long the requests in flight have to finish.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.config.shutdown_grace
    }

    /// The second listener's address, where there is one.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Listener::local_addr)
    }

    /// Serves until `shutdown` is ready, then drains: readiness fails at once; after the delay no
    /// connection is accepted and idle ones close; requests in flight finish within the grace.
    ///
    /// `shutdown` gives the delay before new requests are no longer taken. Returns whether every
    /// request in flight was finished.
    pub async fn run(
        self,
        stack: Stack,
        metrics_stack: Stack,
        health: Health,
        shutdown: impl Future<Output = Duration>,
    ) -> bool {
        let (stop, stopped) = watch::channel(false);
        let mut loops = tokio::task::JoinSet::new();
        loops.spawn(self.main.serve(stack, self.config.clone(), stopped.clone()));
        if let Some(metrics) = self.metrics {
            loops.spawn(metrics.serve(metrics_stack, self.config.clone(), stopped));
        }

        let delay = shutdown.await;
        health.start_draining();
        info!(
            delay_seconds = delay.as_secs_f64(),
            grace_seconds = self.config.shutdown_grace.as_secs_f64(),
            "draining: not ready any more, requests in flight finish"
        );
        let drained = tokio::time::timeout(self.config.shutdown_grace, async {
            tokio::time::sleep(delay).await;
            stop.send_replace(true);
            while loops.join_next().await.is_some() {}
        })
        .await
        .is_ok();
        if drained {
            info!("drained: every request was finished");
        } else {
            warn!("the grace is over: requests still in flight are cut off");
        }
        drained
    }
}

/// Connections to the metrics listener: a few scrapers and probes.
const METRICS_CONNECTIONS: usize = 64;
