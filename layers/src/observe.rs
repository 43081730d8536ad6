//! A body that is watched until it ends, is dropped, or fails.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use http_body_util::BodyExt;
//! use layers::Body;
//! use layers::observe::{Observe, ObservedBody, Outcome};
//!
//! #[derive(Clone, Default)]
//! struct Log(Arc<Mutex<Vec<String>>>);
//!
//! impl Observe for Log {
//!     fn data(&mut self, bytes: u64) {
//!         self.0.lock().unwrap().push(format!("{bytes} bytes"));
//!     }
//!     fn end(&mut self, outcome: Outcome) {
//!         self.0.lock().unwrap().push(outcome.as_str().to_owned());
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), layers::BoxError> {
//! let log = Log::default();
//! ObservedBody::new(Body::full("hello"), log.clone()).collect().await?;
//! assert_eq!(*log.0.lock().unwrap(), ["5 bytes", "complete"]);
//! # Ok(())
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken whole.
    Complete,
    /// It was dropped before its end: whoever read it went away.
    Aborted,
    /// It failed.
    Error,
}

impl Outcome {
    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }
}

/// Watches one body.
pub trait Observe {
    /// A frame of data came through.
    fn data(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The body is at its end. Comes exactly once.
    fn end(&mut self, outcome: Outcome) {
        let _ = outcome;
    }

    /// Called around each poll of the body.
    fn scope<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        poll()
    }
}

pin_project_lite::pin_project! {
    /// A body with an observer. It changes nothing of the body.
    pub struct ObservedBody<B: Body, O: Observe> {
        #[pin]
        inner: B,
        watch: Watch<O>,
    }

    impl<B: Body, O: Observe> PinnedDrop for ObservedBody<B, O> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.watch.observer.is_some() {
                // A server need not poll a body for its end when the end is plain.
                let whole = this.inner.is_end_stream() || this.watch.has_all();
                this.watch.end(if whole { Outcome::Complete } else { Outcome::Aborted });
            }
        }
    }
}

struct Watch<O: Observe> {
    observer: Option<O>,
    seen: u64,
    expected: Option<u64>,
}

impl<O: Observe> Watch<O> {
    fn has_all(&self) -> bool {
        self.expected.is_some_and(|expected| self.seen >= expected)
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(mut observer) = self.observer.take() {
            observer.end(outcome);
        }
    }
}

impl<B: Body, O: Observe> ObservedBody<B, O> {
    /// Watches this body.
    pub fn new(inner: B, observer: O) -> Self {
        let expected = inner.size_hint().exact();
        Self { inner, watch: Watch { observer: Some(observer), seen: 0, expected } }
    }

    /// Watches the body of a response to a request with this method. Responses that never send a body (to `HEAD`; 204,
    /// 304) are complete without one; of the rest the body says when they are, or else `Content-Length`.
    pub fn of_response(method: &Method, response: Response<B>, observer: O) -> Response<Self> {
        let (head, inner) = response.into_parts();
        let bodiless = method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let expected = if bodiless {
            Some(0)
        } else {
            let declared = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
            inner.size_hint().exact().or_else(declared)
        };
        Response::from_parts(
            head,
            Self { inner, watch: Watch { observer: Some(observer), seen: 0, expected } },
        )
    }
}

impl<B: Body, O: Observe> Body for ObservedBody<B, O> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let watch = this.watch;
        let frame = ready!(match &mut watch.observer {
            Some(observer) => observer.scope(|| this.inner.poll_frame(cx)),
            None => this.inner.poll_frame(cx),
        });
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(observer)) = (frame.data_ref(), &mut watch.observer) {
                    let bytes = data.remaining() as u64;
                    watch.seen += bytes;
                    observer.data(bytes);
                }
            }
            Some(Err(_)) => watch.end(Outcome::Error),
            None => watch.end(Outcome::Complete),
        }
        Poll::Ready(frame)
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
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<(u64, Vec<Outcome>)>>);

    impl Observe for Seen {
        fn data(&mut self, bytes: u64) {
            self.0.lock().unwrap().0 += bytes;
        }

        fn end(&mut self, outcome: Outcome) {
            self.0.lock().unwrap().1.push(outcome);
        }
    }

    fn stream(items: &[Result<&'static str, ()>]) -> crate::Body {
        let items: Vec<_> = items
            .iter()
            .map(|item| item.map(Bytes::from).map_err(|()| std::io::Error::other("broken")))
            .collect();
        crate::Body::stream(futures_util::stream::iter(items))
    }

    /// What is seen when so many frames of a response are read, and the rest is dropped.
    async fn seen(frames: usize, method: Method, response: Response<crate::Body>) -> (u64, Vec<Outcome>) {
        let seen = Seen::default();
        let mut body = ObservedBody::of_response(&method, response, seen.clone()).into_body();
        for _ in 0..frames {
            let _ = body.frame().await;
        }
        drop(body);
        let seen = seen.0.lock().unwrap();
        (seen.0, seen.1.clone())
    }

    #[tokio::test]
    async fn body_read_to_its_end_is_complete_once() {
        let response = Response::new(stream(&[Ok("ab"), Ok("c")]));
        assert_eq!(seen(5, Method::GET, response).await, (3, vec![Outcome::Complete]));
    }

    #[tokio::test]
    async fn body_dropped_before_its_end_is_aborted() {
        let response = Response::new(stream(&[Ok("ab"), Ok("c")]));
        assert_eq!(seen(1, Method::GET, response).await, (2, vec![Outcome::Aborted]));
    }

    #[tokio::test]
    async fn body_that_fails_is_an_error_once() {
        let response = Response::new(stream(&[Ok("ab"), Err(())]));
        assert_eq!(seen(3, Method::GET, response).await, (2, vec![Outcome::Error]));
    }

    #[tokio::test]
    async fn body_with_all_bytes_taken_is_complete_without_the_last_poll() {
        let response = Response::builder().header("content-length", "3");
        let response = response.body(stream(&[Ok("ab"), Ok("c")])).unwrap();
        assert_eq!(seen(2, Method::GET, response).await, (3, vec![Outcome::Complete]));
        let full = Response::new(crate::Body::full("abc"));
        assert_eq!(seen(1, Method::GET, full).await, (3, vec![Outcome::Complete]));
        let empty = Response::new(crate::Body::empty());
        assert_eq!(seen(0, Method::GET, empty).await, (0, vec![Outcome::Complete]));
    }

    #[tokio::test]
    async fn body_that_says_it_has_ended_is_complete_without_the_last_poll() {
        /// One frame, of which nobody knows the length beforehand.
        struct Once(Option<Bytes>);

        impl Body for Once {
            type Data = Bytes;
            type Error = crate::BoxError;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
                Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
            }

            fn is_end_stream(&self) -> bool {
                self.0.is_none()
            }
        }

        let once = || Response::new(crate::Body::new(Once(Some("abc".into()))));
        assert_eq!(seen(1, Method::GET, once()).await, (3, vec![Outcome::Complete]));
        assert_eq!(seen(0, Method::GET, once()).await, (0, vec![Outcome::Aborted]));
    }

    #[tokio::test]
    async fn response_that_sends_no_body_is_complete_unread() {
        let response =
            || Response::builder().header("content-length", "3").body(stream(&[Ok("abc")])).unwrap();
        assert_eq!(seen(0, Method::HEAD, response()).await, (0, vec![Outcome::Complete]));
        assert_eq!(seen(0, Method::GET, response()).await, (0, vec![Outcome::Aborted]));
        let mut not_modified = response();
        *not_modified.status_mut() = StatusCode::NOT_MODIFIED;
        assert_eq!(seen(0, Method::GET, not_modified).await, (0, vec![Outcome::Complete]));
    }
}
