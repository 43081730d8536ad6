//! The real stack, in memory: a predictor that needs no model, a store without files.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::graceful::GracefulShutdown,
};
use layers::{Body, client_addr::PeerAddr};
use mcp_image_server::{
    config::{Config, Source},
    generate::{Generator, Load},
    health::Health,
    images::Delivery,
    mcp::ImageServer,
    metrics,
    serve::{self, serve_connection},
    stack::{Rooms, Stack},
    storage::{self, ImageStore, ListQuery},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    runtime::Runtime,
    task::JoinHandle,
    time::timeout,
};
use tower::ServiceExt;

use super::{log, picture};

/// More than any input, so that a client's writes never wait for the server.
const PIPE_BYTES: usize = 1 << 20;
/// Bytes of an answer that are kept.
const MAX_ANSWER: u64 = 4 << 20;
/// Longer than every deadline of the server together.
const FOREVER: Duration = Duration::from_secs(3_600);
/// A connection whose client is gone ends within this.
const ENDING: Duration = Duration::from_secs(60);
/// Inputs between two sweeps of what metrics remember.
const SWEEP_EVERY: u32 = 500;

/// What came back on a connection of raw bytes.
#[derive(Debug)]
pub struct Spoken {
    /// All bytes that the server sent.
    pub answer: Vec<u8>,
    /// Whether it ended the connection on its own; otherwise the client did, after an hour.
    pub ended: bool,
}

/// The stack, and a runtime of one thread for it.
pub struct Server {
    runtime: Runtime,
    stack: Stack,
    store: Arc<dyn ImageStore>,
    generator: Generator,
    metrics: metrics::Exporter,
    config: serve::Config,
    /// Never used; but dropping it would drain the connections.
    graceful: GracefulShutdown,
    inputs: AtomicU32,
}

impl Server {
    /// Builds it, with its picture stored.
    pub fn new() -> Self {
        let variables = [("STORAGE_BACKEND", "memory"), ("REQUEST_RATE", "0"), ("IMAGE_RATE", "0")];
        let config = Config::load(Source::environment(variables)).expect("a valid configuration").config;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        log::keep();
        let metrics = metrics::install().expect("a recorder");
        let store = storage::open(&config.storage).expect("a store");
        let generator = Generator::new(Arc::new(picture::Still), store.clone(), config.generate.clone());
        let rooms = Rooms {
            recorder: None,
            mcp: ImageServer::new("fuzz", Arc::new(generator.clone())),
            generator: generator.clone(),
            delivery: Delivery::new(store.clone(), &config.images, None),
            health: Health::new(generator.clone(), store.clone(), Default::default()),
            metrics: metrics.clone(),
        };
        let stack = runtime.block_on(async { Stack::new(&rooms, &config.stack, true) }).expect("a stack");
        Self {
            runtime,
            stack,
            store,
            generator,
            metrics,
            config: config.serve,
            graceful: GracefulShutdown::new(),
            inputs: AtomicU32::new(1),
        }
    }

    /// Sends `bytes` on a connection of their own, and reads until the server ends it or an hour is over.
    pub fn speak(&self, bytes: &[u8]) -> Spoken {
        self.run(async {
            let (mut client, serving) = self.connect();
            // A server that closes early is within its rights.
            let _ = client.write_all(bytes).await;
            let mut answer = Vec::new();
            let receive = async { (&mut client).take(MAX_ANSWER).read_to_end(&mut answer).await };
            let ended = timeout(FOREVER, receive).await.is_ok();
            drop(client);
            ends(serving).await;
            Spoken { answer, ended }
        })
    }

    /// Sends requests one after another, over HTTP/1.1 or HTTP/2, and gives the answers: one each.
    pub fn exchange(&self, version: Version, requests: &[Request<Bytes>]) -> Vec<Response<Bytes>> {
        self.run(async {
            let mut answers = Vec::new();
            let mut connection = Connection::open(self, version).await;
            for request in requests {
                if !connection.is_open().await {
                    connection.close().await;
                    connection = Connection::open(self, version).await;
                }
                answers.push(connection.send(request).await);
            }
            connection.close().await;
            answers
        })
    }

    /// Answers one request without a connection.
    pub fn call(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.run(async {
            let mut request = request.map(Body::full);
            request.extensions_mut().insert(PeerAddr(peer()));
            let Ok(response) = self.stack.clone().oneshot(request).await;
            let (head, body) = response.into_parts();
            let body = timeout(FOREVER, body.collect()).await.expect("a body that ends");
            Response::from_parts(head, body.expect("a whole body").to_bytes())
        })
    }

    fn connect(&self) -> (DuplexStream, JoinHandle<Result<(), layers::BoxError>>) {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let watcher = self.graceful.watcher();
        let connection = serve_connection(server, peer(), self.stack.clone(), &self.config, watcher);
        (client, tokio::spawn(connection))
    }

    /// Runs one input in a state that is the same for all, and checks what holds after each.
    fn run<T>(&self, input: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            self.reset().await;
            let output = input.await;
            let idle = Load { running: 0, waiting: 0 };
            for _ in 0..1_000 {
                if self.generator.load() == idle {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(self.generator.load(), idle, "places are given back when nobody waits any more");
            log::check();
            output
        })
    }

    async fn reset(&self) {
        let all = ListQuery { prefix: None, cursor: None, limit: usize::MAX };
        let id = picture::id();
        let mut is_there = false;
        for image in self.store.list(all).await.expect("a list").images {
            if image.image_id == id {
                is_there = true;
            } else {
                self.store.delete(image.image_id).await.expect("deleted");
            }
        }
        if !is_there {
            self.store.save(picture::stored()).await.expect("saved");
        }
        if self.inputs.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            // Histograms keep samples until they are read.
            let _ = self.metrics.render();
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A client's connection to the server.
struct Connection {
    sender: Sender,
    client: JoinHandle<hyper::Result<()>>,
    serving: JoinHandle<Result<(), layers::BoxError>>,
}

impl Connection {
    async fn open(server: &Server, version: Version) -> Self {
        let (client, serving) = server.connect();
        let io = TokioIo::new(client);
        let (sender, client) = if version == Version::HTTP_2 {
            let handshake = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = handshake.expect("a handshake");
            (Sender::Http2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(io).await.expect("a handshake");
            (Sender::Http1(sender), tokio::spawn(connection))
        };
        Self { sender, client, serving }
    }

    /// Whether another request can be sent: the server may close after an answer.
    async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: &Request<Bytes>) -> Response<Bytes> {
        let sent = request.clone().map(Full::new);
        let answer = async {
            let response: Response<Incoming> = match &mut self.sender {
                Sender::Http1(sender) => sender.send_request(sent).await?,
                Sender::Http2(sender) => sender.send_request(sent).await?,
            };
            let (head, body) = response.into_parts();
            Ok::<_, hyper::Error>(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        let answer = timeout(FOREVER, answer).await.expect("a whole request is answered");
        answer.unwrap_or_else(|error| panic!("no answer: {error:?} for {request:?}"))
    }

    /// Goes away, and sees to it that the server's end goes too.
    async fn close(self) {
        drop(self.sender);
        self.client.abort();
        let _ = self.client.await;
        ends(self.serving).await;
    }
}

async fn ends(serving: JoinHandle<Result<(), layers::BoxError>>) {
    let ended = timeout(ENDING, serving).await.expect("a connection whose client is gone ends");
    assert!(!ended.is_err_and(|join| join.is_panic()), "the connection panicked");
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}
