//! Log lines for machines: one JSON object each, whatever a value contains.

use std::{borrow::Cow, fmt, io::Write as _};

use chrono::{SecondsFormat, Utc};
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, Scope},
};

/// Fields of spans that stand at the top level of a line.
const LIFTED: [&str; 3] = ["request_id", "image_id", "trace_id"];

/// What every line has; an event's field of such a name is told as `field.<name>`.
const RESERVED: [&str; 6] = ["timestamp", "level", "service", "target", "message", "span"];

/// Parts of names whose values are never logged, should one ever be recorded by mistake.
const SECRET_NAMES: [&str; 6] = ["authorization", "bearer", "password", "secret", "api_key", "access_key"];

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
#[derive(Debug, std::default::Default)]
struct Fields(Vec<(&'static str, Value)>);

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
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
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = Spans::around(event, &context);
        let mut line = Vec::with_capacity(256);
        if self.write_line(&mut line, event, fields, spans).is_ok() {
            line.push(b'\n');
            // There is nowhere to tell that the log cannot be written.
            let _ = self.writer.make_writer_for(event.metadata()).write_all(&line);
        }
    }
}

impl<W> JsonLayer<W> {
    fn write_line(
        &self,
        line: &mut Vec<u8>,
        event: &Event<'_>,
        mut fields: Fields,
        spans: Spans,
    ) -> serde_json::Result<()> {
        // Records of the `log` crate carry their target as a field.
        let log_target = fields.remove("log.target");
        let target = log_target.as_ref().and_then(Value::as_str).unwrap_or(event.metadata().target());
        let message = fields.remove("message").unwrap_or_else(|| Value::String(String::new()));
        let mut serializer = serde_json::Serializer::new(line);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", &Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true))?;
        object.serialize_entry("level", event.metadata().level().as_str())?;
        object.serialize_entry("service", &self.service)?;
        object.serialize_entry("target", target)?;
        object.serialize_entry("message", &message)?;
        for (name, value) in spans.lifted.iter().filter(|(name, _)| !fields.has(name)) {
            object.serialize_entry(name, value)?;
        }
        for (name, value) in fields.0.iter().filter(|(name, _)| !name.starts_with("log.")) {
            let name: Cow<'_, str> =
                if RESERVED.contains(name) { format!("field.{name}").into() } else { (*name).into() };
            object.serialize_entry(&name, value)?;
        }
        if let Some(span) = spans.rest {
            object.serialize_entry("span", &span)?;
        }
        object.end()
    }
}

/// What the spans around an event say.
struct Spans {
    lifted: Vec<(&'static str, Value)>,
    rest: Option<Map<String, Value>>,
}

impl Spans {
    /// From the outermost span inwards; the inner value of a name wins.
    fn around<S: Subscriber + for<'a> LookupSpan<'a>>(event: &Event<'_>, context: &Context<'_, S>) -> Self {
        let mut spans = Self { lifted: Vec::new(), rest: None };
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            let rest = spans.rest.get_or_insert_default();
            if let Some(Fields(fields)) = span.extensions().get::<Fields>() {
                for (name, value) in fields {
                    if LIFTED.contains(name) {
                        put(&mut spans.lifted, name, value.clone());
                    } else {
                        rest.insert((*name).to_owned(), value.clone());
                    }
                }
            }
            rest.insert("name".to_owned(), span.name().into());
        }
        spans
    }
}

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let value = if is_secret(field.name()) { "***".into() } else { value.into() };
        put(&mut self.0, field.name(), value);
    }
}

fn put(fields: &mut Vec<(&'static str, Value)>, name: &'static str, value: Value) {
    match fields.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => fields.push((name, value)),
    }
}

/// Whether a field of this name may hold a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|part| name.contains(part))
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
        self.put(field, format!("{value:?}"));
    }
}
