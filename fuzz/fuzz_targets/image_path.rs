//! An image's path, id and listing query, as a client writes them.
//!
//! Invariants: an id has one spelling and is what RFC 9562 calls a UUIDv7; an image has one path
//! without and one with its extension; a listing's parameters are within their bounds, and written
//! out again they read the same; errors are few and short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::{
    image::{Format, ImageId},
    images::{Route, parse_query},
};
use url::form_urlencoded::Serializer;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    id(text);
    path(text);
    query(text);
});

fn id(text: &str) {
    let parsed = text.parse::<ImageId>();
    assert_eq!(parsed.is_ok(), is_uuid_v7(text));
    let Ok(id) = parsed else { return };
    assert_eq!(id.to_string(), text);
    assert_eq!(id.bucket(), text.replace('-', "")[..7]);
    let millis = u64::from_str_radix(&text.replace('-', "")[..12], 16).expect("hex");
    assert_eq!(id.created_millis(), millis);
    assert!(id.created_at().timestamp_millis() > 0 || millis == 0);
    let json = format!("\"{text}\"");
    assert_eq!(serde_json::from_str::<ImageId>(&json).ok(), Some(id));
    assert_eq!(serde_json::to_string(&id).ok(), Some(json));
}

fn path(text: &str) {
    match Route::of(text) {
        Route::Image { id, format } => {
            let canonical = match format {
                Some(format) => format!("/images/{id}.{}", format.extension()),
                None => format!("/images/{id}"),
            };
            assert_eq!(canonical, text, "an image has one path a format");
        }
        Route::Collection => assert!(matches!(text, "/images" | "/images/")),
        Route::Unknown => {
            let name = text.strip_prefix("/images/").unwrap_or_default();
            let (id, extension) = name.split_once('.').map_or((name, None), |(id, rest)| (id, Some(rest)));
            let known = extension
                .is_none_or(|extension| Format::ALL.iter().any(|format| format.extension() == extension));
            assert!(!(is_uuid_v7(id) && known), "an image's path is known");
        }
    }
}

fn query(text: &str) {
    match parse_query(Some(text)) {
        Ok(query) => {
            assert!((1..=1000).contains(&query.limit));
            let prefix = query.prefix.clone().unwrap_or_default();
            assert!(
                prefix.len() <= 36
                    && prefix.bytes().all(|b| b == b'-' || matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
            let mut written = Serializer::new(String::new());
            written.append_pair("limit", &query.limit.to_string()).append_pair("prefix", &prefix);
            if let Some(cursor) = query.cursor {
                written.append_pair("cursor", &cursor.to_string());
            }
            let again = parse_query(Some(&written.finish())).expect("a query");
            assert_eq!((again.prefix, again.cursor, again.limit), (query.prefix, query.cursor, query.limit));
        }
        Err(invalid) => {
            assert!((1..=8).contains(&invalid.0.len()));
            assert!(invalid.0.iter().all(|error| error.field.len() + error.value.len() <= 4 * 130));
        }
    }
}

/// Lower case and hyphenated, version 7, variant `10` (RFC 9562, sections 4 and 5.7).
fn is_uuid_v7(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && groups[2].starts_with('7')
        && groups[3].starts_with(['8', '9', 'a', 'b'])
}
