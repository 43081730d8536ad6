//! A generation as a span of its trace.

use layers::trace::{Kind, Span, TraceContext};

use super::{Client, Error, Generated, Generator, Params, ProgressSender};

/// What the doors call a generation.
const TOOL: &str = "generate_image";

impl Generator {
    /// As [`generate`](Self::generate), within the trace of the request that asks for it: the calls to the predictor
    /// and to the store carry it on.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn generate_within(
        &self,
        trace: Option<&TraceContext>,
        params: Params,
        client: Client,
        progress: &ProgressSender,
    ) -> Result<Generated, Error> {
        let Some(trace) = trace else { return self.generate(params, client, progress).await };
        let mut span = begin(trace, &params);
        let within = span.context().unwrap_or(trace).clone();
        let result = within.run(self.generate(params, client, progress)).await;
        end(&mut span, &result);
        result
    }
}

/// By the conventions for generative AI: the tool's execution. The prompt is nobody's business but the caller's.
fn begin(trace: &TraceContext, params: &Params) -> Span {
    let mut span = trace.child(Kind::Internal, || format!("execute_tool {TOOL}"));
    if span.is_recorded() {
        span.set("gen_ai.operation.name", "execute_tool");
        span.set("gen_ai.tool.name", TOOL);
        span.set("gen_ai.tool.type", "function");
        span.set("gen_ai.output.type", "image");
        span.set("mcp_image.width", params.width);
        span.set("mcp_image.height", params.height);
        span.set("mcp_image.num_inference_steps", params.num_inference_steps);
        // What stays if the caller goes away.
        span.set("mcp_image.outcome", "cancelled");
    }
    span
}

fn end(span: &mut Span, result: &Result<Generated, Error>) {
    match result {
        Ok(image) => {
            span.replace("mcp_image.outcome", "ok");
            if span.is_recorded() {
                span.set("mcp_image.image_id", image.metadata.image_id.to_string());
                span.set("mcp_image.size_bytes", image.metadata.size_bytes);
            }
        }
        Err(error) => {
            span.replace("mcp_image.outcome", error.outcome());
            span.fail(error.outcome());
        }
    }
}
