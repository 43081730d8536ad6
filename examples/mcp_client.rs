//! Draws an image from Rust by rmcp's own client:
//! `cargo run --example mcp_client -- http://localhost:8000/mcp "a red fox"`.

use std::error::Error;

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient,
    model::{CallToolRequestParams, ProgressNotificationParam, ProtocolVersion},
    service::NotificationContext,
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

/// Prints each progress notification.
struct Progress;

impl ClientHandler for Progress {
    #[expect(clippy::print_stdout, reason = "a command for people")]
    async fn on_progress(&self, note: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let message = note.message.unwrap_or_default();
        println!("  {:.0} of {:.0}: {message}", note.progress, note.total.unwrap_or_default());
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a command for people")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("tell a URL and a prompt")?;
    let prompt = arguments.next().ok_or("tell a prompt after the URL")?;

    let transport = StreamableHttpClientTransport::from_uri(url);
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    };
    let client = Progress.serve_with_lifecycle(transport, lifecycle).await?;

    let Value::Object(arguments) =
        json!({"prompt": prompt, "width": 768, "height": 512, "include_preview": false})
    else {
        return Err("the arguments are no object".into());
    };
    let call = CallToolRequestParams::new("generate_image").with_arguments(arguments);
    let result = client.call_tool(call).await?;
    client.cancel().await?;

    if result.is_error == Some(true) {
        // What is wrong with the arguments, or with the model, in words that a model can act upon.
        let text = result.content.first().and_then(|part| part.as_text()).map(|part| part.text.clone());
        return Err(text.unwrap_or_default().into());
    }
    let image = result.structured_content.unwrap_or_default();
    let url = image["url"].as_str().ok_or("a result without a URL")?;
    let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?;
    std::fs::write("rust.png", bytes)?;
    println!("{url} seed {} saved as rust.png", image["metadata"]["seed"]);
    Ok(())
}
