//! Handles of metrics, registered once for each combination of labels.

use std::sync::{Arc, PoisonError, RwLock};

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram};

use crate::method::MethodLabel;

/// All routes seen so far. They are few, so looking through them beats hashing.
#[derive(Default)]
pub(super) struct Routes(RwLock<Vec<Arc<Route>>>);

/// The handles of one route.
pub(super) struct Route {
    name: &'static str,
    pub(super) in_flight: Gauge,
    pub(super) request_bytes: Counter,
    pub(super) response_bytes: Counter,
    series: RwLock<Vec<(MethodLabel, Status, Series)>>,
}

/// The handles of one route, method and status.
#[derive(Clone)]
pub(super) struct Series {
    pub(super) requests: Counter,
    pub(super) duration_seconds: Histogram,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Code(StatusCode),
    Error,
    Aborted,
}

impl Routes {
    pub(super) fn get(&self, name: &'static str) -> Arc<Route> {
        let find = |routes: &[Arc<Route>]| routes.iter().find(|route| route.name == name).map(Arc::clone);
        if let Some(route) = find(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return route;
        }
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Someone else may have been faster.
        find(&routes).unwrap_or_else(|| {
            let route = Arc::new(Route::register(name));
            routes.push(Arc::clone(&route));
            route
        })
    }
}

impl Route {
    fn register(name: &'static str) -> Self {
        Self {
            name,
            in_flight: metrics::gauge!("http_server_requests_in_flight", "route" => name),
            request_bytes: metrics::counter!("http_server_request_body_bytes_total", "route" => name),
            response_bytes: metrics::counter!("http_server_response_body_bytes_total", "route" => name),
            series: RwLock::default(),
        }
    }

    pub(super) fn with_series<R>(
        &self,
        method: MethodLabel,
        status: Status,
        record: impl Fn(&Series) -> R,
    ) -> R {
        let find = |all: &[(MethodLabel, Status, Series)]| {
            all.iter().find(|(m, s, _)| (*m, *s) == (method, status)).map(|(_, _, series)| record(series))
        };
        if let Some(recorded) = find(&self.series.read().unwrap_or_else(PoisonError::into_inner)) {
            return recorded;
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        find(&all).unwrap_or_else(|| {
            let series = Series::register(self.name, method, status);
            let recorded = record(&series);
            all.push((method, status, series));
            recorded
        })
    }
}

/// The counter alone: a histogram without a sample would be a page of zeros.
pub(super) fn register_requests(route: &'static str, method: MethodLabel, status: StatusCode) {
    metrics::counter!("http_server_requests_total", &labels(route, method, Status::Code(status)))
        .increment(0);
}

fn labels(route: &'static str, method: MethodLabel, status: Status) -> [(&'static str, String); 3] {
    let status = match &status {
        Status::Code(code) => code.as_str().to_owned(),
        Status::Error => "error".to_owned(),
        Status::Aborted => "aborted".to_owned(),
    };
    [("route", route.to_owned()), ("method", method.as_str().to_owned()), ("status", status)]
}

impl Series {
    fn register(route: &'static str, method: MethodLabel, status: Status) -> Self {
        let labels = labels(route, method, status);
        Self {
            requests: metrics::counter!("http_server_requests_total", &labels),
            duration_seconds: metrics::histogram!("http_server_request_duration_seconds", &labels),
        }
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(routes.iter().map(|route| route.name)).finish()
    }
}
