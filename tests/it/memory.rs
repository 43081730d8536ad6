//! Memory, as the kernel counts it for the process: the server keeps what it says it keeps.

#![cfg(target_os = "linux")]

use std::{iter::repeat_n, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::Barrier,
    task::JoinSet,
};

use crate::{
    client::{Era, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    large,
    process::Process,
};

const MIB: u64 = 1 << 20;

/// What the process needs besides images: code, runtime, connections, metrics.
const CONSTANT: u64 = 32 * MIB;

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

/// A predictor whose every reply is the same large image, and a server in front of it.
async fn server_with_replies(calls: usize, megabytes: u32, cap: u64) -> (Process, FakePredictor, u32) {
    let (png, side) = large::png(megabytes);
    assert!((u64::from(megabytes) * MIB..cap).contains(&(png.len() as u64)), "{}", png.len());
    let b64 = base64_simd::STANDARD.encode_to_string(&png);
    let reply = Prediction::json(200, &json!({"predictions": [{"image": {"b64": b64}}]}));
    // All are drawn at once, and come back at once.
    let fake = FakePredictor::start(repeat_n(reply.delay(Duration::from_millis(300)), calls)).await;
    let settings = [
        ("KSERVE_ENDPOINT", fake.url()),
        ("GENERATION_CONCURRENCY", calls.to_string()),
        ("MAX_IMAGE_SIZE", cap.to_string()),
    ];
    let server = Process::start(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    (server, fake, side)
}

/// The formula: generations in flight, times the most that a reply may hold, and a constant.
#[tokio::test]
async fn generations_at_once_stay_within_the_formula() {
    const CALLS: usize = 16;
    const CAP: u64 = 9 * MIB;
    let (server, _fake, side) = server_with_replies(CALLS, 8, CAP).await;
    let client = server.client();
    let arguments = json!({"prompt": "a large picture"});
    let calls = (0..CALLS).map(|_| client.generate(&arguments));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!((answer.status, &answer.json()["metadata"]["width"]), (200, &json!(side)));
    }
    let (peak, limit) = (server.peak_memory(), CALLS as u64 * CAP + CONSTANT);
    assert!(peak < limit, "{} of {} MiB", peak / MIB, limit / MIB);
}

/// Over MCP a preview is made besides, of the decoded picture; of those there is one a core.
#[tokio::test]
async fn generations_with_previews_at_once_stay_within_the_formula() {
    const CALLS: usize = 16;
    const CAP: u64 = 5 * MIB;
    const BYTES_PER_PIXEL: u64 = 16;
    let (server, _fake, side) = server_with_replies(CALLS, 4, CAP).await;
    let client = server.client();
    let arguments = json!({"prompt": "a large picture"});
    let calls = (0..CALLS).map(|_| client.tool_result(Era::Legacy, &arguments));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result["structuredContent"]["metadata"]["width"], side, "{result}");
        assert_eq!(result["content"][1]["type"], "image");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let previews = cores.min(CALLS as u64) * u64::from(side * side) * BYTES_PER_PIXEL;
    let (peak, limit) = (server.peak_memory(), CALLS as u64 * CAP + previews + CONSTANT);
    assert!(peak < limit, "{} of {} MiB", peak / MIB, limit / MIB);
}
