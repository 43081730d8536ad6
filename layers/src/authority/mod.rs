//! Who may be asked, and from which web pages: the defence against DNS rebinding and cross-site requests.
//!
//! A request passes when it names exactly one valid authority (`Host`, or `:authority` of HTTP/2; an absolute request
//! target must agree with `Host`), that authority is allowed, and its `Origin`, if there is one, is allowed too. All
//! is decided before the service behind is called, so before a byte of the body is read. The causes are
//! [`BadHost`](crate::BadHost), [`HostRefused`](crate::HostRefused) and [`OriginRefused`](crate::OriginRefused).
//!
//! Always allowed are the loopback names `localhost`, `127.0.0.0/8` and `[::1]` with any port, and `http` and `https`
//! origins of these. The rest is a list, see [`AllowedAuthorities::new`]. Where any name will do, [`NamedLayer`] still
//! wants that there is exactly one.
//!
//! ```
//! use http::{Request, Response};
//! use layers::authority::{AllowedAuthorities, AuthorityLayer};
//! use layers::{BoxError, HostRefused, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let allowed = AllowedAuthorities::new(["images.example"], ["https://app.example"])?;
//! let service = ServiceBuilder::new()
//!     .layer(AuthorityLayer::new(allowed))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) }));
//!
//! let good = Request::builder().header("host", "images.example").header("origin", "https://app.example");
//! assert!(service.clone().oneshot(good.body(())?).await.is_ok());
//!
//! let rebound = Request::builder().header("host", "evil.example").body(())?;
//! let error = service.oneshot(rebound).await.unwrap_err();
//! assert!(find_cause::<HostRefused>(&*error).is_some());
//! # Ok(())
//! # }
//! ```

mod allowed;
mod check;
mod named;
mod parse;

use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};

pub use crate::gate::ResponseFuture;
pub use allowed::{AllowedAuthorities, EntryKind, InvalidEntries, InvalidEntry};
pub use named::{Named, NamedLayer};

use crate::BoxError;

/// Refuses requests for authorities, or from origins, that are not allowed.
#[derive(Debug, Clone)]
pub struct AuthorityLayer {
    allowed: AllowedAuthorities,
}

impl AuthorityLayer {
    /// Lets only these through.
    pub fn new(allowed: AllowedAuthorities) -> Self {
        Self { allowed }
    }
}

impl<S> Layer<S> for AuthorityLayer {
    type Service = Authority<S>;

    fn layer(&self, inner: S) -> Authority<S> {
        Authority { inner, allowed: self.allowed.clone() }
    }
}

/// The service of [`AuthorityLayer`].
#[derive(Debug, Clone)]
pub struct Authority<S> {
    inner: S,
    allowed: AllowedAuthorities,
}

impl<S, B> Service<Request<B>> for Authority<S>
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
        match check::check(&self.allowed, request.version(), request.uri(), request.headers()) {
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

    fn layer() -> AuthorityLayer {
        AuthorityLayer::new(AllowedAuthorities::default())
    }

    #[tokio::test]
    async fn request_for_a_loopback_name_reaches_the_inner_service() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, &str, _>(layer());
        assert!(service.poll_ready().is_ready());
        let call =
            tokio::spawn(service.call(Request::builder().header("host", "localhost:8000").body(()).unwrap()));
        let (_, respond) = handle.next_request().await.unwrap();
        respond.send_response("served");
        assert_eq!(call.await.unwrap().unwrap(), "served");
    }

    #[tokio::test]
    async fn refused_request_does_not_reach_the_inner_service() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, &str, _>(layer());
        assert!(service.poll_ready().is_ready());
        let error = service.call(Request::new(())).await.unwrap_err();
        assert_eq!(find_cause::<BadHost>(&*error), Some(&BadHost::Missing));
        assert!(handle.poll_request().is_pending());
    }
}
