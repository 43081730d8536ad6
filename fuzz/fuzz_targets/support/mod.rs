//! The real stack, in memory: a predictor that answers at once, a store without files.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper_util::server::graceful::GracefulShutdown;
use mcp_image_server::{
    config::{Config, Source},
    generate::Generator,
    health::Health,
    metrics,
    predictor::{Description, Error, Held, Prediction, Predictor, ProgressSender, Request, State},
    serve::{self, serve_connection},
    stack::{Rooms, Stack},
    storage,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
};

/// Longest answer that is read; a longer one is cut off, as a client that goes away does.
const MAX_ANSWER: u64 = 1 << 20;

/// The stack, and a runtime of one thread for it.
pub struct Server {
    runtime: Runtime,
    stack: Stack,
    config: serve::Config,
}

impl Server {
    /// Builds it once; every input is a new connection to it.
    pub fn new() -> Self {
        let variables = [("STORAGE_BACKEND", "memory"), ("REQUEST_RATE", "0"), ("IMAGE_RATE", "0")];
        let config = Config::load(Source::environment(variables)).expect("a valid configuration").config;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stack = runtime.block_on(async {
            let store = storage::open(&config.storage).expect("a store");
            let generator = Generator::new(Arc::new(Instant), store.clone(), config.generate.clone());
            let health = Health::new(generator.clone(), store.clone());
            let metrics = metrics::install().expect("a recorder");
            let rooms = Rooms { generator, store, health, metrics };
            Stack::new(&rooms, &config.stack, true).expect("a stack")
        });
        Self { runtime, stack, config: config.serve }
    }

    /// Sends `bytes` on a connection of their own, then the end; gives everything that comes back.
    pub fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        self.runtime.block_on(async {
            let (client, server) = tokio::io::duplex(64 * 1024);
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let graceful = GracefulShutdown::new();
            let connection =
                serve_connection(server, peer, self.stack.clone(), &self.config, graceful.watcher());
            let serving = tokio::spawn(connection);
            let (mut reader, mut writer) = tokio::io::split(client);
            let send = async {
                // A server that closes early is within its rights.
                let _ = writer.write_all(bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut answer = Vec::new();
            let receive = async {
                let _ = (&mut reader).take(MAX_ANSWER).read_to_end(&mut answer).await;
            };
            tokio::join!(send, receive);
            drop((reader, writer));
            let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
            let result = ended.expect("a connection whose client is gone ends");
            assert!(!result.is_err_and(|join| join.is_panic()), "the connection panicked");
            answer
        })
    }
}

/// Every answer's head on an HTTP/1 connection: bad input never makes a server error.
pub fn assert_no_server_error(answer: &[u8], sent: &[u8]) {
    if let Some(rest) = answer.strip_prefix(b"HTTP/1.1 ") {
        let status = rest.get(..3).unwrap_or_default();
        let fine = matches!(status.first(), Some(b'1'..=b'4'));
        assert!(fine, "{} for {}", String::from_utf8_lossy(&answer[..answer.len().min(200)]), sent.escape_ascii());
    }
}

/// A predictor that draws one grey square, at once.
struct Instant;

#[async_trait::async_trait]
impl Predictor for Instant {
    fn describe(&self) -> Description {
        Description {
            protocol: "fuzz",
            model: "grey".to_owned(),
            endpoint: None,
            takes_seed: true,
            reports_steps: false,
        }
    }

    async fn predict(&self, _: &Request, _: &ProgressSender) -> Result<Prediction, Error> {
        Ok(Prediction { image: Bytes::from_static(include_bytes!("grey.png")), model: None, seed: None, held: Held::default() })
    }

    async fn probe(&self) -> State {
        State::Ready
    }
}
