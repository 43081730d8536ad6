//! Removes images whose time is over.

use std::time::Duration;

/// How often the cleaner comes by.
#[derive(Debug, Clone)]
pub struct Config {
    /// From the end of one cycle to the start of the next.
    pub interval: Duration,
}
