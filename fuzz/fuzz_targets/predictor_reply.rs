//! A predictor's reply, in pieces of any size.
//!
//! The first line is the size of the pieces; the rest is the reply. In it, the byte `FF` and a byte
//! `n` repeat the four bytes before them 64 x `n` times: long strings from short inputs.
//!
//! Invariants: cutting changes nothing; an image is never empty, nor larger than the cap; a reply
//! that a plain reading of the whole document finds an image in gives that image, and one that a
//! plain reading finds no image in gives none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::predictor::kserve_v1::{max_reply_bytes, parse_reply};
use serde_json::Value;
use support::script::split_once;

const MAX_IMAGE_BYTES: u64 = 64 * 1024;
/// Over the cap of the reply.
const MAX_REPLY_BYTES: usize = 512 * 1024;

fuzz_target!(|input: &[u8]| {
    let (size, body) = split_once(input, b"\n").unwrap_or((b"", input));
    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or(1_usize).max(1);
    let body = expanded(body);
    let whole = parse_reply([&*body], MAX_IMAGE_BYTES);
    let chunked = parse_reply(body.chunks(size), MAX_IMAGE_BYTES);
    match (&whole, &chunked) {
        (Ok(whole), Ok(chunked)) => {
            assert_eq!(whole, chunked);
            assert!((1..=MAX_IMAGE_BYTES).contains(&(whole.image.len() as u64)));
        }
        // A reply over its cap may be over another one before.
        (Err(_), Err(_)) if body.len() as u64 > max_reply_bytes(MAX_IMAGE_BYTES) => {}
        (Err(whole), Err(chunked)) => assert_eq!(whole.kind(), chunked.kind()),
        _ => panic!("whole {whole:?}, chunked {chunked:?}"),
    }
    match plain(&body) {
        Plain::Image(image) => assert_eq!(whole.map(|reply| reply.image.to_vec()).ok(), Some(image)),
        Plain::NoImage => assert!(whole.is_err(), "{whole:?}"),
        Plain::Unsure => {}
    }
});

fn expanded(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if let (0xff, [times, tail @ ..], Some(start)) = (byte, tail, out.len().checked_sub(4)) {
            rest = tail;
            let unit = out[start..].repeat(usize::from(*times) * 64);
            if out.len() + unit.len() <= MAX_REPLY_BYTES {
                out.extend(unit);
            }
        } else {
            out.push(*byte);
        }
    }
    out
}

/// What reading the whole document as one JSON value comes to.
enum Plain {
    Image(Vec<u8>),
    NoImage,
    /// It has what this reading does not model: pixels, a size near a cap.
    Unsure,
}

fn plain(body: &[u8]) -> Plain {
    if body.len() > 120 * 1024 {
        return Plain::Unsure;
    }
    let Ok(root) = serde_json::from_slice::<Value>(body) else {
        return if has_long_string(body) { Plain::Unsure } else { Plain::NoImage };
    };
    let given = |key| root.get(key).filter(|value| !value.is_null());
    let outer = given("predictions").or_else(|| given("instances")).unwrap_or(&root);
    let first = match outer {
        Value::Array(list) => match list.first() {
            Some(first) => first,
            None => return Plain::NoImage,
        },
        other => other,
    };
    let mut value = first;
    // Each step goes one level down; deeper than this there is no image.
    for _ in 0..8 {
        value = match value {
            Value::String(text) => return decoded(text),
            Value::Array(list) => match list.first() {
                Some(Value::Array(_) | Value::Number(_)) => return Plain::Unsure,
                Some(first) => first,
                None => return Plain::NoImage,
            },
            Value::Object(object) => {
                let keys = ["image", "image_data", "b64", "b64_json"];
                match keys.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null())) {
                    Some(value) => value,
                    None => return Plain::NoImage,
                }
            }
            Value::Number(_) if outer.is_array() => return Plain::Unsure,
            Value::Null | Value::Bool(_) | Value::Number(_) => return Plain::NoImage,
        };
    }
    Plain::NoImage
}

/// Base64 by the book (RFC 4648, sections 4 and 5): bits, white space and padding left out.
fn decoded(text: &str) -> Plain {
    if text.contains('\u{10ffff}') {
        return Plain::Unsure;
    }
    let text = text.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']);
    let text = match text.get(..5) {
        Some(start) if start.eq_ignore_ascii_case("data:") => match text.find(',') {
            Some(comma) if comma <= 250 => &text[comma + 1..],
            Some(_) => return Plain::Unsure,
            None => return Plain::NoImage,
        },
        _ => text,
    };
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect();
    let digits = text.trim_end_matches('=');
    let mut bits = Vec::new();
    for c in digits.chars() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let value = match c {
            '+' | '-' => 62,
            '/' | '_' => 63,
            _ => match alphabet.find(c) {
                Some(value) => value,
                None => return Plain::NoImage,
            },
        };
        bits.extend((0..6).rev().map(|bit| u8::from(value >> bit & 1 == 1)));
    }
    if digits.len() % 4 == 1 {
        return Plain::NoImage;
    }
    let bytes: Vec<u8> =
        bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit)).collect();
    if bytes.is_empty() || bytes.len() as u64 > MAX_IMAGE_BYTES {
        return Plain::NoImage;
    }
    Plain::Image(bytes)
}

/// Whether a string may be so long that it is read without looking at each of its characters.
fn has_long_string(body: &[u8]) -> bool {
    body.split(|&byte| byte == b'"').any(|piece| piece.len() > 1024) || body.len() > 16 * 1024
}
