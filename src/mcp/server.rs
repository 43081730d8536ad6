//! The protocol's handler: what this server is, and its tool.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use http::request::Parts;
use rmcp::{
    RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult,
        DiscoverResult, ErrorCode, ErrorData, Implementation, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use tokio::sync::oneshot;

use super::{Generate, progress, result, tool};
use crate::generate::{self, Generated, Params, progress_channel};

/// The protocol revisions that are answered, oldest first.
pub(super) const VERSIONS: &[ProtocolVersion] = &[
    ProtocolVersion::V_2025_03_26,
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
    ProtocolVersion::V_2026_07_28,
];

/// How long a client may keep what it was told of the server and its tools: both change only with
/// a restart.
const FRESH_MILLIS: u64 = 300_000;

/// Methods that are answered when their `params` have the right shape.
const ANSWERED: [&str; 4] = ["initialize", "server/discover", "tools/call", "tools/list"];

const INSTRUCTIONS: &str = "Use generate_image to draw an image from a text prompt. Its result holds the URL of \
     the full image, a small preview and metadata; show the URL to the user, and do not fetch it to look at \
     the image when a preview is there. Images expire: the result says when. Generation takes from seconds \
     to minutes and reports progress.";

/// The MCP server. Clones share everything.
#[derive(Clone)]
pub struct ImageServer(Arc<Inner>);

struct Inner {
    maker: Arc<dyn Generate>,
    info: ServerConfig,
    tool: Tool,
}

impl std::fmt::Debug for ImageServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageServer").field("info", &self.0.info).finish_non_exhaustive()
    }
}

impl ImageServer {
    /// A server of this `name` whose images come from `maker`.
    pub fn new(name: &str, maker: Arc<dyn Generate>) -> Self {
        let implementation = Implementation::new(name, env!("CARGO_PKG_VERSION"))
            .with_title("Image generation")
            .with_description(env!("CARGO_PKG_DESCRIPTION"));
        let info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(implementation)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_instructions(INSTRUCTIONS);
        let tool = tool::definition(&maker.description());
        register_counters();
        Self(Arc::new(Inner { maker, info, tool }))
    }

    /// Generates with progress, where the client asked for it.
    async fn generate(
        &self,
        params: Params,
        context: &RequestContext<RoleServer>,
    ) -> Result<Generated, generate::Error> {
        let none = http::Extensions::new();
        let caller = context.extensions.get::<Parts>().map_or(&none, |parts| &parts.extensions);
        let (sender, receiver) = progress_channel();
        let work = self.0.maker.generate(params, caller, &sender);
        let Some(token) = context.meta.get_progress_token() else {
            return work.await;
        };
        let (done, stop) = oneshot::channel::<()>();
        let work = async {
            let result = work.await;
            drop(done);
            result
        };
        let report = progress::report(receiver, stop, |update| {
            let notification = ProgressNotificationParam::new(token.clone(), update.progress)
                .with_total(update.total)
                .with_message(update.message);
            let peer = context.peer.clone();
            async move { peer.notify_progress(notification).await.is_ok() }
        });
        tokio::join!(work, report).0
    }

    async fn generate_image(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> (CallToolResult, &'static str) {
        let arguments = match tool::Arguments::from_json(&request.arguments.unwrap_or_default()) {
            Ok(arguments) => arguments,
            Err(invalid) => return (result::of_failure(invalid.to_string()), "invalid"),
        };
        match self.generate(arguments.params, context).await {
            Ok(image) => {
                let maker = self.0.maker.as_ref();
                (result::of_image(&image, arguments.include_preview, maker).await, "ok")
            }
            Err(error) => (result::of_failure(error.to_string()), "failed"),
        }
    }
}

impl ServerHandler for ImageServer {
    fn get_info(&self) -> ServerConfig {
        self.0.info.clone()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(VERSIONS)
    }

    async fn discover(&self, _context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        Ok(DiscoverResult::from_server_info(VERSIONS.to_vec(), self.get_info())
            .with_ttl_ms(FRESH_MILLIS)
            .with_cache_scope(CacheScope::Public))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if request.is_some_and(|page| page.cursor.is_some()) {
            let message = "unknown `cursor`: all tools are on the first page";
            return Err(ErrorData::invalid_params(message, None));
        }
        let tools = ListToolsResult::with_all_items(vec![self.0.tool.clone()]);
        // Older revisions have no such fields.
        let takes_hints = context.protocol_version().is_some_and(|version| !version.has_initialize());
        Ok(if takes_hints {
            tools.with_ttl_ms(FRESH_MILLIS).with_cache_scope(CacheScope::Public)
        } else {
            tools
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name != tool::NAME {
            count("unknown", "unknown_tool");
            let message = format!("unknown tool {:?}; the tools are {}", short(&request.name), tool::NAME);
            return Err(ErrorData::invalid_params(message, None));
        }
        // A panic would leave the client waiting: nobody answers for a task that is gone.
        let call = AssertUnwindSafe(self.generate_image(request, &context)).catch_unwind();
        let answer = tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                count(tool::NAME, "cancelled");
                return Err(ErrorData::internal_error("the request was cancelled", None));
            }
            answer = call => answer,
        };
        let (result, outcome) = answer.unwrap_or_else(|_panic| {
            tracing::error!("a tool call panicked");
            (
                result::of_failure("the server failed; try again, or ask the operator to read its log"),
                "panicked",
            )
        });
        count(tool::NAME, outcome);
        Ok(result.into())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        // A request whose `params` do not fit its method comes here too.
        Err(match ANSWERED.iter().find(|method| **method == request.method) {
            Some(method) => ErrorData::invalid_params(
                format!("`params` do not have the shape that {method} asks for"),
                None,
            ),
            None => {
                let message = format!("unknown method {:?}", short(&request.method));
                ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
            }
        })
    }
}

/// Counts from zero.
fn register_counters() {
    let own = ["ok", "failed", "invalid", "cancelled", "panicked"].map(|outcome| (tool::NAME, outcome));
    for (tool, outcome) in own.into_iter().chain([("unknown", "unknown_tool")]) {
        metrics::counter!("mcp_image_tool_calls_total", "tool" => tool, "outcome" => outcome).increment(0);
    }
}

fn count(tool: &'static str, outcome: &'static str) {
    metrics::counter!("mcp_image_tool_calls_total", "tool" => tool, "outcome" => outcome).increment(1);
}

/// The start of a name that came from outside.
fn short(name: &str) -> &str {
    name.char_indices().nth(64).map_or(name, |(end, _)| &name[..end])
}
