//! The log and the metrics recorder.

/// What the log says, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `service` on each line.
    pub service_name: String,
    /// A level (`INFO`) or `tracing` directives (`info,mcp_image_server=debug`).
    pub level: String,
    /// The lines' form.
    pub format: Format,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}
