//! A span for each request, and one line when its response has ended.
//!
//! The span `request` has `method`, `route`, `request_id`, `trace_id` and `client`; it is entered whenever the service
//! behind, or the body of its response, is polled. When the body has ended there is one event at level `info` with
//! `status`, `duration_ms`, `bytes` and `outcome` (`complete`, `aborted` or `error`); quiet routes get span and event
//! at level `debug`.
//!
//! The caller's [`TraceContext`] is honoured, and in the extensions for calls that go on from here. The layers for
//! request id and client address stand further out.
//!
//! ```
//! use http::{Request, Response, request::Parts};
//! use layers::trace::{TraceContext, TraceLayer};
//! use layers::{Body, BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! fn route(head: &Parts) -> &'static str {
//!     if head.uri.path() == "/health" { "health" } else { "other" }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = TraceLayer::new(route).with_quiet(&["health"]);
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(|request: Request<()>| async move {
//!     let context = request.extensions().get::<TraceContext>().expect("put in by the layer");
//!     Ok::<_, BoxError>(Response::new(Body::full(context.traceparent())))
//! }));
//! let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let request = Request::builder().header("traceparent", incoming).body(())?;
//! let outgoing = http_body_util::BodyExt::collect(service.oneshot(request).await?.into_body()).await?.to_bytes();
//! assert_eq!(outgoing[..36], incoming.as_bytes()[..36]); // the same trace ...
//! assert_ne!(outgoing[36..52], incoming.as_bytes()[36..52]); // ... a new span
//! # Ok(())
//! # }
//! ```

mod context;
mod ending;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, request};
use tower::{Layer, Service};
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Level, Span};

pub use context::{TraceContext, TraceId};
pub use ending::Ending;

use crate::Classify;
use crate::client_addr::ClientAddr;
use crate::method::MethodLabel;
use crate::observe::ObservedBody;
use crate::request_id::RequestId;

/// The body of the response: polled within the span, and logged at its end.
pub type ResponseBody<B> = ObservedBody<B, Ending>;

/// Traces each request.
#[derive(Debug, Clone, Copy)]
pub struct TraceLayer {
    classify: Classify,
    quiet: &'static [&'static str],
}

impl TraceLayer {
    /// `classify` names the route of a request, out of a fixed set of a few names.
    pub fn new(classify: Classify) -> Self {
        Self { classify, quiet: &[] }
    }

    /// These routes are traced at level `debug`: probes and scrapes come every few seconds.
    pub fn with_quiet(mut self, routes: &'static [&'static str]) -> Self {
        self.quiet = routes;
        self
    }

    fn span(&self, head: &request::Parts, context: &TraceContext) -> (Span, bool) {
        let route = (self.classify)(head);
        let quiet = self.quiet.contains(&route);
        // The level of a span is fixed where it is written.
        macro_rules! span {
            ($level:expr) => {
                tracing::span!(
                    $level,
                    "request",
                    method = MethodLabel::of(&head.method).as_str(),
                    route,
                    request_id = head.extensions.get::<RequestId>().map(RequestId::as_str),
                    trace_id = %context.trace_id(),
                    client = head.extensions.get::<ClientAddr>().map(|client| tracing::field::display(client.ip())),
                )
            };
        }
        (if quiet { span!(Level::DEBUG) } else { span!(Level::INFO) }, quiet)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner, layer: *self }
    }
}

/// The service of [`TraceLayer`].
#[derive(Debug, Clone, Copy)]
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
        let (mut head, body) = request.into_parts();
        let context = TraceContext::from_headers(&head.headers).unwrap_or_else(TraceContext::root);
        let (span, quiet) = self.layer.span(&head, &context);
        head.extensions.insert(context);
        let method = head.method.clone();
        let ending = Ending::new(span.clone(), quiet);
        let inner = span.in_scope(|| self.inner.call(Request::from_parts(head, body)));
        ResponseFuture { inner: inner.instrument(span), method, ending: Some(ending) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Trace`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Instrumented<F>,
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

#[cfg(test)]
mod tests;
