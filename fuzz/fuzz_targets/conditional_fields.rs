//! `Range`, `If-None-Match` and their kin (RFC 9110, sections 13 and 14), against a second reading of
//! the standard.
//!
//! The first line is a method and the length of a representation, the other lines are fields:
//!
//! ```text
//! GET 4096
//! Range: bytes=0-99
//! If-None-Match: "x", W/"0123456789abcdef"
//! ```
//!
//! Invariants: ranges, entity tags and the order of conditions come to what the models below say; a
//! range that resolves lies within the length and is not empty; what matches strongly matches weakly.
#![no_main]

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, Method, header};
use libfuzzer_sys::fuzz_target;
use mcp_image_server::images::{
    Comparison, EntityTag, RangeSpec, Validators, Verdict, evaluate, field_matches, range_applies,
};
use support::script::{field, split_once};

const TAG: &str = "0123456789abcdef";
/// Sun, 06 Nov 1994 08:49:37 GMT.
const MODIFIED: Duration = Duration::from_secs(784_111_777);

fuzz_target!(|input: &[u8]| {
    let (first, fields) = split_once(input, b"\n").unwrap_or((input, b""));
    let Some((method, length)) = split_once(first, b" ") else { return };
    let Ok(method) = Method::from_bytes(method) else { return };
    let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).unwrap_or(0_u64);
    let mut headers = HeaderMap::new();
    fields.split(|&byte| byte == b'\n').for_each(|line| field(line, &mut headers));

    headers.get_all(header::RANGE).iter().for_each(|value| range(value.as_bytes(), length));
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        headers.get_all(name).iter().for_each(|value| list(value.as_bytes()));
    }
    let entity_tag = EntityTag { weak: false, opaque: TAG.as_bytes() };
    let current = Validators { entity_tag, last_modified: SystemTime::UNIX_EPOCH + MODIFIED };
    let model = Model { headers: &headers };
    assert_eq!(evaluate(&method, &headers, current), model.verdict(&method), "{method} {headers:?}");
    assert_eq!(range_applies(&headers, current), model.range_applies(), "{headers:?}");
});

fn range(field: &[u8], length: u64) {
    let resolved = RangeSpec::parse(field).map(|spec| spec.resolve(length).ok());
    if let Some(Some(range)) = &resolved {
        assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
    }
    assert_eq!(resolved, model_range(field, length), "{} of {length}", field.escape_ascii());
}

/// `None`: not one range of bytes; `Some(None)`: unsatisfiable. Numbers of any length, as text.
fn model_range(field: &[u8], length: u64) -> Option<Option<Range<u64>>> {
    let field = std::str::from_utf8(field).ok()?;
    let (unit, set) = field.split_once('=')?;
    if unit.trim().to_lowercase() != "bytes" {
        return None;
    }
    let ranges: Vec<&str> = set.split(',').map(str::trim).filter(|range| !range.is_empty()).collect();
    let [range] = ranges[..] else { return None };
    let (first, last) = range.split_once('-')?;
    if (first.is_empty() && last.is_empty()) || !format!("{first}{last}").chars().all(|c| c.is_ascii_digit())
    {
        return None;
    }
    let number = |digits: &str| match digits.trim_start_matches('0') {
        "" => 0,
        digits if digits.len() > 20 => u128::from(u64::MAX),
        digits => digits.parse::<u128>().expect("digits").min(u128::from(u64::MAX)),
    };
    let length = u128::from(length);
    let (start, end) = match (first, last) {
        ("", last) => (length.saturating_sub(number(last)), length),
        (first, "") => (number(first), length),
        (first, last) if number(first) > number(last) => return None,
        (first, last) => (number(first), length.min(number(last) + 1)),
    };
    let narrow = |number: u128| u64::try_from(number).expect("within the length");
    Some((start < end).then(|| narrow(start)..narrow(end)))
}

fn list(field: &[u8]) {
    let ours = EntityTag { weak: false, opaque: TAG.as_bytes() };
    let (weak, strong) =
        (field_matches(field, ours, Comparison::Weak), field_matches(field, ours, Comparison::Strong));
    assert!(weak || !strong, "what matches strongly matches weakly");
    assert_eq!((weak, strong), (names(field, true), names(field, false)), "{}", field.escape_ascii());
}

/// Whether a list names our tag; letter by letter (section 8.8.3). It counts up to where it breaks.
fn names(field: &[u8], weakly: bool) -> bool {
    // Latin-1, so that each byte is one character.
    let text: String = field.iter().map(|&byte| char::from(byte)).collect();
    let text = text.trim_matches([' ', '\t']);
    if text == "*" {
        return true;
    }
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|c| " \t,".contains(*c)).is_some() {}
        let weak = characters.next_if_eq(&'W').is_some();
        if weak && characters.next() != Some('/') {
            return false;
        }
        if characters.next() != Some('"') {
            return false;
        }
        let mut opaque = String::new();
        loop {
            match characters.next() {
                Some('"') => break,
                Some(c) if c > ' ' && c != '\u{7f}' => opaque.push(c),
                _ => return false,
            }
        }
        if opaque == TAG && (weakly || !weak) {
            return true;
        }
        while characters.next_if(|c| " \t".contains(*c)).is_some() {}
        if characters.peek() != Some(&',') {
            return false;
        }
    }
}

/// Section 13.2.2, step by step.
struct Model<'a> {
    headers: &'a HeaderMap,
}

impl Model<'_> {
    fn verdict(&self, method: &Method) -> Verdict {
        let reads = method == Method::GET || method == Method::HEAD;
        let if_match = self.lists(&header::IF_MATCH, false);
        let if_none_match = self.lists(&header::IF_NONE_MATCH, true);
        let modified_since = self.date(&header::IF_MODIFIED_SINCE).map(|date| MODIFIED > date);
        let unmodified_since = self.date(&header::IF_UNMODIFIED_SINCE).map(|date| MODIFIED <= date);
        let (step1, step2) = (if_match, if_match.is_none().then_some(unmodified_since).flatten());
        if step1 == Some(false) || step2 == Some(false) {
            return Verdict::Failed;
        }
        match (if_none_match, modified_since) {
            (Some(true), _) if reads => Verdict::NotModified,
            (Some(true), _) => Verdict::Failed,
            (None, Some(false)) if reads => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }

    /// Section 13.1.5.
    fn range_applies(&self) -> bool {
        let Some(field) = self.headers.get(header::IF_RANGE).map(|value| value.as_bytes()) else {
            return true;
        };
        let is_tag = field.ends_with(b"\"") && (field.starts_with(b"\"") || field.starts_with(b"W/\""));
        if is_tag {
            field == format!("\"{TAG}\"").as_bytes()
        } else {
            self.date(&header::IF_RANGE) == Some(MODIFIED)
        }
    }

    fn lists(&self, name: &HeaderName, weakly: bool) -> Option<bool> {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        (!values.is_empty()).then(|| values.iter().any(|value| names(value.as_bytes(), weakly)))
    }

    /// IMF-fixdate (section 5.6.7) as `httpdate` has it, which is not ours to check.
    fn date(&self, name: &HeaderName) -> Option<Duration> {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        let [value] = values[..] else { return None };
        let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
        date.duration_since(SystemTime::UNIX_EPOCH).ok()
    }
}
