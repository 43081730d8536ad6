//! W3C trace context (Recommendation "Trace Context", level 1).

use std::fmt;
use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::{Finished, InContext, Kind, Record, Span};
use crate::{fields::only, random};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `version "-" trace-id "-" parent-id "-" trace-flags`, of version 00.
const TRACEPARENT_LEN: usize = 55;
const MAX_TRACESTATE_LEN: usize = 512;
const SAMPLED: u8 = 1;

/// Where a request stands in a trace. It is current while the request is handled, so that calls that it causes can carry it
/// on.
///
/// Where spans are recorded, its span is this server's own. Where none are, it is the caller's, if there is one: what
/// comes after then hangs on a span that exists.
#[derive(Debug, Clone)]
pub struct TraceContext(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    trace_id: TraceId,
    span_id: u64,
    origin: Origin,
    flags: u8,
    tracestate: Option<HeaderValue>,
    recorder: Option<Arc<dyn Record>>,
}

/// The id of a trace, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Whose span a context names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Nobody's: the trace begins here.
    Nobody,
    Caller,
    Own,
}

impl TraceContext {
    fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The beginning of a new trace, of which nothing is recorded.
    pub fn root() -> Self {
        let trace_id = u128::from(random::bits()) << 64 | u128::from(random::nonzero_bits());
        Self::new(Inner {
            trace_id: TraceId(trace_id),
            span_id: random::nonzero_bits(),
            origin: Origin::Nobody,
            // The default of who begins a trace and records nothing (section 3.2.2.5.1.1).
            flags: 0,
            tracestate: None,
            recorder: None,
        })
    }

    /// The caller's; `None` unless there is exactly one `traceparent`, and it is valid to the letter.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (trace_id, span_id, flags) = parse_traceparent(only(headers, TRACEPARENT)?.as_bytes())?;
        let tracestate = only(headers, TRACESTATE).filter(|state| state.len() <= MAX_TRACESTATE_LEN);
        let tracestate = tracestate.cloned();
        let origin = Origin::Caller;
        Some(Self::new(Inner { trace_id, span_id, origin, flags, tracestate, recorder: None }))
    }

    /// Lets `recorder` decide whether spans of this trace are recorded.
    #[must_use]
    pub fn sampled_by(mut self, recorder: &Arc<dyn Record>) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        let caller = (inner.origin == Origin::Caller).then_some(inner.flags & SAMPLED != 0);
        let sampled = recorder.samples(inner.trace_id, caller);
        inner.flags = if sampled { SAMPLED } else { 0 };
        inner.recorder = sampled.then(|| Arc::clone(recorder));
        self
    }

    /// Begins a span below this one; it does nothing where nothing is recorded, and `name` is not asked then.
    pub fn child(&self, kind: Kind, name: impl FnOnce() -> String) -> Span {
        if self.is_recorded() { Span::begin(self, kind, name().into()) } else { Span::default() }
    }

    /// Runs a future as part of it.
    pub fn run<F: Future>(self, future: F) -> InContext<F> {
        InContext::new(future, Some(self))
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id
    }

    /// Whether its spans are recorded.
    pub fn is_recorded(&self) -> bool {
        self.0.recorder.is_some()
    }

    /// The value of `traceparent` for a call that goes on from here.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.0.trace_id, self.0.span_id, self.0.flags)
    }

    /// Writes `traceparent`, and `tracestate` if there was one, into the headers of a call that goes on from here.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.0.tracestate {
            headers.insert(TRACESTATE, state.clone());
        }
    }

    /// The context within a new span of this server's.
    pub(super) fn next(&self) -> Self {
        Self::new(Inner { span_id: random::nonzero_bits(), origin: Origin::Own, ..Inner::clone(&self.0) })
    }

    pub(super) fn span_id(&self) -> u64 {
        self.0.span_id
    }

    /// What a span below names as its parent.
    pub(super) fn as_parent(&self) -> Option<u64> {
        (self.0.origin != Origin::Nobody).then_some(self.0.span_id)
    }

    pub(super) fn is_remote(&self) -> bool {
        self.0.origin == Origin::Caller
    }

    pub(super) fn tracestate(&self) -> Option<&HeaderValue> {
        self.0.tracestate.as_ref()
    }

    pub(super) fn record(&self, span: Finished) {
        if let Some(recorder) = &self.0.recorder {
            recorder.record(span);
        }
    }
}

impl TraceId {
    /// Its 16 bytes, in the order in which they are written.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl From<u128> for TraceId {
    fn from(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Trace id, the caller's span and flags. Versions to come may add fields behind those of version 00 (section 3.2.4).
fn parse_traceparent(text: &[u8]) -> Option<(TraceId, u64, u8)> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
    let version = hex(&known[..2])?;
    let well_formed = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|&b| b == b'-'),
    };
    let dashes = [known[2], known[35], known[52]] == *b"---";
    let (trace_id, parent_id, flags) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
    let parent_id = u64::try_from(parent_id).ok()?;
    if !well_formed || !dashes || trace_id == 0 || parent_id == 0 {
        return None;
    }
    // Flags that are not known are not passed on.
    Some((TraceId(trace_id), parent_id, if flags & u128::from(SAMPLED) == 0 { 0 } else { SAMPLED }))
}

/// Lower-case digits only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(values: &[&str]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        TraceContext::from_headers(&headers)
    }

    #[test]
    fn valid_traceparent_is_passed_on_as_it_is_where_nothing_is_recorded() {
        let context = parse(&[VALID]).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.traceparent(), VALID);
        assert!(parse(&[&VALID.replace("-01", "-00")]).unwrap().traceparent().ends_with("-00"));
    }

    #[test]
    fn later_version_is_understood_as_far_as_it_is_known() {
        let later = VALID.replacen("00-", "cc-", 1).replace("-01", "-ff");
        let context = parse(&[&format!("{later}-more")]).unwrap();
        assert!(context.traceparent().starts_with("00-0af7") && context.traceparent().ends_with("-01"));
        assert!(parse(&[&later]).is_some());
        assert!(parse(&[&format!("{later}.more")]).is_none());
    }

    #[test]
    fn traceparent_that_is_not_valid_to_the_letter_is_ignored() {
        let zero_trace = VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let zero_parent = VALID.replace("b7ad6b7169203331", &"0".repeat(16));
        let long = format!("{VALID}-");
        let upper = VALID.to_uppercase();
        let forbidden = VALID.replacen("00", "ff", 1);
        let dashes = VALID.replacen('-', "_", 1);
        let bad =
            ["", "00", &VALID[..54], &zero_trace, &zero_parent, &long, &upper, &forbidden, &dashes, "\u{e9}"];
        for value in bad {
            assert!(parse(&[value]).is_none(), "{value}");
        }
        assert!(parse(&[VALID, VALID]).is_none());
        assert!(parse(&[]).is_none());
    }

    #[test]
    fn root_contexts_are_valid_and_distinct() {
        let (one, two) = (TraceContext::root(), TraceContext::root());
        assert_ne!(one.trace_id(), two.trace_id());
        assert!(parse(&[&one.traceparent()]).is_some() && one.traceparent().ends_with("-00"));
    }

    /// Records what it is told to.
    #[derive(Debug, Default)]
    struct Log(Option<bool>, std::sync::Mutex<Vec<Finished>>);

    impl Record for Log {
        fn samples(&self, _: TraceId, caller: Option<bool>) -> bool {
            self.0.or(caller).unwrap_or(true)
        }

        fn record(&self, span: Finished) {
            self.1.lock().unwrap().push(span);
        }
    }

    /// The spans of a server that is called with these headers and calls another.
    fn recorded(sampler: Option<bool>, caller: &[&str]) -> (Vec<Finished>, String) {
        let log = Arc::new(Log(sampler, Default::default()));
        let recorder: Arc<dyn Record> = log.clone();
        let context = parse(caller).unwrap_or_else(TraceContext::root).sampled_by(&recorder);
        let mut server = context.child(Kind::Server, || "server".to_owned());
        server.set("answer", 42_u32);
        let mut client = server.context().unwrap_or(&context).child(Kind::Client, || "client".to_owned());
        client.fail("broken");
        let out = client.context().unwrap_or(&context).traceparent();
        drop((client, server));
        let spans = log.1.lock().unwrap().clone();
        (spans, out)
    }

    #[test]
    fn first_span_of_a_trace_has_no_parent_and_the_next_one_has_it() {
        let (spans, out) = recorded(None, &[]);
        let [client, server] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((server.parent_id, client.parent_id), (None, Some(server.span_id)));
        assert_eq!((server.kind, client.kind), (Kind::Server, Kind::Client));
        assert_eq!((server.failed, client.failed), (false, true));
        assert_eq!(client.attributes, [("error.type", "broken".into())]);
        assert!(!server.has_remote_parent && server.trace_id == client.trace_id);
        assert_eq!(out, format!("00-{}-{:016x}-01", client.trace_id, client.span_id));
    }

    #[test]
    fn span_of_a_caller_is_the_parent_and_its_sampling_is_followed() {
        let (spans, out) = recorded(None, &[VALID]);
        assert_eq!(spans[1].parent_id, Some(0xb7ad_6b71_6920_3331));
        assert!(spans[1].has_remote_parent && !spans[0].has_remote_parent);
        assert!(out.starts_with(&VALID[..36]) && out.ends_with("-01"));

        let unsampled = VALID.replace("-01", "-00");
        let (spans, out) = recorded(None, &[&unsampled]);
        assert!(spans.is_empty() && out == unsampled, "{out}");
        let (spans, out) = recorded(Some(false), &[VALID]);
        assert!(spans.is_empty() && out == unsampled, "{out}");
        assert_eq!(recorded(Some(true), &[&unsampled]).0.len(), 2);
    }

    #[test]
    fn inject_passes_tracestate_on_unless_it_is_long_or_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        assert!(TraceContext::from_headers(&headers).is_none());
        headers.insert(TRACEPARENT, HeaderValue::from_static(VALID));
        let mut out = HeaderMap::new();
        TraceContext::from_headers(&headers).unwrap().inject(&mut out);
        assert_eq!(out[TRACESTATE], "a=1");
        assert_eq!(out[TRACEPARENT].len(), TRACEPARENT_LEN);

        headers.insert(TRACESTATE, HeaderValue::try_from("a".repeat(513)).unwrap());
        let mut out = HeaderMap::new();
        TraceContext::from_headers(&headers).unwrap().inject(&mut out);
        assert!(!out.contains_key(TRACESTATE));
    }
}
