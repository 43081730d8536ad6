use http_body::Body as _;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::oneshot;
use tower::{ServiceExt, service_fn};
use tower_test::mock;

use super::*;
use crate::Body;

const AFTER: Duration = Duration::from_millis(1_500);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

fn layer() -> EarlyHeadLayer<&'static str> {
    EarlyHeadLayer::new(AFTER, KEEP_ALIVE, |request| *request.body() == "slow")
}

fn response(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    Response::builder().status(status).header(header::CONTENT_TYPE, content_type).body(body).unwrap()
}

fn json(status: u16, text: &'static str) -> Response<Body> {
    response(status, "application/json", Body::new(Full::new(Bytes::from_static(text.as_bytes()))))
}

/// The whole text of a response that comes `delay` after the request.
async fn text_of(late: Response<Body>, delay: Duration) -> String {
    let (mut service, mut handle) = mock::spawn_layer(layer());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let call = service.call(Request::new("slow"));
    let answer = tokio::spawn(async move {
        let (_, send) = handle.next_request().await.unwrap();
        sleep(delay).await;
        send.send_response(late);
    });
    let response = call.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    answer.await.unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn prompt_response_passes_untouched() {
    let service = service_fn(async |_| {
        sleep(AFTER - Duration::from_millis(1)).await;
        Ok::<_, BoxError>(json(404, "{}"))
    });
    let response = layer().layer(service).oneshot(Request::new("slow")).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{}");
}

#[tokio::test(start_paused = true)]
async fn request_that_the_layer_does_not_apply_to_waits_for_its_head() {
    let service = service_fn(async |_| {
        sleep(AFTER * 100).await;
        Ok::<_, BoxError>(json(200, "{}"))
    });
    let response = layer().layer(service).oneshot(Request::new("other")).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
}

#[tokio::test(start_paused = true)]
async fn late_head_is_committed_after_the_given_time() {
    let start = Instant::now();
    let service = service_fn(async |_| std::future::pending::<Result<Response<Body>, BoxError>>().await);
    let response = layer().layer(service).oneshot(Request::new("slow")).await.unwrap();
    assert_eq!(start.elapsed(), AFTER);
    let mut body = Box::pin(response.into_body());
    for elapsed in [AFTER, AFTER + KEEP_ALIVE, AFTER + KEEP_ALIVE * 2] {
        let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((comment, start.elapsed()), (COMMENT, elapsed));
    }
    assert!(!body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn late_json_becomes_one_event() {
    let text = text_of(json(200, r#"{"id":1}"#), Duration::from_secs(12)).await;
    assert_eq!(text, ": waiting\n\n: waiting\n\nevent: message\ndata: {\"id\":1}\n\n");
}

#[tokio::test(start_paused = true)]
async fn late_json_error_is_delivered_too() {
    let text = text_of(json(500, r#"{"error":{}}"#), Duration::from_secs(2)).await;
    assert_eq!(text, ": waiting\n\nevent: message\ndata: {\"error\":{}}\n\n");
}

#[tokio::test(start_paused = true)]
async fn late_json_with_line_breaks_stays_one_data_line() {
    let text = text_of(json(200, "{\n\"id\":\r\n1}"), Duration::from_secs(2)).await;
    assert_eq!(text, ": waiting\n\nevent: message\ndata: { \"id\":  1}\n\n");
}

#[tokio::test(start_paused = true)]
async fn late_event_stream_is_passed_through() {
    let frames = ["data: 1\n\n", "data: 2\n\n"].map(|text| Ok::<_, BoxError>(Frame::data(text.into())));
    let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
    let late = response(200, "text/event-stream; charset=utf-8", body);
    let text = text_of(late, Duration::from_secs(2)).await;
    assert_eq!(text, ": waiting\n\ndata: 1\n\ndata: 2\n\n");
}

#[tokio::test(start_paused = true)]
async fn late_response_of_another_type_ends_the_stream() {
    let late = response(500, "text/plain", Body::new(Full::new(Bytes::from_static(b"secret"))));
    assert_eq!(text_of(late, Duration::from_secs(2)).await, ": waiting\n\n");
}

#[tokio::test(start_paused = true)]
async fn late_error_breaks_the_stream_off() {
    let service = service_fn(async |_| {
        sleep(AFTER * 2).await;
        Err::<Response<Body>, BoxError>("boom".into())
    });
    let response = layer().layer(service).oneshot(Request::new("slow")).await.unwrap();
    let mut body = Box::pin(response.into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "boom");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn dropped_body_drops_the_work() {
    let (alive, mut dropped) = oneshot::channel::<()>();
    let mut alive = Some(alive);
    let service = service_fn(move |_| {
        let alive = alive.take();
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Ok::<_, BoxError>(json(200, "{}"))
        }
    });
    let response = layer().layer(service).oneshot(Request::new("slow")).await.unwrap();
    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(response);
    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}
