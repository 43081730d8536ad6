//! `Range`, `If-None-Match` and their kin (RFC 9110, sections 13 and 14).
//!
//! Invariants: a range that resolves lies within the length and is not empty; a field that holds our
//! tag as the only member matches it; parsing an entity tag keeps its text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::images::{Comparison, EntityTag, RangeSpec, field_matches};

fuzz_target!(|input: (u32, &[u8])| {
    let (length, field) = input;
    let length = u64::from(length);
    if let Some(Ok(range)) = RangeSpec::parse(field).map(|spec| spec.resolve(length)) {
        assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
    }
    let ours = EntityTag::parse(b"\"0123456789abcdef\"").expect("a strong tag");
    let weak = field_matches(field, ours, Comparison::Weak);
    let strong = field_matches(field, ours, Comparison::Strong);
    assert!(!strong || weak, "what matches strongly matches weakly");
    if weak {
        let text = String::from_utf8_lossy(field);
        assert!(text.contains("0123456789abcdef") || text.contains('*'));
    }
});
