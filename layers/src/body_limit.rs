//! A limit on the bytes of a request's body, declared or real.
//!
//! A request that declares more in `Content-Length` fails with [`BodyTooLarge`] before the service behind is called;
//! any other body fails with it while it is read, as soon as it goes over. `tower-http` has such a layer too, but
//! answers by itself, with a text of its own and no cause: here the answer is the
//! [`rescue`](crate::rescue)'s.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use layers::body_limit::{BodyLimitLayer, RequestBody};
//! use layers::{Body, BodyTooLarge, BoxError, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(BodyLimitLayer::new(4)).service(service_fn(
//!     |request: Request<RequestBody<Body>>| async {
//!         Ok::<_, BoxError>(Response::new(request.into_body().collect().await?.to_bytes()))
//!     },
//! ));
//! let chunks = [Ok::<_, BoxError>(Bytes::from("abc")), Ok(Bytes::from("def"))];
//! let request = Request::new(Body::stream(futures_util::stream::iter(chunks)));
//! let error = service.oneshot(request).await.unwrap_err();
//! assert_eq!(find_cause::<BodyTooLarge>(&*error), Some(&BodyTooLarge { limit: 4 }));
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};
use tower::{Layer, Service};

pub use crate::gate::ResponseFuture;

use crate::{BodyTooLarge, BoxError};

/// Limits the bytes of each request's body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimitLayer {
    limit: usize,
}

impl BodyLimitLayer {
    /// Allows bodies of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimit<S>;

    fn layer(&self, inner: S) -> BodyLimit<S> {
        BodyLimit { inner, limit: self.limit }
    }
}

/// The service of [`BodyLimitLayer`].
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit<S> {
    inner: S,
    limit: usize,
}

impl<S, B> Service<Request<B>> for BodyLimit<S>
where
    S: Service<Request<RequestBody<B>>>,
    S::Error: Into<BoxError>,
    B: Body,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.limit;
        let declared = declared_length(request.headers()).max(request.body().size_hint().lower());
        if declared > limit as u64 {
            return ResponseFuture::refuse(BodyTooLarge { limit });
        }
        let request = request.map(|inner| RequestBody { inner, limit, left: limit });
        ResponseFuture::pass(self.inner.call(request))
    }
}

pin_project_lite::pin_project! {
    /// A body that fails with [`BodyTooLarge`] when it goes over the limit.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        limit: usize,
        left: usize,
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
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx)).transpose().map_err(Into::into)?;
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            match this.left.checked_sub(data.remaining()) {
                Some(left) => *this.left = left,
                None => {
                    *this.left = 0;
                    return Poll::Ready(Some(Err(BodyTooLarge { limit: *this.limit }.into())));
                }
            }
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let most = self.left as u64;
        if hint.lower() <= most && hint.upper().is_none_or(|upper| upper > most) {
            hint.set_upper(most);
        }
        hint
    }
}

/// What `Content-Length` says; 0 if it says nothing that can be understood, which the reading will see.
fn declared_length(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tower_test::mock;

    use super::*;
    use crate::find_cause;

    const LIMIT: usize = 5;

    fn chunks(chunks: &[&'static str]) -> crate::Body {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, BoxError>(Bytes::from(*chunk))).collect();
        crate::Body::stream(futures_util::stream::iter(chunks))
    }

    /// What the service behind reads; `None` if it was not called.
    async fn read(request: Request<crate::Body>) -> Option<Result<Bytes, BodyTooLarge>> {
        let (mut service, mut handle) = mock::spawn_layer::<_, (), _>(BodyLimitLayer::new(LIMIT));
        assert!(service.poll_ready::<Request<crate::Body>>().is_ready());
        let call = service.call(request);
        let Poll::Ready(received) = handle.poll_request() else {
            let error = call.await.unwrap_err();
            assert!(find_cause::<BodyTooLarge>(&*error).is_some());
            return None;
        };
        let request: Request<RequestBody<crate::Body>> = received.unwrap().0;
        Some(match request.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(*find_cause::<BodyTooLarge>(&*error).unwrap()),
        })
    }

    #[tokio::test]
    async fn body_within_the_limit_passes_whole() {
        assert_eq!(read(Request::new(chunks(&["abc", "de"]))).await, Some(Ok("abcde".into())));
        assert_eq!(read(Request::new(crate::Body::full("abcde"))).await, Some(Ok("abcde".into())));
        assert_eq!(read(Request::new(crate::Body::empty())).await, Some(Ok("".into())));
    }

    #[tokio::test]
    async fn body_over_the_limit_fails_while_it_is_read() {
        let too_large = BodyTooLarge { limit: LIMIT };
        assert_eq!(read(Request::new(chunks(&["abc", "def"]))).await, Some(Err(too_large)));
    }

    #[tokio::test]
    async fn body_declared_or_known_to_be_over_the_limit_is_not_passed_on() {
        let declared = Request::builder().header("content-length", "6").body(chunks(&[])).unwrap();
        assert_eq!(read(declared).await, None);
        assert_eq!(read(Request::new(crate::Body::full("abcdef"))).await, None);
    }

    #[tokio::test]
    async fn body_declared_shorter_than_it_is_still_fails() {
        let lying = Request::builder().header("content-length", "1").body(chunks(&["abcdef"])).unwrap();
        assert_eq!(read(lying).await, Some(Err(BodyTooLarge { limit: LIMIT })));
    }
}
