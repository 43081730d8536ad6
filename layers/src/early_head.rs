//! A response head that does not wait for a silent service.
//!
//! A service that answers with server-sent events, or with one JSON message, may be silent for
//! minutes before its first word. Clients and proxies give up long before that. This layer waits a
//! moment; if there is no response head by then, it commits `200 text/event-stream`, keeps the
//! stream alive with comments, and delivers the response inside the stream when it comes.
//!
//! - A `text/event-stream` response is passed through.
//! - An `application/json` response becomes one `message` event, whatever its status.
//! - Any other response only ends the stream: there is no way left to say it.
//! - An error of the service breaks the stream off with that error.
//!
//! Dropping the response body drops the inner future, so a client that goes away cancels the work
//! as it would without the layer.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use bytes::Bytes;
//! use http::{Request, Response, header};
//! use http_body_util::{BodyExt, Full};
//! use layers::early_head::EarlyHeadLayer;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let slow = service_fn(async |_: Request<()>| {
//!     tokio::time::sleep(Duration::from_secs(15)).await;
//!     let body = Full::new(Bytes::from_static(b"{}"));
//!     Ok::<_, Infallible>(Response::builder().header(header::CONTENT_TYPE, "application/json").body(body).unwrap())
//! });
//! let layer = EarlyHeadLayer::new(Duration::from_secs(1), Duration::from_secs(10), |_: &Request<()>| true);
//!
//! let response = layer.layer(slow).oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
//! let text = response.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(text, ": waiting\n\n: waiting\n\nevent: message\ndata: {}\n\n");
//! # }
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, Service};

use crate::BoxError;

const COMMENT: Bytes = Bytes::from_static(b": waiting\n\n");
const EVENT_START: Bytes = Bytes::from_static(b"event: message\ndata: ");
const EVENT_END: Bytes = Bytes::from_static(b"\n\n");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Commits an event stream when a response head is late.
pub struct EarlyHeadLayer<B> {
    config: Config<B>,
}

/// The service of [`EarlyHeadLayer`].
pub struct EarlyHead<S, B> {
    inner: S,
    config: Config<B>,
}

struct Config<B> {
    after: Duration,
    keep_alive: Duration,
    applies: fn(&Request<B>) -> bool,
}

pin_project! {
    /// The future of [`EarlyHead`].
    pub struct ResponseFuture<F> {
        #[pin]
        state: FutureState<F>,
    }
}

pin_project! {
    #[project = FutureStateProj]
    enum FutureState<F> {
        Untouched {
            #[pin]
            inner: F,
        },
        // Boxed, because it moves into the body when the head is late.
        Watched {
            inner: Option<Pin<Box<F>>>,
            #[pin]
            late: Sleep,
            keep_alive: Duration,
        },
    }
}

pin_project! {
    /// The body of [`EarlyHead`]'s responses.
    pub struct ResponseBody<F, B> {
        #[pin]
        state: BodyState<F, B>,
    }
}

pin_project! {
    #[project = BodyStateProj]
    enum BodyState<F, B> {
        // The response as the service gave it, or, inside an early stream, its events.
        Given {
            #[pin]
            body: B,
        },
        Waiting {
            inner: Pin<Box<F>>,
            #[pin]
            next_comment: Sleep,
            keep_alive: Duration,
        },
        Event {
            #[pin]
            body: B,
            started: bool,
        },
        Ended,
    }
}

impl<B> EarlyHeadLayer<B> {
    /// Commits a head `after` this time without one, and sends a comment at once and every
    /// `keep_alive` from then on, for requests to which this `applies`: they must be from clients
    /// that accept `text/event-stream`.
    pub fn new(after: Duration, keep_alive: Duration, applies: fn(&Request<B>) -> bool) -> Self {
        Self { config: Config { after, keep_alive, applies } }
    }
}

impl<S, B> Layer<S> for EarlyHeadLayer<B> {
    type Service = EarlyHead<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        EarlyHead { inner, config: self.config }
    }
}

impl<S, B, ResBody> Service<Request<B>> for EarlyHead<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<S::Future, ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let watched = (self.config.applies)(&request);
        let inner = self.inner.call(request);
        let state = if watched {
            FutureState::Watched {
                inner: Some(Box::pin(inner)),
                late: sleep(self.config.after),
                keep_alive: self.config.keep_alive,
            }
        } else {
            FutureState::Untouched { inner }
        };
        ResponseFuture { state }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<ResponseBody<F, ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let given = |response: Response<ResBody>| {
            response.map(|body| ResponseBody { state: BodyState::Given { body } })
        };
        match self.project().state.project() {
            FutureStateProj::Untouched { inner } => inner.poll(cx).map_ok(given),
            FutureStateProj::Watched { inner: slot, late, keep_alive } => {
                let Some(mut inner) = slot.take() else {
                    // Polled again after it was ready, which the contract of `Future` rules out.
                    return Poll::Pending;
                };
                if let Poll::Ready(result) = inner.as_mut().poll(cx) {
                    return Poll::Ready(result.map(given));
                }
                if late.poll(cx).is_pending() {
                    *slot = Some(inner);
                    return Poll::Pending;
                }
                let next_comment = sleep(Duration::ZERO);
                let state = BodyState::Waiting { inner, next_comment, keep_alive: *keep_alive };
                Poll::Ready(Ok(early_head(ResponseBody { state })))
            }
        }
    }
}

impl<F, B, E> http_body::Body for ResponseBody<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                BodyStateProj::Given { body } => {
                    return body.poll_frame(cx).map_err(Into::into);
                }
                BodyStateProj::Waiting { inner, mut next_comment, keep_alive } => {
                    match inner.as_mut().poll(cx) {
                        Poll::Ready(Ok(response)) => delivered(response),
                        Poll::Ready(Err(error)) => {
                            state.set(BodyState::Ended);
                            return Poll::Ready(Some(Err(error.into())));
                        }
                        Poll::Pending => {
                            ready!(next_comment.as_mut().poll(cx));
                            next_comment.reset(Instant::now() + *keep_alive);
                            return Poll::Ready(Some(Ok(Frame::data(COMMENT))));
                        }
                    }
                }
                BodyStateProj::Event { started, .. } if !*started => {
                    *started = true;
                    return Poll::Ready(Some(Ok(Frame::data(EVENT_START))));
                }
                BodyStateProj::Event { body, .. } => match ready!(body.poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => return Poll::Ready(Some(Ok(Frame::data(on_one_line(data))))),
                        Err(_trailers) => continue,
                    },
                    Some(Err(error)) => {
                        state.set(BodyState::Ended);
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {
                        state.set(BodyState::Ended);
                        return Poll::Ready(Some(Ok(Frame::data(EVENT_END))));
                    }
                },
                BodyStateProj::Ended => return Poll::Ready(None),
            };
            state.set(next);
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            BodyState::Given { body } => body.is_end_stream(),
            BodyState::Ended => true,
            BodyState::Waiting { .. } | BodyState::Event { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            BodyState::Given { body } => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

fn early_head<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks nginx and its kin not to hold the stream back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// How a response continues an event stream whose head is out already.
fn delivered<F, B>(response: Response<B>) -> BodyState<F, B> {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    match essence.map(<[u8]>::trim_ascii) {
        Some(essence) if essence.eq_ignore_ascii_case(b"text/event-stream") => {
            BodyState::Given { body: response.into_body() }
        }
        Some(essence) if essence.eq_ignore_ascii_case(b"application/json") => {
            BodyState::Event { body: response.into_body(), started: false }
        }
        _ => {
            tracing::warn!(status = response.status().as_u16(), "a late response fits no event stream");
            BodyState::Ended
        }
    }
}

/// A line break would end the event's `data` line; in JSON it only stands between tokens, so a
/// space means the same.
fn on_one_line(json: Bytes) -> Bytes {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !json.iter().any(is_break) {
        return json;
    }
    json.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect::<Vec<_>>().into()
}

impl<B> Clone for EarlyHeadLayer<B> {
    fn clone(&self) -> Self {
        Self { config: self.config }
    }
}

impl<S: Clone, B> Clone for EarlyHead<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: self.config }
    }
}

impl<B> Copy for Config<B> {}

impl<B> Clone for Config<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> std::fmt::Debug for EarlyHeadLayer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { after, keep_alive, .. } = &self.config;
        f.debug_struct("EarlyHeadLayer")
            .field("after", after)
            .field("keep_alive", keep_alive)
            .finish_non_exhaustive()
    }
}

impl<S: std::fmt::Debug, B> std::fmt::Debug for EarlyHead<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyHead").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
