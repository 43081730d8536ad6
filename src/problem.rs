//! Errors as clients read them: `application/problem+json` (RFC 9457).
//!
//! The `type` is a URI reference, `/problems/<slug>`: the same at every path of a server, and as
//! stable as an API. It names the kind of problem; nothing has to be served there.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use layers::Body;
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of a problem.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// One problem, built up and turned into a response.
///
/// ```
/// use http::StatusCode;
/// use mcp_image_server::problem::Problem;
///
/// let response = Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found")
///     .detail("there is no such image")
///     .into_response();
/// assert_eq!(response.status(), 404);
/// ```
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: Option<String>,
    extensions: Map<String, Value>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of the kind `slug` (lower case, hyphens), which `title` puts in words. Both stay
    /// the same from occurrence to occurrence.
    #[must_use]
    pub fn new(status: StatusCode, slug: &'static str, title: &'static str) -> Self {
        Self { status, slug, title, detail: None, extensions: Map::new(), headers: HeaderMap::new() }
    }

    /// Nothing is at the path that was asked for.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found").detail("there is nothing at this path")
    }

    /// The path is there, but not for this method; `allow` lists those it is there for.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            .detail(format_args!("allowed here: {allow}"))
            .header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// What happened this time, and what to change.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// The fields that are not allowed, as the extension member `errors`: objects that name
    /// `field`, `value` and what is `allowed`.
    #[must_use]
    pub fn field_errors<E: Serialize>(self, errors: &[E]) -> Self {
        self.with("errors", errors)
    }

    /// An extension member (section 3.2). A value that JSON cannot hold becomes `null`; the
    /// members of every problem (`type`, `title`, `status`, `detail`) are not replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.extensions.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// A header field of the response, such as `Retry-After` or `Allow`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    /// The response's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Title and detail on one line, for protocols with a place for one message.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.title),
            None => self.title.to_owned(),
        }
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = self.extensions.clone();
        members.insert("type".to_owned(), format!("/problems/{}", self.slug).into());
        members.insert("title".to_owned(), self.title.into());
        members.insert("status".to_owned(), self.status.as_u16().into());
        if let Some(detail) = &self.detail {
            members.insert("detail".to_owned(), detail.as_str().into());
        }
        Value::Object(members)
    }

    /// The response: not to be cached, length and type set.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let body = self.to_json().to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        *headers = self.headers;
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response.map(|_| Body::full(body))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn problem_with_everything_becomes_a_response() {
        let response = Problem::new(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query")
            .detail("one value is not allowed")
            .field_errors(&[json!({"field": "limit", "value": "0", "allowed": "1 to 1000"})])
            .with("title", "not this one")
            .header(header::RETRY_AFTER, 5_u16)
            .into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        let length = response.headers()[header::CONTENT_LENGTH].to_str().expect("text").to_owned();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(length, body.len().to_string());
        assert_eq!(
            serde_json::from_slice::<Value>(&body).expect("JSON"),
            json!({
                "type": "/problems/invalid-query",
                "title": "Invalid query",
                "status": 400,
                "detail": "one value is not allowed",
                "errors": [{"field": "limit", "value": "0", "allowed": "1 to 1000"}],
            })
        );
    }

    #[test]
    fn problem_without_detail_has_no_such_member() {
        let json = Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found").to_json();
        assert_eq!(json, json!({"type": "/problems/not-found", "title": "Not found", "status": 404}));
    }

    #[test]
    fn problem_in_one_line_has_title_and_detail() {
        let problem = Problem::method_not_allowed("GET, HEAD");
        assert_eq!(problem.summary(), "Method not allowed: allowed here: GET, HEAD");
        assert_eq!(problem.into_response().headers()[header::ALLOW], "GET, HEAD");
        assert_eq!(Problem::new(StatusCode::GONE, "gone", "Gone").summary(), "Gone");
    }
}
