//! A deadline from request to response head.
//!
//! The body has time of its own: a slow reader is the connection's concern, not a slow server. What is not answered in
//! time is dropped, and fails with [`Elapsed`].
//!
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use layers::{BoxError, Elapsed, deadline::DeadlineLayer, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(DeadlineLayer::new(Duration::from_millis(5))).service(service_fn(
//!     |_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>(),
//! ));
//! let error = service.oneshot(Request::new(())).await.unwrap_err();
//! assert!(find_cause::<Elapsed>(&*error).is_some());
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::{BoxError, Elapsed};

/// Fails a request that has no response head in time with [`Elapsed`].
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    limit: Duration,
}

impl DeadlineLayer {
    /// Allows this much time, from the call to the response head.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, limit: self.limit }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug, Clone, Copy)]
pub struct Deadline<S> {
    inner: S,
    limit: Duration,
}

impl<S, Request> Service<Request> for Deadline<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        ResponseFuture { inner: self.inner.call(request), limit: self.limit, sleep: None }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Deadline`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        limit: Duration,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        // Most answers are ready at once: only one that has to wait pays for a timer.
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(*this.limit)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Elapsed(*this.limit).into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tower_test::mock;

    use super::*;
    use crate::find_cause;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn response_in_time_passes() {
        let (mut service, mut handle) = mock::spawn_layer::<(), &str, _>(DeadlineLayer::new(LIMIT));
        assert!(service.poll_ready().is_ready());
        let call = tokio::spawn(service.call(()));
        let ((), respond) = handle.next_request().await.unwrap();
        sleep(LIMIT - Duration::from_millis(1)).await;
        respond.send_response("done");
        assert_eq!(call.await.unwrap().unwrap(), "done");
    }

    #[tokio::test(start_paused = true)]
    async fn response_too_late_fails_with_elapsed_at_the_deadline() {
        let (mut service, mut handle) = mock::spawn_layer::<(), &str, _>(DeadlineLayer::new(LIMIT));
        assert!(service.poll_ready().is_ready());
        let before = Instant::now();
        let call = tokio::spawn(service.call(()));
        let ((), _respond) = handle.next_request().await.unwrap();
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(find_cause::<Elapsed>(&*error), Some(&Elapsed(LIMIT)));
        // The timer's grain is one millisecond.
        assert!(before.elapsed() - LIMIT <= Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn limit_beyond_the_clock_never_elapses() {
        let (mut service, mut handle) = mock::spawn_layer::<(), &str, _>(DeadlineLayer::new(Duration::MAX));
        assert!(service.poll_ready().is_ready());
        let call = tokio::spawn(service.call(()));
        let ((), respond) = handle.next_request().await.unwrap();
        sleep(Duration::from_secs(1_000_000)).await;
        respond.send_response("done");
        assert_eq!(call.await.unwrap().unwrap(), "done");
    }

    #[tokio::test]
    async fn inner_error_passes_unchanged() {
        let (mut service, mut handle) = mock::spawn_layer::<(), &str, _>(DeadlineLayer::new(LIMIT));
        handle.send_error("broken");
        let error = std::future::poll_fn(|_| service.poll_ready()).await.unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
