//! A fixture of the load comparison: speaks KServe V1, answers one prepared image.
//!
//! `instant_predictor PORT DELAY_MS [FILE]`: the image is FILE or 359 kB of PNG made at start.

#![expect(clippy::unwrap_used, reason = "a fixture of the benchmark: it may die of anything unexpected")]

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;

mod picture;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap().parse().unwrap();
    let delay = Duration::from_millis(arguments.next().unwrap().parse().unwrap());
    let picture = arguments.next().map_or_else(picture::png, |file| std::fs::read(file).unwrap());
    let reply = Bytes::from(picture::reply(&picture));
    let ready = Bytes::from_static(br#"{"name":"stable-diffusion","ready":true}"#);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (reply, ready) = (reply.clone(), ready.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (reply, ready) = (reply.clone(), ready.clone());
                async move {
                    let body = if request.method() == http::Method::POST {
                        // A caller may leave in the middle: that is its end, not this one's.
                        let _ = request.into_body().collect().await;
                        if !delay.is_zero() {
                            tokio::time::sleep(delay).await;
                        }
                        reply
                    } else {
                        ready
                    };
                    let response = Response::builder().header("content-type", "application/json");
                    Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}
