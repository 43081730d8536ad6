//! Entity tags (RFC 9110, section 8.8.3) and the fields that list them.

/// An entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether it is marked as weak (`W/`).
    pub weak: bool,
    /// What stands between the quotes.
    pub opaque: &'a [u8],
}

/// How two entity tags are compared (section 8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Equal, and neither is weak: the same bytes.
    Strong,
    /// Equal but for weakness: as good as the same.
    Weak,
}

impl<'a> EntityTag<'a> {
    /// Reads one entity tag, and nothing behind it.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match Self::take(text)? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    /// Whether both name the same representation.
    #[must_use]
    pub fn matches(self, other: Self, comparison: Comparison) -> bool {
        let strong_enough = comparison == Comparison::Weak || !(self.weak || other.weak);
        strong_enough && self.opaque == other.opaque
    }

    /// The entity tag at the front of `text`, and what follows.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = match text {
            [b'W', b'/', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let [b'"', text @ ..] = text else { return None };
        let end = text.iter().position(|&byte| byte == b'"')?;
        let opaque = &text[..end];
        // etagc: visible characters but the quote, and whatever is not ASCII.
        let legal = opaque.iter().all(|&byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..));
        legal.then_some((Self { weak, opaque }, &text[end + 1..]))
    }
}

/// Whether `field`, the value of `If-Match` or `If-None-Match`, is `*` or lists `tag`. From the
/// first element on that is no entity tag, a list counts no further.
#[must_use]
pub fn field_matches(field: &[u8], tag: EntityTag<'_>, comparison: Comparison) -> bool {
    if field.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = field;
    loop {
        // Between elements: commas and white space, and more of them than one need be.
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let Some((listed, after)) = EntityTag::take(rest) else { return false };
        if listed.matches(tag, comparison) {
            return true;
        }
        rest = after.trim_ascii_start();
        if !rest.starts_with(b",") {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: EntityTag<'_> = EntityTag { weak: false, opaque: b"abc" };

    #[test]
    fn entity_tag_is_parsed_whole_or_not_at_all() {
        assert_eq!(EntityTag::parse(b"\"abc\""), Some(TAG));
        assert_eq!(EntityTag::parse(b"W/\"abc\""), Some(EntityTag { weak: true, ..TAG }));
        assert_eq!(EntityTag::parse(b"\"\""), Some(EntityTag { weak: false, opaque: b"" }));
        for text in
            ["", "\"", "abc", "\"abc", "abc\"", "w/\"abc\"", "W/abc", "\"a b\"", "\"abc\" ", "\"a\"\"b\""]
        {
            assert_eq!(EntityTag::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn comparison_follows_the_table_of_the_standard() {
        let (strong1, weak1) = (TAG, EntityTag { weak: true, ..TAG });
        let weak2 = EntityTag { weak: true, opaque: b"2" };
        for (a, b, strong, weak) in [
            (weak1, weak1, false, true),
            (weak1, weak2, false, false),
            (weak1, strong1, false, true),
            (strong1, strong1, true, true),
        ] {
            assert_eq!(a.matches(b, Comparison::Strong), strong, "{a:?} {b:?}");
            assert_eq!(a.matches(b, Comparison::Weak), weak, "{a:?} {b:?}");
        }
    }

    #[test]
    fn field_that_lists_the_tag_matches() {
        for field in [
            "*",
            " * ",
            "\"abc\"",
            "\"x\", \"abc\"",
            "\"x\",\"abc\",\"y\"",
            ",, \"x\" ,\t\"abc\"",
            "\"a,b\", \"abc\"",
        ] {
            assert!(field_matches(field.as_bytes(), TAG, Comparison::Strong), "{field}");
        }
        assert!(field_matches(b"\"x\", W/\"abc\"", TAG, Comparison::Weak));
        assert!(!field_matches(b"\"x\", W/\"abc\"", TAG, Comparison::Strong));
    }

    #[test]
    fn field_that_does_not_list_the_tag_does_not_match() {
        for field in
            ["", ",", "abc", "\"x\"", "\"ABC\"", "\"x\" \"abc\"", "x, \"abc\"", "*, \"abc\"", "\"x,\"abc\""]
        {
            assert!(!field_matches(field.as_bytes(), TAG, Comparison::Weak), "{field}");
        }
    }
}
