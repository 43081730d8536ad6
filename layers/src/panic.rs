//! A panic is one request's failure, not the connection's.
//!
//! A panic in the service behind, in its future or in the body of its response is logged, counted in
//! `http_server_panics_total`, and becomes the cause [`Panicked`], so that the [`rescue`](crate::rescue) answers it
//! like any other error.
//!
//! ```
//! use http::{Request, Response};
//! use layers::panic::CatchPanicLayer;
//! use layers::{Body, BoxError, Panicked, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! async fn broken(_: Request<()>) -> Result<Response<Body>, BoxError> {
//!     panic!("a bug")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(CatchPanicLayer).service(service_fn(broken));
//! let error = service.oneshot(Request::new(())).await.map(drop).unwrap_err();
//! assert_eq!(&*find_cause::<Panicked>(&*error).unwrap().message, "a bug");
//! # }
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tower::{Layer, Service};

use crate::{Body, BoxError, Panicked};

/// Turns panics into the cause [`Panicked`].
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        // Counted from zero, so that an alert sees the first one.
        metrics::counter!("http_server_panics_total").increment(0);
        CatchPanic { inner }
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Debug, Clone, Copy)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, B, ResB> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match guarded(|| self.inner.call(request)) {
            Ok(inner) => ResponseFuture { state: State::Running { inner } },
            Err(panicked) => ResponseFuture { state: State::Panicked { cause: Some(panicked) } },
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`CatchPanic`].
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Running { #[pin] inner: F },
        Panicked { cause: Option<Panicked> },
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    E: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let polled = match state.as_mut().project() {
            StateProjected::Running { inner } => guarded(|| inner.poll(cx)),
            StateProjected::Panicked { cause } => match cause.take() {
                Some(panicked) => Err(panicked),
                // Like any future, it is not to be polled again once it was ready.
                None => return Poll::Pending,
            },
        };
        match polled {
            Ok(polled) => polled.map_ok(|response| response.map(guarded_body)).map_err(Into::into),
            Err(panicked) => {
                // What panicked is not to be polled again.
                state.set(State::Panicked { cause: None });
                Poll::Ready(Err(panicked.into()))
            }
        }
    }
}

/// The body as it is where it cannot panic.
fn guarded_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let body = Body::new(body);
    if body.is_at_hand() { body } else { Body::new(GuardedBody { inner: Some(body) }) }
}

/// A body that fails with [`Panicked`] when the one behind panics.
struct GuardedBody {
    inner: Option<Body>,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match guarded(|| Pin::new(inner).poll_frame(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                self.inner = None;
                Poll::Ready(Some(Err(panicked.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

/// Runs something that may panic. What it worked on is dropped after a panic, except for the service itself: that must
/// hold no state that a panic can break.
fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let message = message(&*payload);
        tracing::error!(panic = message, "request panicked");
        metrics::counter!("http_server_panics_total").increment(1);
        Panicked { message: message.into() }
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use tower_test::mock;

    use super::*;
    use crate::find_cause;
    use crate::test_metrics::Recorded;

    type Answer = Response<Body>;

    fn panicked(error: &BoxError) -> Option<&str> {
        find_cause::<Panicked>(&**error).map(|panicked| &*panicked.message)
    }

    #[tokio::test]
    async fn panic_in_the_future_is_a_cause_and_counted() {
        let recorded = Recorded::default();
        let _guard = metrics::set_default_local_recorder(&recorded);
        let service = CatchPanicLayer.layer(tower::service_fn(|_: Request<()>| async {
            tokio::task::yield_now().await;
            if true {
                panic!("number {}", 7);
            }
            Ok::<Answer, BoxError>(Response::default())
        }));
        let error = service.oneshot(Request::new(())).await.map(drop).unwrap_err();
        assert_eq!(panicked(&error), Some("number 7"));
        assert_eq!(recorded.counter("http_server_panics_total{}"), 1);
    }

    #[tokio::test]
    async fn panic_in_the_call_itself_is_a_cause() {
        let broken = |_: Request<()>| -> std::future::Ready<Result<Answer, BoxError>> { panic!("at once") };
        let error = CatchPanicLayer.layer(tower::service_fn(broken)).oneshot(Request::new(())).await;
        assert_eq!(panicked(&error.map(drop).unwrap_err()), Some("at once"));
    }

    #[tokio::test]
    async fn panic_in_the_body_ends_it_with_the_cause() {
        let body =
            Body::stream(futures_util::stream::poll_fn(|_| -> Poll<Option<Result<Bytes, BoxError>>> {
                panic!("in the body")
            }));
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Answer, _>(CatchPanicLayer);
        assert!(service.poll_ready().is_ready());
        let call = service.call(Request::new(()));
        handle.next_request().await.unwrap().1.send_response(Response::new(body));
        let mut body = call.await.unwrap().into_body();
        assert_eq!(panicked(&body.frame().await.unwrap().unwrap_err()), Some("in the body"));
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn responses_and_errors_pass_unchanged() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Answer, _>(CatchPanicLayer);
        assert!(service.poll_ready().is_ready());
        let call = service.call(Request::new(()));
        handle.next_request().await.unwrap().1.send_response(Response::new(Body::full("fine")));
        let body = call.await.unwrap().into_body();
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "fine");
        assert!(service.poll_ready().is_ready());
        let call = service.call(Request::new(()));
        handle.next_request().await.unwrap().1.send_error("broken");
        assert_eq!(call.await.map(drop).unwrap_err().to_string(), "broken");
    }
}
