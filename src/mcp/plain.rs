//! Calls of the tool that need nothing of the protocol machinery.
//!
//! The machinery reads a message by trying one type of request after another, and runs each as a server of its own:
//! four tasks, and the channels between them. That is most of what a call costs that draws nothing. Nearly all calls
//! need none of it: they name our tool, want no progress, and their headers say what their bodies say. Those are read
//! here once, and answered in the machinery's own words. Whatever else a call is or has goes to the machinery as it
//! came, which judges it as ever; a test holds each against the other.

use http::{HeaderMap, HeaderValue, Response, header};
use layers::Body;
use rmcp::model::{
    CallToolResult, JsonObject, ProtocolVersion, RequestId, RequestMetaObject, ServerJsonRpcMessage,
    ServerResult,
};
use serde::Deserialize;

use super::{
    guard::JSON,
    message::{JsonRpcMethod, Message},
    server::VERSIONS,
    tool,
};

const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
/// Fields of `_meta` with which a call asks for more than its answer, or has its revision negotiated.
const PROGRESS_TOKEN: &str = "progressToken";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// A call of our tool, read.
#[derive(Debug, Clone)]
pub(super) struct PlainCall {
    pub(super) id: RequestId,
    pub(super) arguments: JsonObject,
    pub(super) era: Era,
}

/// What a revision's answers look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// With `initialize`, to 2025-11-25.
    Legacy,
    /// From 2026-07-28: each request says what it is in its `_meta` and headers.
    Modern,
}

/// A call's `params`, if there is nothing unusual in them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    name: String,
    #[serde(default)]
    arguments: Option<JsonObject>,
    #[serde(rename = "_meta", default)]
    meta: Option<RequestMetaObject>,
}

impl PlainCall {
    /// The call that a message is, if it needs nothing of the machinery.
    pub(super) fn of(headers: &HeaderMap, message: &Message<'_>) -> Option<Self> {
        if message.method != JsonRpcMethod::TOOLS_CALL {
            return None;
        }
        let (id, params) = (message.id.clone()?, message.params?);
        let Params { name, arguments, meta } = serde_json::from_str(params).ok()?;
        let arguments = arguments.unwrap_or_default();
        // Nothing nested is an argument of ours, and how deep nesting may go is the machinery's affair.
        let is_nested = arguments.values().any(|value| value.is_array() || value.is_object());
        if name != tool::NAME || is_nested {
            return None;
        }
        let era = Era::of(headers, &meta.unwrap_or_default())?;
        Some(Self { id, arguments, era })
    }
}

impl Era {
    /// A response with the result of the call of this id.
    pub(super) fn response(self, id: RequestId, result: CallToolResult) -> Response<Body> {
        let mut result = ServerResult::CallToolResult(result);
        if self == Self::Legacy {
            result.strip_result_type_for_legacy_peer();
        }
        let message = ServerJsonRpcMessage::response(result, id);
        let mut response = Response::new(Body::full(serde_json::to_vec(&message).unwrap_or_default()));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        response
    }

    /// The era of a call whose headers and `_meta` agree, and which wants no progress.
    fn of(headers: &HeaderMap, meta: &RequestMetaObject) -> Option<Self> {
        if meta.contains_key(PROGRESS_TOKEN) {
            return None;
        }
        let version = match (headers.get(VERSION), only(headers, VERSION)) {
            (None, _) => None,
            (Some(_), version) => Some(version?),
        };
        if !meta.contains_key(META_VERSION) {
            let is_legacy = |version: &ProtocolVersion| *version < ProtocolVersion::V_2026_07_28;
            let is_one = |asked: &HeaderValue| {
                VERSIONS.iter().any(|version| is_legacy(version) && *asked == *version.as_str())
            };
            return version.is_none_or(is_one).then_some(Self::Legacy);
        }
        let modern = ProtocolVersion::V_2026_07_28;
        let agrees = version? == modern.as_str()
            && only(headers, METHOD)? == JsonRpcMethod::TOOLS_CALL.as_str()
            && only(headers, NAME)? == tool::NAME
            && meta.protocol_version()? == modern
            && meta.missing_required_keys(&modern).is_empty();
        agrees.then_some(Self::Modern)
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
