//! The log: one line an event on standard error, JSON or for people; and in [`traces`], what is told to a collector.
//!
//! Standard output is left to what a person asked for: the banner and the output of commands.

mod json;
mod text;
pub mod traces;

use std::{backtrace::Backtrace, io, panic};

use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::{SubscriberInitExt as _, TryInitError},
};

pub use self::json::JsonLayer;

/// What the log says, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `service` on each line.
    pub service_name: String,
    /// A level (`INFO`) or `tracing` directives (`info,mcp_image_server=debug`).
    pub level: String,
    /// The lines' form.
    pub format: Format,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor directives.
    #[error("LOG_LEVEL: {0}")]
    Level(String),
    /// Another log was there first.
    #[error("the log is set up already")]
    Taken(#[from] TryInitError),
}

/// Libraries that tell at INFO what interests nobody, and at DEBUG each frame.
const QUIET: [&str; 7] = ["h2", "hyper", "hyper_util", "reqwest", "rmcp", "rustls", "tower"];

/// Tells of each caller that goes away as an error, and of each refused call. Ours are told by who refuses them, and by the
/// line of the request.
const SILENT: &str = "rmcp::service=off,";

/// Levels by name, and the names that other languages' logs give them.
const LEVELS: [(&str, &str); 10] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("fatal", "error"),
    ("off", "off"),
    ("none", "off"),
];

/// Sends the log of the whole process to standard error, panics included.
///
/// # Errors
/// [`Error::Level`], or [`Error::Taken`] on a second call.
pub fn init(config: &Config) -> Result<(), Error> {
    let filter = filter(&config.level).map_err(Error::Level)?;
    let lines = layer(config, io::IsTerminal::is_terminal(&io::stderr()), io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The layer that writes lines to `writer`; `colours` are for people's lines alone.
pub fn layer<S, W>(config: &Config, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match config.format {
        Format::Json => JsonLayer::new(config.service_name.clone(), writer).boxed(),
        Format::Pretty => tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(writer)
            .fmt_fields(text::OneLine)
            .boxed(),
    }
}

/// What passes at a level or with directives. Directives without a plain level leave the rest at
/// INFO; libraries stay at WARN unless a directive names them.
///
/// # Errors
/// What is wrong, in words.
pub fn filter<S>(level: &str) -> Result<Box<dyn Layer<S> + Send + Sync>, String>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    check_level(level)?;
    let directives = normalised(level);
    let plain = directives.split(',').rfind(|directive| level_named(directive).is_some());
    let quiet = match plain {
        Some("off" | "error") => String::new(),
        _ => {
            QUIET.map(|target| format!("{target}=warn,")).concat()
                + if level.contains("rmcp") { "" } else { SILENT }
        }
    };
    let rest = if plain.is_none() { "info," } else { "" };
    let directives = format!("{rest}{quiet}{directives}");
    // A filter that knows spans looks at each one that is entered, which is most of what it costs.
    Ok(if has_spans(level) {
        EnvFilter::builder().parse(directives).map_err(|error| error.to_string())?.boxed()
    } else {
        directives.parse::<Targets>().map_err(|error| error.to_string())?.boxed()
    })
}

/// Whether a level or directives would be taken.
///
/// # Errors
/// What is wrong, in words.
pub fn check_level(level: &str) -> Result<(), String> {
    let directives = normalised(level);
    if directives.is_empty() {
        return Err("it names no level".to_owned());
    }
    // A bare word is a target to `EnvFilter`: a misspelt level would silence everything else.
    if !has_spans(level) {
        for directive in directives.split(',') {
            let word = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if level_named(word).is_none() {
                return Err(format!("`{}` is not a level", word.escape_debug()));
            }
        }
    }
    EnvFilter::builder().parse(directives).map(drop).map_err(|error| error.to_string())
}

fn level_named(word: &str) -> Option<&'static str> {
    LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// Directives as `EnvFilter` knows them: no spaces, levels by their own names.
fn normalised(level: &str) -> String {
    if has_spans(level) {
        return level.trim().to_owned();
    }
    let directives = level.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let directives = directives.map(|directive| match directive.rsplit_once('=') {
        Some((target, word)) => {
            let word = word.trim();
            format!("{}={}", target.trim(), level_named(word).unwrap_or(word))
        }
        None => level_named(directive).unwrap_or(directive).to_owned(),
    });
    directives.collect::<Vec<_>>().join(",")
}

/// Whether directives name spans and their fields, whose syntax is left to `EnvFilter`.
fn has_spans(level: &str) -> bool {
    level.contains(['[', '{'])
}

/// A panic is one line of the log, with its place, and a backtrace where `RUST_BACKTRACE` asks for one.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("a panic without a text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic = message,
        place,
        thread = thread.name().unwrap_or("unnamed"),
        backtrace,
        "a task panicked"
    );
}

#[cfg(test)]
mod tests;
