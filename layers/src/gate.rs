//! The future of a layer that either lets a request through or refuses it before anything behind it is called.
//!
//! ```
//! use std::future::{Ready, ready};
//! use http::Response;
//! use layers::{BodyTooLarge, BoxError, find_cause, gate::ResponseFuture};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! type Inner = Ready<Result<Response<()>, BoxError>>;
//! let refused: ResponseFuture<Inner> = ResponseFuture::refuse(BodyTooLarge { limit: 4 });
//! assert!(find_cause::<BodyTooLarge>(&*refused.await.unwrap_err()).is_some());
//! assert!(ResponseFuture::pass(ready(Ok::<_, BoxError>(Response::new(())))).await.is_ok());
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::BoxError;

pin_project_lite::pin_project! {
    /// Drives the inner future, or fails at once with a cause.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Pass { #[pin] inner: F },
        Refuse { cause: Option<BoxError> },
    }
}

impl<F> ResponseFuture<F> {
    /// The request went through: `inner` answers it.
    pub fn pass(inner: F) -> Self {
        Self { state: State::Pass { inner } }
    }

    /// The request is refused.
    pub fn refuse(cause: impl Into<BoxError>) -> Self {
        Self { state: State::Refuse { cause: Some(cause.into()) } }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Pass { inner } => inner.poll(cx).map_err(Into::into),
            // Like any future, it is not to be polled again once it was ready.
            StateProjected::Refuse { cause } => cause.take().map_or(Poll::Pending, |e| Poll::Ready(Err(e))),
        }
    }
}
