//! Raw bytes through the real stack, over a pipe: protocol detection, heads, bodies, framing.
//!
//! Invariants: no panic, no server error, and the connection ends when its client has gone.
#![no_main]

mod support;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use support::{Server, assert_no_server_error};

static SERVER: LazyLock<Server> = LazyLock::new(Server::new);

fuzz_target!(|bytes: &[u8]| {
    let answer = SERVER.answer(bytes);
    assert_no_server_error(&answer, bytes);
});
