//! The stack.

use std::time::Duration;

/// Who may ask, how much, and for how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// `Host` values allowed besides loopback names: a name, or a name and port.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values allowed besides loopback ones: `https://app.example`, port as in the origin.
    pub allowed_origins: Vec<String>,
    /// Networks (CIDR) of proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Who may list and delete images.
    pub listing: Listing,
    /// Requests to `/mcp` and REST, per client; `None`: unlimited.
    pub request_rate: Option<Rate>,
    /// Requests for images, per client; `None`: unlimited.
    pub image_rate: Option<Rate>,
    /// Bytes of a request body at most.
    pub max_request_bytes: usize,
    /// From request to response head, for all but generations.
    pub request_timeout: Duration,
    /// From request to response of a generation: waiting, drawing and storing.
    pub generation_timeout: Duration,
}

/// A rate per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Cells replenished each second.
    pub per_second: std::num::NonZeroU32,
    /// Cells that may be taken at once.
    pub burst: std::num::NonZeroU32,
}

/// Who may list and delete images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Loopback peers only.
    Auto,
    /// Everyone.
    On,
    /// No one.
    Off,
}
