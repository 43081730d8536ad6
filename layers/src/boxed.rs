//! A service whose type is forgotten, and which is shared: a call through `&self`.
//!
//! tower's boxed services are cloned on the heap for each call, and their futures wait for readiness first, as large as
//! service and request together. Here a call allocates its future and nothing else.
//!
//! ```
//! use http::{Request, Response};
//! use layers::boxed::Boxed;
//! use layers::{Body, BoxError};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let boxed: Boxed<BoxError> = Boxed::new(service_fn(|_: Request<Body>| async { Ok(Response::new(Body::full("hello"))) }));
//! let response = boxed.call(Request::new(Body::empty())).await?;
//! assert_eq!(format!("{:?}", response.body()), "Body(5 bytes)");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use tower::{Service, ServiceExt};

use crate::Body;

/// The future of [`Boxed`].
pub type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// A service of any type. Cloning it is cheap, and clones share it.
pub struct Boxed<E>(Arc<dyn Answer<E>>);

trait Answer<E>: Send + Sync {
    fn answer(&self, request: Request<Body>) -> ResponseFuture<E>;
}

impl<E: Send + 'static> Boxed<E> {
    /// Forgets the type. Each call is made on a clone, which is to be cheap.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(service))
    }

    /// Calls it as soon as it is ready.
    pub fn call(&self, request: Request<Body>) -> ResponseFuture<E> {
        self.0.answer(request)
    }
}

impl<S, E> Answer<E> for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    E: Send + 'static,
{
    fn answer(&self, request: Request<Body>) -> ResponseFuture<E> {
        let mut service = self.clone();
        // Most services are always ready: nothing is kept for the others' sake.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Box::pin(service.call(request)),
            Poll::Ready(Err(error)) => Box::pin(ready(Err(error))),
            Poll::Pending => Box::pin(service.oneshot(request)),
        }
    }
}

impl<E> Clone for Boxed<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Boxed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Boxed")
    }
}

#[cfg(test)]
mod tests {
    use tower_test::mock;

    use super::*;

    fn request(body: &'static str) -> Request<Body> {
        Request::new(Body::full(body))
    }

    #[tokio::test]
    async fn service_that_is_not_ready_is_called_when_it_is() {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        handle.allow(0);
        let boxed = Boxed::new(service);
        let call = tokio::spawn(boxed.clone().call(request("ping")));
        tokio::task::yield_now().await;
        assert!(handle.poll_request().is_pending());
        handle.allow(1);
        let (asked, respond) = handle.next_request().await.unwrap();
        assert_eq!(format!("{:?}", asked.body()), "Body(4 bytes)");
        respond.send_response(Response::new(Body::full("pong!")));
        assert_eq!(format!("{:?}", call.await.unwrap().unwrap().body()), "Body(5 bytes)");
    }

    #[tokio::test]
    async fn service_that_fails_to_become_ready_fails_the_call() {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        handle.send_error("gone");
        let error = Boxed::new(service).call(request("ping")).await.unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
