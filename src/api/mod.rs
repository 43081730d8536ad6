//! The REST door to the pipeline: `POST /mcp/v1/tools/generate_image`.
//!
//! The same parameters as the MCP tool, the same pipeline, and the same
//! `{url, image_id, metadata}`; errors are problem details (RFC 9457). A client that accepts
//! `text/event-stream` gets its progress as server-sent events.

mod events;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use layers::{Body, BoxError, client_addr::ClientAddr, trace};
use serde::Serialize;
use serde_json::{Map, Value};

use self::events::Running;
use crate::{
    generate::{Error, Generated, Generator, Params, progress_channel},
    image::Metadata,
    problem::Problem,
    request::{accepted, is_encoded, is_json, read_body},
};

/// The path of the one tool.
pub const GENERATE_IMAGE: &str = "/mcp/v1/tools/generate_image";

/// A generated image, as REST answers it.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    url: &'a str,
    image_id: String,
    metadata: &'a Metadata,
}

/// Answers `POST` with a generated image.
#[derive(Debug, Clone)]
pub struct Api {
    generator: Generator,
    explain: fn(&Error) -> Problem,
}

/// A request that cannot be taken as it is.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON by its own word.
    #[error("the Content-Type must be application/json")]
    MediaType,
    /// Compressed, or coded in another way.
    #[error("the Content-Encoding must be absent")]
    Encoding,
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON, but not an object.
    #[error("the body must be a JSON object of the tool's arguments")]
    NotAnObject,
    /// The body broke off.
    #[error("the body could not be read")]
    Body(#[source] BoxError),
}

impl<'a> From<&'a Generated> for Answer<'a> {
    fn from(image: &'a Generated) -> Self {
        Self { url: &image.url, image_id: image.metadata.image_id.to_string(), metadata: &image.metadata }
    }
}

impl Api {
    /// The door to `generator`. `explain` is the table that makes a problem of a failed generation,
    /// for streams, whose status is sent before they end.
    #[must_use]
    pub fn new(generator: Generator, explain: fn(&Error) -> Problem) -> Self {
        Self { generator, explain }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        if request.method() != Method::POST {
            return Ok(Problem::method_not_allowed("POST, OPTIONS").into_response());
        }
        check_head(request.headers())?;
        let client = request.extensions().get::<ClientAddr>().map(ClientAddr::key);
        let trace = trace::current();
        let wants_events = prefers_events(request.headers());
        let arguments = read_object(request.into_body()).await?;
        let params = Params::from_json(&arguments).map_err(Error::Invalid)?;
        let (sender, progress) = progress_channel();
        let (generator, explain) = (self.generator, self.explain);
        if wants_events {
            let work =
                async move { generator.generate_within(trace.as_ref(), params, client, &sender).await };
            let events = Running::start(work, progress, explain).events();
            return Ok(response(Body::stream(events), "text/event-stream"));
        }
        let image = generator.generate_within(trace.as_ref(), params, client, &sender).await?;
        Ok(response(Body::full(serde_json::to_vec(&Answer::from(&image))?), "application/json"))
    }
}

impl tower::Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

impl BadRequest {
    /// The status that fits.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::MediaType | Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Syntax(_) | Self::NotAnObject | Self::Body(_) => StatusCode::BAD_REQUEST,
        }
    }
}

fn check_head(headers: &HeaderMap) -> Result<(), BadRequest> {
    if !is_json(headers) {
        Err(BadRequest::MediaType)
    } else if is_encoded(headers) {
        Err(BadRequest::Encoding)
    } else {
        Ok(())
    }
}

/// Whether the client asks for events by name (`*/*` does not), and likes nothing better.
fn prefers_events(headers: &HeaderMap) -> bool {
    let events = accepted(headers, "text/event-stream");
    events.by_name && events.weight > 0 && events.weight >= accepted(headers, "application/json").weight
}

fn response(body: Body, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

async fn read_object(body: Body) -> Result<Map<String, Value>, BadRequest> {
    // The layer in front of this limits it.
    let bytes = read_body(body, usize::MAX).await.map_err(BadRequest::Body)?;
    match serde_json::from_slice(&bytes).map_err(BadRequest::Syntax)? {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(BadRequest::NotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn events_are_for_those_who_like_nothing_better() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, text/event-stream", true),
            ("text/event-stream, */*", true),
            ("text/event-stream;q=0.5, */*;q=0.1", true),
            ("Text/Event-Stream;q=0.001", true),
            ("application/json, text/event-stream;q=0", false),
            ("text/event-stream;q=0", false),
            ("application/json, text/event-stream;q=0.9", false),
            ("text/event-stream;q=0.5, application/*", false),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(prefers_events(&headers), expected, "{accept}");
        }
        assert!(!prefers_events(&HeaderMap::new()));
    }
}
