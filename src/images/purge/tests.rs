use std::sync::Mutex;

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver};

use super::*;

/// One request as the webhook saw it.
struct Seen {
    id: String,
    timestamp: i64,
    signature: String,
    body: Bytes,
}

/// A webhook that answers with these statuses in turn, then 204.
async fn webhook(statuses: Vec<u16>) -> (Url, UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/purge?token=hidden", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::unbounded_channel();
    let statuses = Arc::new(Mutex::new(statuses.into_iter()));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
                async move {
                    let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
                    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
                    let signature = header("webhook-signature");
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let timestamp = timestamp.parse().expect("a number");
                    let _ = sender.send(Seen { id, timestamp, signature, body });
                    let status = statuses.lock().expect("no panic").next().unwrap_or(204);
                    Response::builder().status(status).body(Empty::<Bytes>::new())
                }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                builder.serve_connection(TokioIo::new(socket), service).await.map_err(drop)
            });
        }
    });
    (url.parse().expect("a URL"), receiver)
}

fn config(url: Url) -> Config {
    Config { url, secret: Secret::new("a-secret-of-the-webhook"), base_url: "https://cdn.example".to_owned() }
}

fn ids(seen: &Seen) -> Vec<String> {
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    let images = body["data"]["images"].as_array().expect("images").clone();
    images.iter().map(|image| image["image_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn deleted_and_expired_images_are_told_signed() {
    let (url, mut seen) = webhook(Vec::new()).await;
    let config = config(url);
    let (purger, _handle) = Purger::start(config.clone()).expect("a client");
    let (deleted, expired) = (ImageId::now(), [ImageId::now(), ImageId::now()]);
    purger.deleted(deleted);
    let first = seen.recv().await.expect("told");
    assert_eq!(ids(&first), [deleted.to_string()]);
    let message = Message { id: first.id.clone(), body: first.body.clone() };
    assert_eq!(first.signature, message.signature(&config.secret, first.timestamp));
    purger.expired(&expired);
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(ids(&seen.recv().await.expect("told")));
    }
    assert_eq!(told, expired.map(|id| id.to_string()));
}

#[tokio::test]
async fn webhook_that_fails_is_asked_again_with_the_same_id() {
    let (url, mut seen) = webhook(vec![500, 429]).await;
    let (purger, _handle) = Purger::start(config(url)).expect("a client");
    // Waits pass at once; the sockets are real, so time stands still only in between.
    tokio::time::pause();
    purger.deleted(ImageId::now());
    let first = seen.recv().await.expect("told");
    let second = seen.recv().await.expect("told again");
    let third = seen.recv().await.expect("and again");
    assert_eq!((&first.id, &first.id), (&second.id, &third.id));
    assert_eq!(first.body, third.body);
    let another = ImageId::now();
    purger.deleted(another);
    assert_eq!(ids(&seen.recv().await.expect("told")), [another.to_string()]);
}

#[tokio::test]
async fn webhook_that_refuses_is_not_asked_again() {
    let (url, mut seen) = webhook(vec![401]).await;
    let (purger, _handle) = Purger::start(config(url)).expect("a client");
    let (refused, next) = (ImageId::now(), ImageId::now());
    purger.deleted(refused);
    assert_eq!(ids(&seen.recv().await.expect("told")), [refused.to_string()]);
    purger.deleted(next);
    assert_eq!(ids(&seen.recv().await.expect("told")), [next.to_string()]);
}

#[tokio::test]
async fn what_waits_at_the_end_is_told_and_nothing_after() {
    let (url, mut seen) = webhook(Vec::new()).await;
    let (purger, handle) = Purger::start(config(url)).expect("a client");
    let ids_told: Vec<_> = (0..250).map(|_| ImageId::now()).collect();
    purger.expired(&ids_told);
    handle.finish(Duration::from_secs(600)).await;
    purger.deleted(ImageId::now());
    let mut told = Vec::new();
    while let Ok(message) = seen.try_recv() {
        told.extend(ids(&message));
    }
    assert_eq!(told, ids_told.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn end_does_not_wait_for_a_webhook_that_is_away() {
    let (url, mut seen) = webhook(vec![500; 100]).await;
    let (purger, handle) = Purger::start(config(url)).expect("a client");
    purger.deleted(ImageId::now());
    seen.recv().await.expect("told");
    tokio::time::pause();
    handle.finish(Duration::from_millis(1)).await;
    purger.queue.closed().await;
    assert!(seen.try_recv().is_err(), "it was not asked again");
}

#[tokio::test]
async fn queue_is_bounded() {
    let (sender, receiver) = mpsc::channel(3);
    let purger = Purger { queue: sender };
    let ids: Vec<_> = (0..10).map(|_| ImageId::now()).collect();
    purger.expired(&ids);
    assert_eq!(receiver.len(), 3);
}

#[test]
fn answers_worth_another_try_are_told_from_final_ones() {
    for (status, expected) in
        [(500, false), (503, false), (429, false), (408, false), (400, true), (404, true), (301, true)]
    {
        assert_eq!(is_final(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
    }
}
