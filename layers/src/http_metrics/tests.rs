use std::time::Duration;

use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use tower_test::mock;

use super::*;
use crate::test_metrics::Recorded;
use crate::{Body, BoxError};

type Inner = mock::Mock<Request<RequestBody<Body>>, Response<Body>>;
type Handle = mock::Handle<Request<RequestBody<Body>>, Response<Body>>;

const IN_FLIGHT: &str = "http_server_requests_in_flight{route=images}";

fn route(target: &Uri) -> &'static str {
    if target.path().starts_with("/images/") { "images" } else { "other" }
}

fn spawn() -> (mock::Spawn<HttpMetrics<Inner>>, Handle) {
    mock::spawn_layer(HttpMetricsLayer::new(route))
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

/// Answers one request with these pieces, as 200.
async fn answer(
    service: &mut mock::Spawn<HttpMetrics<Inner>>,
    handle: &mut Handle,
    request: Request<Body>,
    pieces: &[&'static str],
) -> Response<ResponseBody<Body>> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, BoxError>((*piece).into())).collect();
    assert!(service.poll_ready::<Request<Body>>().is_ready());
    let call = service.call(request);
    let (request, respond) = handle.next_request().await.unwrap();
    request.into_body().collect().await.unwrap();
    respond.send_response(Response::new(Body::stream(futures_util::stream::iter(pieces))));
    call.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn request_is_recorded_when_its_body_has_ended() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, mut handle) = spawn();
    let labels = "{route=images,method=POST,status=200}";

    let request = Request::post("/images/1").body(Body::full("12345")).unwrap();
    let response = answer(&mut service, &mut handle, request, &["ab", "c"]).await;
    assert_eq!(recorded.gauge(IN_FLIGHT), 1.0);
    assert_eq!(recorded.counter(&format!("http_server_requests_total{labels}")), 0);

    tokio::time::advance(Duration::from_secs(2)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(recorded.gauge(IN_FLIGHT), 0.0);
    assert_eq!(recorded.counter(&format!("http_server_requests_total{labels}")), 1);
    assert_eq!(recorded.samples(&format!("http_server_request_duration_seconds{labels}")), [2.0]);
    assert_eq!(recorded.counter("http_server_request_body_bytes_total{route=images}"), 5);
    assert_eq!(recorded.counter("http_server_response_body_bytes_total{route=images}"), 3);
}

#[tokio::test]
async fn body_dropped_in_the_middle_ends_the_request() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, mut handle) = spawn();
    let mut body = answer(&mut service, &mut handle, get("/images/1"), &["ab", "c"]).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(recorded.gauge(IN_FLIGHT), 1.0);
    drop(body);
    assert_eq!(recorded.gauge(IN_FLIGHT), 0.0);
    assert_eq!(recorded.counter("http_server_response_body_bytes_total{route=images}"), 2);
    assert_eq!(recorded.counter("http_server_requests_total{route=images,method=GET,status=200}"), 1);
}

#[tokio::test]
async fn call_dropped_before_the_response_is_aborted() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, _handle) = spawn();
    assert!(service.poll_ready::<Request<Body>>().is_ready());
    drop(service.call(get("/images/1")));
    assert_eq!(recorded.gauge(IN_FLIGHT), 0.0);
    assert_eq!(recorded.counter("http_server_requests_total{route=images,method=GET,status=aborted}"), 1);
}

#[tokio::test]
async fn call_that_fails_is_an_error() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, mut handle) = spawn();
    assert!(service.poll_ready::<Request<Body>>().is_ready());
    let call = service.call(get("/x"));
    handle.next_request().await.unwrap().1.send_error("broken");
    assert!(call.await.is_err());
    assert_eq!(recorded.counter("http_server_requests_total{route=other,method=GET,status=error}"), 1);
}

#[tokio::test]
async fn labels_of_strange_requests_come_from_the_fixed_sets() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, mut handle) = spawn();
    let request = Request::builder().method("EVIL-1").uri("/../x").body(Body::empty()).unwrap();
    assert!(service.poll_ready::<Request<Body>>().is_ready());
    let call = service.call(request);
    let response = Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap();
    handle.next_request().await.unwrap().1.send_response(response);
    drop(call.await.unwrap());
    assert_eq!(recorded.counter("http_server_requests_total{route=other,method=OTHER,status=404}"), 1);
}

#[tokio::test]
async fn clones_record_into_the_same_handles() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let (mut service, mut handle) = spawn();
    let mut clone = mock::Spawn::new(service.get_ref().clone());
    drop(answer(&mut service, &mut handle, get("/images/1"), &[]).await);
    drop(answer(&mut clone, &mut handle, get("/images/2"), &[]).await);
    assert_eq!(recorded.counter("http_server_requests_total{route=images,method=GET,status=200}"), 2);
}

#[tokio::test]
async fn describe_knows_every_metric_that_is_recorded() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    describe();
    let (mut service, mut handle) = spawn();
    drop(answer(&mut service, &mut handle, get("/images/1"), &["a"]).await);
    let described = recorded.described();
    assert_eq!(recorded.names().len(), 5);
    for name in recorded.names() {
        assert!(described.contains(&name), "{name}");
    }
}

#[test]
fn answers_that_are_named_are_counted_from_zero() {
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, || {
        let statuses = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE];
        HttpMetricsLayer::new(route).with_counted("images", &Method::GET, &statuses);
    });
    assert_eq!(recorded.names(), ["http_server_requests_total", "http_server_requests_total"]);
}
