//! Calls that take long: progress, the early head, cancel.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::*;

/// Long enough for everything that is ready to run; virtual where the clock is paused.
const MOMENT: Duration = Duration::from_millis(100);

fn prompt() -> Value {
    call(json!({"prompt": "a fox"}))
}

fn with_progress() -> Value {
    let mut params = prompt();
    params["_meta"] = json!({"progressToken": "token-1"});
    params
}

#[tokio::test(start_paused = true)]
async fn progress_grows_and_the_result_comes_last() {
    for request in both("tools/call", with_progress()) {
        let (endpoint, fake) = endpoint(Act::Wait);
        let finish = async {
            sleep(Duration::from_secs(30)).await;
            fake.go.notify_one();
        };
        let (answer, ()) = tokio::join!(send(&endpoint, request), finish);
        let mut events = answer.events();
        let result = events.pop().unwrap();
        assert_eq!(result["result"]["isError"], false, "{result}");
        assert!(events.len() >= 4, "one at once, then at least every ten seconds: {}", events.len());
        let mut last = -1.0;
        for event in &events {
            assert_eq!(event["method"], "notifications/progress");
            assert_eq!(event["params"]["progressToken"], "token-1");
            let progress = event["params"]["progress"].as_f64().unwrap();
            assert!(progress > last && progress < event["params"]["total"].as_f64().unwrap());
            last = progress;
        }
        assert_eq!(events.last().unwrap()["params"]["message"], "drawing: step 12 of 50");
    }
}

#[tokio::test(start_paused = true)]
async fn call_without_a_token_gets_no_progress() {
    for request in both("tools/call", prompt()) {
        let (endpoint, fake) = endpoint(Act::Wait);
        fake.go.notify_one();
        assert_eq!(send(&endpoint, request).await.result()["isError"], false);
    }
}

#[tokio::test(start_paused = true)]
async fn silent_call_gets_its_head_early_and_its_result_as_an_event() {
    for request in both("tools/call", prompt()) {
        let (endpoint, fake) = endpoint(Act::Wait);
        let start = Instant::now();
        let response = endpoint.oneshot(request).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(1_500));
        assert_eq!(response.status(), 200);
        let finish = async {
            sleep(Duration::from_secs(25)).await;
            fake.go.notify_one();
        };
        let (answer, ()) = tokio::join!(read(response), finish);
        assert_eq!(answer.text.matches(": waiting\n\n").count(), 3);
        let events = answer.events();
        assert_eq!((events.len(), &events[0]["id"]), (1, &json!(1)));
        assert_eq!(events[0]["result"]["isError"], false);
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_goes_away_before_the_head_cancels() {
    for request in both("tools/call", prompt()) {
        let (endpoint, fake) = endpoint(Act::Wait);
        let gone = timeout(Duration::from_secs(1), endpoint.oneshot(request)).await;
        assert!(gone.is_err());
        sleep(MOMENT).await;
        assert_eq!((fake.calls(), fake.dropped()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_closes_the_stream_cancels() {
    for params in [prompt(), with_progress()] {
        for request in both("tools/call", params.clone()) {
            let (endpoint, fake) = endpoint(Act::Wait);
            let response = endpoint.oneshot(request).await.unwrap();
            let mut body = response.into_body();
            assert!(body.frame().await.unwrap().is_ok());
            assert_eq!(fake.dropped(), 0);
            drop(body);
            sleep(MOMENT).await;
            assert_eq!((fake.calls(), fake.dropped()), (1, 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_does_not_hold_up_the_work() {
    for params in [prompt(), with_progress()] {
        let (endpoint, fake) = endpoint(Act::Wait);
        let response = endpoint.oneshot(modern("tools/call", params)).await.unwrap();
        sleep(Duration::from_secs(600)).await;
        fake.go.notify_one();
        sleep(MOMENT).await;
        assert_eq!((fake.done(), fake.dropped()), (1, 0));
        let answer = read(response).await;
        assert_eq!(answer.events().last().unwrap()["result"]["isError"], false);
    }
}

async fn session(endpoint: &Endpoint) -> http::HeaderValue {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answer = send(endpoint, legacy("initialize", params)).await;
    answer.headers["mcp-session-id"].clone()
}

fn named(mut request: Request<Body>, session: &http::HeaderValue) -> Request<Body> {
    request.headers_mut().insert("mcp-session-id", session.clone());
    request
}

fn cancel(id: Value) -> Request<Body> {
    let params = json!({"requestId": id, "reason": "the user pressed stop"});
    raw(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string())
}

#[tokio::test(start_paused = true)]
async fn cancelled_notification_cancels_and_ends_the_stream_without_an_answer() {
    for (params, wait) in [(prompt(), 1_000), (prompt(), 2_000), (with_progress(), 1_000)] {
        let (endpoint, fake) = endpoint(Act::Wait);
        let session = session(&endpoint).await;
        let stop = async {
            sleep(Duration::from_millis(wait)).await;
            assert_eq!(send(&endpoint, named(cancel(json!(1)), &session)).await.status, 202);
        };
        let request = named(legacy("tools/call", params), &session);
        let (answer, ()) = tokio::join!(send(&endpoint, request), stop);
        assert!(answer.events().iter().all(|event| event["method"] == "notifications/progress"));
        sleep(MOMENT).await;
        assert_eq!((fake.calls(), fake.dropped()), (1, 1));
        // The id is free again.
        fake.go.notify_one();
        let again = named(legacy("tools/call", prompt()), &session);
        assert_eq!(send(&endpoint, again).await.result()["isError"], false);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_notification_of_another_client_cancels_nothing() {
    let (endpoint, fake) = endpoint(Act::Wait);
    let (mine, other) = (session(&endpoint).await, session(&endpoint).await);
    assert_ne!(mine, other);
    let stop = async {
        sleep(MOMENT).await;
        for request in [
            named(cancel(json!(1)), &other),
            named(cancel(json!("1")), &mine),
            named(cancel(json!(2)), &mine),
            cancel(json!(1)),
        ] {
            assert_eq!(send(&endpoint, request).await.status, 202);
        }
        sleep(MOMENT).await;
        fake.go.notify_one();
    };
    let request = named(legacy("tools/call", prompt()), &mine);
    let (answer, ()) = tokio::join!(send(&endpoint, request), stop);
    assert_eq!(answer.result()["isError"], false);
    assert_eq!(fake.dropped(), 0);
}
