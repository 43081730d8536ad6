//! The MCP server at `/mcp`, stateless in every revision from 2025-03-26 to 2026-07-28.
//!
//! A request passes the guard (one JSON-RPC message, capped), the memo (answers that stay the same) and the early head
//! (a call that is silent for long gets its response head early), and comes to rmcp, which runs [`ImageServer`]. A plain
//! call of the tool comes to it directly.

mod cancel;
mod guard;
mod memo;
mod message;
mod pipeline;
mod plain;
mod progress;
mod replies;
mod result;
mod server;
mod tool;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use layers::{Body, BoxError, early_head::EarlyHeadLayer};
use tower::{Service, ServiceBuilder};

use crate::generate::{self, Generated, Params, ProgressSender};

pub use self::{
    guard::error_response,
    message::{JsonRpcMethod, Message, parse_body},
    server::ImageServer,
    tool::{Arguments, NAME as TOOL_NAME},
};

/// A call that is silent for this long gets its response head before its first word.
const EARLY_HEAD_AFTER: Duration = Duration::from_millis(1_500);
/// A stream is not silent for longer than this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Who makes the images.
#[async_trait]
pub trait Generate: Send + Sync + 'static {
    /// Generates and stores an image. Dropping the future cancels the generation. `caller` holds
    /// what the layers in front put into the request's extensions.
    ///
    /// # Errors
    /// An error whose `Display` tells the caller what to change.
    async fn generate(
        &self,
        params: Params,
        caller: &http::Extensions,
        progress: &ProgressSender,
    ) -> Result<Generated, generate::Error>;

    /// A small preview of at most `max_bytes` and its media type, if one can be made.
    async fn preview(&self, generated: &Generated, max_bytes: usize) -> Option<(Bytes, &'static str)>;

    /// Who draws, in a sentence that a model reads in the tool's description.
    fn description(&self) -> String;
}

/// The endpoint, for requests whose `Host` and `Origin` were judged. Bodies may have up to
/// `max_request_bytes`.
pub fn service<B>(
    server: ImageServer,
    max_request_bytes: usize,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ use<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    ServiceBuilder::new()
        // Only one whole JSON-RPC message goes further; the rest is answered here.
        .layer(guard::GuardLayer::new(max_request_bytes))
        // What is the same for everyone is made once.
        .layer(memo::MemoLayer)
        .map_response(|response: Response<_>| response.map(Body::new))
        // rmcp sends no head before the handler's first message: fatal behind proxies.
        .layer(EarlyHeadLayer::new(EARLY_HEAD_AFTER, KEEP_ALIVE, is_tool_call))
        .service(replies::Replies::new(server, max_request_bytes))
}

fn is_tool_call(request: &Request<Bytes>) -> bool {
    request.extensions().get() == Some(&JsonRpcMethod::TOOLS_CALL)
}
