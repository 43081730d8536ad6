//! A peer for the load comparison: rmcp's streamable HTTP service on hyper, with nothing else.
//!
//! No limits, no trace, no metrics, no inspection, no sync to disk: what protocol work alone costs.
//! `bare_rmcp PORT PREDICT_URL FOLDER [hash]` (predictor and folder serve `generate_image`; with `hash` it takes the
//! BLAKE3 hash of each image, as whoever wants a strong `ETag` or to verify what is stored must).

#![expect(clippy::unwrap_used, reason = "a fixture of the benchmark: it may die of anything unexpected")]

use std::sync::Arc;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rmcp::{
    ErrorData, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{CallToolResult, ContentBlock, ServerCapabilities, ServerConfig},
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};

#[derive(Clone)]
struct Bare {
    tool_router: Arc<ToolRouter<Self>>,
    client: reqwest::Client,
    predict_url: Arc<str>,
    folder: Arc<str>,
    hashes: bool,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Arguments {
    prompt: String,
}

#[derive(serde::Deserialize)]
struct Reply {
    predictions: Vec<Prediction>,
}

#[derive(serde::Deserialize)]
struct Prediction {
    image: Image,
}

#[derive(serde::Deserialize)]
struct Image {
    b64: String,
}

#[tool_router]
impl Bare {
    #[tool(description = "Generate an image from a text prompt")]
    async fn generate_image(
        &self,
        Parameters(arguments): Parameters<Arguments>,
    ) -> Result<CallToolResult, ErrorData> {
        let body = serde_json::json!({"instances": [{"prompt": arguments.prompt}]});
        let reply = self
            .client
            .post(&*self.predict_url)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&body).unwrap())
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let reply: Reply = serde_json::from_slice(&reply).unwrap();
        let image = base64_simd::STANDARD.decode_to_vec(&reply.predictions[0].image.b64).unwrap();
        if self.hashes {
            std::hint::black_box(blake3::hash(&image));
        }
        let name = format!("{}.png", uuid::Uuid::now_v7());
        let path = format!("{}/{name}", self.folder);
        let temporary = format!("{path}.tmp");
        tokio::task::spawn_blocking(move || {
            std::fs::write(&temporary, image).unwrap();
            std::fs::rename(temporary, path).unwrap();
        })
        .await
        .unwrap();
        let url = format!("http://localhost/images/{name}");
        Ok(CallToolResult::success(vec![ContentBlock::text(url)]))
    }

    #[tool(description = "Does nothing")]
    async fn nothing(&self) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("nothing")]))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Bare {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap().parse().unwrap();
    let bare = Bare {
        tool_router: Arc::new(Bare::tool_router()),
        client: reqwest::Client::new(),
        predict_url: arguments.next().unwrap_or_default().into(),
        folder: arguments.next().unwrap_or_default().into(),
        hashes: arguments.next().is_some(),
    };
    let config =
        StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let service = StreamableHttpService::new(
        move || Ok(bare.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}
