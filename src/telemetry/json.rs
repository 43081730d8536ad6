//! Log lines for machines: one JSON object each, whatever a value contains.

use std::{fmt, io::Write as _, ops::Range};

use chrono::{SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, Scope, SpanRef},
};

/// Fields of spans that stand at the top level of a line.
const LIFTED: [&str; 3] = ["request_id", "image_id", "trace_id"];

/// What every line has; an event's field of such a name is told as `field.<name>`.
const RESERVED: [&str; 6] = ["timestamp", "level", "service", "target", "message", "span"];

/// Parts of names whose values are never logged, should one ever be recorded by mistake.
const SECRET_NAMES: [&str; 6] = ["authorization", "bearer", "password", "secret", "api_key", "access_key"];

/// Room for most lines, and for most values.
const LINE_BYTES: usize = 512;
const FIELD_BYTES: usize = 24;

/// Writes each event as a JSON object on one line: timestamp, level, service, target, message,
/// `request_id`, `image_id` and `trace_id` of the spans around it, the event's own fields, and
/// under `span` the innermost span's name with the other fields of the spans.
#[derive(Debug)]
pub struct JsonLayer<W> {
    service: String,
    writer: W,
}

impl<W> JsonLayer<W> {
    /// Lines that bear the name of `service` and go to `writer`.
    pub fn new(service: impl Into<String>, writer: W) -> Self {
        Self { service: service.into(), writer }
    }
}

/// Fields by name, in the order in which they were recorded; a later value replaces an earlier one.
///
/// Values are kept as the JSON that lines will have: those of a span are written once, however many lines bear them.
#[derive(Debug)]
struct Fields {
    json: Vec<u8>,
    places: Vec<(&'static str, Range<usize>)>,
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::with_room_for(attributes.values().len());
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::with_room_for(event.fields().count());
        event.record(&mut fields);
        let spans: Vec<_> = context.event_scope(event).into_iter().flat_map(Scope::from_root).collect();
        let line = self.line(event, &fields, &spans);
        // There is nowhere to tell that the log cannot be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(&line.0);
    }
}

impl<W> JsonLayer<W> {
    /// The line of an event; `spans` are those around it, outermost first.
    fn line<'a, R: LookupSpan<'a>>(
        &self,
        event: &Event<'_>,
        fields: &Fields,
        spans: &[SpanRef<'a, R>],
    ) -> Line {
        let mut line = Line(Vec::with_capacity(LINE_BYTES));
        line.0.push(b'{');
        line.value("timestamp", &Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true));
        line.value("level", event.metadata().level().as_str());
        line.value("service", &self.service);
        match fields.get("log.target") {
            // Records of the `log` crate carry their target as a field.
            Some(target) => line.raw("target", target),
            None => line.value("target", event.metadata().target()),
        }
        line.raw("message", fields.get("message").unwrap_or(b"\"\""));
        each_span_field(spans, |name, json| {
            if LIFTED.contains(&name) && fields.get(name).is_none() {
                line.raw(name, json);
            }
        });
        for (name, json) in fields.iter() {
            if RESERVED.contains(&name) && name != "message" {
                line.raw(&format!("field.{name}"), json);
            } else if name != "message" && !name.starts_with("log.") {
                line.raw(name, json);
            }
        }
        if let Some(innermost) = spans.last() {
            line.key("span");
            line.0.push(b'{');
            each_span_field(spans, |name, json| {
                if !LIFTED.contains(&name) && name != "name" {
                    line.raw(name, json);
                }
            });
            line.value("name", innermost.name());
            line.0.push(b'}');
        }
        line.0.extend_from_slice(b"}\n");
        line
    }
}

/// From the outermost span inwards; of a name that several have, the inner value.
fn each_span_field<'a, R: LookupSpan<'a>>(
    spans: &[SpanRef<'a, R>],
    mut take: impl FnMut(&'static str, &[u8]),
) {
    for (depth, span) in spans.iter().enumerate() {
        let extensions = span.extensions();
        let Some(fields) = extensions.get::<Fields>() else { continue };
        for (name, json) in fields.iter() {
            let has = |inner: &SpanRef<'a, R>| {
                inner.extensions().get::<Fields>().is_some_and(|fields| fields.get(name).is_some())
            };
            if !spans[depth + 1..].iter().any(has) {
                take(name, json);
            }
        }
    }
}

/// A JSON object on one line, while it is written.
struct Line(Vec<u8>);

impl Line {
    fn key(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        write_json(&mut self.0, name);
        self.0.push(b':');
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.key(name);
        self.0.extend_from_slice(json);
    }

    fn value(&mut self, name: &str, value: &str) {
        self.key(name);
        write_json(&mut self.0, value);
    }
}

impl Fields {
    fn with_room_for(fields: usize) -> Self {
        Self { json: Vec::with_capacity(fields * FIELD_BYTES), places: Vec::with_capacity(fields) }
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.places.iter().map(|(name, place)| (*name, &self.json[place.clone()]))
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, json)| json)
    }

    fn put(&mut self, field: &Field, value: impl Serialize) {
        let name = field.name();
        let start = self.json.len();
        if is_secret(name) {
            write_json(&mut self.json, "***");
        } else {
            write_json(&mut self.json, value);
        }
        let place = start..self.json.len();
        match self.places.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = place,
            None => self.places.push((name, place)),
        }
    }
}

/// Appends a value; one that cannot be told in JSON is `null`, so that the line stays whole.
fn write_json(json: &mut Vec<u8>, value: impl Serialize) {
    let start = json.len();
    if serde_json::to_writer(&mut *json, &value).is_err() {
        json.truncate(start);
        json.extend_from_slice(b"null");
    }
}

/// Text that is written as it is formatted.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Whether a field of this name may hold a secret.
pub(super) fn is_secret(name: &str) -> bool {
    // Names are a few letters: setting up a search costs more than comparing at each place.
    let has = |part: &str| name.as_bytes().windows(part.len()).any(|window| window == part.as_bytes());
    SECRET_NAMES.into_iter().any(has)
}

/// An error with its causes, outermost first.
pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, with_causes(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Shown(format_args!("{value:?}")));
    }
}
