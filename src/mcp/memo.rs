//! Answers that stay the same, made once.
//!
//! Every host lists the tools when it connects, and is told the same each time; most of what that costs is writing the
//! schemas out. Which answers stay the same is told by the method; what was asked is compared to the letter, but for
//! the request's id, together with the headers that the protocol machinery reads. So the machinery judges each
//! question once, and nothing is answered here that it did not answer first.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, response};
use http_body_util::{BodyExt, Collected};
use layers::Body;
use pin_project_lite::pin_project;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tower::{Layer, Service};

use super::message::JsonRpcMethod;

/// Methods whose answers hold for the life of the process.
const CONSTANT: [&str; 3] = ["ping", "server/discover", "tools/list"];

/// Questions remembered: a few clients, in a few revisions. A new one takes the place of the oldest.
const QUESTIONS: usize = 16;
/// Longer ones are not remembered, nor are longer answers.
const MAX_QUESTION: usize = 4 * 1024;
const MAX_ANSWER: usize = 64 * 1024;

/// Puts a [`Memo`] in front of the protocol machinery.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoLayer;

/// Answers what was answered before.
#[derive(Debug, Clone)]
pub(super) struct Memo<S> {
    inner: S,
    known: Known,
}

#[derive(Debug, Clone, Default)]
struct Known(Arc<RwLock<Vec<Arc<Remembered>>>>);

/// A question and its answer, both cut at the id.
#[derive(Debug)]
struct Remembered {
    question: Question,
    head: response::Parts,
    before_id: Bytes,
    after_id: Bytes,
}

/// What was asked, but for the id.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    before_id: Bytes,
    after_id: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<S> Layer<S> for MemoLayer {
    type Service = Memo<S>;

    fn layer(&self, inner: S) -> Memo<S> {
        Memo { inner, known: Known::default() }
    }
}

impl<S> Service<Request<Bytes>> for Memo<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let Some((question, id)) = Question::of(&request) else {
            return ResponseFuture::Asked { inner: self.inner.call(request) };
        };
        if let Some(remembered) = self.known.find(&question) {
            return ResponseFuture::Known { response: Some(remembered.answer(&id)) };
        }
        let (call, known) = (self.inner.call(request), self.known.clone());
        ResponseFuture::Learning {
            inner: Box::pin(async move {
                let response = call.await?;
                Ok(known.learn(question, response).await)
            }),
        }
    }
}

pin_project! {
    /// The future of [`Memo`].
    #[project = Projected]
    pub(super) enum ResponseFuture<F> {
        Known { response: Option<Response<Body>> },
        Asked { #[pin] inner: F },
        Learning { inner: BoxFuture<'static, Result<Response<Body>, Infallible>> },
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Known { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Projected::Asked { inner } => inner.poll(cx),
            Projected::Learning { inner } => inner.as_mut().poll(cx),
        }
    }
}

impl Question {
    /// The question and its id, if its answer stays the same.
    fn of(request: &Request<Bytes>) -> Option<(Self, Bytes)> {
        let method = request.extensions().get::<JsonRpcMethod>()?;
        let body = request.body();
        if !CONSTANT.contains(&method.as_str()) || body.len() > MAX_QUESTION {
            return None;
        }
        let framed = Framed::read(body)?;
        let headers = request.headers().iter().filter(|(name, _)| is_read(name));
        let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        let (before_id, id, after_id) = framed.cut(body);
        Some((Self { before_id, after_id, headers }, id))
    }

    /// The same in memory of its own: what came from a socket holds on to the buffer that it was read into.
    fn detached(self) -> Self {
        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let headers = self.headers.into_iter().filter_map(|(name, value)| {
            Some((name, HeaderValue::from_maybe_shared(copy(value.as_bytes())).ok()?))
        });
        Self { before_id: copy(&self.before_id), after_id: copy(&self.after_id), headers: headers.collect() }
    }
}

/// Whether the protocol machinery looks at such a header, `Accept` and `Content-Type` aside, which the guard made one.
/// The session's name is not one of them: there are no sessions.
fn is_read(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") && name != "mcp-session-id"
}

impl Known {
    fn find(&self, question: &Question) -> Option<Arc<Remembered>> {
        // Whoever panicked with the lock left whole entries behind.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|remembered| remembered.question == *question).cloned()
    }

    /// Remembers a response if it is a result and short; gives it back in any case.
    async fn learn(&self, question: Question, response: Response<Body>) -> Response<Body> {
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let is_json = content_type.is_some_and(|value| value == "application/json");
        if response.status() != StatusCode::OK || !is_json {
            return response;
        }
        let (head, body) = response.into_parts();
        let body = match body.collect().await.map(Collected::to_bytes) {
            Ok(body) => body,
            Err(error) => {
                return Response::from_parts(head, Body::stream(stream::iter([Err::<Bytes, _>(error)])));
            }
        };
        if body.len() <= MAX_ANSWER
            && let Some(framed) = Framed::read(&body).filter(|framed| framed.result.is_some())
        {
            let (before_id, _, after_id) = framed.cut(&body);
            let question = question.detached();
            self.remember(Remembered { question, head: head.clone(), before_id, after_id });
        }
        Response::from_parts(head, Body::full(body))
    }

    fn remember(&self, remembered: Remembered) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= QUESTIONS {
            known.remove(0);
        }
        known.push(Arc::new(remembered));
    }
}

impl Remembered {
    fn answer(&self, id: &[u8]) -> Response<Body> {
        let body = [&self.before_id, id, &self.after_id].concat();
        Response::from_parts(self.head.clone(), Body::full(body))
    }
}

/// A message, of which only the outside is read.
#[derive(Deserialize)]
struct Framed<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(default)]
    result: Option<IgnoredAny>,
}

impl<'a> Framed<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The body that this was read from: up to the id, the id, and from there on.
    fn cut(&self, body: &Bytes) -> (Bytes, Bytes, Bytes) {
        let id = body.slice_ref(self.id.get().as_bytes());
        let start = id.as_ptr().addr() - body.as_ptr().addr();
        (body.slice(..start), id.clone(), body.slice(start + id.len()..))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::mcp::message::parse_body;

    /// Answers like the machinery, with a number that tells how often it was asked.
    fn counting()
    -> impl Service<Request<Bytes>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone {
        let asked = Arc::new(AtomicUsize::new(0));
        MemoLayer.layer(service_fn(move |request: Request<Bytes>| {
            let asked = asked.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
                let kind = if body["params"]["wrong"].is_null() { "result" } else { "error" };
                let answer = serde_json::json!({"jsonrpc": "2.0", "id": body["id"], kind: {"asked": asked}});
                let response = Response::builder().header("content-type", "application/json");
                Ok(response.body(Body::full(answer.to_string())).unwrap())
            }
        }))
    }

    fn request(body: &str) -> Request<Bytes> {
        let method = parse_body(body.as_bytes()).unwrap().method;
        Request::builder().extension(method).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    async fn ask<S>(memo: &S, request: Request<Bytes>) -> serde_json::Value
    where
        S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let response = memo.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn same_question_is_answered_from_memory_with_its_own_id() {
        let memo = counting();
        for id in ["1", "2", "\"a\\\"b\"", "-7"] {
            let answer =
                ask(&memo, request(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#))).await;
            assert_eq!(answer["id"], serde_json::from_str::<serde_json::Value>(id).unwrap());
            assert_eq!(answer["result"]["asked"], 1);
        }
    }

    #[tokio::test]
    async fn other_question_is_asked_anew() {
        let memo = counting();
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let mut versioned = request(list);
        versioned.headers_mut().insert("mcp-protocol-version", HeaderValue::from_static("2025-06-18"));
        let mut other_version = request(list);
        other_version.headers_mut().insert("mcp-protocol-version", HeaderValue::from_static("2026-07-28"));
        let cursor = request(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}"#);
        let ping = request(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        for (expected, request) in
            [request(list), versioned, other_version, cursor, ping].into_iter().enumerate()
        {
            assert_eq!(ask(&memo, request).await["result"]["asked"], expected + 1);
        }
    }

    #[tokio::test]
    async fn session_name_does_not_make_another_question() {
        let memo = counting();
        for name in ["a", "b"] {
            let mut request = request(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
            request.headers_mut().insert("mcp-session-id", HeaderValue::from_static(name));
            assert_eq!(ask(&memo, request).await["result"]["asked"], 1);
        }
    }

    #[tokio::test]
    async fn calls_and_errors_are_not_remembered() {
        let memo = counting();
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#;
        let wrong = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"wrong":1}}"#;
        for (expected, body) in [call, call, wrong, wrong].into_iter().enumerate() {
            let answer = ask(&memo, request(body)).await;
            let asked = answer.get("result").or(answer.get("error")).unwrap();
            assert_eq!(asked["asked"], expected + 1);
        }
    }

    #[tokio::test]
    async fn oldest_question_gives_way() {
        let memo = counting();
        let body = |cursor: usize| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"cursor":"{cursor}"}}}}"#)
        };
        for cursor in 0..=QUESTIONS {
            assert_eq!(ask(&memo, request(&body(cursor))).await["result"]["asked"], cursor + 1);
        }
        assert_eq!(ask(&memo, request(&body(1))).await["result"]["asked"], 2);
        assert_eq!(ask(&memo, request(&body(0))).await["result"]["asked"], QUESTIONS + 2);
    }
}
