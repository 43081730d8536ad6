//! A collector of traces: OTLP over HTTP on loopback, read with the types that OpenTelemetry generates.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

/// The collector; it ends when this is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// The answers to come; then 200.
    statuses: Vec<StatusCode>,
    exports: usize,
    heads: Vec<(String, HeaderMap)>,
    resource: Vec<KeyValue>,
    spans: Vec<Span>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = hyper::service::service_fn(move |request| take(Arc::clone(&state), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, state, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next export with this status.
    pub(crate) fn answer(&self, status: StatusCode) {
        self.state.lock().expect("not poisoned").statuses.push(status);
    }

    /// Exports that came, taken or not.
    pub(crate) fn exports(&self) -> usize {
        self.state.lock().expect("not poisoned").exports
    }

    /// Path and headers of the last export.
    pub(crate) fn head(&self) -> (String, HeaderMap) {
        self.state.lock().expect("not poisoned").heads.last().cloned().expect("an export")
    }

    /// What the last export says of the process.
    pub(crate) fn resource(&self, name: &str) -> String {
        text(&self.state.lock().expect("not poisoned").resource, name)
    }

    /// The spans that were taken, in the order in which they began.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut spans = self.state.lock().expect("not poisoned").spans.clone();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans.into_iter().map(Seen).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A span as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Span);

impl Seen {
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn kind(&self) -> SpanKind {
        self.0.kind()
    }

    pub(crate) fn trace_id(&self) -> String {
        hex(&self.0.trace_id)
    }

    pub(crate) fn span_id(&self) -> String {
        hex(&self.0.span_id)
    }

    /// Empty for the first span of a trace.
    pub(crate) fn parent_id(&self) -> String {
        hex(&self.0.parent_span_id)
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        other.0.start_time_unix_nano <= self.0.start_time_unix_nano
            && self.0.end_time_unix_nano <= other.0.end_time_unix_nano
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.0.status.as_ref().is_some_and(|status| status.code == 2)
    }

    /// The attribute as text; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        text(&self.0.attributes, name)
    }
}

async fn take(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut state = state.lock().expect("not poisoned");
    state.exports += 1;
    let mut response = Response::new(Empty::new());
    if !state.statuses.is_empty() {
        *response.status_mut() = state.statuses.remove(0);
        return Ok(response);
    }
    let export = ExportTraceServiceRequest::decode(body).expect("what OTLP says");
    state.heads.push((head.uri.path().to_owned(), head.headers));
    for resource_spans in export.resource_spans {
        state.resource = resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default();
        state.spans.extend(resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    Ok(response)
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
