//! The process: its name, its log, its threads, and what its URLs start with.

use super::{Default, Kind, reader::Reader, syntax, variable::variables};
use crate::telemetry;

variables! {
    SERVICE_NAME: Kind::Text("1 to 64 characters, without control characters"),
        Default::Value("mcp-image-server"),
        "The `service` on each log line.";
    LOG_LEVEL: Kind::Text("TRACE, DEBUG, INFO, WARN, ERROR, OFF, or tracing directives such as \
                           `info,mcp_image_server=debug`"),
        Default::Value("INFO"),
        "What is logged. Directives without a plain level leave the rest at INFO; the HTTP and MCP libraries \
         are kept at WARN unless a directive names them.";
    LOG_FORMAT: Kind::Choice(&["json", "pretty"]),
        Default::Derived("`pretty` on a terminal, else `json`"),
        "The form of log lines, which go to standard error: one JSON object each, or for people.";
    WORKERS: Kind::Integer { min: 1, max: 1024, unit: "threads" },
        Default::Value("4"),
        "Threads of the runtime; never more than the cores at hand.";
    PUBLIC_BASE_URL: Kind::Text("an http or https URL that clients can reach, without credentials, query and \
                                 fragment"),
        Default::Derived("`http://localhost:PORT`"),
        "What image URLs start with. Its host and origin are allowed to ask, too.";
}

pub(super) fn telemetry(reader: &mut Reader) -> telemetry::Config {
    let service_name = reader.take(&SERVICE_NAME, |text| {
        let fits = text.chars().count() <= 64 && !text.chars().any(char::is_control);
        if fits { Ok(text.to_owned()) } else { Err(None) }
    });
    let level =
        reader.take(&LOG_LEVEL, |text| telemetry::check_level(text).map(|()| text.to_owned()).map_err(Some));
    let format = match reader.choice(&LOG_FORMAT) {
        Some("json") => telemetry::Format::Json,
        Some(_) => telemetry::Format::Pretty,
        None if reader.machine.terminal => telemetry::Format::Pretty,
        None => telemetry::Format::Json,
    };
    if !reader.is_given(&LOG_FORMAT) {
        reader.derived(&LOG_FORMAT, if format == telemetry::Format::Json { "json" } else { "pretty" });
    }
    telemetry::Config {
        service_name: service_name.unwrap_or_default(),
        level: level.unwrap_or_default(),
        format,
    }
}

pub(super) fn workers(reader: &mut Reader) -> usize {
    let cores = reader.machine.cores.max(1);
    let asked = reader.integer(&WORKERS).unwrap_or(1);
    if asked > cores {
        reader.derived(&WORKERS, format!("{cores} ({asked} asked, but there are no more cores)"));
    }
    asked.min(cores)
}

pub(super) fn public_base_url(reader: &mut Reader, port: u16) -> String {
    reader.take(&PUBLIC_BASE_URL, syntax::base_url).unwrap_or_else(|| {
        let url = format!("http://localhost:{port}");
        if !reader.is_given(&PUBLIC_BASE_URL) {
            reader.derived(&PUBLIC_BASE_URL, &url);
        }
        url
    })
}
