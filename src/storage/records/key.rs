use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Characters of a key at most.
const MAX_LENGTH: usize = 128;

/// The name of a record: up to 128 lower-case letters, digits, `-` and `_`.
///
/// These mean themselves in a file's name, in an object's key and in a URL, also where letters in
/// another case would be the same name. What others chose, such as an idempotency key, becomes a
/// key by [`RecordKey::digest`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(String);

/// The text is not a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected 1 to {MAX_LENGTH} lower-case letters, digits, `-` and `_`")]
pub struct InvalidRecordKey;

impl RecordKey {
    /// A key made of any texts: other texts, or the same in another order or otherwise cut, give
    /// another key. It does not tell what they were.
    #[must_use]
    pub fn digest(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordKey {
    type Err = InvalidRecordKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX_LENGTH).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidRecordKey) }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_safe_characters_is_itself() {
        for text in ["a", "0198c2a4-job_7", &"x".repeat(128)] {
            assert_eq!(text.parse::<RecordKey>().map(|key| key.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn key_of_other_characters_is_refused() {
        for text in ["", "A", "a.json", "../a", "a/b", "é", "a b", "a\0", &"x".repeat(129)] {
            assert_eq!(text.parse::<RecordKey>(), Err(InvalidRecordKey), "{text}");
        }
    }

    #[test]
    fn digest_is_a_key_and_tells_texts_apart() {
        let digest = RecordKey::digest(&["client", "../Schlüssel \u{0}"]);
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        assert_eq!(digest, RecordKey::digest(&["client", "../Schlüssel \u{0}"]));
        for other in [&["client../Schlüssel \u{0}"][..], &["../Schlüssel \u{0}", "client"], &["client"], &[]]
        {
            assert_ne!(digest, RecordKey::digest(other));
        }
    }
}
