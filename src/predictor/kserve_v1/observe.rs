//! What calls leave in metrics and in the log.

use std::time::{Duration, Instant};

use metrics::{counter, histogram};

use super::super::Error;
use super::classify::one_line;

/// A call being measured. Dropped before its end, it counts as cancelled.
#[derive(Debug)]
pub(super) struct Observed {
    protocol: &'static str,
    started: Instant,
    outcome: &'static str,
}

impl Observed {
    pub(super) fn start(protocol: &'static str) -> Self {
        Self { protocol, started: Instant::now(), outcome: "cancelled" }
    }

    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let Self { protocol, started, outcome } = *self;
        counter!("mcp_image_predictor_requests_total", "protocol" => protocol, "outcome" => outcome)
            .increment(1);
        histogram!("mcp_image_predictor_request_duration_seconds", "protocol" => protocol)
            .record(started.elapsed().as_secs_f64());
    }
}

/// Counts from zero.
pub(super) fn register_counters(protocol: &'static str) {
    for outcome in ["ok", "cancelled"].into_iter().chain(Error::KINDS) {
        counter!("mcp_image_predictor_requests_total", "protocol" => protocol, "outcome" => outcome)
            .increment(0);
    }
    for reason in ["unreachable", "not_ready", "busy"] {
        counter!("mcp_image_predictor_retries_total", "reason" => reason).increment(0);
    }
}

/// A call is tried again after `wait`.
pub(super) fn retry(model: &str, error: &Error, wait: Duration) {
    counter!("mcp_image_predictor_retries_total", "reason" => error.kind()).increment(1);
    let cause = std::error::Error::source(error).map(innermost);
    tracing::warn!(
        model,
        reason = error.kind(),
        cause,
        wait_seconds = wait.as_secs_f64(),
        "the prediction is tried again"
    );
}

/// The cause at the bottom of a chain, in one line: it says most (`Connection refused`, not `error
/// sending request`), and holds no URL.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    one_line(&error.to_string())
}
