//! What lines look like, seen through a subscriber of the test's own.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{Config, Format, check_level, filter, layer};

const NASTY: &str = "a fox\n{\"level\":\"ERROR\"}\r\n\u{1b}[31mred\u{0}\u{85}\u{2028}\"end\\";

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `body` logs.
fn logged(format: Format, level: &str, body: impl FnOnce()) -> Vec<String> {
    let buffer = Buffer::default();
    let config = Config { service_name: "test".to_owned(), level: level.to_owned(), format };
    let writer = buffer.clone();
    let lines = layer(&config, false, move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(filter(level).expect("directives")).with(lines);
    tracing::subscriber::with_default(subscriber, body);
    let bytes = buffer.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
}

fn json(level: &str, body: impl FnOnce()) -> Vec<Value> {
    let lines = logged(Format::Json, level, body);
    lines.iter().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn json_line_carries_fields_and_lifts_those_of_spans() {
    let lines = json("info", || {
        let outer = tracing::info_span!("request", request_id = "r-1", trace_id = "t-1", method = "GET");
        let _outer = outer.enter();
        let inner = tracing::info_span!("generate", image_id = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("image_id", "i-1");
        tracing::info!(bytes = 7_u64, ratio = 0.5, ok = true, "stored");
    });
    let line = &lines[0];
    assert_eq!(lines.len(), 1);
    for (name, expected) in [
        ("level", Value::from("INFO")),
        ("service", "test".into()),
        ("target", "mcp_image_server::telemetry::tests".into()),
        ("message", "stored".into()),
        ("request_id", "r-1".into()),
        ("trace_id", "t-1".into()),
        ("image_id", "i-1".into()),
        ("bytes", 7.into()),
        ("ratio", 0.5.into()),
        ("ok", true.into()),
    ] {
        assert_eq!(line[name], expected, "{name} in {line}");
    }
    assert_eq!(line["span"]["name"], "generate");
    assert_eq!(line["span"]["method"], "GET");
    let timestamp = line["timestamp"].as_str().expect("text");
    chrono::DateTime::parse_from_rfc3339(timestamp).expect("RFC 3339");
}

#[test]
fn json_line_has_each_name_once() {
    let lines = logged(Format::Json, "info", || {
        let span = tracing::info_span!("request", request_id = "outer");
        let _span = span.enter();
        tracing::info!(request_id = "own", level = "fake", service = "fake", "text");
    });
    for name in ["\"request_id\":", "\"level\":", "\"service\":"] {
        assert_eq!(lines[0].matches(name).count(), 1, "{name} in {}", lines[0]);
    }
    let line: Value = serde_json::from_str(&lines[0]).expect("an object");
    assert_eq!((&line["request_id"], &line["level"]), (&"own".into(), &"INFO".into()));
    assert_eq!(line["field.level"], "fake");
}

#[test]
fn json_line_stays_one_line_whatever_a_prompt_contains() {
    let lines = json("info", || {
        let span = tracing::info_span!("request", prompt = NASTY);
        let _span = span.enter();
        tracing::info!(prompt = NASTY, shown = %NASTY, "{NASTY}");
    });
    assert_eq!(lines.len(), 1);
    for value in [&lines[0]["prompt"], &lines[0]["shown"], &lines[0]["message"], &lines[0]["span"]["prompt"]]
    {
        assert_eq!(value, NASTY);
    }
}

#[test]
fn pretty_line_stays_one_line_whatever_a_prompt_contains() {
    let lines = logged(Format::Pretty, "info", || {
        let span = tracing::info_span!("request", prompt = %NASTY);
        let _span = span.enter();
        tracing::info!(prompt = NASTY, shown = %NASTY, error = &io::Error::other(NASTY) as &(dyn std::error::Error + 'static), "{NASTY}");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains(|c: char| c.is_control() || c == '\u{2028}'), "{}", lines[0]);
    assert!(lines[0].contains("a fox\\n"), "{}", lines[0]);
}

#[test]
fn fields_with_names_of_secrets_are_masked() {
    for format in [Format::Json, Format::Pretty] {
        let lines = logged(format, "info", || {
            let span = tracing::info_span!("call", aws_secret_access_key = "hunter2");
            let _span = span.enter();
            tracing::info!(authorization = "hunter2", token_file = "/token", "text");
        });
        assert!(!lines[0].contains("hunter2"), "{}", lines[0]);
        assert!(lines[0].contains("/token"), "{}", lines[0]);
    }
}

#[test]
fn error_field_tells_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    let lines = json("info", || {
        let error = Outer(io::Error::other("inner"));
        tracing::error!(error = &error as &(dyn std::error::Error + 'static), "failed");
    });
    assert_eq!(lines[0]["error"], "outer: inner");
}

#[test]
fn filter_keeps_libraries_quiet_unless_they_are_named() {
    let log = || {
        tracing::debug!(target: "mcp_image_server", "ours");
        tracing::info!(target: "h2::codec", "a frame");
        tracing::warn!(target: "hyper", "a warning");
    };
    assert_eq!(logged(Format::Json, "DEBUG", log).len(), 2);
    assert_eq!(logged(Format::Json, "debug,h2=info", log).len(), 3);
    assert_eq!(logged(Format::Json, "error", log).len(), 0);
    assert_eq!(logged(Format::Json, "off", log).len(), 0);
    assert_eq!(logged(Format::Json, "warn, mcp_image_server=debug", log).len(), 2);
    assert_eq!(logged(Format::Json, "storage=debug", log).len(), 1);
    assert_eq!(logged(Format::Json, "mcp_image_server=debug", log).len(), 2);
}

#[test]
fn level_is_a_level_or_directives() {
    for level in [
        "INFO",
        "info",
        "Warning",
        "CRITICAL",
        "off",
        "info,h2=debug",
        " warn , a::b = trace ",
        "a[b{c=1}]=debug",
    ] {
        assert_eq!(check_level(level), Ok(()), "{level}");
    }
    for level in ["", " , ", "INFOO", "verbose", "info,h2=loud", "info,h2", "5", "=info=", "a[b"] {
        assert!(check_level(level).is_err(), "{level}");
    }
}

#[test]
fn panic_becomes_one_line_of_the_log() {
    let lines = json("info", || {
        let before = std::panic::take_hook();
        // Only this thread's panics go through the hook; other tests' keep theirs.
        let this = std::thread::current().id();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == this { super::log_panic(info) } else { before(info) }
        }));
        let result = std::panic::catch_unwind(|| panic!("lost\nits head"));
        assert!(result.is_err());
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["panic"], "lost\nits head");
    assert!(lines[0]["place"].as_str().is_some_and(|place| place.contains("tests.rs:")), "{}", lines[0]);
}

#[test]
fn callers_that_go_away_are_no_errors_of_a_library_unless_asked_for() {
    let tell = || tracing::error!(target: "rmcp::service", "failed to send pending response during drain");
    assert!(json("info", tell).is_empty());
    assert_eq!(json("rmcp=warn", tell).len(), 1);
}
