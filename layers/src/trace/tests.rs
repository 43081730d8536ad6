use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Uri;
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};
use tower_test::mock;

use super::*;
use crate::client_addr::{ClientAddrLayer, PeerAddr, TrustedProxies};
use crate::request_id::RequestIdLayer;
use crate::test_tracing::Log;
use crate::{Body, BoxError};

fn route(target: &Uri) -> &'static str {
    if target.path() == "/health" { "health" } else { "other" }
}

fn layer() -> TraceLayer {
    TraceLayer::new(route).with_quiet(&["health"])
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// Handles a request with a service that logs whenever it is at work.
async fn handle(request: Request<()>) -> Result<Response<Body>, BoxError> {
    tracing::info!("future");
    if request.uri().path() == "/broken" {
        return Err("broken".into());
    }
    let pieces = [Ok::<_, BoxError>(Bytes::from("ab")), Ok(Bytes::from("c"))];
    let body = stream::iter(pieces).map(|piece| {
        tracing::info!("body");
        piece
    });
    Ok(Response::new(Body::stream(body)))
}

#[tokio::test]
async fn span_has_the_fields_of_the_request_and_is_entered_for_future_and_body() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let service = tower::ServiceBuilder::new()
        .layer(ClientAddrLayer::new(TrustedProxies::default()))
        .layer(RequestIdLayer)
        .layer(layer())
        .service(service_fn(handle));
    let mut request = get("/a?secret=1");
    request.extensions_mut().insert(PeerAddr("192.0.2.7:80".parse().unwrap()));
    request.headers_mut().insert("x-request-id", "id-1".parse().unwrap());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.headers_mut().insert("traceparent", parent.parse().unwrap());

    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    let span = "INFO request method=GET route=other request_id=id-1 \
                trace_id=0af7651916cd43dd8448eb211c80319c client=192.0.2.7";
    assert_eq!(log.spans(), [span]);
    let events = log.events();
    assert_eq!(events[..3], ["[1] INFO message=future", "[1] INFO message=body", "[1] INFO message=body"]);
    assert_eq!(events.len(), 4);
    assert!(events[3].starts_with("[1] INFO message=request ended status=200 duration_ms="), "{events:?}");
    assert!(events[3].ends_with(" bytes=3 outcome=complete"), "{events:?}");
}

#[tokio::test]
async fn quiet_route_is_traced_at_debug() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let service = layer().layer(service_fn(handle));
    service.oneshot(get("/health")).await.unwrap().into_body().collect().await.unwrap();
    assert!(
        log.spans()[0].starts_with("DEBUG request method=GET route=health trace_id="),
        "{:?}",
        log.spans()
    );
    assert!(log.events().last().unwrap().starts_with("[1] DEBUG message=request ended"));
}

#[tokio::test]
async fn body_dropped_in_the_middle_is_logged_as_aborted() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let mut body = layer().layer(service_fn(handle)).oneshot(get("/a")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let before = log.events().len();
    drop(body);
    assert_eq!(log.events().len(), before + 1);
    assert!(log.events()[before].ends_with(" bytes=2 outcome=aborted"), "{:?}", log.events());
}

#[tokio::test]
async fn error_of_the_service_is_logged_without_a_status() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    assert!(layer().layer(service_fn(handle)).oneshot(get("/broken")).await.is_err());
    let last = log.events().pop().unwrap();
    assert!(last.ends_with(" bytes=0 outcome=error") && !last.contains("status"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn call_dropped_before_the_response_is_logged_as_aborted_with_its_time() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<Body>, _>(layer());
    assert!(service.poll_ready().is_ready());
    let call = service.call(get("/a"));
    let (_request, _respond) = handle.next_request().await.unwrap();
    tokio::time::advance(Duration::from_micros(1_500)).await;
    drop(call);
    assert_eq!(log.events(), ["[1] INFO message=request ended duration_ms=1.5 bytes=0 outcome=aborted"]);
}
