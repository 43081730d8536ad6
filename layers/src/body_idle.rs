//! A deadline for request bodies that stall or drip.
//!
//! While a body is awaited, a certain number of bytes, or its end, must come within each window of time; else reading
//! fails with [`BodyStalled`]. A window begins when the reader has to wait, so a body that nobody reads is under no
//! deadline: then it is not the client that is slow.
//! `tower-http` has a timeout for bodies too, but it starts anew with every byte, so that a client can hold a request
//! open for ever at one byte a window.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use layers::body_idle::{BodyIdleTimeoutLayer, RequestBody};
//! use layers::{Body, BodyStalled, BoxError, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let layer = BodyIdleTimeoutLayer::new(Duration::from_millis(5));
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(
//!     |request: Request<RequestBody<Body>>| async {
//!         Ok::<_, BoxError>(Response::new(request.into_body().collect().await?.to_bytes()))
//!     },
//! ));
//! let silent = Body::stream(futures_util::stream::pending::<Result<Bytes, BoxError>>());
//! let error = service.oneshot(Request::new(silent)).await.unwrap_err();
//! assert!(find_cause::<BodyStalled>(&*error).is_some());
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::{BodyStalled, BoxError};

/// Lets reading a request's body fail when too little of it comes.
#[derive(Debug, Clone, Copy)]
pub struct BodyIdleTimeoutLayer {
    window: Duration,
    min_bytes: usize,
}

impl BodyIdleTimeoutLayer {
    /// Bytes that must come within each window, unless set otherwise.
    pub const DEFAULT_MIN_BYTES: usize = 1024;

    /// Wants [`DEFAULT_MIN_BYTES`](Self::DEFAULT_MIN_BYTES), or the body's end, within each such window.
    pub fn new(window: Duration) -> Self {
        Self { window, min_bytes: Self::DEFAULT_MIN_BYTES }
    }

    /// Wants so many bytes within each window.
    pub fn with_min_bytes(mut self, min_bytes: usize) -> Self {
        self.min_bytes = min_bytes;
        self
    }
}

impl<S> Layer<S> for BodyIdleTimeoutLayer {
    type Service = BodyIdleTimeout<S>;

    fn layer(&self, inner: S) -> BodyIdleTimeout<S> {
        BodyIdleTimeout { inner, layer: *self }
    }
}

/// The service of [`BodyIdleTimeoutLayer`].
#[derive(Debug, Clone, Copy)]
pub struct BodyIdleTimeout<S> {
    inner: S,
    layer: BodyIdleTimeoutLayer,
}

impl<S, B> Service<Request<B>> for BodyIdleTimeout<S>
where
    S: Service<Request<RequestBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let limits = self.layer;
        self.inner.call(request.map(|inner| RequestBody { inner, limits, came: 0, sleep: None }))
    }
}

pin_project_lite::pin_project! {
    /// A body that fails with [`BodyStalled`] when too little of it comes.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        limits: BodyIdleTimeoutLayer,
        // Bytes that came within the window.
        came: usize,
        // The end of the window, which begins with the first wait.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            let bytes =
                frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Buf::remaining);
            *this.came = this.came.saturating_add(bytes);
            if *this.came >= this.limits.min_bytes {
                *this.came = 0;
                this.sleep.set(None);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.sleep.is_none() {
            // Bytes that were there at once have not used up any of the time.
            *this.came = 0;
            this.sleep.set(Some(sleep(this.limits.window)));
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        let BodyIdleTimeoutLayer { window: within, min_bytes } = *this.limits;
        Poll::Ready(Some(Err(BodyStalled { within, min_bytes }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use tokio::time::Instant;
    use tower_test::mock;

    use super::*;
    use crate::find_cause;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Pieces of so many bytes, each after a pause of so many seconds.
    fn body(pieces: &'static [(u64, usize)]) -> crate::Body {
        crate::Body::stream(stream::unfold(pieces.iter(), |mut pieces| async {
            let (pause, bytes) = pieces.next()?;
            sleep(Duration::from_secs(*pause)).await;
            Some((Ok::<_, BoxError>(Bytes::from(vec![0; *bytes])), pieces))
        }))
    }

    /// What the service behind reads, with at least 100 bytes in each window: the length, or when it stalled.
    async fn read(body: crate::Body) -> Result<usize, Duration> {
        let layer = BodyIdleTimeoutLayer::new(WINDOW).with_min_bytes(100);
        let (mut service, mut handle) = mock::spawn_layer::<Request<RequestBody<crate::Body>>, (), _>(layer);
        assert!(service.poll_ready::<Request<crate::Body>>().is_ready());
        let _call = service.call(Request::new(body));
        let (request, _respond) = handle.next_request().await.unwrap();
        let started = Instant::now();
        match request.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes().len()),
            Err(error) => {
                assert!(find_cause::<BodyStalled>(&*error).is_some());
                Err(Duration::from_secs(started.elapsed().as_secs()))
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_with_enough_bytes_in_each_window_is_read_whole() {
        assert_eq!(read(body(&[(9, 100), (9, 100), (4, 50), (4, 50), (9, 1)])).await, Ok(301));
        assert_eq!(read(body(&[(9, 1)])).await, Ok(1));
        assert_eq!(read(crate::Body::empty()).await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_stalls_fails_after_one_window() {
        assert_eq!(read(body(&[(0, 500), (3600, 1)])).await, Err(WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_drips_fails_after_one_window() {
        assert_eq!(read(body(&[(1, 1); 60])).await, Err(WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_nobody_reads_is_under_no_deadline() {
        let inner = crate::Body::full("abc");
        let limits = BodyIdleTimeoutLayer::new(WINDOW);
        let mut body = Box::pin(RequestBody { inner, limits, came: 0, sleep: None });
        sleep(WINDOW * 10).await;
        assert!(body.frame().await.unwrap().is_ok());
    }
}
