use crate::storage::RecordKey;

/// The name of a record's file.
pub(super) fn file_name(key: &RecordKey) -> String {
    format!("{key}.json")
}

/// Recognises exactly the names of records.
pub(super) fn parse_record(name: &[u8]) -> Option<RecordKey> {
    std::str::from_utf8(name).ok()?.strip_suffix(".json")?.parse().ok()
}

/// Recognises exactly the names of what will replace a record.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let parts = std::str::from_utf8(name).ok().and_then(|name| name.strip_suffix(".tmp")?.split_once('.'));
    parts.is_some_and(|(key, nonce)| {
        key.parse::<RecordKey>().is_ok()
            && nonce.len() == 32
            && nonce.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_recognised_exactly() {
        let nonce = "0123456789abcdef0123456789abcdef";
        assert_eq!(parse_record(b"a-1.json"), "a-1".parse().ok());
        assert!(is_temporary(format!("a-1.{nonce}.tmp").as_bytes()));
        for name in ["a.json.bak", "A.json", ".json", "a.b.json", "a.json.tmp", "a.tmp", "notes.txt"] {
            assert_eq!(parse_record(name.as_bytes()), None, "{name}");
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
