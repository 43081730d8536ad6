//! A sequence of well-framed requests on one connection, whatever their method, path, fields and body.
//!
//! Invariants: every request that was sent whole is answered, none by a server error.
#![no_main]

mod support;

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use support::{Server, assert_no_server_error};

static SERVER: LazyLock<Server> = LazyLock::new(Server::new);

#[derive(Debug, Arbitrary)]
enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
    Other,
}

#[derive(Debug, Arbitrary)]
enum Path {
    Mcp,
    Tool,
    Image(String),
    List(String),
    Health,
    Metrics,
    Other(String),
}

#[derive(Debug, Arbitrary)]
enum Body {
    None,
    Json(String),
    Call { arguments: String },
    Bytes(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Step {
    method: Method,
    path: Path,
    host: Option<bool>,
    range: Option<String>,
    if_none_match: Option<String>,
    body: Body,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut sent = Vec::new();
    for step in steps.iter().take(8) {
        step.write(&mut sent);
    }
    let answer = SERVER.answer(&sent);
    assert_no_server_error(&answer, &sent);
    assert!(sent.is_empty() || answer.starts_with(b"HTTP/1.1 "), "a whole request is answered: {steps:?}");
});

impl Step {
    fn write(&self, out: &mut Vec<u8>) {
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Other => "BREW",
        };
        let path = match &self.path {
            Path::Mcp => "/mcp".to_owned(),
            Path::Tool => "/mcp/v1/tools/generate_image".to_owned(),
            Path::Image(name) => format!("/images/{}", visible(name)),
            Path::List(query) => format!("/images/?{}", visible(query)),
            Path::Health => "/health".to_owned(),
            Path::Metrics => "/metrics".to_owned(),
            Path::Other(path) => format!("/{}", visible(path)),
        };
        let body = match &self.body {
            Body::None => Vec::new(),
            Body::Json(text) => text.clone().into_bytes(),
            Body::Call { arguments } => format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"generate_image","arguments":{arguments}}}}}"#
            )
            .into_bytes(),
            Body::Bytes(bytes) => bytes.clone(),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        match self.host {
            Some(true) => head += "Host: localhost\r\n",
            Some(false) => head += "Host: evil.example\r\n",
            None => {}
        }
        for (name, value) in [("Range", &self.range), ("If-None-Match", &self.if_none_match)] {
            if let Some(value) = value {
                head += &format!("{name}: {}\r\n", visible(value));
            }
        }
        head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&body);
    }
}

/// What may stand in a request line and a field value.
fn visible(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && *c != '#').take(200).collect()
}
