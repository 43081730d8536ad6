//! The protocol's handler: what this server is, and its tool.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use http::{Response, request::Parts};
use layers::Body;
use rmcp::{
    Peer, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult,
        DiscoverResult, ErrorCode, ErrorData, Implementation, JsonObject, ListToolsResult,
        PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ProtocolVersion,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{Generate, plain::PlainCall, progress, result, tool};
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

/// Who asks for an image, and how it is told how far that is, if it wants to know.
struct Caller<'a> {
    extensions: &'a http::Extensions,
    progress: Option<(ProgressToken, &'a Peer<RoleServer>)>,
}

/// What became of a call, counted when this is dropped.
struct Outcome(&'static str);

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

    /// Answers a call that needs nothing of the protocol machinery.
    pub(super) async fn answer(self, call: PlainCall, caller: http::Extensions) -> Response<Body> {
        let PlainCall { id, arguments, era } = call;
        let result = match read(&arguments) {
            Ok(arguments) => {
                // A task of its own: a client that does not take its stream holds up nothing but its answer.
                let work = async move { self.call(arguments, Caller::silent(&caller)).await };
                let work = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
                work.await.unwrap_or_else(|_panic| panicked())
            }
            Err(refused) => refused,
        };
        era.response(id, result)
    }

    /// Generates, and makes a result of whatever comes of it. It is counted even if it is dropped.
    fn call<'a>(
        &'a self,
        arguments: tool::Arguments,
        caller: Caller<'a>,
    ) -> impl Future<Output = CallToolResult> + Send + 'a {
        let mut outcome = Outcome("cancelled");
        async move {
            // A panic would leave the client waiting: nobody answers for a task that is gone.
            let call = AssertUnwindSafe(self.generate_image(arguments, caller)).catch_unwind();
            let (result, word) = call.await.unwrap_or_else(|_panic| (panicked(), "panicked"));
            outcome.is(word);
            result
        }
    }

    async fn generate_image(
        &self,
        arguments: tool::Arguments,
        caller: Caller<'_>,
    ) -> (CallToolResult, &'static str) {
        match self.generate(arguments.params, caller).await {
            Ok(image) => {
                let maker = self.0.maker.as_ref();
                (result::of_image(&image, arguments.include_preview, maker).await, "ok")
            }
            Err(error) => (result::of_failure(error.to_string()), "failed"),
        }
    }

    /// Generates with progress, where the client asked for it.
    async fn generate(&self, params: Params, caller: Caller<'_>) -> Result<Generated, generate::Error> {
        let (sender, receiver) = progress_channel();
        let work = self.0.maker.generate(params, caller.extensions, &sender);
        let Some((token, peer)) = caller.progress else {
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
            let peer = peer.clone();
            async move { peer.notify_progress(notification).await.is_ok() }
        });
        tokio::join!(work, report).0
    }
}

impl<'a> Caller<'a> {
    fn silent(extensions: &'a http::Extensions) -> Self {
        Self { extensions, progress: None }
    }

    fn of(context: &'a RequestContext<RoleServer>, none: &'a http::Extensions) -> Self {
        let extensions = context.extensions.get::<Parts>().map_or(none, |parts| &parts.extensions);
        let progress = context.meta.get_progress_token().map(|token| (token, &context.peer));
        Self { extensions, progress }
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
        let arguments = match read(&request.arguments.unwrap_or_default()) {
            Ok(arguments) => arguments,
            Err(refused) => return Ok(refused.into()),
        };
        let none = http::Extensions::new();
        let call = self.call(arguments, Caller::of(&context, &none));
        tokio::select! {
            biased;
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the request was cancelled", None)),
            result = call => Ok(result.into()),
        }
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

impl Outcome {
    fn is(&mut self, word: &'static str) {
        self.0 = word;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        count(tool::NAME, self.0);
    }
}

/// A call's arguments, or its result where they are not allowed.
fn read(arguments: &JsonObject) -> Result<tool::Arguments, CallToolResult> {
    tool::Arguments::from_json(arguments).map_err(|invalid| {
        count(tool::NAME, "invalid");
        result::of_failure(invalid.to_string())
    })
}

fn panicked() -> CallToolResult {
    tracing::error!("a tool call panicked");
    result::of_failure("the server failed; try again, or ask the operator to read its log")
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
