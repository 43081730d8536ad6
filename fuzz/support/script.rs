//! Requests as text, so that an input can be read and written by hand.
//!
//! ```text
//! h2
//! GET /images/@.png
//! range: bytes=0-9
//! ---
//! POST /mcp
//!
//! {"jsonrpc":"2.0","id":1,"method":"tools/list"}
//! ```
//!
//! A first line `h2` asks for HTTP/2. Requests are parted by lines of `---`. `@` in a target stands
//! for the id of the stored picture. `Host`, `Content-Type` and `Accept` have defaults that
//! suit the server; a field replaces its default, and `-name` takes it away.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::PICTURE_ID;

/// Requests of a script at most.
const MAX_REQUESTS: usize = 8;

/// Requests to be sent on one connection.
#[derive(Debug)]
pub struct Script {
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// What can be sent at all, in order.
    pub requests: Vec<Request<Bytes>>,
}

impl Script {
    /// Reads a script; what is no request is left out.
    pub fn parse(input: &[u8]) -> Self {
        let (version, input) = match input.strip_prefix(b"h2\n") {
            Some(rest) => (Version::HTTP_2, rest),
            None => (Version::HTTP_11, input),
        };
        let requests = split(input, b"\n---\n").filter_map(|text| request(text, version));
        Self { version, requests: requests.take(MAX_REQUESTS).collect() }
    }
}

/// `text` up to the first `separator`, and what is behind it.
pub fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// The pieces of `text` between `separator`s.
pub fn split<'a>(text: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, tail) =
            split_once(text, separator).map_or((text, None), |(piece, tail)| (piece, Some(tail)));
        rest = tail;
        Some(piece)
    })
}

/// Adds a line `name: value` to `headers`, or with `-name` takes one away; lines that are neither are left out.
pub fn field(line: &[u8], headers: &mut HeaderMap) {
    if let Some(name) = line.strip_prefix(b"-").and_then(|name| HeaderName::from_bytes(name).ok()) {
        headers.remove(name);
    } else if let Some((name, value)) = split_once(line, b":")
        && let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
    {
        headers.append(name, value);
    }
}

fn request(text: &[u8], version: Version) -> Option<Request<Bytes>> {
    let (head, body) = split_once(text, b"\n\n").unwrap_or((text, b""));
    let mut lines = head.split(|&byte| byte == b'\n');
    let (method, target) = split_once(lines.next()?, b" ")?;
    let target = std::str::from_utf8(target).ok()?.replace('@', PICTURE_ID);
    let method = Method::from_bytes(method).ok().filter(|method| *method != Method::CONNECT)?;

    let mut given = HeaderMap::new();
    let lines: Vec<_> = lines.collect();
    lines.iter().for_each(|line| field(line, &mut given));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::HOST, "localhost"),
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCEPT, "application/json, text/event-stream"),
    ] {
        if !given.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    lines.iter().for_each(|line| field(line, &mut headers));
    // Framing is the client's business here, and so are the fields of the connection.
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::EXPECT,
    ] {
        headers.remove(name);
    }

    let uri = if version == Version::HTTP_2 {
        let host = headers.remove(header::HOST)?;
        format!("http://{}{target}", host.to_str().ok()?).parse::<Uri>().ok()?
    } else {
        target.parse::<Uri>().ok()?
    };
    let mut request = Request::builder().method(method).uri(uri).body(Bytes::copy_from_slice(body)).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}
