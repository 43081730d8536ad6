//! The accept loop: connection limits and deadlines, graceful drain.

use std::time::Duration;

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
    /// From accept to a whole request head; also between requests of an HTTP/1 connection.
    pub head_timeout: Duration,
    /// A client that takes no byte of a response for this long is cut off.
    pub write_timeout: Duration,
    /// After SIGTERM: readiness fails, but new requests are still taken, for this long.
    pub shutdown_delay: Duration,
    /// After SIGTERM: requests in flight have this long to finish, the delay included.
    pub shutdown_grace: Duration,
}
