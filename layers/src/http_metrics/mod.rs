//! Metrics of HTTP requests, which count until the response's body has ended.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `http_server_requests_total` | `route`, `method`, `status` | counted when the body ends |
//! | `http_server_request_duration_seconds` | `route`, `method`, `status` | until the body ends |
//! | `http_server_requests_in_flight` | `route` | until the body ends |
//! | `http_server_request_body_bytes_total` | `route` | |
//! | `http_server_response_body_bytes_total` | `route` | |
//!
//! All labels come from fixed sets: the route from a function with a few names, the method from the registered ones or
//! `OTHER`, the status from the response; it is `error` when the service behind failed, and `aborted` when the client
//! went away before there was a response.
//!
//! Handles are kept by the layer from the first request on, so install the recorder before that.
//!
//! ```
//! use http::{Request, Response, Uri};
//! use http_body_util::BodyExt;
//! use layers::http_metrics::HttpMetricsLayer;
//! use layers::{Body, BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! fn route(target: &Uri) -> &'static str {
//!     if target.path() == "/health" { "health" } else { "other" }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(HttpMetricsLayer::new(route))
//!     .service(service_fn(|_: Request<_>| async { Ok::<_, BoxError>(Response::new(Body::full("ok"))) }));
//! let response = service.oneshot(Request::get("/health").body(Body::empty())?).await?;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "ok");
//! # Ok(())
//! # }
//! ```

mod handles;
mod recorder;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, StatusCode};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tower::{Layer, Service};

use crate::Classify;
use crate::method::MethodLabel;
use crate::observe::ObservedBody;
use handles::Routes;
use recorder::Recorder;

pub use recorder::{RequestBytes, ResponseBytes};

/// The body that the service behind reads: counted as it is read.
pub type RequestBody<B> = ObservedBody<B, RequestBytes>;

/// The body of the response: counted as it is sent, and timed to its end.
pub type ResponseBody<B> = ObservedBody<B, ResponseBytes>;

/// Gives help texts and units of all metrics of this crate to the recorder.
pub fn describe() {
    describe_counter!("http_server_requests_total", "HTTP requests, by route, method and status.");
    describe_histogram!(
        "http_server_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's head to the end of its response's body."
    );
    describe_gauge!("http_server_requests_in_flight", "HTTP requests whose response has not ended yet.");
    describe_counter!(
        "http_server_request_body_bytes_total",
        Unit::Bytes,
        "Bytes of request bodies that were read."
    );
    describe_counter!(
        "http_server_response_body_bytes_total",
        Unit::Bytes,
        "Bytes of response bodies that were handed to the connection."
    );
    describe_counter!("http_server_rate_limited_total", "Requests refused because a client asked too often.");
    describe_gauge!("http_server_rate_limit_keys", "Clients that a rate limiter tells apart right now.");
    describe_counter!("http_server_panics_total", "Requests whose handling panicked.");
}

/// Records metrics of each request.
#[derive(Debug, Clone)]
pub struct HttpMetricsLayer {
    classify: Classify,
    routes: Arc<Routes>,
}

impl HttpMetricsLayer {
    /// `classify` names the route of a request, out of a fixed set of a few names.
    pub fn new(classify: Classify) -> Self {
        Self { classify, routes: Arc::default() }
    }

    /// Counts these answers of a route from zero on, so that an alert sees the first one too: of a counter that was
    /// not there before, nobody knows that it grew.
    pub fn with_counted(self, route: &'static str, method: &Method, statuses: &[StatusCode]) -> Self {
        for status in statuses {
            handles::register_requests(route, MethodLabel::of(method), *status);
        }
        self
    }
}

impl<S> Layer<S> for HttpMetricsLayer {
    type Service = HttpMetrics<S>;

    fn layer(&self, inner: S) -> HttpMetrics<S> {
        HttpMetrics { inner, layer: self.clone() }
    }
}

/// The service of [`HttpMetricsLayer`].
#[derive(Debug, Clone)]
pub struct HttpMetrics<S> {
    inner: S,
    layer: HttpMetricsLayer,
}

impl<S, B, ResB> Service<Request<B>> for HttpMetrics<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResB>>,
    B: http_body::Body,
    ResB: http_body::Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = self.layer.routes.get((self.layer.classify)(request.uri()));
        let recorder = Recorder::start(Arc::clone(&route), MethodLabel::of(request.method()));
        let method = request.method().clone();
        let request = request.map(|body| ObservedBody::new(body, RequestBytes::new(route)));
        ResponseFuture { inner: self.inner.call(request), method, recorder: Some(recorder) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`HttpMetrics`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        method: Method,
        recorder: Option<Recorder>,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ResB: http_body::Body,
{
    type Output = Result<Response<ResponseBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        // Like any future, it is not polled again once it was ready: the recorder is there.
        let Some(mut recorder) = this.recorder.take() else { return Poll::Pending };
        Poll::Ready(match result {
            Ok(response) => {
                recorder.answered(response.status());
                Ok(ObservedBody::of_response(this.method, response, ResponseBytes::new(recorder)))
            }
            Err(error) => {
                recorder.failed();
                Err(error)
            }
        })
    }
}

#[cfg(test)]
mod tests;
