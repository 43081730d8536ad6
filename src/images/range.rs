//! The `Range` field (RFC 9110, section 14.2), as far as one range goes.

use std::ops::Range;

/// One range of bytes, as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last` or `first-`: offsets, both inclusive.
    From {
        /// The first byte.
        first: u64,
        /// The last byte, if it is not the end.
        last: Option<u64>,
    },
    /// `-length`: that many bytes at the end.
    Suffix {
        /// How many.
        length: u64,
    },
}

/// The range holds no byte of the representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range holds no byte")]
pub struct Unsatisfiable;

impl RangeSpec {
    /// Reads a field value that asks for one range of bytes.
    ///
    /// `None` for all others: another unit, wrong syntax, or several ranges. A server may leave
    /// any `Range` aside and send the whole, which is what these get.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        let (unit, set) = split_at_byte(field, b'=')?;
        if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        // A list may have empty elements (section 5.6.1.2).
        let mut specs = set.split(|&byte| byte == b',').map(trim).filter(|spec| !spec.is_empty());
        let (spec, None) = (specs.next()?, specs.next()) else { return None };
        let (first, last) = split_at_byte(spec, b'-')?;
        match (first, last) {
            (b"", length) => Some(Self::Suffix { length: digits(length)? }),
            (first, b"") => Some(Self::From { first: digits(first)?, last: None }),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// The offsets (end exclusive, never empty) in a representation of `length` bytes.
    ///
    /// # Errors
    /// The range begins after the end, or is a suffix of no bytes.
    pub fn resolve(self, length: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self {
            Self::From { first, last } => {
                first..last.map_or(length, |last| last.saturating_add(1).min(length))
            }
            Self::Suffix { length: suffix } => length.saturating_sub(suffix)..length,
        };
        if range.is_empty() { Err(Unsatisfiable) } else { Ok(range) }
    }
}

/// `1*DIGIT`; a number too large for any file is the largest one.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

fn split_at_byte(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..position], &text[position + 1..]))
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(field: &str, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
        RangeSpec::parse(field.as_bytes()).map(|spec| spec.resolve(length))
    }

    #[test]
    fn range_within_the_length_is_resolved() {
        for (field, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..100),
            ("bytes=0-", 0..100),
            ("bytes=99-", 99..100),
            ("bytes=99-99", 99..100),
            ("bytes=10-1000", 10..100),
            ("bytes=0-18446744073709551615", 0..100),
            ("bytes=0-99999999999999999999999", 0..100),
            ("bytes=-1", 99..100),
            ("bytes=-100", 0..100),
            ("bytes=-101", 0..100),
            ("bytes=-99999999999999999999999", 0..100),
            ("BYTES=5-6", 5..7),
            ("bytes= 5-6\t", 5..7),
            ("bytes=,5-6, ,", 5..7),
            ("bytes=0005-006", 5..7),
        ] {
            assert_eq!(resolved(field, 100), Some(Ok(expected)), "{field}");
        }
    }

    #[test]
    fn range_after_the_end_is_unsatisfiable() {
        for field in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(resolved(field, 100), Some(Err(Unsatisfiable)), "{field}");
        }
        for field in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(resolved(field, 0), Some(Err(Unsatisfiable)), "{field}");
        }
    }

    #[test]
    fn field_that_is_not_one_range_of_bytes_is_left_aside() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=1",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=1-2x",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=--1",
            "bytes=1 -2",
            "bytes=1-2-3",
            "bytes=0-1,4-5",
            "items=0-1",
            "byte s=0-1",
        ] {
            assert_eq!(RangeSpec::parse(field.as_bytes()), None, "{field}");
        }
    }

    #[test]
    fn resolved_range_is_never_empty_and_never_over_the_length() {
        let numbers = ["", "0", "1", "9", "10", "11", "18446744073709551616"];
        for length in [0, 1, 10] {
            for first in numbers {
                for last in numbers {
                    if let Some(Ok(range)) = resolved(&format!("bytes={first}-{last}"), length) {
                        assert!(range.start < range.end && range.end <= length, "{first}-{last} of {length}");
                    }
                }
            }
        }
    }
}
