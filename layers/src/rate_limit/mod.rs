//! A rate for each client (GCRA, by `governor`).
//!
//! Clients are told apart by [`ClientAddr::key`](crate::client_addr::ClientAddr::key); requests without one share a
//! cell. The cells are held in memory up to a cap: when it is reached, those that have recovered are forgotten, and if
//! that is not enough, clients not known yet share one overflow cell until room is found. The time is the monotonic
//! clock's. A request too many fails with [`RateLimited`], before the service behind is called.
//!
//! Layers cloned from one another, and all services that they make, count together.
//!
//! ```
//! use std::num::NonZeroU32;
//! use http::{HeaderMap, Request, Response};
//! use layers::rate_limit::{Quota, RateLimitLayer};
//! use layers::{BoxError, RateLimited, find_cause};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let quota = Quota::per_minute(NonZeroU32::MIN);
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new("api", quota))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) }));
//! assert!(service.clone().oneshot(Request::new(())).await.is_ok());
//!
//! let error = service.oneshot(Request::new(())).await.unwrap_err();
//! let mut headers = HeaderMap::new();
//! find_cause::<RateLimited>(&*error).expect("the cause").write_headers(&mut headers);
//! assert_eq!(headers["retry-after"], "60");
//! assert_eq!(headers["ratelimit-policy"], r#""api";q=1;w=60"#);
//! # }
//! ```

mod limited;
mod limiter;
mod quota;
mod store;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};

pub use crate::gate::ResponseFuture;
pub use limited::RateLimited;
pub use quota::Quota;

use crate::BoxError;
use crate::client_addr::ClientAddr;
use limiter::Limiter;

/// Refuses a client's requests beyond a quota.
#[derive(Debug, Clone)]
pub struct RateLimitLayer {
    limiter: Arc<Limiter>,
}

impl RateLimitLayer {
    /// How many clients are told apart unless set otherwise: at most about 2 MB.
    pub const DEFAULT_MAX_KEYS: usize = 32_768;

    /// Allows `quota` for each client. The name stands in metrics, in the cause and in its headers: letters, digits,
    /// `-` and `_`.
    pub fn new(name: &'static str, quota: Quota) -> Self {
        Self::with_max_keys(name, quota, Self::DEFAULT_MAX_KEYS)
    }

    /// The same, telling apart at most `max_keys` clients at a time.
    pub fn with_max_keys(name: &'static str, quota: Quota, max_keys: usize) -> Self {
        Self { limiter: Arc::new(Limiter::new(name, quota, max_keys)) }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { inner, limiter: Arc::clone(&self.limiter) }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Debug, Clone)]
pub struct RateLimit<S> {
    inner: S,
    limiter: Arc<Limiter>,
}

impl<S, B> Service<Request<B>> for RateLimit<S>
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
        let key = request.extensions().get().map(ClientAddr::key);
        match self.limiter.take(key) {
            Ok(()) => ResponseFuture::pass(self.inner.call(request)),
            Err(limited) => ResponseFuture::refuse(limited),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use tower_test::mock;

    use super::*;
    use crate::find_cause;

    #[tokio::test(start_paused = true)]
    async fn request_over_the_quota_is_refused_and_does_not_reach_the_inner_service() {
        let quota = Quota::per_second(NonZeroU32::MIN).with_burst(NonZeroU32::new(2).unwrap());
        let layer = RateLimitLayer::new("test", quota);
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, (), _>(layer);
        for _ in 0..2 {
            assert!(service.poll_ready().is_ready());
            let call = tokio::spawn(service.call(Request::new(())));
            handle.next_request().await.unwrap().1.send_response(());
            call.await.unwrap().unwrap();
        }
        assert!(service.poll_ready().is_ready());
        let error = service.call(Request::new(())).await.unwrap_err();
        let limited = find_cause::<RateLimited>(&*error).unwrap();
        assert_eq!(
            (limited.limiter, limited.retry_after, limited.quota),
            ("test", Duration::from_secs(1), quota)
        );
        assert!(handle.poll_request().is_pending());

        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(service.poll_ready().is_ready());
        let _call = service.call(Request::new(()));
        assert!(handle.poll_request().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn clones_of_one_layer_count_together() {
        let layer = RateLimitLayer::new("test", Quota::per_minute(NonZeroU32::MIN));
        let (mut one, mut handle) = mock::spawn_layer::<Request<()>, (), _>(layer.clone());
        let (mut two, _other) = mock::spawn_layer::<Request<()>, (), _>(layer);
        assert!(one.poll_ready().is_ready() && two.poll_ready().is_ready());
        let _call = one.call(Request::new(()));
        assert!(handle.poll_request().is_ready());
        assert!(two.call(Request::new(())).await.is_err());
    }
}
