//! The query of a listing.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use url::form_urlencoded;

use crate::image::ImageId;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Characters of an id.
const ID_LENGTH: usize = 36;
/// Characters of a client's own words in an error.
const SHOWN: usize = 64;
/// Bytes of a model's name.
const MAX_MODEL: usize = 256;
/// Errors that are told at once; the answer must not outgrow the question.
const MAX_ERRORS: usize = 8;

/// One query parameter that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The parameter's name.
    pub field: String,
    /// What was given, cut short.
    pub value: String,
    /// What is allowed, in words.
    pub allowed: Cow<'static, str>,
}

/// What of the images is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingQuery {
    /// Only ids whose text starts with this.
    pub prefix: Option<String>,
    /// Only ids older than this one.
    pub cursor: Option<ImageId>,
    /// Images on a page at most.
    pub limit: usize,
    /// Only images that this model drew.
    pub model: Option<String>,
    /// Only images made after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Only images made before this moment.
    pub created_before: Option<DateTime<Utc>>,
}

/// Query parameters that are not allowed, together (eight at most).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(". "))]
pub struct InvalidQuery(pub Vec<FieldError>);

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {:?}; allowed: {}", self.field, self.value, self.allowed)
    }
}

/// Reads `prefix`, `limit`, `cursor`, `model`, `created_after` and `created_before`; each may be left
/// out.
///
/// # Errors
/// The parameters that are unknown, given twice or out of range.
pub fn parse(query: Option<&str>) -> Result<ListingQuery, InvalidQuery> {
    let mut parsed = ListingQuery {
        prefix: None,
        cursor: None,
        limit: DEFAULT_LIMIT,
        model: None,
        created_after: None,
        created_before: None,
    };
    let mut errors = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if errors.len() == MAX_ERRORS {
            break;
        }
        let outcome = if seen.iter().any(|earlier| *earlier == name) {
            Err("each parameter once")
        } else {
            set(&mut parsed, &name, &value)
        };
        match outcome {
            Ok(()) => seen.push(name.into_owned()),
            Err(allowed) => {
                errors.push(FieldError { field: cut(&name), value: cut(&value), allowed: allowed.into() });
            }
        }
    }
    if errors.is_empty() { Ok(parsed) } else { Err(InvalidQuery(errors)) }
}

/// Sets one parameter; the error says what is allowed.
fn set(query: &mut ListingQuery, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "prefix" => {
            let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
            if value.len() > ID_LENGTH || !value.bytes().all(legal) {
                return Err("the beginning of an id: up to 36 lower-case hex digits and hyphens");
            }
            query.prefix = (!value.is_empty()).then(|| value.to_owned());
        }
        "limit" => {
            let number =
                value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
            query.limit = number
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or("a whole number from 1 to 1000")?;
        }
        "cursor" => {
            query.cursor = Some(value.parse().map_err(|_| "the `next_cursor` of the page before")?);
        }
        "model" => {
            if value.is_empty() || value.len() > MAX_MODEL || value.contains(char::is_control) {
                return Err("a model's name as images have it: 1 to 256 bytes");
            }
            query.model = Some(value.to_owned());
        }
        "created_after" => query.created_after = Some(moment(value)?),
        "created_before" => query.created_before = Some(moment(value)?),
        _ => {
            return Err("no such parameter; the parameters are prefix, limit, cursor, model, \
                        created_after, created_before");
        }
    }
    Ok(())
}

fn moment(text: &str) -> Result<DateTime<Utc>, &'static str> {
    // In a query a plus sign is a space, so a zone of `+02:00` often comes as that.
    let text = text.replace(' ', "+");
    DateTime::parse_from_rfc3339(&text)
        .map(|moment| moment.to_utc())
        .map_err(|_| "a date and time as in 2026-01-31T12:00:00Z (RFC 3339)")
}

/// A client's own words, shortened.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_left_out_takes_the_defaults() {
        for query in [None, Some(""), Some("&"), Some("prefix=")] {
            let parsed = parse(query).expect("valid");
            assert_eq!((parsed.prefix, parsed.cursor, parsed.limit), (None, None, 100), "{query:?}");
            assert_eq!((parsed.model, parsed.created_after, parsed.created_before), (None, None, None));
        }
    }

    #[test]
    fn query_with_everything_is_read() {
        let id = ImageId::now();
        let parsed = parse(Some(&format!("limit=1000&cursor={id}&prefix=019a-b"))).expect("valid");
        assert_eq!((parsed.prefix.as_deref(), parsed.cursor, parsed.limit), (Some("019a-b"), Some(id), 1000));
    }

    #[test]
    fn query_with_filters_is_read() {
        let query = "model=stable-diffusion+xl&created_after=2026-01-31T12:00:00%2B02:00&\
                     created_before=2026-02-01T00:00:00.5+00:00";
        let parsed = parse(Some(query)).expect("valid");
        assert_eq!(parsed.model.as_deref(), Some("stable-diffusion xl"));
        assert_eq!(parsed.created_after.expect("a time").to_rfc3339(), "2026-01-31T10:00:00+00:00");
        assert_eq!(parsed.created_before.expect("a time").to_rfc3339(), "2026-02-01T00:00:00.500+00:00");
    }

    #[test]
    fn query_with_bad_values_names_each_field() {
        for (query, field, value) in [
            ("limit=0", "limit", "0"),
            ("limit=1001", "limit", "1001"),
            ("limit=", "limit", ""),
            ("limit=%2B5", "limit", "+5"),
            ("limit=ten", "limit", "ten"),
            ("limit=99999999999999999999999", "limit", "99999999999999999999999"),
            ("cursor=", "cursor", ""),
            ("cursor=../../etc", "cursor", "../../etc"),
            ("model=", "model", ""),
            ("model=a%00", "model", "a\0"),
            ("created_after=yesterday", "created_after", "yesterday"),
            ("created_before=2026-01-31", "created_before", "2026-01-31"),
            ("prefix=A", "prefix", "A"),
            ("prefix=..%2F", "prefix", "../"),
            ("Limit=5", "Limit", "5"),
            ("offset=5", "offset", "5"),
            ("limit=5&limit=5", "limit", "5"),
        ] {
            let InvalidQuery(errors) = parse(Some(query)).expect_err(query);
            assert_eq!(errors.len(), 1, "{query}");
            assert_eq!((errors[0].field.as_str(), errors[0].value.as_str()), (field, value));
        }
        assert!(parse(Some(&format!("prefix={}", "0".repeat(37)))).is_err());
    }

    #[test]
    fn query_with_several_faults_tells_all_of_them_and_shows_little() {
        let query = format!("limit=0&{}=1&cursor=%ff%00", "x".repeat(500));
        let error = parse(Some(&query)).expect_err("refused");
        assert_eq!(error.0.len(), 3);
        assert!(error.0.iter().all(|error| error.field.chars().count() <= SHOWN + 1));
        let many = parse(Some(&"x&".repeat(1000))).expect_err("refused");
        assert_eq!(many.0.len(), MAX_ERRORS);
        assert!(error.to_string().contains("`limit` is \"0\"; allowed: a whole number from 1 to 1000"));
    }
}
