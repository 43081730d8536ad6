//! What a person who starts the server reads first: where things are, and how to connect.

use std::fmt::Write as _;

use crate::predictor::Description;

/// The facts that the banner tells.
#[derive(Debug)]
pub struct Banner<'a> {
    /// What URLs start with, without a trailing slash.
    pub base_url: &'a str,
    /// The second listener, where there is one.
    pub metrics_url: Option<String>,
    /// Who draws.
    pub predictor: &'a Description,
    /// Where images live, in words.
    pub storage: String,
}

impl Banner<'_> {
    /// The banner, several lines.
    #[must_use]
    pub fn text(&self) -> String {
        let base = self.base_url;
        let metrics = self.metrics_url.as_deref().unwrap_or(base);
        let mut text = format!(
            "mcp-image-server {version}\n\n  \
             Gallery   {base}/\n  \
             MCP       {base}/mcp\n  \
             REST      POST {base}/mcp/v1/tools/generate_image\n  \
             Images    {base}/images/{{id}}\n  \
             Health    {base}/health\n  \
             Metrics   {metrics}/metrics\n  \
             Storage   {storage}\n  \
             Predictor {predictor}\n",
            version = env!("CARGO_PKG_VERSION"),
            storage = self.storage,
            predictor = self.predictor(),
        );
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "\nAdd it to a client:\n\n  \
             Claude Code     claude mcp add --transport http image {base}/mcp\n  \
             VS Code         code --add-mcp '{{\"name\":\"image\",\"type\":\"http\",\"url\":\"{base}/mcp\"}}'\n  \
             Claude Desktop  in claude_desktop_config.json (uses npx, which comes with Node.js):\n    \
             {{\"mcpServers\":{{\"image\":{{\"command\":\"npx\",\"args\":[\"-y\",\"mcp-remote\",\"{base}/mcp\"]}}}}}}\n\n\
             Stop it with Ctrl-C.\n\n"
        );
        text
    }

    fn predictor(&self) -> String {
        let Description { protocol, model, endpoint, .. } = self.predictor;
        match endpoint {
            Some(endpoint) => format!("{protocol}, model {model} at {endpoint}"),
            None => "embedded: a procedural artist that shows the whole path, NOT a model.\n            \
                     For a model set KSERVE_ENDPOINT=http://host:port/v1/models/<name>"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banner_says_where_things_are_and_that_the_artist_is_no_model() {
        let predictor = Description {
            protocol: "embedded",
            model: "procedural-artist".to_owned(),
            endpoint: None,
            takes_seed: true,
            reports_steps: true,
        };
        let banner = Banner {
            base_url: "http://localhost:8000",
            metrics_url: None,
            predictor: &predictor,
            storage: "file, /tmp/mcp-images".to_owned(),
        };
        let text = banner.text();
        assert!(text.contains("NOT a model"), "{text}");
        assert!(text.contains("claude mcp add --transport http image http://localhost:8000/mcp"), "{text}");
        let json = text.lines().find(|line| line.contains("mcpServers")).expect("the JSON line");
        let parsed: serde_json::Value = serde_json::from_str(json).expect("valid JSON");
        assert_eq!(parsed["mcpServers"]["image"]["args"][2], "http://localhost:8000/mcp");
    }
}
