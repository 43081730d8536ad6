//! Connections that cannot be held for nothing, and those that serve.

use std::{
    iter::repeat_n,
    time::{Duration, Instant},
};

use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    client::{Answer, Client, RawAnswer, read_to_close, send_raw, until, within},
    fake_predictor::{Answer as Prediction, FakePredictor},
    http2, large,
    server::TestServer,
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The deadline under test; all others are longer than a test waits.
const SHORT: &str = "0.3";
const LONG: &str = "3600";

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.authority()).await.expect("connected")
}

/// A client that takes little at a time.
async fn connect_narrow(server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("set");
    socket.connect(server.authority().parse().expect("an address")).await.expect("connected")
}

/// Reads one answer whose body has the length that it says.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        read.push(within(stream.read_u8()).await.expect("an answer"));
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).expect("a length");
            if body.len() == length.lines().next().expect("a line").parse::<usize>().expect("a number") {
                return text;
            }
        }
    }
}

#[tokio::test]
async fn connection_without_a_whole_head_is_closed() {
    let server = TestServer::start_with(&[("HEAD_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG)]).await;
    let beginnings: [&[u8]; 6] =
        [b"", b"G", b"PRI * HTTP/2.0\r\n\r\nSM", &http2::preface(), &LIVE[..20], &LIVE[..LIVE.len() - 2]];
    let closed = beginnings.map(|bytes| async {
        let raw = send_raw(server.authority(), bytes).await;
        assert!(matches!(raw.statuses()[..], [] | [408]), "{}", raw.text());
    });
    futures_util::future::join_all(closed).await;
}

#[tokio::test]
async fn head_over_its_limit_is_refused() {
    let server = TestServer::start().await;
    let statuses = async |bytes: usize| {
        let long = "a".repeat(bytes);
        let head =
            format!("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {long}\r\n\r\n");
        send_raw(server.authority(), head.as_bytes()).await.statuses()
    };
    assert_eq!(statuses(12 << 10).await, [200]);
    // What is left of the head unread may take the answer with it.
    let refused = statuses(20 << 10).await;
    assert!(matches!(refused[..], [] | [431]), "{refused:?}");
}

#[tokio::test]
async fn head_that_drips_is_cut_off() {
    let server = TestServer::start_with(&[("HEAD_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG)]).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.expect("taken");
    within(async {
        let mut byte = [0];
        loop {
            let _ = stream.write_all(b"x").await;
            // A byte every now and then does not put the deadline off.
            let read = timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
            if let Ok(Ok(0) | Err(_)) = read {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn second_head_that_stalls_is_cut_off() {
    let server = TestServer::start_with(&[("HEAD_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG)]).await;
    let mut stream = connect(&server).await;
    stream.write_all(LIVE).await.expect("taken");
    assert!(read_answer(&mut stream).await.contains("200 ok"));
    stream.write_all(&LIVE[..10]).await.expect("taken");
    read_to_close(&mut stream).await;
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let server = TestServer::start_with(&[("IDLE_TIMEOUT", SHORT), ("HEAD_TIMEOUT", LONG)]).await;
    let raw = send_raw(server.authority(), LIVE).await;
    assert_eq!(raw.statuses(), [200]);
    // HTTP/2, after an answer.
    let request = [http2::preface(), http2::post(1, "/nowhere", "{}")].concat();
    assert!(!send_raw(server.authority(), &request).await.text().is_empty());
}

/// Sends a request's head, and its body a moment later.
async fn send_split(stream: &mut TcpStream) {
    let body = r#"{"prompt":""}"#;
    let head = format!(
        "POST {GENERATE_IMAGE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("taken");
    sleep(Duration::from_millis(50)).await;
    stream.write_all(body.as_bytes()).await.expect("taken");
}

#[tokio::test]
async fn connection_whose_body_came_after_its_head_is_kept_and_then_idle() {
    let server = TestServer::start_with(&[("HEAD_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG)]).await;
    let mut stream = connect(&server).await;
    for _ in 0..2 {
        send_split(&mut stream).await;
        assert!(read_answer(&mut stream).await.contains("422"));
        // Longer than a head may take: none has begun.
        let mut byte = [0];
        let wait = timeout(Duration::from_secs(1), stream.peek(&mut byte));
        assert!(wait.await.is_err(), "neither closed nor spoken on");
    }

    let server = TestServer::start_with(&[("IDLE_TIMEOUT", SHORT), ("HEAD_TIMEOUT", LONG)]).await;
    let mut stream = connect(&server).await;
    send_split(&mut stream).await;
    assert!(read_answer(&mut stream).await.contains("422"));
    read_to_close(&mut stream).await;
}

#[tokio::test]
async fn connection_that_waits_for_its_answer_is_not_closed() {
    let fake = FakePredictor::start(repeat_n(Prediction::drawn().delay(Duration::from_secs(1)), 4)).await;
    let settings = [("HEAD_TIMEOUT", SHORT), ("IDLE_TIMEOUT", SHORT), ("WRITE_TIMEOUT", SHORT)];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let small = json!({"prompt": "a fox", "width": 64, "height": 64});
    for client in [server.client(), Client::http2(&server.url(""))] {
        assert_eq!(client.generate(&small).await.status, 200);
        // Nor is an answer whose head is there, and which has nothing to say for now.
        let events = client.post(GENERATE_IMAGE, small.to_string()).header("accept", "text/event-stream");
        let events = Answer::of(events).await;
        assert!(events.status == 200 && events.text().contains("event: result"), "{}", events.text());
    }
}

/// The clock of this test runs ahead whenever nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn body_that_stalls_is_408() {
    let server = TestServer::start().await;
    for path in [GENERATE_IMAGE, "/mcp"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n\
             Content-Length: 18\r\n\r\n{{\"prompt\""
        );
        let answer = send_raw(server.authority(), head.as_bytes()).await.answer();
        answer.assert_refused(path, 408, "body-stalled");
        assert_eq!(answer.header("connection"), "close");
    }
}

#[tokio::test]
async fn reader_that_stops_is_cut_off_and_one_that_is_slow_is_not() {
    let settings = [("WRITE_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG), ("MAX_CONNECTIONS", "1")];
    let server = TestServer::start_with(&settings).await;
    let image = large::stored(server.folder(), 8, Duration::ZERO, Duration::from_secs(3600)).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", large::path_of(&image));

    let mut stopped = connect_narrow(&server).await;
    stopped.write_all(request.as_bytes()).await.expect("taken");
    // There is one place: the next client is served when the first is cut off.
    let last = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(send_raw(server.authority(), last).await.statuses(), [200]);
    let read = read_to_close(&mut stopped).await;
    assert!(read.starts_with(b"HTTP/1.1 200 OK") && read.len() < image.bytes.len(), "{}", read.len());
    drop(stopped);

    let mut slow = connect_narrow(&server).await;
    slow.write_all(request.as_bytes()).await.expect("taken");
    let started = Instant::now();
    let mut piece = vec![0; 512 * 1024];
    let mut read = Vec::new();
    while body_of(&read).len() < image.bytes.len() {
        let length = within(slow.read(&mut piece)).await.expect("not cut off");
        assert!(length > 0, "the end came early");
        read.extend_from_slice(&piece[..length]);
        // More than three times as long as a client may take nothing.
        if started.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(body_of(&read) == image.bytes);
}

/// Reads frames, acknowledges what has to be, and returns the first that is wanted.
async fn next_frame(stream: &mut TcpStream, wanted: impl Fn(&http2::Frame) -> bool) -> http2::Frame {
    within(async {
        loop {
            let frame = http2::Frame::read(stream).await.expect("a frame");
            if let Some(acknowledgement) = frame.acknowledgement() {
                stream.write_all(&acknowledgement).await.expect("taken");
            }
            if wanted(&frame) {
                break frame;
            }
        }
    })
    .await
}

/// The peer reads the socket and answers pings, but takes nothing, or next to nothing, of what it
/// asked for.
#[tokio::test]
async fn http_2_stream_that_is_not_taken_is_reset_and_its_connection_goes_on() {
    const STREAMS: u32 = 20;
    let server = TestServer::start_with(&[("WRITE_TIMEOUT", SHORT), ("IDLE_TIMEOUT", LONG)]).await;
    let image = large::stored(server.folder(), 1, Duration::ZERO, Duration::from_secs(3600)).await;
    let [whole, thumbnail] = ["", "?w=64"].map(|query| format!("{}{query}", large::path_of(&image)));
    for window in [0, 1] {
        let mut stream = connect(&server).await;
        stream.write_all(&http2::preface_with_window(window)).await.expect("taken");
        let held = (0..STREAMS).map(|number| 2 * number + 1);
        let paths = [whole.as_str(), &thumbnail, "/health", "/nowhere"].into_iter().cycle();
        let requests: Vec<_> = held.clone().zip(paths).flat_map(|(id, path)| http2::get(id, path)).collect();
        stream.write_all(&requests).await.expect("taken");
        let mut resets = Vec::new();
        for _ in held.clone() {
            resets.push(next_frame(&mut stream, http2::Frame::is_reset).await.stream);
        }
        resets.sort_unstable();
        assert!(held.eq(resets), "each stream is reset once");

        // One that is taken comes whole, on the same connection.
        let next = 2 * STREAMS + 1;
        let plenty = u32::try_from(image.bytes.len() + 65_535).expect("fits");
        let windows = [0, next].map(|stream| http2::window_update(stream, plenty)).concat();
        let request = [http2::get(next, &whole), windows].concat();
        stream.write_all(&request).await.expect("taken");
        let mut body = Vec::new();
        loop {
            let frame = next_frame(&mut stream, |frame| frame.is_data() || frame.is_reset()).await;
            assert!(frame.stream == next && frame.is_data(), "{} was reset", frame.stream);
            body.extend_from_slice(&frame.payload);
            if frame.ends_stream() {
                break;
            }
        }
        assert!(body == image.bytes);
    }
}

fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    end.map_or(&[], |end| &answer[end + 4..])
}

#[tokio::test]
async fn connection_beyond_the_most_waits_until_one_closes() {
    let server = TestServer::start_with(&[("MAX_CONNECTIONS", "2"), ("IDLE_TIMEOUT", LONG)]).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        stream.write_all(LIVE).await.expect("taken");
        read_answer(&mut stream).await;
        open.push(stream);
    }
    let mut third = connect(&server).await;
    third.write_all(LIVE).await.expect("taken by the kernel");
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(300), third.peek(&mut byte)).await.is_err(),
        "it is not served yet"
    );
    open.pop();
    assert!(read_answer(&mut third).await.contains("200 ok"));
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let server = TestServer::start().await;
    let requests = ["/health/live", "/nowhere", "/images/no-id", "/health/ready"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let last = "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let raw: RawAnswer = send_raw(server.authority(), (requests.concat() + last).as_bytes()).await;
    assert_eq!(raw.statuses(), [200, 404, 404, 200, 405]);
}

#[tokio::test]
async fn requests_that_are_no_http_are_refused_and_the_server_lives() {
    let server = TestServer::start().await;
    let many = "X-Many: 1\r\n".repeat(200);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    for request in [
        "\r\n\r\n\r\n",
        "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        &long,
    ] {
        let mut stream = connect(&server).await;
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.shutdown().await;
        let raw = String::from_utf8_lossy(&read_to_close(&mut stream).await).into_owned();
        assert!(raw.is_empty() || raw.starts_with("HTTP/1.1 4"), "{request:?}: {raw}");
    }
    assert_eq!(server.client().get("/health").await.status, 200);
}

#[tokio::test]
async fn generations_over_one_http_2_connection_run_at_once() {
    const CALLS: usize = 32;
    let slow = Prediction::drawn().delay(Duration::from_millis(500));
    let fake = FakePredictor::start(repeat_n(slow, CALLS)).await;
    let server = TestServer::in_front_of(&fake, &[]).await;
    let client = Client::http2(&server.url(""));
    let small = json!({"prompt": "a fox", "width": 64, "height": 64});
    let calls = futures_util::future::join_all((0..CALLS).map(|_| client.generate(&small)));
    let together = within(fake.wait_until(|counts| counts.started == CALLS && counts.answered == 0));
    let (answers, ()) = tokio::join!(calls, together);
    assert!(answers.iter().all(|answer| answer.status == 200));
}

/// Each stream costs a token before it is dispatched: a client that takes its requests back does not
/// start more generations than one that waits for them.
#[tokio::test]
async fn streams_opened_and_reset_start_no_more_generations_than_the_rate_allows() {
    const STREAMS: u32 = 2_000;
    /// Streams at once; the server allows somewhat more.
    const BATCH: u32 = 100;
    const BURST: u64 = 10;
    let fake = FakePredictor::start(repeat_n(Prediction::hang(), STREAMS as usize)).await;
    let settings =
        [("REQUEST_RATE", "1"), ("REQUEST_BURST", &*BURST.to_string()), ("GENERATION_CONCURRENCY", "1024")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let began = Instant::now();
    let mut sent = 0;
    while sent < STREAMS {
        // A server may hang up on a client that does this for long; then comes the next one.
        let mut stream = connect(&server).await;
        let _ = stream.write_all(&http2::preface()).await;
        let mut number = 0;
        while sent < STREAMS {
            let ids = (number..number + BATCH).map(|number| 2 * number + 1);
            let body = r#"{"prompt":"a fox"}"#;
            let posts: Vec<_> = ids.clone().flat_map(|id| http2::post(id, GENERATE_IMAGE, body)).collect();
            let resets: Vec<_> = ids.flat_map(http2::reset).collect();
            if stream.write_all(&posts).await.is_err() {
                break;
            }
            // Time for the server to take them up.
            within(fake.wait_until(|counts| counts.started > 0)).await;
            sleep(Duration::from_millis(20)).await;
            if stream.write_all(&resets).await.is_err() {
                break;
            }
            (number, sent) = (number + BATCH, sent + BATCH);
        }
    }
    let allowed = BURST + began.elapsed().as_secs() + 1;
    let client = server.client();
    until(async || client.get("/health").await.json()["generations"]["running"] == 0).await;
    let started = fake.counts().started as u64;
    assert!((1..=allowed).contains(&started), "{started} of {allowed}");
    within(fake.wait_until(|counts| counts.abandoned == counts.started)).await;
}
