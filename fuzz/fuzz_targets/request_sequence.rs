//! A script of requests by a real client on one connection, over HTTP/1.1 or HTTP/2.
//!
//! Invariants: every request is answered, none by a server error; the answer is of the kind that its
//! `Content-Type` names; a picture, or a range of it, is that picture's bytes; the connection ends
//! when its client has gone; no place of a generation stays taken.
#![no_main]

use std::sync::LazyLock;

use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use support::{Server, answers, script::Script};

static SERVER: LazyLock<Server> = LazyLock::new(Server::new);

fuzz_target!(|input: &[u8]| {
    let Script { version, requests } = Script::parse(input);
    let responses = SERVER.exchange(version, &requests);
    for (request, response) in requests.iter().zip(&responses) {
        answers::check(request, response);
        if response.status() == StatusCode::PARTIAL_CONTENT {
            assert!(request.method() == Method::GET && request.headers().contains_key("range"));
        }
    }
});
