//! Answers `OPTIONS`: 204, and the methods that are there.
//!
//! A browser's preflight wants no more; what pages may do is said by [`cors`](crate::cors).
//!
//! ```
//! use http::{HeaderValue, Request, Response};
//! use layers::options::OptionsLayer;
//! use layers::{Body, BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(OptionsLayer::new(HeaderValue::from_static("POST, OPTIONS")))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(Body::full("posted"))) }));
//! let response = service.oneshot(Request::options("/").body(())?).await?;
//! assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (204, &"POST, OPTIONS".parse()?));
//! # Ok(())
//! # }
//! ```

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tower::{Layer, Service};

/// Answers `OPTIONS` in place of the service behind.
#[derive(Debug, Clone)]
pub struct OptionsLayer {
    allow: HeaderValue,
}

impl OptionsLayer {
    /// Answers with this `Allow`.
    pub fn new(allow: HeaderValue) -> Self {
        Self { allow }
    }
}

impl<S> Layer<S> for OptionsLayer {
    type Service = Options<S>;

    fn layer(&self, inner: S) -> Options<S> {
        Options { inner, allow: self.allow.clone() }
    }
}

/// The service of [`OptionsLayer`].
#[derive(Debug, Clone)]
pub struct Options<S> {
    inner: S,
    allow: HeaderValue,
}

impl<S, B, ResB> Service<Request<B>> for Options<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: Default,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<ResB>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.method() != Method::OPTIONS {
            return Either::Left(self.inner.call(request));
        }
        let mut response = Response::new(ResB::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::ALLOW, self.allow.clone());
        Either::Right(ready(Ok(response)))
    }
}

#[cfg(test)]
mod tests {
    use tower_test::mock;

    use super::*;

    #[tokio::test]
    async fn options_are_answered_and_all_else_passes() {
        let layer = OptionsLayer::new(HeaderValue::from_static("POST, OPTIONS"));
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<String>, _>(layer);
        assert!(service.poll_ready().is_ready());
        let response = service.call(Request::options("/").body(()).unwrap()).await.unwrap();
        assert_eq!((response.status(), response.headers().len()), (StatusCode::NO_CONTENT, 1));
        assert!(handle.poll_request().is_pending());

        assert!(service.poll_ready().is_ready());
        let call = tokio::spawn(service.call(Request::post("/").body(()).unwrap()));
        let (_, respond) = handle.next_request().await.unwrap();
        respond.send_response(Response::new("posted".to_owned()));
        assert_eq!(call.await.unwrap().unwrap().into_body(), "posted");
    }
}
