//! Micro benches: `cargo bench --bench micro [-- FILTER]`.
//!
//! What one request costs in the stack without a socket, and what each part of a generation costs. The log is on, as it
//! is by default, and goes nowhere.

#![expect(clippy::unwrap_used, reason = "a bench: it may die of anything unexpected")]

use std::{hint::black_box, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::TryStreamExt;
use http::Request;
use http_body_util::BodyExt;
use layers::{Body, client_addr::PeerAddr};
use mcp_image_server::{
    config::{Config, Source},
    generate::Generator,
    health::Health,
    image::{Format, Generation, ImageId, Limits, Metadata, inspect, preview},
    images::Delivery,
    mcp::ImageServer,
    metrics,
    predictor::{embedded::Embedded, kserve_v1::parse_reply},
    stack::{Rooms, Stack},
    storage::{self, FileStore, ImageStore, NewImage},
    telemetry,
};
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

#[path = "peers/picture.rs"]
mod picture;

/// Pieces in which a reply comes from a socket.
const PIECE: usize = 64 * 1024;
const LIMITS: Limits = Limits { max_bytes: 10 << 20, max_pixels: 1 << 24 };

criterion_group!(benches, stack, reply, image, store);
criterion_main!(benches);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The whole stack over the embedded predictor and a folder, as the binary wires it.
fn whole_stack(folder: &std::path::Path) -> Stack {
    let variables = [
        ("STORAGE_PATH", folder.to_str().unwrap()),
        ("REQUEST_RATE", "1000000"),
        ("REQUEST_BURST", "1000000"),
        ("LOG_FORMAT", "json"),
    ];
    let config = Config::load(Source::environment(variables)).unwrap().config;
    let filter = telemetry::filter(&config.telemetry.level).unwrap();
    let lines = telemetry::layer(&config.telemetry, false, std::io::sink);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let store = storage::open(&config.storage).unwrap();
    let generator = Generator::new(Arc::new(Embedded::new()), store.clone(), config.generate);
    let rooms = Rooms {
        recorder: None,
        mcp: ImageServer::new("bench", Arc::new(generator.clone())),
        health: Health::new(generator.clone(), store.clone(), Default::default()),
        generator,
        delivery: Delivery::new(store, &config.images, None),
        metrics: metrics::install().unwrap(),
    };
    Stack::new(&rooms, &config.stack, true).unwrap()
}

fn stack(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let stack = whole_stack(folder.path());
    let request = |method: &str, path: &str, body: &'static str| {
        let peer: SocketAddr = ([127, 0, 0, 1], 40_000).into();
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost:8000")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .extension(PeerAddr(peer))
            .body(Body::full(body))
            .unwrap()
    };
    let tools_list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let mut group = criterion.benchmark_group("stack");
    for (name, method, path, body) in [
        ("health/live", "GET", "/health/live", ""),
        ("not found", "GET", "/nowhere", ""),
        ("mcp ping", "POST", "/mcp", ping),
        ("mcp tools/list", "POST", "/mcp", tools_list),
    ] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || (stack.clone(), request(method, path, body)),
                |(stack, request)| async move {
                    let response = stack.oneshot(request).await.unwrap();
                    response.into_body().collect().await.unwrap().to_bytes()
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn reply(criterion: &mut Criterion) {
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
    let reply = picture::reply(&picture::png());
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Bytes(reply.len() as u64));
    group.bench_function("decoded as it streams in", |bencher| {
        bencher.iter(|| parse_reply(black_box(&reply).as_bytes().chunks(PIECE), LIMITS.max_bytes).unwrap());
    });
    group.bench_function("serde_json, then base64-simd", |bencher| {
        bencher.iter(|| {
            let reply: Reply = serde_json::from_str(black_box(&reply)).unwrap();
            base64_simd::STANDARD.decode_to_vec(&reply.predictions[0].image.b64).unwrap()
        });
    });
}

fn image(criterion: &mut Criterion) {
    let png = picture::png();
    let inspected = inspect(&png, LIMITS).unwrap();
    let mut group = criterion.benchmark_group("image");
    group.throughput(Throughput::Bytes(png.len() as u64));
    group.bench_function("inspect", |bencher| bencher.iter(|| inspect(black_box(&png), LIMITS).unwrap()));
    group.bench_function("blake3", |bencher| bencher.iter(|| blake3::hash(black_box(&png))));
    group.bench_function("preview", |bencher| {
        bencher.iter(|| preview(black_box(&png), inspected, 90_000, 512).unwrap());
    });
}

fn store(criterion: &mut Criterion) {
    let runtime = runtime();
    // Not under `/tmp`, which may be a memory file system that has nothing to sync.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let bytes = Bytes::from(picture::png());
    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    for (name, sync) in [("save, synced", true), ("save", false)] {
        let store = FileStore::open(&folder.path().join(sync.to_string()), sync).unwrap();
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || NewImage { bytes: bytes.clone(), metadata: metadata(&bytes) },
                |image| {
                    let store = store.clone();
                    async move {
                        let id = image.metadata.image_id;
                        store.save(image).await.unwrap();
                        store.delete(id).await.unwrap()
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }

    let store = FileStore::open(&folder.path().join("read"), false).unwrap();
    let metadata = metadata(&bytes);
    let (id, length) = (metadata.image_id, metadata.size_bytes);
    runtime.block_on(store.save(NewImage { bytes, metadata })).unwrap();
    group.throughput(Throughput::Bytes(length));
    group.bench_function("open and stream", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let opened = store.open(id).await.unwrap();
            let mut chunks = opened.content.stream(0..length).await.unwrap();
            while let Some(chunk) = chunks.try_next().await.unwrap() {
                black_box(chunk);
            }
        });
    });
}

fn metadata(bytes: &Bytes) -> Metadata {
    let image_id = ImageId::now();
    Metadata {
        image_id,
        format: Format::Png,
        width: picture::SIDE,
        height: picture::SIDE,
        size_bytes: bytes.len() as u64,
        blake3: "0".repeat(64),
        created_at: image_id.created_at(),
        expires_at: Utc::now() + TimeDelta::hours(1),
        thumbhash: None,
        generation: Generation {
            prompt: "a fox in the snow".to_owned(),
            negative_prompt: None,
            num_inference_steps: 25,
            guidance_scale: 7.5,
            seed: Some(7),
            model: "stable-diffusion".to_owned(),
            predictor: "kserve-v1".to_owned(),
            generation_seconds: 1.5,
        },
    }
}
