//! The one line at the end of a request, and the end of its span.

use http::StatusCode;
use tokio::time::Instant;
use tracing::Span;

use super::TraceContext;
use super::current::scope;
use crate::observe::{Observe, Outcome};

/// Logs how a request ended when it is dropped: with the body, or before there was one.
pub struct Ending {
    span: Span,
    recorded: super::Span,
    context: Option<TraceContext>,
    quiet: bool,
    started: Instant,
    status: Option<StatusCode>,
    bytes: u64,
    outcome: Outcome,
}

impl Ending {
    pub(super) fn new(span: Span, recorded: super::Span, context: TraceContext, quiet: bool) -> Self {
        Self {
            span,
            recorded,
            context: Some(context),
            quiet,
            started: Instant::now(),
            status: None,
            bytes: 0,
            outcome: Outcome::Aborted,
        }
    }

    /// The end of the recorded span, by the conventions for HTTP servers.
    fn end_recorded(&mut self) {
        if !self.recorded.is_recorded() {
            return;
        }
        self.recorded.set("http.response.body.size", self.bytes);
        if let Some(status) = self.status {
            self.recorded.set("http.response.status_code", status.as_u16());
        }
        match (self.status, self.outcome) {
            (Some(status), _) if status.is_server_error() => self.recorded.fail(status.as_str().to_owned()),
            (_, Outcome::Error) => self.recorded.fail("error"),
            // The client went away: that is its own affair.
            (_, Outcome::Aborted) => self.recorded.set("error.type", "aborted"),
            (_, Outcome::Complete) => {}
        }
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(super) fn failed(&mut self) {
        self.outcome = Outcome::Error;
    }
}

impl Observe for Ending {
    fn data(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn scope<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let span = &self.span;
        scope(&mut self.context, || span.in_scope(poll))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let micros = u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let duration_ms = f64::from(micros) / 1e3;
        let status = self.status.map(|status| status.as_u16());
        let (bytes, outcome) = (self.bytes, self.outcome.as_str());
        if self.quiet {
            tracing::debug!(parent: &self.span, status, duration_ms, bytes, outcome, "request ended");
        } else {
            tracing::info!(parent: &self.span, status, duration_ms, bytes, outcome, "request ended");
        }
        self.end_recorded();
    }
}
