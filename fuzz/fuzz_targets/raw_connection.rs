//! Raw bytes through the real stack, over a pipe: protocol detection, heads, bodies, framing.
//!
//! Invariants: no panic, and no line of the log broken or an error; no server error; what comes back
//! is framed as its protocol has it; a connection ends, at the latest when its client has gone; one
//! that was never answered ends by itself; no place of a generation stays taken.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use support::{Server, Spoken, script::split_once};

static SERVER: LazyLock<Server> = LazyLock::new(Server::new);

fuzz_target!(|bytes: &[u8]| {
    let Spoken { answer, ended } = SERVER.speak(bytes);
    if answer.is_empty() {
        assert!(ended, "a client that says nothing worth an answer holds no connection");
    } else if answer.starts_with(b"HTTP/1.") {
        http1(&answer);
    } else {
        http2(&answer);
    }
});

/// Reads answers one after another, as far as their ends can be told without their requests.
fn http1(mut answer: &[u8]) {
    while !answer.is_empty() {
        let (head, rest) = split_once(answer, b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(head).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 ")));
        let status = status.and_then(|line| line.get(..3)).expect(head);
        assert!(matches!(status.as_bytes()[0], b'1'..=b'4'), "bad input makes no server error: {head}");
        let (mut length, mut chunked) = (0, false);
        for line in lines {
            let (name, value) = line.split_once(": ").expect(line);
            assert!(value.bytes().all(|byte| !byte.is_ascii_control()), "{line:?}");
            match name {
                "content-length" => length = value.parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        // Of an answer to HEAD there is but the head.
        if rest.starts_with(b"HTTP/1.") {
            answer = rest;
        } else if chunked || rest.len() < length {
            return;
        } else {
            answer = &rest[length..];
        }
    }
}

/// Frames (RFC 9113, section 4.1), whole and in our own default size.
fn http2(mut answer: &[u8]) {
    assert_eq!(answer.get(3), Some(&4), "SETTINGS come first");
    while let [a, b, c, kind, _flags, stream, _, _, _, rest @ ..] = answer {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        assert!(*kind <= 9 && stream & 0x80 == 0, "no such frame");
        if rest.len() < length {
            return;
        }
        answer = &rest[length..];
    }
}
