//! Spans as OTLP has them: `ExportTraceServiceRequest` in protobuf.
//!
//! The few messages that are sent are written here by hand: generated code brings the whole protocol, a derive macro and
//! an SDK. The tests read them back with the types that the OpenTelemetry project generates.

use std::time::{Duration, SystemTime};

use layers::trace::{Finished, Kind, Value};

/// The wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// The code of a `Status` that says that a span failed.
const STATUS_ERROR: u64 = 2;

/// Flags of a span: sampled, and that it is known whether its parent is remote.
const FLAGS: u32 = 0x01 | 0x100;
const REMOTE_PARENT: u32 = 0x200;

/// Writes requests; what all have in common is written once.
#[derive(Debug)]
pub(super) struct Encoder {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Encoder {
    /// For spans of what these attributes describe.
    pub(super) fn new(resource: &[(String, String)]) -> Self {
        let mut attributes = Vec::new();
        for (name, value) in resource {
            message(&mut attributes, 1, |out| key_value(out, name, |out| text(out, 1, value)));
        }
        let mut scope = Vec::new();
        text(&mut scope, 1, env!("CARGO_PKG_NAME"));
        text(&mut scope, 2, env!("CARGO_PKG_VERSION"));
        Self { resource: attributes, scope }
    }

    /// An `ExportTraceServiceRequest`.
    pub(super) fn request(&self, spans: &[Finished]) -> Vec<u8> {
        let mut request = Vec::with_capacity(spans.len() * 512);
        message(&mut request, 1, |resource_spans| {
            bytes(resource_spans, 1, &self.resource);
            message(resource_spans, 2, |scope_spans| {
                bytes(scope_spans, 1, &self.scope);
                for finished in spans {
                    message(scope_spans, 2, |out| span(out, finished));
                }
            });
        });
        request
    }
}

fn span(out: &mut Vec<u8>, span: &Finished) {
    bytes(out, 1, &span.trace_id.to_bytes());
    bytes(out, 2, &span.span_id.to_be_bytes());
    if let Some(state) = span.tracestate.as_ref().and_then(|state| state.to_str().ok()) {
        text(out, 3, state);
    }
    if let Some(parent) = span.parent_id {
        bytes(out, 4, &parent.to_be_bytes());
    }
    text(out, 5, &span.name);
    number(
        out,
        6,
        match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
    );
    let started = span.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    fixed64(out, 7, nanos(started));
    fixed64(out, 8, nanos(started.saturating_add(span.duration)));
    for (name, value) in &span.attributes {
        message(out, 9, |out| {
            key_value(out, name, |out| match value {
                Value::Text(value) => text(out, 1, value),
                Value::Integer(value) => number(out, 3, value.cast_unsigned()),
                Value::Real(value) => fixed64(out, 4, value.to_bits()),
            });
        });
    }
    if span.failed {
        message(out, 15, |out| number(out, 3, STATUS_ERROR));
    }
    tag(out, 16, FIXED32);
    let remote = if span.has_remote_parent { REMOTE_PARENT } else { 0 };
    out.extend_from_slice(&(FLAGS | remote).to_le_bytes());
}

/// What a `KeyValue` holds.
fn key_value(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    text(out, 1, name);
    message(out, 2, value);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

fn text(out: &mut Vec<u8>, field: u64, value: &str) {
    bytes(out, field, value.as_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

/// Seven bits a byte, the lowest first.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}
