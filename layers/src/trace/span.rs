//! Spans that are recorded: what took how long within a trace.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;

use super::current::InContext;
use super::{TraceContext, TraceId};

/// Takes the spans that ended, and says which traces are recorded.
pub trait Record: Debug + Send + Sync {
    /// Whether spans of this trace are recorded. `caller` is what the caller's context says of it; `None` without one.
    fn samples(&self, trace_id: TraceId, caller: Option<bool>) -> bool;

    /// A span has ended. This is called in the midst of requests, and must not wait.
    fn record(&self, span: Finished);
}

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within the process.
    Internal,
    /// A request that was answered.
    Server,
    /// A call to another process.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its name: of few different ones.
    pub name: Cow<'static, str>,
    /// Which side of a call it is.
    pub kind: Kind,
    /// Its trace.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: u64,
    /// The span that it is part of; `None` for the first of a trace.
    pub parent_id: Option<u64>,
    /// Whether that one is of another process.
    pub has_remote_parent: bool,
    /// The caller's `tracestate`.
    pub tracestate: Option<HeaderValue>,
    /// When it began.
    pub started_at: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// A span under way, or nothing where nothing is recorded. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Active>>);

#[derive(Debug)]
struct Active {
    /// For what goes on from here.
    context: TraceContext,
    finished: Finished,
    started: Instant,
}

impl Span {
    /// A span below `parent`, if that is recorded.
    pub(super) fn begin(parent: &TraceContext, kind: Kind, name: Cow<'static, str>) -> Self {
        let context = parent.next();
        Self(parent.is_recorded().then(|| {
            Box::new(Active {
                finished: Finished {
                    name,
                    kind,
                    trace_id: context.trace_id(),
                    span_id: context.span_id(),
                    parent_id: parent.as_parent(),
                    has_remote_parent: parent.is_remote(),
                    tracestate: parent.tracestate().cloned(),
                    started_at: SystemTime::now(),
                    duration: Duration::ZERO,
                    attributes: Vec::with_capacity(8),
                    failed: false,
                },
                context,
                started: Instant::now(),
            })
        }))
    }

    /// Whether it is recorded.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The context for what is part of it.
    pub fn context(&self) -> Option<&TraceContext> {
        self.0.as_ref().map(|active| &active.context)
    }

    /// Notes an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(active) = &mut self.0 {
            active.finished.attributes.push((name, value.into()));
        }
    }

    /// Notes an attribute instead of one of this name that was noted before.
    pub fn replace(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(active) = &mut self.0 {
            active.finished.attributes.retain(|(noted, _)| *noted != name);
            active.finished.attributes.push((name, value.into()));
        }
    }

    /// Notes that it failed, and the kind of failure (`error.type`): of few different ones.
    pub fn fail(&mut self, kind: impl Into<Cow<'static, str>>) {
        if let Some(active) = &mut self.0 {
            active.finished.failed = true;
            active.finished.attributes.push(("error.type", Value::Text(kind.into())));
        }
    }

    /// Runs a future as part of it.
    pub fn run<F: Future>(&self, future: F) -> InContext<F> {
        InContext::new(future, self.context().cloned())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(active) = self.0.take() {
            let Active { context, mut finished, started } = *active;
            finished.duration = started.elapsed();
            context.record(finished);
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
