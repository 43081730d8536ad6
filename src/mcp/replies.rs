//! The protocol machinery as a service, its plain-text errors replaced by JSON-RPC ones.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use layers::Body;
use rmcp::{
    model::{ErrorData, JsonRpcError, ProtocolVersion, RequestId},
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::never::NeverSessionManager,
    },
};
use tower::Service;

use super::{guard::json_response, message, plain::PlainCall, server::ImageServer, server::VERSIONS};

/// Answers requests whose bodies the guard has read and checked.
#[derive(Clone)]
pub(super) struct Replies {
    rmcp: Arc<StreamableHttpService<ImageServer, NeverSessionManager>>,
    server: ImageServer,
}

/// The id of the request, put by the guard where the answer to a broken one can find it.
#[derive(Debug, Clone)]
pub(super) struct Id(pub Option<RequestId>);

impl Replies {
    pub(super) fn new(server: ImageServer, max_request_bytes: usize) -> Self {
        // Without sessions any replica answers any request, and a client that goes away cancels.
        // Host and Origin are judged by a layer in front, more strictly than rmcp does, from one
        // list; a second list here could only refuse what that one allows. Its streams need no
        // keep-alive: they exist for progress, which repeats itself.
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_retry(None)
            .with_sse_keep_alive(None)
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_max_request_body_bytes(max_request_bytes);
        let sessions = Arc::new(NeverSessionManager::default());
        let service = server.clone();
        let rmcp = Arc::new(StreamableHttpService::new(move || Ok(service.clone()), sessions, config));
        Self { rmcp, server }
    }
}

impl Service<Request<Bytes>> for Replies {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        if let Some(call) = parts.extensions.remove::<PlainCall>() {
            let (server, caller) = (self.server.clone(), parts.extensions);
            return Box::pin(async move { Ok(server.answer(call, caller).await) });
        }
        let request = Request::from_parts(parts, body);
        let rmcp = Arc::clone(&self.rmcp);
        Box::pin(async move {
            let broken = Broken::new(&request);
            let response = rmcp.handle(request.map(Full::new)).await;
            Ok(if is_json_rpc(&response) { response.map(Body::new) } else { broken.answer(response).await })
        })
    }
}

/// What is needed of a request to answer it when rmcp did not do so properly.
struct Broken {
    id: Option<RequestId>,
    body: Bytes,
    version: Option<HeaderValue>,
}

impl Broken {
    fn new(request: &Request<Bytes>) -> Self {
        Self {
            id: request.extensions().get::<Id>().and_then(|id| id.0.clone()),
            body: request.body().clone(),
            version: request.headers().get("mcp-protocol-version").cloned(),
        }
    }

    async fn answer(self, response: Response<BoxBody<Bytes, Infallible>>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let Ok(text) = body.collect().await;
        let text = String::from_utf8_lossy(&text.to_bytes()).into_owned();
        let status = parts.status;
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), detail = text, "the protocol machinery failed");
            let error = ErrorData::internal_error("internal error; the server's log has the details", None);
            return json_response(StatusCode::INTERNAL_SERVER_ERROR, &JsonRpcError::new(self.id, error));
        }
        tracing::debug!(status = status.as_u16(), detail = text, "a request was refused");
        let (status, error) = match status {
            // The media type was checked before: only the message can be meant.
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (StatusCode::BAD_REQUEST, message::explain_unreadable(&self.body, self.id))
            }
            StatusCode::BAD_REQUEST if self.asks_for_unknown_version() => {
                (status, Box::new(JsonRpcError::new(self.id, unknown_version(self.version.as_ref()))))
            }
            _ => {
                let reason = status.canonical_reason().unwrap_or("refused");
                (status, message::invalid(self.id, reason))
            }
        };
        json_response(status, &error)
    }

    fn asks_for_unknown_version(&self) -> bool {
        let is =
            |version: &ProtocolVersion, value: &HeaderValue| value.as_bytes() == version.as_str().as_bytes();
        self.version.as_ref().is_some_and(|value| !VERSIONS.iter().any(|version| is(version, value)))
    }
}

fn is_json_rpc<B>(response: &Response<B>) -> bool {
    let status = response.status();
    status.is_success() || (!status.is_server_error() && is_json(response.headers()))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn unknown_version(requested: Option<&HeaderValue>) -> ErrorData {
    let requested = requested.and_then(|value| value.to_str().ok()).unwrap_or("unreadable");
    let requested = serde_json::from_value(requested.into()).unwrap_or_default();
    ErrorData::unsupported_protocol_version(requested, VERSIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(status: u16, text: &'static str) -> (u16, serde_json::Value) {
        let request =
            Request::builder().extension(Id(Some(RequestId::Number(7)))).body(Bytes::new()).unwrap();
        let body = Full::new(Bytes::from_static(text.as_bytes())).boxed();
        let response = Response::builder().status(status).body(body).unwrap();
        assert!(!is_json_rpc(&response));
        let answer = Broken::new(&request).answer(response).await;
        assert!(is_json(answer.headers()));
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn failure_of_the_machinery_is_told_without_its_cause() {
        let (status, json) = answered(500, "Encounter an error when get service: /etc/secret").await;
        assert_eq!((status, &json["error"]["code"], &json["id"]), (500, &(-32603).into(), &7.into()));
        assert!(!json.to_string().contains("secret"), "{json}");
    }

    #[tokio::test]
    async fn refusal_in_plain_text_becomes_a_json_rpc_error() {
        let (status, json) = answered(403, "Forbidden: Host header is not allowed").await;
        assert_eq!((status, &json["error"]["code"]), (403, &(-32600).into()));
        assert_eq!(json["error"]["message"], "Forbidden");
    }
}
