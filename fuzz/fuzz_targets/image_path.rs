//! An image's path, id and listing query, as a client writes them.
//!
//! Invariants: an id has one spelling and is what RFC 9562 calls a UUIDv7; an image has one path
//! without and one with its extension; the parameters of a listing and of a variant are within their
//! bounds, and written out again they read the same; no signature counts but one that was given out,
//! for what it was given out for; errors are few and short.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mcp_image_server::{
    image::{Format, ImageId, ImageUrls, Signature, SigningKey},
    images::{Asked, InvalidQuery, Route, Sizes, parse_query},
    secret::Secret,
};
use url::form_urlencoded::{self, Serializer};

/// What `ImageUrls` gave out once for `PATH` with the key below; its time is over in 2925.
const PATH: &str = "/images/01980000-0000-7000-8000-000000000000.png";

static SIZES: LazyLock<Sizes> = LazyLock::new(|| Sizes::new(vec![64, 128, 512]));
static URLS: LazyLock<ImageUrls> = LazyLock::new(|| {
    let key = SigningKey { id: "k1".to_owned(), secret: Secret::new("a key of thirty-two bytes, or so") };
    ImageUrls::signed("http://localhost", vec![key], None)
});

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    id(text);
    path(text);
    query(text);
    let (path, query) = text.split_once('?').unwrap_or(("", text));
    asked(query);
    signature(path, query);
});

fn id(text: &str) {
    let parsed = text.parse::<ImageId>();
    assert_eq!(parsed.is_ok(), is_uuid_v7(text));
    let Ok(id) = parsed else { return };
    assert_eq!(id.to_string(), text);
    assert_eq!(id.bucket().replace('/', ""), text[..8]);
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
            let prefix = query.prefix.as_deref().unwrap_or_default();
            assert!(
                prefix.len() <= 36 && prefix.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            );
            let mut written = Serializer::new(format!("limit={}", query.limit));
            let moment = |moment: chrono::DateTime<chrono::Utc>| moment.to_rfc3339();
            for (name, value) in [
                ("prefix", query.prefix.clone()),
                ("cursor", query.cursor.map(|cursor| cursor.to_string())),
                ("model", query.model.clone()),
                ("created_after", query.created_after.map(moment)),
                ("created_before", query.created_before.map(moment)),
            ] {
                if let Some(value) = value {
                    written.append_pair(name, &value);
                }
            }
            let written = written.finish();
            assert_eq!(parse_query(Some(&written)), Ok(query), "{written}");
        }
        Err(invalid) => check_errors(&invalid),
    }
}

fn asked(query: &str) {
    match Asked::parse(Some(query), &SIZES) {
        Ok(asked) => {
            let Some(variant) = asked.variant else { return };
            let again = Asked::parse(Some(&variant.to_string()), &SIZES).expect("what was read");
            assert_eq!(again.variant, Some(variant));
            assert_eq!(again.variant.map(|variant| variant.to_string()), Some(variant.to_string()));
        }
        Err(invalid) => check_errors(&invalid),
    }
}

fn signature(path: &str, query: &str) {
    let Ok(asked) = Asked::parse(Some(query), &SIZES) else { return };
    let variant = asked.variant.map(|variant| variant.to_string()).unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let value = |name: &str| pairs.iter().find(|(given, _)| given == name).map(|(_, value)| &**value);
    let (Some(expires), Some(key), Some(signature)) = (value("exp"), value("key"), value("sig")) else {
        return;
    };
    let given = Signature { expires, key, signature };
    if URLS.verify(path, &variant, given, chrono::DateTime::UNIX_EPOCH).is_ok() {
        assert_eq!((path, key), (PATH, "k1"), "nothing else was signed");
        assert!(variant.is_empty() || variant == "w=64&format=auto");
    }
}

fn check_errors(invalid: &InvalidQuery) {
    assert!((1..=9).contains(&invalid.0.len()));
    // 64 characters and an ellipsis, each of four bytes at most.
    assert!(invalid.0.iter().all(|error| error.field.len().max(error.value.len()) <= 4 * 65));
    assert!(invalid.0.iter().all(|error| !error.allowed.is_empty()));
}

/// Lower case and hyphenated, version 7, variant `10` (RFC 9562, sections 4 and 5.7).
fn is_uuid_v7(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && groups[2].starts_with('7')
        && groups[3].starts_with(['8', '9', 'a', 'b'])
}
