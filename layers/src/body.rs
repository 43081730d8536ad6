//! One body type for all requests and responses behind the edge.
//!
//! ```
//! use bytes::Bytes;
//! use http_body::Body as _;
//! use http_body_util::BodyExt;
//! use layers::Body;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), layers::BoxError> {
//! let full = Body::full("hello");
//! assert_eq!(full.size_hint().exact(), Some(5));
//!
//! let pieces = [Ok::<_, std::io::Error>(Bytes::from("hel")), Ok(Bytes::from("lo"))];
//! let streamed = Body::stream(futures_util::stream::iter(pieces));
//! assert_eq!(streamed.collect().await?.to_bytes(), full.collect().await?.to_bytes());
//! # Ok(())
//! # }
//! ```

use std::any::{Any, TypeId};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, Service};

use crate::BoxError;

/// A body of a request or a response: nothing, bytes at hand, or anything boxed. Cheap to make and to move.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// No byte.
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// Bytes at hand, sent as one frame.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(bytes)) }
    }

    /// Pieces as they come; the length is not known beforehand. After an error nothing more is read.
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self(Inner::Boxed(Box::pin(StreamBody::new(stream.map_ok(Frame::data).map_err(Into::into)))))
    }

    /// Any body. A [`Body`] is handed back as it is, and one that has already ended is not boxed.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if TypeId::of::<B>() == TypeId::of::<Self>() {
            let mut body = Some(body);
            let same = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>().and_then(Option::take);
            return same.unwrap_or_default();
        }
        if body.is_end_stream() {
            Self::empty()
        } else {
            Self(Inner::Boxed(Box::pin(body.map_err(Into::into))))
        }
    }

    /// Whether nothing but bytes is behind it: to read them runs no code of whoever made the body.
    pub(crate) fn is_at_hand(&self) -> bool {
        !matches!(self.0, Inner::Boxed(_))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.0 {
            Inner::Empty => return Poll::Ready(None),
            Inner::Full(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Inner::Boxed(body) => ready!(body.as_mut().poll_frame(cx)),
        };
        if !matches!((&frame, &this.0), (Some(Ok(_)), Inner::Boxed(_))) {
            this.0 = Inner::Empty;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Empty => f.write_str("Body(empty)"),
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Boxed(_) => f.write_str("Body(boxed)"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

/// Turns the bodies of requests and of responses into [`Body`]: for the edge, and behind layers that change the type
/// of a body.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntoBodyLayer;

impl<S> Layer<S> for IntoBodyLayer {
    type Service = IntoBody<S>;

    fn layer(&self, inner: S) -> IntoBody<S> {
        IntoBody { inner }
    }
}

/// The service of [`IntoBodyLayer`].
#[derive(Debug, Clone, Copy)]
pub struct IntoBody<S> {
    inner: S,
}

impl<S, B, ResB> Service<Request<B>> for IntoBody<S>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ResponseFuture { inner: self.inner.call(request.map(Body::new)) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`IntoBody`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map_ok(|response| response.map(Body::new))
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::Full;
    use tower_test::mock;

    use super::*;

    #[test]
    fn full_without_bytes_is_an_ended_body() {
        assert!(Body::full("").is_end_stream());
        assert_eq!(Body::empty().size_hint().exact(), Some(0));
    }

    #[test]
    fn new_of_a_body_does_not_box_again() {
        let body = Body::new(Body::new(Body::full("abc")));
        assert_eq!(format!("{body:?}"), "Body(3 bytes)");
    }

    #[test]
    fn new_of_an_ended_body_is_empty() {
        assert_eq!(format!("{:?}", Body::new(http_body_util::Empty::<Bytes>::new())), "Body(empty)");
    }

    #[test]
    fn new_of_a_foreign_body_keeps_its_exact_length() {
        let body = Body::new(Full::new(Bytes::from("abcd")));
        assert_eq!(format!("{body:?}"), "Body(boxed)");
        assert_eq!(body.size_hint().exact(), Some(4));
    }

    #[tokio::test]
    async fn stream_with_an_error_ends_with_it() {
        let items = [Ok(Bytes::from("a")), Err(std::io::Error::other("broken")), Ok(Bytes::from("b"))];
        let mut body = Body::stream(futures_util::stream::iter(items));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "broken");
        assert!(body.frame().await.is_none());
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn full_polled_to_its_end_says_so() {
        let mut body = Body::full("abc");
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn into_body_converts_both_ways() {
        let (mut service, mut handle) =
            mock::spawn_layer::<Request<Body>, Response<Full<Bytes>>, _>(IntoBodyLayer);
        assert!(service.poll_ready::<Request<Full<Bytes>>>().is_ready());
        let call = tokio::spawn(service.call(Request::new(Full::new(Bytes::from("ping")))));
        let (request, respond) = handle.next_request().await.unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "ping");
        respond.send_response(Response::new(Full::new(Bytes::from("pong"))));
        let body = call.await.unwrap().unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "pong");
    }
}
