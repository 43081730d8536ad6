//! The configuration, from the environment and a `.env` file into each room's `Config`.

use crate::{cleaner, generate, predictor, serve, stack, storage, telemetry};

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads of the runtime, never more than cores.
    pub workers: usize,
    /// What URLs in answers start with, without a trailing slash.
    pub public_base_url: String,
    /// The log.
    pub telemetry: telemetry::Config,
    /// Connections.
    pub serve: serve::Config,
    /// Who may ask.
    pub stack: stack::Config,
    /// Where images live.
    pub storage: storage::Config,
    /// Who draws.
    pub predictor: predictor::Config,
    /// The pipeline.
    pub generate: generate::Config,
    /// The cleaner.
    pub cleaner: cleaner::Config,
}
