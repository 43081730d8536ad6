use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tracing::{debug, warn};

#[cfg(target_os = "linux")]
use super::socket::Socket;
use super::{Config, connection::serve, turns::Turns};
use crate::stack::Stack;

/// Unsent bytes the kernel may hold for one connection. Beyond them the server, not the kernel,
/// keeps the rest: a slow reader of a large image costs 128 KiB instead of megabytes.
const NOT_SENT_LOW_WATER: u32 = 128 * 1024;
/// Connections the kernel keeps ready for us.
const BACKLOG: u32 = 1024;
/// After an error of `accept` that is not the connection's own: no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    local_addr: SocketAddr,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Binds `host:port`; `variable` is named in the error.
    pub(super) async fn bind(
        variable: &str,
        host: &str,
        port: u16,
        max_connections: usize,
    ) -> std::io::Result<Self> {
        let explain = |error: std::io::Error| {
            let message = format!("cannot listen on {host}:{port} ({variable}): {error}");
            std::io::Error::new(error.kind(), message)
        };
        let addr = tokio::net::lookup_host((host, port))
            .await
            .map_err(explain)?
            .next()
            .ok_or_else(|| explain(std::io::ErrorKind::AddrNotAvailable.into()))?;
        let listener = listen(addr).map_err(explain)?;
        let local_addr = listener.local_addr()?;
        register_counters();
        Ok(Self { listener, local_addr, places: Arc::new(Semaphore::new(max_connections)) })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts and serves until `stopped` says so; then waits for the open connections.
    pub(super) async fn serve(self, stack: Stack, config: Config, mut stopped: watch::Receiver<bool>) {
        let Self { listener, places, .. } = self;
        let graceful = GracefulShutdown::new();
        let config = Arc::new(config);
        let turns = Turns::default();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            let Some((place, socket, peer)) = accepted else { continue };
            #[cfg(target_os = "linux")]
            let socket = Socket::new(socket);
            #[cfg(target_os = "linux")]
            let files = Some(socket.files());
            #[cfg(not(target_os = "linux"))]
            let files = None;
            let (turns, stack, config) = (turns.clone(), stack.clone(), config.clone());
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                let _place = place;
                let _open = Open::count();
                // Made here and not handed in, which would give it two places in the task's memory.
                let served = serve(socket, files, &turns, peer, stack, &config, watcher);
                if let Err(error) = served.await {
                    debug!(%peer, %error, "connection ended early");
                }
            });
        }
        drop(listener);
        graceful.shutdown().await;
    }
}

/// Counts from zero.
fn register_counters() {
    for outcome in ["accepted", "error"] {
        metrics::counter!("mcp_image_connections_total", "outcome" => outcome).increment(0);
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => {
            metrics::counter!("mcp_image_connections_total", "outcome" => "accepted").increment(1);
            tune(&socket);
            Some((place, socket, peer))
        }
        Err(error) => {
            metrics::counter!("mcp_image_connections_total", "outcome" => "error").increment(1);
            let the_peers_own = matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
            );
            if !the_peers_own {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None
        }
    }
}

/// Options of an accepted socket. A socket that lacks one works without it.
fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER);
}

/// Counts an open connection.
struct Open;

impl Open {
    fn count() -> Self {
        metrics::gauge!("mcp_image_connections_open").increment(1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("mcp_image_connections_open").decrement(1);
    }
}
