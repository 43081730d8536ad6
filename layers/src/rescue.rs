//! From causes to responses: the one place where an error becomes an answer.
//!
//! Errors of the service behind, those of `poll_ready` included, go to one function; outside of the layer the error is
//! [`Infallible`], and the body is [`Body`], whatever it was inside. An error in the middle of a response body comes too
//! late for it: the head is already out.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use layers::rescue::{RescueContext, RescueLayer};
//! use layers::{Body, BodyTooLarge, BoxError, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! fn answer(error: BoxError, _: &RescueContext) -> Response<Body> {
//!     let mut response = Response::new(Body::full(error.to_string()));
//!     *response.status_mut() = match find_cause::<BodyTooLarge>(&*error) {
//!         Some(_) => StatusCode::PAYLOAD_TOO_LARGE,
//!         None => StatusCode::INTERNAL_SERVER_ERROR,
//!     };
//!     response
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(RescueLayer::new(answer)).service(service_fn(
//!     |_: Request<()>| async { Err::<Response<Body>, BoxError>(BodyTooLarge { limit: 10 }.into()) },
//! ));
//! let Ok(response) = service.oneshot(Request::new(())).await;
//! assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
//! # }
//! ```

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use tower::{Layer, Service};

use crate::request_id::RequestId;
use crate::{Body, BoxError};

/// What is known of the request that failed.
#[derive(Debug, Clone)]
pub struct RescueContext {
    method: Method,
    target: Option<PathAndQuery>,
    request_id: Option<RequestId>,
}

impl RescueContext {
    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path of the request's target, without query; `/` for a target without path.
    pub fn path(&self) -> &str {
        self.target.as_ref().map_or("/", PathAndQuery::path)
    }

    /// The request's id, if the layer for it is further out.
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            request_id: request.extensions().get().cloned(),
        }
    }
}

/// Answers errors with the responses of a function.
#[derive(Clone)]
pub struct RescueLayer<F> {
    respond: F,
}

impl<F> RescueLayer<F>
where
    F: Fn(BoxError, &RescueContext) -> Response<Body> + Clone,
{
    /// Answers each error with what `respond` makes of it.
    pub fn new(respond: F) -> Self {
        Self { respond }
    }
}

impl<F> fmt::Debug for RescueLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RescueLayer").finish_non_exhaustive()
    }
}

impl<S, F: Clone> Layer<S> for RescueLayer<F> {
    type Service = Rescue<S, F>;

    fn layer(&self, inner: S) -> Rescue<S, F> {
        Rescue { inner, respond: self.respond.clone(), not_ready: None }
    }
}

/// The service of [`RescueLayer`].
pub struct Rescue<S, F> {
    inner: S,
    respond: F,
    /// What `poll_ready` failed with; the next call answers it.
    not_ready: Option<BoxError>,
}

impl<S: Clone, F: Clone> Clone for Rescue<S, F> {
    fn clone(&self) -> Self {
        // Readiness, and so its failure, is this instance's own.
        Self { inner: self.inner.clone(), respond: self.respond.clone(), not_ready: None }
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Rescue<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rescue").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, F, B, ResB> Service<Request<B>> for Rescue<S, F>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    F: Fn(BoxError, &RescueContext) -> Response<Body> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.not_ready.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.not_ready = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = RescueContext::of(&request);
        let state = match self.not_ready.take() {
            None => State::Called { inner: self.inner.call(request) },
            Some(error) => State::NotReady { error: Some(error) },
        };
        ResponseFuture { state, context, respond: self.respond.clone() }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Rescue`].
    pub struct ResponseFuture<Fut, F> {
        #[pin]
        state: State<Fut>,
        context: RescueContext,
        respond: F,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjected]
    enum State<Fut> {
        Called { #[pin] inner: Fut },
        NotReady { error: Option<BoxError> },
    }
}

impl<Fut, F, ResB, E> Future for ResponseFuture<Fut, F>
where
    Fut: Future<Output = Result<Response<ResB>, E>>,
    E: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    F: Fn(BoxError, &RescueContext) -> Response<Body>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match this.state.project() {
            StateProjected::Called { inner } => match ready!(inner.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(Body::new))),
                Err(error) => error.into(),
            },
            StateProjected::NotReady { error } => match error.take() {
                Some(error) => error,
                // Like any future, it is not to be polled again once it was ready.
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok((this.respond)(error, this.context)))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower_test::mock;

    use super::*;
    use crate::{Elapsed, find_cause};

    fn answer(error: BoxError, context: &RescueContext) -> Response<Body> {
        let status = if find_cause::<Elapsed>(&*error).is_some() {
            StatusCode::GATEWAY_TIMEOUT
        } else {
            StatusCode::BAD_GATEWAY
        };
        let about = format!("{} {}", context.method(), context.path());
        Response::builder().status(status).header("x-about", about).body(Body::empty()).unwrap()
    }

    type Answer = fn(BoxError, &RescueContext) -> Response<Body>;

    fn layer() -> RescueLayer<Answer> {
        RescueLayer::new(answer)
    }

    #[tokio::test]
    async fn error_of_the_call_becomes_the_response_of_the_function() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<Body>, _>(layer());
        assert!(service.poll_ready().is_ready());
        let request = Request::post("http://localhost/a/b?c=d").body(()).unwrap();
        let call = tokio::spawn(service.call(request));
        let (_, respond) = handle.next_request().await.unwrap();
        respond.send_error(Elapsed(std::time::Duration::from_secs(1)));
        let Ok(response) = call.await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(response.headers()["x-about"], "POST /a/b");
    }

    #[tokio::test]
    async fn error_of_readiness_answers_the_next_call_and_only_of_this_instance() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<Body>, _>(layer());
        handle.send_error("gone");
        assert!(service.poll_ready().is_ready());
        assert!(service.get_ref().not_ready.is_some());
        assert!(service.get_ref().clone().not_ready.is_none());
        let Ok(response) = service.call(Request::new(())).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()["x-about"], "GET /");
    }

    #[tokio::test]
    async fn response_passes_unchanged() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<Body>, _>(layer());
        assert!(service.poll_ready().is_ready());
        let call = tokio::spawn(service.call(Request::new(())));
        let (_, respond) = handle.next_request().await.unwrap();
        respond.send_response(Response::new(Body::full("fine")));
        let Ok(response) = call.await.unwrap();
        assert_eq!(format!("{:?}", response.body()), "Body(4 bytes)");
    }
}
