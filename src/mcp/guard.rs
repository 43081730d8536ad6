//! The door of the endpoint: reads the body, caps it, and lets only one whole JSON-RPC message in.
//!
//! What it refuses it answers with a JSON-RPC error and a 4xx status, so that no broken request
//! reaches the protocol machinery, whose own answers to such are plain text or 500.

use std::{
    convert::Infallible,
    error::Error as StdError,
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::LengthLimitError;
use layers::{Body, BodyStalled, BodyTooLarge, BoxError, find_cause, trace};
use rmcp::model::{JsonRpcError, RequestId};
use tower::{Layer, Service};

use super::{
    cancel::Cancellations,
    message::{self, JsonRpcMethod, parse_body},
    plain::PlainCall,
    replies::Id,
};
use crate::request::{accepted, is_encoded, is_json, read_body};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What clients must accept: a response is of one or the other type.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// Puts a [`Guard`] in front of a service.
#[derive(Debug, Clone)]
pub(super) struct GuardLayer {
    max_bytes: usize,
    cancellations: Cancellations,
}

/// Reads and checks requests, and hands on those that are one JSON-RPC message, with the body in
/// one piece and the [`JsonRpcMethod`] in the extensions.
#[derive(Debug, Clone)]
pub(super) struct Guard<S> {
    inner: S,
    max_bytes: usize,
    cancellations: Cancellations,
}

/// Why requests are not let in, as it is counted.
const REASONS: [&str; 8] =
    ["accept", "content_encoding", "content_type", "framing", "message", "method", "stalled", "too_large"];

/// A request that is not let in.
struct Refusal {
    /// A word for metrics.
    reason: &'static str,
    status: StatusCode,
    error: Box<JsonRpcError>,
}

impl GuardLayer {
    /// A guard that takes bodies of up to `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        register_counters();
        Self { max_bytes, cancellations: Cancellations::default() }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, max_bytes: self.max_bytes, cancellations: self.cancellations.clone() }
    }
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let max_bytes = self.max_bytes;
        let cancellations = self.cancellations.clone();
        // Who calls the tool may be a task of its own.
        let trace = trace::current();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let Admitted { body, method, id, cancels, plain } = match admit(&parts, body, max_bytes).await {
                Ok(admitted) => admitted,
                Err(refusal) => return Ok(refusal.response()),
            };
            count(method);
            if let Some(id) = &cancels {
                cancellations.cancel(&parts.headers, id);
            }
            let in_flight = if method == JsonRpcMethod::TOOLS_CALL {
                cancellations.remember(&parts.headers, id.as_ref())
            } else {
                None
            };
            parts.extensions.insert(method);
            if let Some(trace) = trace {
                parts.extensions.insert(trace);
            }
            if let Some(plain) = plain {
                parts.extensions.insert(plain);
            } else {
                // The machinery reads the header again, and knows no wildcards.
                parts.headers.insert(header::ACCEPT, ACCEPTED);
                parts.extensions.insert(Id(id));
            }
            let call = inner.call(Request::from_parts(parts, body));
            let mut response = match in_flight {
                Some(in_flight) => in_flight.run(call).await?,
                None => call.await?,
            };
            if method == JsonRpcMethod::INITIALIZE && response.status().is_success() {
                Cancellations::name_client(response.headers_mut());
            }
            Ok(response)
        })
    }
}

impl Refusal {
    fn new(reason: &'static str, status: StatusCode, message: impl Into<String>) -> Self {
        Self { reason, status, error: message::invalid(None, message.into()) }
    }

    fn response(&self) -> Response<Body> {
        metrics::counter!("mcp_image_rpc_refused_total", "reason" => self.reason).increment(1);
        let mut response = json_response(self.status, &self.error);
        let (name, value) = match self.status {
            StatusCode::METHOD_NOT_ALLOWED => (header::ALLOW, HeaderValue::from_static("POST, OPTIONS")),
            // The rest of the body is not read, so the connection cannot be used again.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                (header::CONNECTION, HeaderValue::from_static("close"))
            }
            _ => return response,
        };
        response.headers_mut().insert(name, value);
        response
    }
}

/// A response to a request that did not get as far as its JSON-RPC message.
pub fn error_response(status: StatusCode, message: String) -> Response<Body> {
    json_response(status, &message::invalid(None, message))
}

/// A response whose body is a JSON-RPC error.
pub(super) fn json_response(status: StatusCode, error: &JsonRpcError) -> Response<Body> {
    let body = serde_json::to_vec(error).unwrap_or_default();
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// What is let in.
struct Admitted {
    body: Bytes,
    method: JsonRpcMethod,
    id: Option<RequestId>,
    cancels: Option<RequestId>,
    plain: Option<PlainCall>,
}

async fn admit<B>(parts: &Parts, body: B, max_bytes: usize) -> Result<Admitted, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    check_head(parts)?;
    let body = read_body(body, max_bytes).await.map_err(|error| unreadable(error.as_ref(), max_bytes))?;
    let message = parse_body(&body).map_err(|error| Refusal {
        reason: "message",
        status: StatusCode::BAD_REQUEST,
        error,
    })?;
    let plain = PlainCall::of(&parts.headers, &message);
    let (method, id, cancels) = (message.method, message.id, message.cancels);
    Ok(Admitted { body, method, id, cancels, plain })
}

fn check_head(parts: &Parts) -> Result<(), Refusal> {
    if parts.method != Method::POST {
        let message =
            "method not allowed: POST one JSON-RPC message; there are no sessions and no GET stream";
        return Err(Refusal::new("method", StatusCode::METHOD_NOT_ALLOWED, message));
    }
    if !is_json(&parts.headers) {
        let message = "unsupported media type: `Content-Type` must be application/json";
        return Err(Refusal::new("content_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    if is_encoded(&parts.headers) {
        let message = "unsupported media type: `Content-Encoding` must be absent";
        return Err(Refusal::new("content_encoding", StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    if !accepts_both(&parts.headers) {
        let message = "not acceptable: `Accept` must list application/json and text/event-stream";
        return Err(Refusal::new("accept", StatusCode::NOT_ACCEPTABLE, message));
    }
    Ok(())
}

fn too_large(max_bytes: usize) -> Refusal {
    let message = format!("the body is larger than the {max_bytes} bytes allowed");
    Refusal::new("too_large", StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// A body that ended in an error: a limit in front of this one, or broken framing.
fn unreadable(error: &(dyn StdError + 'static), max_bytes: usize) -> Refusal {
    if let Some(BodyTooLarge { limit }) = find_cause(error) {
        return too_large(*limit);
    }
    if find_cause::<LengthLimitError>(error).is_some() {
        return too_large(max_bytes);
    }
    if find_cause::<BodyStalled>(error).is_some() {
        let message = "the body came too slowly";
        return Refusal::new("stalled", StatusCode::REQUEST_TIMEOUT, message);
    }
    tracing::debug!(error, "a request body could not be read");
    let message = "the body could not be read: it is cut off or badly framed";
    Refusal::new("framing", StatusCode::BAD_REQUEST, message)
}

/// Whether the client accepts both types that a response may have.
fn accepts_both(headers: &HeaderMap) -> bool {
    // What clients usually send needs no reading.
    if headers.get_all(header::ACCEPT).iter().eq([&ACCEPTED]) {
        return true;
    }
    ["application/json", "text/event-stream"]
        .iter()
        .all(|media_type| accepted(headers, media_type).weight > 0)
}

/// Counts from zero.
fn register_counters() {
    for method in JsonRpcMethod::all() {
        metrics::counter!("mcp_image_rpc_messages_total", "method" => method.as_str()).increment(0);
    }
    for reason in REASONS {
        metrics::counter!("mcp_image_rpc_refused_total", "reason" => reason).increment(0);
    }
}

fn count(method: JsonRpcMethod) {
    metrics::counter!("mcp_image_rpc_messages_total", "method" => method.as_str()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        accepts_both(&headers)
    }

    #[test]
    fn accept_that_covers_both_types_is_taken() {
        for values in [
            ["application/json, text/event-stream"].as_slice(),
            &["text/event-stream;q=0.1,Application/JSON; charset=utf-8"],
            &["application/json", "text/event-stream"],
            &["*/*"],
            &["application/*, text/*;q=0.9"],
            &["text/html, */*;q=0.8"],
        ] {
            assert!(accepting(values), "{values:?}");
        }
    }

    #[test]
    fn accept_that_lacks_a_type_is_refused() {
        for values in [
            [].as_slice(),
            &[""],
            &["application/json"],
            &["text/event-stream"],
            &["application/json, text/event-stream;q=0"],
            &["application/json, text/event-stream; Q=0.000"],
            &["application/jsonx, text/event-stream"],
            &["*/*;q=0"],
            &["*/*, text/event-stream;q=0"],
        ] {
            assert!(!accepting(values), "{values:?}");
        }
    }
}
