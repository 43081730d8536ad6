//! All layers on top of one another: that they fit, and that a refusal deep inside is answered, named, logged and
//! counted like any response.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use http::Uri;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layers::authority::{AllowedAuthorities, AuthorityLayer};
use layers::body_idle::BodyIdleTimeoutLayer;
use layers::body_limit::BodyLimitLayer;
use layers::client_addr::{ClientAddrLayer, PeerAddr, TrustedProxies};
use layers::deadline::DeadlineLayer;
use layers::http_metrics::HttpMetricsLayer;
use layers::panic::CatchPanicLayer;
use layers::rate_limit::{Quota, RateLimitLayer};
use layers::request_id::RequestIdLayer;
use layers::rescue::{RescueContext, RescueLayer};
use layers::trace::TraceLayer;
use layers::{
    BadHost, Body, BodyStalled, BodyTooLarge, BoxError, Elapsed, HostRefused, IntoBodyLayer, Panicked,
    RateLimited, find_cause,
};
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, ServiceExt, service_fn};

fn route(_: &Uri) -> &'static str {
    "other"
}

fn answer(error: BoxError, context: &RescueContext) -> Response<Body> {
    let error = &*error;
    let status = if find_cause::<BadHost>(error).is_some() {
        StatusCode::BAD_REQUEST
    } else if find_cause::<HostRefused>(error).is_some() {
        StatusCode::FORBIDDEN
    } else if find_cause::<RateLimited>(error).is_some() {
        StatusCode::TOO_MANY_REQUESTS
    } else if find_cause::<BodyTooLarge>(error).is_some() {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if find_cause::<BodyStalled>(error).is_some() {
        StatusCode::REQUEST_TIMEOUT
    } else if find_cause::<Elapsed>(error).is_some() {
        StatusCode::GATEWAY_TIMEOUT
    } else if find_cause::<Panicked>(error).is_some() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::BAD_GATEWAY
    };
    let mut response =
        Response::new(Body::full(context.request_id().map(ToString::to_string).unwrap_or_default()));
    *response.status_mut() = status;
    if let Some(limited) = find_cause::<RateLimited>(error) {
        limited.write_headers(response.headers_mut());
    }
    response
}

async fn handle(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    match request.uri().path() {
        "/slow" => std::future::pending().await,
        "/panic" => panic!("a bug"),
        _ => Ok(Response::new(Body::full(request.into_body().collect().await?.to_bytes()))),
    }
}

type Stack = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

fn stack() -> Stack {
    let quota = Quota::per_minute(NonZeroU32::new(3).unwrap());
    let service = ServiceBuilder::new()
        .layer(IntoBodyLayer)
        .layer(ClientAddrLayer::new(TrustedProxies::default()))
        .layer(RequestIdLayer)
        .layer(TraceLayer::new(route))
        .layer(HttpMetricsLayer::new(route))
        .layer(RescueLayer::new(answer))
        .layer(CatchPanicLayer)
        .layer(AuthorityLayer::new(AllowedAuthorities::default()))
        .layer(RateLimitLayer::new("test", quota))
        .layer(BodyLimitLayer::new(10))
        .layer(BodyIdleTimeoutLayer::new(Duration::from_secs(5)))
        .layer(DeadlineLayer::new(Duration::from_secs(20)))
        .layer(IntoBodyLayer)
        .service(service_fn(handle));
    BoxCloneService::new(service)
}

fn request(path: &str, host: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .extension(PeerAddr("192.0.2.1:80".parse().unwrap()))
        .header("host", host)
        .header("x-request-id", "id-1")
        .body(body)
        .unwrap()
}

async fn status(path: &str, host: &str, body: Body) -> u16 {
    let Ok(response) = stack().oneshot(request(path, host, body)).await;
    assert_eq!(response.headers()["x-request-id"], "id-1");
    response.status().as_u16()
}

fn drip() -> Body {
    Body::stream(futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, BoxError>("x".into()), ()))
    }))
}

#[tokio::test(start_paused = true)]
async fn request_that_is_fine_is_served() {
    let Ok(response) = stack().oneshot(request("/", "localhost", Body::full("hello"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test(start_paused = true)]
async fn each_cause_reaches_the_rescue() {
    assert_eq!(status("/", "evil@localhost", Body::empty()).await, 400);
    assert_eq!(status("/", "evil.example", Body::empty()).await, 403);
    assert_eq!(status("/", "localhost", Body::full("longer than ten")).await, 413);
    assert_eq!(status("/", "localhost", drip()).await, 408);
    assert_eq!(status("/slow", "localhost", Body::empty()).await, 504);
    assert_eq!(status("/panic", "localhost", Body::empty()).await, 500);
}

#[tokio::test(start_paused = true)]
async fn client_over_its_quota_is_told_when_to_come_back_and_refused_hosts_cost_nothing() {
    let stack = stack();
    for _ in 0..5 {
        let Ok(refused) = stack.clone().oneshot(request("/", "evil.example", Body::empty())).await;
        assert_eq!(refused.status(), 403);
    }
    for _ in 0..3 {
        let Ok(served) = stack.clone().oneshot(request("/", "localhost", Body::empty())).await;
        assert_eq!(served.status(), 200);
    }
    let Ok(limited) = stack.oneshot(request("/", "localhost", Body::empty())).await;
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.headers()["retry-after"], "20");
    assert_eq!(limited.into_body().collect().await.unwrap().to_bytes(), "id-1");
}
