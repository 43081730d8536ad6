//! The binary: configuration, telemetry, build, run, drain. The library has the map.

use std::{process::ExitCode, time::Duration};

use mcp_image_server::{
    app::{self, App},
    cleaner::Cleaner,
    cli::{self, Cli, Command},
    config::Config,
    metrics::Metrics,
    telemetry,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{error, info};
