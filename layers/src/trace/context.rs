//! W3C trace context (Recommendation "Trace Context", level 1).

use std::fmt;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::random;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `version "-" trace-id "-" parent-id "-" trace-flags`, of version 00.
const TRACEPARENT_LEN: usize = 55;
const MAX_TRACESTATE_LEN: usize = 512;
const SAMPLED: u8 = 1;

/// Where a request stands in a trace: the trace, and our own span in it. In the request's extensions, so that calls
/// that it causes can carry it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: u64,
    flags: u8,
    tracestate: Option<HeaderValue>,
}

/// The id of a trace, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceContext {
    /// The beginning of a new trace.
    pub fn root() -> Self {
        let trace_id = u128::from(random::bits()) << 64 | u128::from(random::nonzero_bits());
        Self {
            trace_id: TraceId(trace_id),
            span_id: random::nonzero_bits(),
            flags: SAMPLED,
            tracestate: None,
        }
    }

    /// The caller's trace with a new span; `None` unless there is exactly one `traceparent`, and it is valid to the
    /// letter.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (trace_id, flags) = parse_traceparent(only(headers, &TRACEPARENT)?.as_bytes())?;
        let tracestate = only(headers, &TRACESTATE).filter(|state| state.len() <= MAX_TRACESTATE_LEN);
        Some(Self { trace_id, span_id: random::nonzero_bits(), flags, tracestate: tracestate.cloned() })
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The value of `traceparent` for a call that goes on from here.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// Writes `traceparent`, and `tracestate` if there was one, into the headers of a call that goes on from here.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.tracestate {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Trace id and flags. Versions to come may add fields behind those of version 00 (section 3.2.4).
fn parse_traceparent(text: &[u8]) -> Option<(TraceId, u8)> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
    let version = hex(&known[..2])?;
    let well_formed = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|&b| b == b'-'),
    };
    let dashes = [known[2], known[35], known[52]] == *b"---";
    let (trace_id, parent_id, flags) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
    if !well_formed || !dashes || trace_id == 0 || parent_id == 0 {
        return None;
    }
    // Flags that are not known are not passed on.
    Some((TraceId(trace_id), if flags & u128::from(SAMPLED) == 0 { 0 } else { SAMPLED }))
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
    fn valid_traceparent_keeps_the_trace_and_gets_a_new_span() {
        let context = parse(&[VALID]).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        let out = context.traceparent();
        assert_eq!((&out[..36], &out[52..]), (&VALID[..36], &VALID[52..]));
        assert_ne!(&out[36..52], &VALID[36..52]);
        assert!(parse(&[&out]).is_some(), "valid itself");
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
        assert!(parse(&[&one.traceparent()]).is_some());
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
