//! What has to be known of a request body before the protocol machinery sees it.

use std::borrow::Cow;

use rmcp::model::{ErrorData, JsonRpcError, RequestId};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};

/// Methods told apart in metrics and logs; any other is `other`.
const METHODS: [&str; 14] = [
    "initialize",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// The method of a JSON-RPC message, from a fixed set, so that it may label metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonRpcMethod(&'static str);

/// The outside of one JSON-RPC message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message<'a> {
    /// Its method; `other` for one that is not known, and for a response.
    pub method: JsonRpcMethod,
    /// The id of a request, or of what a response answers; notifications have none.
    pub id: Option<RequestId>,
    /// The request that a `notifications/cancelled` is about.
    pub cancels: Option<RequestId>,
    /// Its `params`, an object as it stands in the body, if it has any.
    pub params: Option<&'a str>,
}

impl JsonRpcMethod {
    /// `initialize`.
    pub const INITIALIZE: Self = Self("initialize");
    /// `notifications/cancelled`.
    pub const CANCELLED: Self = Self("notifications/cancelled");
    /// `tools/call`.
    pub const TOOLS_CALL: Self = Self("tools/call");
    /// Any method that is not known.
    pub const OTHER: Self = Self("other");

    /// Every method that is known, and `other`.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        METHODS.iter().copied().map(Self).chain([Self::OTHER])
    }

    /// The method's name, or `other`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    fn named(name: &str) -> Self {
        METHODS.iter().find(|known| **known == name).map_or(Self::OTHER, |known| Self(known))
    }
}

/// Checks that a body is one JSON-RPC 2.0 message, an object, and reads its outside. What is in
/// `params` is left for later but for its being an object.
///
/// # Errors
/// -32700 for what is not JSON, -32600 for what is not one JSON-RPC message, -32602 for `params`
/// that are not an object. The error carries the request's id where one could be read.
pub fn parse_body(body: &[u8]) -> Result<Message<'_>, Box<JsonRpcError>> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let place = error.valid_up_to();
        failure(None, ErrorData::parse_error(format!("the body is not UTF-8 at byte {place}"), None))
    })?;
    // serde reads an array as a struct too, field by field.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(not_an_object(text));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| broken(&error))?;
    envelope.check()
}

/// Why a body that [`parse_body`] let pass cannot be read whole: it is nested too deeply, has a
/// text or a number that JSON readers refuse, or a field of a wrong type.
pub(super) fn explain_unreadable(body: &[u8], id: Option<RequestId>) -> Box<JsonRpcError> {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Err(error) => {
            failure(id, ErrorData::parse_error(format!("the body cannot be read as JSON: {error}"), None))
        }
        Ok(_) => invalid(id, "the message is not one of the protocol: a field has a wrong type"),
    }
}

/// A -32600 error.
pub(super) fn invalid(id: Option<RequestId>, message: impl Into<Cow<'static, str>>) -> Box<JsonRpcError> {
    failure(id, ErrorData::invalid_request(message, None))
}

fn failure(id: Option<RequestId>, error: ErrorData) -> Box<JsonRpcError> {
    Box::new(JsonRpcError::new(id, error))
}

/// A message without looking into it. Repeated fields are refused: readers differ in which one
/// they take.
#[derive(Deserialize)]
struct Envelope<'a> {
    jsonrpc: Option<Cow<'a, str>>,
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "given")]
    result: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "given")]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    request_id: RequestId,
}

impl<'a> Envelope<'a> {
    fn check(&self) -> Result<Message<'a>, Box<JsonRpcError>> {
        let id = match self.id.map(|raw| serde_json::from_str::<RequestId>(raw.get())) {
            Some(Err(_)) => return Err(invalid(None, "`id` must be a string or a whole number")),
            Some(Ok(id)) => Some(id),
            None => None,
        };
        if self.jsonrpc.as_deref() != Some("2.0") {
            return Err(invalid(id, "`jsonrpc` must be \"2.0\""));
        }
        let Some(method) = &self.method else {
            return if self.result.is_some() != self.error.is_some() {
                Ok(Message { method: JsonRpcMethod::OTHER, id, cancels: None, params: None })
            } else {
                Err(invalid(id, "a message has a `method`, a `result` or an `error`"))
            };
        };
        if self.result.is_some() || self.error.is_some() {
            return Err(invalid(id, "a message with a `method` has neither `result` nor `error`"));
        }
        let params = self.params.map(RawValue::get);
        if params.is_some_and(|params| !params.starts_with('{')) {
            return Err(failure(id, ErrorData::invalid_params("`params` must be an object", None)));
        }
        let method = JsonRpcMethod::named(method);
        let cancels = match params {
            Some(params) if method == JsonRpcMethod::CANCELLED => {
                serde_json::from_str(params).ok().map(|Cancelled { request_id }| request_id)
            }
            _ => None,
        };
        Ok(Message { method, id, cancels, params })
    }
}

/// Makes a field that is `null` differ from one that is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn not_an_object(text: &str) -> Box<JsonRpcError> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => broken(&error),
        Ok(_) if text.trim_ascii_start().starts_with('[') => {
            invalid(None, "batches are not supported: send one message in a request")
        }
        Ok(_) => invalid(None, "a message must be a JSON object"),
    }
}

fn broken(error: &serde_json::Error) -> Box<JsonRpcError> {
    match error.classify() {
        Category::Data => invalid(None, format!("the body is not a JSON-RPC message: {error}")),
        Category::Syntax | Category::Eof | Category::Io => {
            failure(None, ErrorData::parse_error(format!("the body is not JSON: {error}"), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &[u8]) -> (i32, String, Option<RequestId>) {
        let error = parse_body(body).expect_err(&String::from_utf8_lossy(body));
        (error.error.code.0, error.error.message.into_owned(), error.id)
    }

    #[test]
    fn request_tells_its_method_and_id() {
        let message = parse_body(br#" {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"a":[{}]}} "#);
        assert_eq!(
            message.unwrap(),
            Message {
                method: JsonRpcMethod::TOOLS_CALL,
                id: Some(RequestId::Number(7)),
                cancels: None,
                params: Some(r#"{"a":[{}]}"#),
            }
        );
    }

    #[test]
    fn notification_of_a_cancel_tells_what_is_cancelled() {
        let body =
            br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":""}}"#;
        let message = parse_body(body).unwrap();
        assert_eq!((message.id, message.cancels), (None, Some(RequestId::String("x".into()))));
    }

    #[test]
    fn method_that_is_not_known_is_other() {
        let body = br#"{"jsonrpc":"2.0","id":"a","method":"made/up","params":null,"more":1}"#;
        assert_eq!(parse_body(body).unwrap().method.as_str(), "other");
    }

    #[test]
    fn response_of_a_client_is_a_message() {
        for body in [
            br#"{"jsonrpc":"2.0","id":1,"result":null}"#.as_slice(),
            br#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#,
        ] {
            assert!(parse_body(body).is_ok());
        }
    }

    #[test]
    fn body_that_is_not_json_is_a_parse_error() {
        for body in [
            b"".as_slice(),
            b"  ",
            b"{",
            b"[1,",
            b"hello",
            b"{\"jsonrpc\":\"2.0\",}",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} {}",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
            b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        ] {
            assert_eq!(refused(body).0, -32700, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn body_that_is_not_one_message_is_an_invalid_request() {
        for body in [
            "[]",
            "1",
            "null",
            "\"text\"",
            r#"["2.0","ping",1]"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            "{}",
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        ] {
            assert_eq!(refused(body.as_bytes()).0, -32600, "{body}");
        }
    }

    #[test]
    fn params_that_are_no_object_are_refused_with_the_id() {
        for params in ["[]", "1", "\"{}\""] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":"a","method":"ping","params":{params}}}"#);
            let (code, _, id) = refused(body.as_bytes());
            assert_eq!((code, id), (-32602, Some(RequestId::String("a".into()))));
        }
    }

    #[test]
    fn depth_bomb_is_read_without_recursion_and_explained() {
        let bomb = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"a":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(parse_body(bomb.as_bytes()).is_ok());
        let error = explain_unreadable(bomb.as_bytes(), Some(RequestId::Number(1)));
        assert_eq!((error.error.code.0, error.id), (-32700, Some(RequestId::Number(1))));
        assert!(error.error.message.contains("recursion limit"), "{}", error.error.message);
    }
}
