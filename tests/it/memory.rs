//! Memory, as the kernel counts it for the process: the server keeps what it says it keeps.

#![cfg(target_os = "linux")]

use std::{iter::repeat_n, sync::Arc, time::Duration};

use mcp_image_server::{
    api::GENERATE_IMAGE,
    image::{ImageId, decoding_memory},
    images::LISTINGS_MEMORY,
    storage::{FileStore, ImageStore},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::Barrier,
    task::JoinSet,
};

use crate::{
    bomb,
    client::{Client, Era, send_raw, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    large,
    process::Process,
};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn slow_readers_of_a_large_image_cost_little() {
    const READERS: usize = 256;
    const LIMIT: u64 = 64 * MIB;
    let server = Process::start(&[]).await;
    let image = large::stored(&server.images(), 8, Duration::ZERO, Duration::from_secs(3600)).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", large::path_of(&image));
    let all_have_begun = Arc::new(Barrier::new(READERS));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (request, all_have_begun) = (request.clone(), Arc::clone(&all_have_begun));
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("set");
        let address = server.authority().parse().expect("an address");
        readers.spawn(async move {
            let mut stream = socket.connect(address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("taken");
            let mut read = vec![0; 1024];
            // All at the beginning at once, then all a little further.
            for _ in 0..8 {
                stream.read_exact(&mut read).await.expect("more");
                all_have_begun.wait().await;
            }
            stream
        });
    }
    let streams = within(readers.join_all()).await;
    let peak = server.peak_memory();
    assert!(peak < LIMIT, "{} MiB", peak / MIB);
    drop(streams);
    let whole = server.client().get(&large::path_of(&image)).await;
    assert!(whole.body == image.bytes);
}

/// What is small and unpacks to much more than it says is unpacked no further than it says.
#[tokio::test]
async fn decompression_bombs_cost_little() {
    const LIMIT: u64 = 16 * MIB;
    let hour = Duration::from_secs(3600);
    let server = Process::start(&[]).await;
    let client = server.client();
    let plain = large::stored(&server.images(), 0, Duration::ZERO, hour).await;
    assert_eq!(client.get(&format!("{}?w=64", large::path_of(&plain))).await.status, 200);
    for (name, bytes) in bomb::all() {
        let before = server.peak_memory();
        let image = large::put(&server.images(), bytes.into(), bomb::SIDE, Duration::ZERO, hour).await;
        let path = large::path_of(&image);
        let answer = client.get(&format!("{path}?w=64&format=webp")).await;
        assert!([200, 422].contains(&answer.status), "{name}: {}", answer.status);
        let cost = server.peak_memory() - before;
        assert!(cost < LIMIT, "{name}: {} MiB", cost / MIB);
        assert_eq!(client.get(&path).await.body, image.bytes, "{name}: as it is, it is delivered");
    }
}

/// What the AVIF encoder takes most for: noise with alpha, at the best quality.
#[cfg(feature = "avif")]
#[tokio::test]
async fn avif_of_noise_stays_within_the_room_of_a_variant() {
    use image::{ImageEncoder, codecs::png::PngEncoder};
    use mcp_image_server::image::variant_memory;

    const SIDE: u32 = 512;
    let mut state = 0x9e37_79b9_u32;
    let noise: Vec<u8> = (0..SIDE * SIDE)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()
        })
        .collect();
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    encoder.write_image(&noise, SIDE, SIDE, image::ExtendedColorType::Rgba8).expect("encodes");
    let server = Process::start(&[]).await;
    let image =
        large::put(&server.images(), bytes.into(), SIDE, Duration::ZERO, Duration::from_secs(3600)).await;
    let (client, path) = (server.client(), large::path_of(&image));
    assert_eq!(client.get(&path).await.status, 200);
    let before = server.peak_memory();
    let answer = client.get(&format!("{path}?format=avif&q=100")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/avif"));
    let cost = server.peak_memory() - before;
    assert!(cost > 8 * MIB, "it was made: {} MiB", cost / MIB);
    assert!(cost < variant_memory(u64::from(SIDE * SIDE)), "{} MiB", cost / MIB);
}

/// A body in a million pieces costs what its bytes cost, at both doors.
#[tokio::test]
async fn body_of_single_bytes_costs_little() {
    const BYTES: usize = 1_000_000;
    const LIMIT: u64 = 16 * MIB;
    let server = Process::start(&[]).await;
    for (path, status) in [("/mcp", 400), (GENERATE_IMAGE, 400)] {
        assert_eq!(server.client().get("/health").await.status, 200);
        let before = server.peak_memory();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        let request = [head.as_bytes(), &b"1\r\n{\r\n".repeat(BYTES), b"0\r\n\r\n"].concat();
        let answer = send_raw(server.authority(), &request).await;
        assert_eq!(answer.statuses(), [status], "{path}: the whole body was read");
        let cost = server.peak_memory() - before;
        assert!(cost < LIMIT, "{path}: {} MiB", cost / MIB);
    }
}

/// Long pages of the list that nobody reads hold what they may hold together, and no more.
#[tokio::test]
async fn listings_that_are_not_read_stay_within_their_room() {
    const IMAGES: u32 = 120;
    const READERS: usize = 8;
    let server = Process::start(&[]).await;
    let first = large::stored(&server.images(), 0, Duration::ZERO, Duration::from_secs(3600)).await;
    let store = FileStore::open(&server.images(), false).expect("a store");
    for _ in 1..IMAGES {
        let mut image = first.clone();
        image.metadata.image_id = ImageId::now();
        // Six characters each in JSON.
        image.metadata.generation.prompt = "\u{1}".repeat(10_000);
        image.metadata.generation.negative_prompt = Some("\u{1}".repeat(10_000));
        store.save(image).await.expect("saved");
    }
    assert_eq!(server.client().get("/images/?limit=1").await.status, 200);
    let before = server.peak_memory();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let address = server.authority().parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        readers.spawn(async move {
            let mut stream = socket.connect(address).await.expect("connected");
            let request = "GET /images/?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.expect("taken");
            let mut begin = [0; "HTTP/1.1 200".len()];
            stream.read_exact(&mut begin).await.expect("an answer");
            (String::from_utf8_lossy(&begin).into_owned(), stream)
        });
    }
    let answers = within(readers.join_all()).await;
    let served = answers.iter().filter(|(begin, _)| begin == "HTTP/1.1 200").count();
    assert!(answers.iter().all(|(begin, _)| ["HTTP/1.1 200", "HTTP/1.1 503"].contains(&begin.as_str())));
    assert!((1..READERS).contains(&served), "{served} were served");
    let cost = server.peak_memory() - before;
    assert!(cost < LISTINGS_MEMORY as u64 + 8 * MIB, "{} MiB", cost / MIB);
}

/// What the server says it takes at most (`docs/memory.md`), for images of this side. Of the 16 bytes
/// a pixel that decoding may take, pictures like these take 4.
async fn budget(client: &Client, side: u32) -> u64 {
    const BYTES_PER_PIXEL: u64 = 16;
    const USUAL_BYTES_PER_PIXEL: u64 = 4;
    let metrics = client.get("/metrics").await.text();
    let parts = metrics.lines().filter_map(|line| line.strip_prefix("mcp_image_memory_budget_bytes{part=\""));
    let parts = parts.map(|line| line.split_once("\"} ").expect("a part"));
    let parts: Vec<(&str, u64)> =
        parts.map(|(part, bytes)| (part, bytes.parse().expect("a number of bytes"))).collect();
    let decoding = parts.iter().find(|(part, _)| *part == "decoding").expect("a part").1;
    let pixels = u64::from(side * side);
    let decoders = decoding / decoding_memory(pixels);
    let spared = decoders * pixels * (BYTES_PER_PIXEL - USUAL_BYTES_PER_PIXEL);
    parts.iter().map(|(_, bytes)| bytes).sum::<u64>() - spared
}

/// Asks for sixteen images at once whose replies come at once, of so many megabytes each, and
/// compares what that took with the budget.
async fn assert_within_budget(megabytes: u32, ask: impl AsyncFn(&Client) -> Value) {
    const CALLS: usize = 16;
    let (png, side) = large::png(megabytes);
    let b64 = base64_simd::STANDARD.encode_to_string(&png);
    let reply = Prediction::json(200, &json!({"predictions": [{"image": {"b64": b64}}]}));
    let fake = FakePredictor::start(repeat_n(reply.delay(Duration::from_millis(300)), CALLS)).await;
    let settings = [
        ("KSERVE_ENDPOINT", fake.url()),
        ("GENERATION_CONCURRENCY", CALLS.to_string()),
        ("MAX_IMAGE_PIXELS", (side * side).to_string()),
        ("MAX_CONNECTIONS", "64".to_owned()),
        ("VARIANT_CONCURRENCY", "1".to_owned()),
        ("IMAGE_CACHE_BYTES", "0".to_owned()),
    ];
    let server = Process::start(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let client = server.client();
    let images = futures_util::future::join_all((0..CALLS).map(|_| ask(&client))).await;
    for image in images {
        assert_eq!(image["metadata"]["size_bytes"], png.len(), "{image}");
    }
    let (peak, limit) = (server.peak_memory(), budget(&client, side).await);
    assert!(peak < limit, "{} of {} MiB", peak / MIB, limit / MIB);
}

#[tokio::test]
async fn generations_at_once_stay_within_the_budget() {
    let arguments = json!({"prompt": "a large picture"});
    assert_within_budget(8, async |client: &Client| client.generate(&arguments).await.json()).await;
}

/// Over MCP a preview is made besides, of the decoded picture; of those there is one a core.
#[tokio::test]
async fn generations_with_previews_at_once_stay_within_the_budget() {
    let arguments = json!({"prompt": "a large picture"});
    let ask = async |client: &Client| {
        let mut result = client.tool_result(Era::Legacy, &arguments).await;
        assert_eq!(result["content"][1]["type"], "image", "{result}");
        result["structuredContent"].take()
    };
    assert_within_budget(4, ask).await;
}
