//! The weaker check: whichever host it is, there is one.

use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};

use super::{ResponseFuture, check};
use crate::BoxError;

/// Refuses requests that do not name exactly one valid authority; any name will do. HTTP/1.0 need
/// not name one. The cause is [`BadHost`](crate::BadHost).
///
/// This is what HTTP wants of every server (RFC 9112, section 3.2). Which names are served is for
/// [`AuthorityLayer`](super::AuthorityLayer).
#[derive(Debug, Clone, Copy, Default)]
pub struct NamedLayer;

impl<S> Layer<S> for NamedLayer {
    type Service = Named<S>;

    fn layer(&self, inner: S) -> Named<S> {
        Named { inner }
    }
}

/// The service of [`NamedLayer`].
#[derive(Debug, Clone)]
pub struct Named<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Named<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match check::is_named(request.version(), request.uri(), request.headers()) {
            Ok(()) => ResponseFuture::pass(self.inner.call(request)),
            Err(cause) => ResponseFuture::refuse(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_test::mock;

    use super::*;
    use crate::{BadHost, find_cause};

    #[tokio::test]
    async fn request_with_any_host_reaches_the_inner_service() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, &str, _>(NamedLayer);
        assert!(service.poll_ready().is_ready());
        let call =
            tokio::spawn(service.call(Request::builder().header("host", "10.0.0.7:80").body(()).unwrap()));
        let (_, respond) = handle.next_request().await.unwrap();
        respond.send_response("served");
        assert_eq!(call.await.unwrap().unwrap(), "served");
    }

    #[tokio::test]
    async fn request_without_host_does_not_reach_the_inner_service() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, &str, _>(NamedLayer);
        assert!(service.poll_ready().is_ready());
        let error = service.call(Request::new(())).await.unwrap_err();
        assert_eq!(find_cause::<BadHost>(&*error), Some(&BadHost::Missing));
        assert!(handle.poll_request().is_pending());
    }
}
