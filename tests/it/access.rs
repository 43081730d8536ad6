//! Who may ask: hosts and origins.

use std::time::Duration;

use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::json;

use crate::{
    client::{Answer, Client, RawAnswer, send_raw},
    fake_predictor::{Answer as Prediction, FakePredictor},
    server::TestServer,
};

/// Where hosts and origins are judged, by method and path.
const GUARDED: [(&str, &str); 5] = [
    ("POST", "/mcp"),
    ("POST", GENERATE_IMAGE),
    ("GET", "/images/"),
    ("GET", "/images/01890a5d-ac96-774b-bcce-b302099a8057"),
    ("OPTIONS", "/mcp"),
];
/// What probes and scrapers ask, under any name.
const OPEN: [&str; 4] = ["/health", "/health/live", "/health/ready", "/metrics"];

/// Sends a request whose head is written out: the target, and lines after it.
async fn ask(server: &TestServer, method: &str, target: &str, lines: &[&str]) -> RawAnswer {
    let body = if method == "POST" { "{}" } else { "" };
    let length = format!("Content-Length: {}", body.len());
    let always = ["Content-Type: application/json", "Accept: */*", "Connection: close", &length];
    let lines = [&always, lines].concat().join("\r\n");
    let request = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n\r\n{body}");
    send_raw(server.authority(), request.as_bytes()).await
}

#[tokio::test]
async fn host_that_is_not_ours_is_refused() {
    let server = TestServer::start().await;
    for (method, path) in GUARDED {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "[::2]"]
        {
            let answer = ask(&server, method, path, &[&format!("Host: {host}")]).await.answer();
            answer.assert_refused(path, 403, "host-refused");
        }
    }
}

#[tokio::test]
async fn host_that_is_none_or_two_is_a_bad_request() {
    let server = TestServer::start().await;
    let elsewhere = |path: &str| format!("http://evil.example{path}");
    let open = OPEN.into_iter().chain(["/", "/nowhere", "*"]).map(|path| ("GET", path));
    for (method, path) in GUARDED.into_iter().chain(open).chain([("OPTIONS", "*")]) {
        for hosts in [
            &["Host: localhost", "Host: localhost"][..],
            &["Host: localhost", "Host: evil.example"],
            &["Host: evil@localhost"],
            &["Host: localhost:port"],
            &["Host: local host"],
            &["Host: "],
            &[],
        ] {
            let answer = ask(&server, method, path, hosts).await.answer();
            answer.assert_refused(path, 400, "bad-host");
        }
    }
    for (method, path) in GUARDED {
        // The target says another name than the header.
        let answer = ask(&server, method, &elsewhere(path), &["Host: localhost"]).await.answer();
        answer.assert_refused(path, 400, "bad-host");
        let answer = ask(&server, method, &elsewhere(path), &["Host: evil.example"]).await.answer();
        answer.assert_refused(path, 403, "host-refused");
    }
}

#[tokio::test]
async fn origin_that_is_not_ours_is_refused() {
    let server = TestServer::start().await;
    for (method, path) in GUARDED {
        for origins in [
            &["Origin: https://evil.example"][..],
            &["Origin: null"],
            &["Origin: http://localhost.evil.example"],
            &["Origin: http://localhost", "Origin: https://evil.example"],
            &["Origin: "],
        ] {
            let lines = [&["Host: localhost"], origins].concat();
            let answer = ask(&server, method, path, &lines).await.answer();
            answer.assert_refused(path, 403, "origin-refused");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
}

#[tokio::test]
async fn hosts_and_origins_that_are_ours_pass() {
    let settings = [
        ("PUBLIC_BASE_URL", "https://images.example/art"),
        ("ALLOWED_HOSTS", "other.example, 10.0.0.7:8000"),
        ("ALLOWED_ORIGINS", "https://app.example"),
    ];
    let server = TestServer::start_with(&settings).await;
    for host in ["localhost", "127.0.0.1:9", "[::1]", "images.example", "other.example", "10.0.0.7:8000"] {
        let statuses = ask(&server, "GET", "/images/", &[&format!("Host: {host}")]).await.statuses();
        assert_eq!(statuses, [200], "{host}");
    }
    for origin in ["http://localhost:3000", "https://images.example", "https://app.example"] {
        let lines = ["Host: localhost", &format!("Origin: {origin}")];
        assert_eq!(ask(&server, "POST", GENERATE_IMAGE, &lines).await.statuses(), [422], "{origin}");
    }
    for (name, value) in [("Host", "10.0.0.7:8001"), ("Origin", "http://app.example")] {
        let lines = [format!("{name}: {value}"), "Host: localhost".to_owned()];
        let lines = if name == "Host" { &lines[..1] } else { &lines[..] };
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(ask(&server, "GET", "/images/", &lines).await.statuses(), [403], "{name}: {value}");
    }
}

#[tokio::test]
async fn health_and_metrics_answer_under_any_name() {
    let server = TestServer::start().await;
    for path in OPEN {
        for host in ["10.1.2.3:8000", "evil.example", "pod-7"] {
            let lines = [&format!("Host: {host}"), "Origin: https://evil.example"];
            let request =
                format!("GET {path} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
            let answer = send_raw(server.authority(), request.as_bytes()).await;
            assert_eq!(answer.statuses(), [200], "{path} as {host}");
        }
    }
}

#[tokio::test]
async fn http_1_0_without_host_is_told_about_health_alone() {
    let server = TestServer::start().await;
    for (path, status) in
        OPEN.map(|path| (path, 200)).into_iter().chain([("/nowhere", 404), ("/images/", 400)])
    {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let answer = send_raw(server.authority(), request.as_bytes()).await.text();
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn options_of_the_server_as_a_whole_are_told() {
    let server = TestServer::start().await;
    let answer = ask(&server, "OPTIONS", "*", &["Host: any.example"]).await.answer();
    assert_eq!((answer.status, answer.header("allow")), (204, "GET, HEAD, POST, DELETE, OPTIONS"));
    assert_eq!(ask(&server, "GET", "*", &["Host: localhost"]).await.statuses(), [404]);
}

#[tokio::test]
async fn authority_of_http_2_is_judged_too() {
    let server = TestServer::start().await;
    let client = Client::http2(&server.url(""));
    assert_eq!(client.get("/images/").await.status, 200);
    let other = client.request("GET", "/images/").header("host", "evil.example");
    assert!(matches!(Answer::of(other).await.status, 400 | 403));
}

/// What a browser sends before a page's script may ask with JSON.
const PREFLIGHT: [&str; 2] = [
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: content-type,mcp-protocol-version",
];

#[tokio::test]
async fn preflight_of_a_page_that_may_ask_is_answered() {
    let settings =
        [("ALLOWED_ORIGINS", "https://app.example"), ("REQUEST_RATE", "1"), ("REQUEST_BURST", "1")];
    let server = TestServer::start_with(&settings).await;
    for path in ["/mcp", GENERATE_IMAGE] {
        for origin in ["https://app.example", "http://localhost:3000"] {
            let own = ["Host: localhost".to_owned(), format!("Origin: {origin}")];
            let lines = [&own.each_ref().map(String::as_str)[..], &PREFLIGHT].concat();
            let answer = ask(&server, "OPTIONS", path, &lines).await.answer();
            assert_eq!(answer.status, 204, "{path} {origin}: it costs no token");
            assert_eq!(answer.header("access-control-allow-origin"), origin);
            assert_eq!(answer.header("access-control-allow-methods"), "POST");
            let allowed = answer.header("access-control-allow-headers").to_ascii_lowercase();
            let allowed: Vec<_> = allowed.split(", ").collect();
            for name in [
                "content-type",
                "accept",
                "authorization",
                "mcp-protocol-version",
                "mcp-session-id",
                "mcp-method",
                "mcp-name",
                "traceparent",
                "last-event-id",
            ] {
                assert!(allowed.contains(&name), "{name} in {allowed:?}");
            }
            assert_eq!((answer.header("vary"), answer.header("allow")), ("Origin", "POST, OPTIONS"));
        }
        // The name that was asked for counts as for any request.
        let lines = ["Host: evil.example", "Origin: https://app.example"];
        let answer = ask(&server, "OPTIONS", path, &[&lines[..], &PREFLIGHT].concat()).await.answer();
        answer.assert_refused(path, 403, "host-refused");
        for origin in ["https://evil.example", "null"] {
            let own = ["Host: localhost".to_owned(), format!("Origin: {origin}")];
            let lines = [&own.each_ref().map(String::as_str)[..], &PREFLIGHT].concat();
            let answer = ask(&server, "OPTIONS", path, &lines).await.answer();
            answer.assert_refused(path, 403, "origin-refused");
            for name in ["access-control-allow-origin", "access-control-allow-methods"] {
                assert_eq!(answer.header(name), "", "{origin}");
            }
        }
    }
}

#[tokio::test]
async fn answers_and_errors_can_be_read_by_a_page_that_may_ask() {
    let settings = [
        ("ALLOWED_ORIGINS", "https://app.example"),
        ("MAX_REQUEST_BYTES", "1024"),
        ("REQUEST_RATE", "1"),
        ("REQUEST_BURST", "4"),
    ];
    for path in ["/mcp", GENERATE_IMAGE] {
        let server = TestServer::start_with(&settings).await;
        let client = server.client();
        let post = |body: String| {
            client.post(path, body).header("accept", "*/*").header("origin", "https://app.example")
        };
        let good = match path {
            "/mcp" => r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            _ => r#"{"prompt":"a fox","width":64,"height":64}"#,
        };
        let unsupported = post("{}".to_owned()).header("content-encoding", "gzip");
        let bad = if path == "/mcp" { 400 } else { 422 };
        for (status, request) in [
            (200, post(good.to_owned())),
            (413, post("x".repeat(2000))),
            (415, unsupported),
            (bad, post("{}".to_owned())),
            (429, post("{}".to_owned())),
        ] {
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
            assert_eq!(
                answer.header("access-control-allow-origin"),
                "https://app.example",
                "{path} {status}"
            );
            assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"), "{path} {status}");
            let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
            for name in ["mcp-session-id", "x-request-id", "retry-after", "www-authenticate"] {
                assert!(exposed.split(", ").any(|exposed| exposed == name), "{name} in {exposed}");
            }
        }
        // What is no page's script hears nothing of it.
        let plain = Answer::of(client.post(path, "{}")).await;
        assert_eq!((plain.header("access-control-allow-origin"), plain.header("vary")), ("", "Origin"));
    }
}

#[tokio::test]
async fn generation_that_takes_too_long_can_be_read_by_a_page_that_may_ask() {
    let fake =
        FakePredictor::start([Prediction::json(200, &json!({})).delay(Duration::from_secs(3600))]).await;
    let settings = [("ALLOWED_ORIGINS", "https://app.example"), ("GENERATION_TIMEOUT", "1")];
    let server = TestServer::in_front_of(&fake, &settings).await;
    let request = server.client().post(GENERATE_IMAGE, r#"{"prompt":"a fox"}"#);
    let answer = Answer::of(request.header("origin", "https://app.example")).await;
    answer.problem(504, "timed-out");
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
}
