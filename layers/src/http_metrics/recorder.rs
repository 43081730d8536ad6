//! What is recorded along one request.

use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::handles::{Route, Status};
use crate::method::MethodLabel;
use crate::observe::Observe;

/// Records one request when it is dropped: with the body, or before there was one.
pub(super) struct Recorder {
    route: Arc<Route>,
    method: MethodLabel,
    status: Status,
    started: Instant,
}

impl Recorder {
    pub(super) fn start(route: Arc<Route>, method: MethodLabel) -> Self {
        route.in_flight.increment(1);
        Self { route, method, status: Status::Aborted, started: Instant::now() }
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Status::Code(status);
    }

    pub(super) fn failed(&mut self) {
        self.status = Status::Error;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.route.in_flight.decrement(1);
        self.route.with_series(self.method, self.status, |series| {
            series.requests.increment(1);
            series.duration_seconds.record(duration);
        });
    }
}

/// Counts the bytes of a request's body.
pub struct RequestBytes {
    route: Arc<Route>,
}

impl RequestBytes {
    pub(super) fn new(route: Arc<Route>) -> Self {
        Self { route }
    }
}

impl Observe for RequestBytes {
    fn data(&mut self, bytes: u64) {
        self.route.request_bytes.increment(bytes);
    }
}

/// Counts the bytes of a response's body, and records the request at its end.
pub struct ResponseBytes {
    recorder: Recorder,
}

impl ResponseBytes {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder }
    }
}

impl Observe for ResponseBytes {
    fn data(&mut self, bytes: u64) {
        self.recorder.route.response_bytes.increment(bytes);
    }
}
