//! Conditional requests (RFC 9110, section 13).

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, Method, header};

use super::entity_tag::{Comparison, EntityTag, field_matches};

/// What tells one state of a representation from another.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// The strong entity tag.
    pub entity_tag: EntityTag<'a>,
    /// `Last-Modified`, in whole seconds.
    pub last_modified: SystemTime,
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do what was asked.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// Not what the client has in mind: 412.
    Failed,
}

/// Evaluates the conditions of a request for an existing representation in the order of section
/// 13.2.2, `If-Range` aside.
#[must_use]
pub fn evaluate(method: &Method, headers: &HeaderMap, current: Validators<'_>) -> Verdict {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    let unchanged_since = |date: SystemTime| current.last_modified <= date;

    if headers.contains_key(header::IF_MATCH) {
        if !lists(headers, &header::IF_MATCH, current, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|date| !unchanged_since(date)) {
        return Verdict::Failed;
    }

    if headers.contains_key(header::IF_NONE_MATCH) {
        return match lists(headers, &header::IF_NONE_MATCH, current, Comparison::Weak) {
            true if reading => Verdict::NotModified,
            true => Verdict::Failed,
            false => Verdict::Proceed,
        };
    }
    if reading && date(headers, &header::IF_MODIFIED_SINCE).is_some_and(unchanged_since) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` counts: there is no `If-Range`, or it names the current state (section
/// 13.1.5). A date counts as a strong validator, because a stored image never changes.
#[must_use]
pub fn range_applies(headers: &HeaderMap, current: Validators<'_>) -> bool {
    let Some(field) = headers.get(header::IF_RANGE) else { return true };
    match EntityTag::parse(field.as_bytes()) {
        Some(tag) => tag.matches(current.entity_tag, Comparison::Strong),
        None => date(headers, &header::IF_RANGE) == Some(current.last_modified),
    }
}

fn lists(headers: &HeaderMap, name: &HeaderName, current: Validators<'_>, comparison: Comparison) -> bool {
    let mut fields = headers.get_all(name).iter();
    fields.any(|field| field_matches(field.as_bytes(), current.entity_tag, comparison))
}

/// The field's date; `None` if there is not exactly one field, or it is not a date.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut fields = headers.get_all(name).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    httpdate::parse_http_date(field.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn current() -> Validators<'static> {
        Validators {
            entity_tag: EntityTag { weak: false, opaque: b"abc" },
            last_modified: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    fn verdict(method: Method, fields: &[(HeaderName, &str)]) -> Verdict {
        evaluate(&method, &headers(fields), current())
    }

    #[test]
    fn request_without_conditions_proceeds() {
        assert_eq!(verdict(Method::GET, &[]), Verdict::Proceed);
    }

    #[test]
    fn if_none_match_that_matches_is_304_for_reads_and_412_for_others() {
        for value in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            let fields = [(header::IF_NONE_MATCH, value)];
            assert_eq!(verdict(Method::GET, &fields), Verdict::NotModified, "{value}");
            assert_eq!(verdict(Method::HEAD, &fields), Verdict::NotModified, "{value}");
            assert_eq!(verdict(Method::DELETE, &fields), Verdict::Failed, "{value}");
        }
        let two_lines = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, "\"abc\"")];
        assert_eq!(verdict(Method::GET, &two_lines), Verdict::NotModified);
        assert_eq!(verdict(Method::GET, &[(header::IF_NONE_MATCH, "\"x\"")]), Verdict::Proceed);
    }

    #[test]
    fn if_modified_since_counts_only_without_if_none_match() {
        for (date, expected) in [
            (BEFORE, Verdict::Proceed),
            (SAME, Verdict::NotModified),
            (AFTER, Verdict::NotModified),
            ("yesterday", Verdict::Proceed),
        ] {
            assert_eq!(verdict(Method::GET, &[(header::IF_MODIFIED_SINCE, date)]), expected, "{date}");
        }
        let both = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, AFTER)];
        assert_eq!(verdict(Method::GET, &both), Verdict::Proceed);
        assert_eq!(verdict(Method::DELETE, &[(header::IF_MODIFIED_SINCE, AFTER)]), Verdict::Proceed);
        let twice = [(header::IF_MODIFIED_SINCE, AFTER), (header::IF_MODIFIED_SINCE, AFTER)];
        assert_eq!(verdict(Method::GET, &twice), Verdict::Proceed);
    }

    #[test]
    fn if_match_needs_a_strong_match_and_comes_first() {
        for (value, expected) in [
            ("\"abc\"", Verdict::Proceed),
            ("*", Verdict::Proceed),
            ("W/\"abc\"", Verdict::Failed),
            ("\"x\"", Verdict::Failed),
            ("abc", Verdict::Failed),
        ] {
            let fields = [(header::IF_MATCH, value), (header::IF_UNMODIFIED_SINCE, BEFORE)];
            assert_eq!(verdict(Method::GET, &fields), expected, "{value}");
        }
        let then_304 = [(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "\"abc\"")];
        assert_eq!(verdict(Method::GET, &then_304), Verdict::NotModified);
    }

    #[test]
    fn if_unmodified_since_fails_for_earlier_dates() {
        for (date, expected) in [
            (BEFORE, Verdict::Failed),
            (SAME, Verdict::Proceed),
            (AFTER, Verdict::Proceed),
            ("x", Verdict::Proceed),
        ] {
            assert_eq!(verdict(Method::DELETE, &[(header::IF_UNMODIFIED_SINCE, date)]), expected, "{date}");
        }
    }

    #[test]
    fn if_range_needs_the_exact_state() {
        assert!(range_applies(&HeaderMap::new(), current()));
        for (value, expected) in [
            ("\"abc\"", true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            (SAME, true),
            (BEFORE, false),
            (AFTER, false),
            ("abc", false),
        ] {
            assert_eq!(range_applies(&headers(&[(header::IF_RANGE, value)]), current()), expected, "{value}");
        }
    }
}
