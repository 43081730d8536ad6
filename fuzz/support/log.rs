//! The server's log, kept instead of written, so that targets can look at its lines.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use mcp_image_server::telemetry::{Config, Format, filter, layer};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Sends the process's log here, as JSON and with everything that our own crates tell.
pub(crate) fn keep() {
    let config = Config { service_name: "fuzz".to_owned(), level: String::new(), format: Format::Json };
    let filter = filter("info,mcp_image_server=debug,layers=debug").expect("directives");
    let lines = layer(&config, false, Keeper::new as fn() -> Keeper);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .expect("the first log of this process");
}

/// Takes what was logged: each line must be one JSON object, whatever clients sent, and none an error.
pub(crate) fn check() {
    let lines = std::mem::take(&mut *LINES.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(lines.is_empty() || lines.ends_with(b"\n"), "a line without its end");
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let entry: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", line.escape_ascii()));
        assert_ne!(entry["level"], "ERROR", "nothing a client sends is the server's failure: {entry:?}");
    }
}

struct Keeper;

impl Keeper {
    fn new() -> Self {
        Self
    }
}

impl io::Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
