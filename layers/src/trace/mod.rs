//! A span for each request, and one line when its response has ended.
//!
//! The span `request` has `method`, `route`, `request_id`, `trace_id` and `client`; it is entered whenever the service
//! behind, or the body of its response, is polled. When the body has ended there is one event at level `info` with
//! `status`, `duration_ms`, `bytes` and `outcome` (`complete`, `aborted` or `error`); quiet routes get span and event
//! at level `debug`.
//!
//! The caller's [`TraceContext`] is honoured, and is [`current()`] while the request is handled: [`inject`]
//! carries it on with calls that go on from here, and [`span`] begins a span below it. Spans are recorded where there
//! is someone to [`Record`] them; a span of the log and one that is recorded are of the same trace. The layers for request
//! id and client address stand further out.
//!
//! ```
//! use http::{Request, Response, Uri};
//! use layers::trace::{self, TraceLayer};
//! use layers::{Body, BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! fn route(target: &Uri) -> &'static str {
//!     if target.path() == "/health" { "health" } else { "other" }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = TraceLayer::new(route).with_quiet(&["health"]);
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(|_: Request<()>| async move {
//!     let context = trace::current().expect("made so by the layer");
//!     Ok::<_, BoxError>(Response::new(Body::full(context.traceparent())))
//! }));
//! let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let request = Request::builder().header("traceparent", incoming).body(())?;
//! let outgoing = http_body_util::BodyExt::collect(service.oneshot(request).await?.into_body()).await?.to_bytes();
//! assert_eq!(outgoing[..36], incoming.as_bytes()[..36]); // the same trace ...
//! assert_eq!(outgoing, incoming); // ... and, where nothing is recorded, the same span
//! # Ok(())
//! # }
//! ```

mod context;
mod current;
mod ending;
mod span;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, Version};
use tower::{Layer, Service};
use tracing::Level;
use tracing::instrument::{Instrument, Instrumented};

pub use context::{TraceContext, TraceId};
pub use current::{InContext, current, inject, is_recorded, span};
pub use ending::Ending;
pub use span::{Finished, Kind, Record, Span, Value};

use crate::Classify;
use crate::client_addr::ClientAddr;
use crate::method::MethodLabel;
use crate::observe::ObservedBody;
use crate::request_id::RequestId;

/// The body of the response: polled within the span, and logged at its end.
pub type ResponseBody<B> = ObservedBody<B, Ending>;

/// Traces each request.
#[derive(Debug, Clone)]
pub struct TraceLayer {
    classify: Classify,
    quiet: &'static [&'static str],
    recorder: Option<Arc<dyn Record>>,
    templates: Classify,
}

impl TraceLayer {
    /// `classify` names the route of a request, out of a fixed set of a few names.
    pub fn new(classify: Classify) -> Self {
        Self { classify, quiet: &[], recorder: None, templates: classify }
    }

    /// Spans of all but quiet routes are recorded by `recorder`; `template` gives the path of a request with its variable
    /// parts replaced by names (`http.route`), out of a fixed set of a few.
    pub fn with_recorder(mut self, recorder: Option<Arc<dyn Record>>, template: Classify) -> Self {
        self.recorder = recorder;
        self.templates = template;
        self
    }

    /// These routes are traced at level `debug`: probes and scrapes come every few seconds.
    pub fn with_quiet(mut self, routes: &'static [&'static str]) -> Self {
        self.quiet = routes;
        self
    }

    fn span<B>(&self, request: &Request<B>, context: &TraceContext) -> (tracing::Span, bool) {
        let route = (self.classify)(request.uri());
        let quiet = self.quiet.contains(&route);
        // The level of a span is fixed where it is written.
        macro_rules! span {
            ($level:expr) => {
                tracing::span!(
                    $level,
                    "request",
                    method = MethodLabel::of(request.method()).as_str(),
                    route,
                    request_id = request.extensions().get::<RequestId>().map(RequestId::as_str),
                    trace_id = %context.trace_id(),
                    client = request.extensions().get::<ClientAddr>().map(|client| tracing::field::display(client.ip())),
                )
            };
        }
        (if quiet { span!(Level::DEBUG) } else { span!(Level::INFO) }, quiet)
    }

    /// The recorded span, by the conventions for HTTP servers, but without the path and the query: who knows the
    /// address of something may have it.
    fn begin<B>(&self, request: &Request<B>, context: &TraceContext) -> Span {
        let method = MethodLabel::of(request.method()).as_str();
        let template = (self.templates)(request.uri());
        let mut span = context.child(Kind::Server, || format!("{method} {template}").trim_end().to_owned());
        if span.is_recorded() {
            span.set("http.request.method", if method == "OTHER" { "_OTHER" } else { method });
            if !template.is_empty() {
                span.set("http.route", template);
            }
            span.set("network.protocol.version", protocol_version(request.version()));
            if let Some(id) = request.extensions().get::<RequestId>() {
                span.set("request_id", id.as_str().to_owned());
            }
            if let Some(client) = request.extensions().get::<ClientAddr>() {
                span.set("client.address", client.ip().to_string());
            }
        }
        span
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner, layer: self.clone() }
    }
}

/// The service of [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct Trace<S> {
    inner: S,
    layer: TraceLayer,
}

impl<S, B, ResB> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: http_body::Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut context = TraceContext::from_headers(request.headers()).unwrap_or_else(TraceContext::root);
        let (span, quiet) = self.layer.span(&request, &context);
        let mut recorded = Span::default();
        if let Some(recorder) = self.layer.recorder.as_ref().filter(|_| !quiet) {
            context = context.sampled_by(recorder);
            recorded = self.layer.begin(&request, &context);
            if let Some(within) = recorded.context() {
                context = within.clone();
            }
        }
        let method = request.method().clone();
        let ending = Ending::new(span.clone(), recorded, context.clone(), quiet);
        let mut current = Some(context);
        let inner = current::scope(&mut current, || span.in_scope(|| self.inner.call(request)));
        ResponseFuture {
            inner: InContext::new(inner.instrument(span), current),
            method,
            ending: Some(ending),
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Trace`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: InContext<Instrumented<F>>,
        method: Method,
        ending: Option<Ending>,
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
        // Like any future, it is not polled again once it was ready: the ending is there.
        let Some(mut ending) = this.ending.take() else { return Poll::Pending };
        Poll::Ready(match result {
            Ok(response) => {
                ending.answered(response.status());
                Ok(ObservedBody::of_response(this.method, response, ending))
            }
            Err(error) => {
                ending.failed();
                Err(error)
            }
        })
    }
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests;
