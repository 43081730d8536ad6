use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::*;

const MAX: u64 = 1 << 20;

fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn parse(body: &[u8]) -> Result<Reply, Error> {
    parse_reply([body], MAX)
}

/// The same rules on a document that is read whole: what the streaming parser has to agree with.
fn whole(body: &[u8]) -> Option<Vec<u8>> {
    fn image(value: &Value) -> Option<Vec<u8>> {
        if let Some(pixels) = pixels(value) {
            return Some(pixels);
        }
        match value {
            Value::String(text) => {
                let text = text.trim_start();
                let is_url = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
                let text = if is_url { text.split_once(',')?.1 } else { text };
                let text: String = text.split_ascii_whitespace().collect();
                let text = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
                base64_simd::forgiving_decode_to_vec(text.as_bytes()).ok()
            }
            Value::Array(list) => image(list.first()?),
            Value::Object(object) => {
                image(IMAGE_KEYS.iter().find_map(|&key| object.get(key).filter(|value| !value.is_null()))?)
            }
            _ => None,
        }
    }

    fn pixels(value: &Value) -> Option<Vec<u8>> {
        let rows: Vec<Vec<Vec<u8>>> = serde_json::from_value(value.clone()).ok()?;
        let width = u32::try_from(rows.first()?.len()).ok()?;
        let height = u32::try_from(rows.len()).ok()?;
        let data: Vec<u8> = rows.into_iter().flatten().flatten().collect();
        let raw = image::RgbImage::from_raw(width, height, data)?;
        Some(raw.into_raw())
    }

    let root: Value = serde_json::from_slice(body).ok()?;
    let list = ["predictions", "instances"].iter().find_map(|&key| root.get(key)).unwrap_or(&root);
    let first =
        if pixels(list).is_some() { Some(list) } else { list.as_array().map_or(Some(list), |l| l.first()) };
    image(first?).filter(|image| !image.is_empty())
}

/// What a reply holds.
#[derive(Debug, Clone)]
enum Holds {
    Image(Vec<u8>),
    /// An image as lists of these numbers.
    Pixels(Vec<u8>),
    Nothing,
}

impl Holds {
    /// The image of a reply; one that came as lists of pixels as these pixels.
    fn of(&self, reply: Result<Reply, Error>) -> Option<Vec<u8>> {
        let image = reply.ok()?.image;
        match self {
            Self::Pixels(_) => Some(image::load_from_memory(&image).ok()?.into_rgb8().into_raw()),
            Self::Image(_) | Self::Nothing => Some(image.to_vec()),
        }
    }

    fn expected(&self) -> Option<&[u8]> {
        match self {
            Self::Image(bytes) | Self::Pixels(bytes) => Some(bytes),
            Self::Nothing => None,
        }
    }
}

/// Replies of all forms, and what they hold.
fn replies() -> Vec<(String, Holds)> {
    let small = bytes(100);
    let large = bytes(50_001);
    let prompt = "a fox ".repeat(1_666);
    let wide = "\u{1f98a}".repeat(10_000);
    let mut replies = vec![];
    for image in [small, large] {
        let text = base64(&image);
        let url_safe = base64_simd::URL_SAFE_NO_PAD.encode_to_string(&image);
        let lines = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("ASCII"));
        let lines = lines.collect::<Vec<_>>().join("\n");
        for json in [
            json!({"predictions": [{"model_name": "sd", "prompt": prompt, "image": {"format": "PNG", "b64": text}}]}),
            json!({"predictions": [{"image": {"b64": text}}]}),
            json!({"predictions": [{"image": text, "z": wide}]}),
            json!({"predictions": [text, "second"]}),
            json!({"predictions": text}),
            json!({"predictions": [{"image_data": text}]}),
            json!({"predictions": [{"a": wide, "image": null, "image_data": lines}]}),
            json!({"instances": text}),
            json!({"instances": [{"image": format!("data:image/png;base64,{text}")}]}),
            json!({"predictions": [{"image": format!(" DATA:image/png;base64,{url_safe}")}], "instances": "AAAA"}),
            json!({"image": url_safe, "mask": text}),
            json!([[{"b64": [text]}]]),
        ] {
            let holds = Holds::Image(image.clone());
            replies.push((json.to_string(), holds.clone()));
            replies.push((json.to_string().replace('/', "\\/").replace('+', "\\u002B"), holds.clone()));
            replies.push((serde_json::to_string_pretty(&json).expect("JSON"), holds));
        }
    }
    let rows: Vec<Vec<[u8; 3]>> = vec![vec![[1, 2, 3], [4, 5, 6]], vec![[7, 8, 9], [255, 0, 0]]];
    for json in [
        json!({"predictions": [rows]}),
        json!({"predictions": rows}),
        json!({"predictions": [rows, rows]}),
        json!({"predictions": [{"boxes": [[[0.5]]], "image": rows, "prompt": wide}]}),
        json!({"predictions": [[rows]]}),
    ] {
        let holds = Holds::Pixels(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 0, 0]);
        replies.push((json.to_string(), holds.clone()));
        replies.push((serde_json::to_string_pretty(&json).expect("JSON"), holds));
    }
    for json in [
        json!({"predictions": []}),
        json!({"predictions": [{"image": base64(&bytes(30_000)) + "!"}]}),
        json!({"predictions": [{"image": "not base64"}]}),
        json!({"predictions": [{"image": ""}]}),
        json!({"predictions": [7]}),
        json!({"predictions": [[[[1, 2, 3], [4, 5]]]]}),
        json!({"prompt": base64(&bytes(30_000))}),
        json!(null),
    ] {
        replies.push((json.to_string(), Holds::Nothing));
    }
    replies
}

#[test]
fn reply_cut_anywhere_is_the_same_as_read_whole() {
    let mut random = StdRng::seed_from_u64(7);
    for (body, holds) in replies() {
        let shown = format!("{holds:.40?}: {:.200}", body);
        let (body, expected) = (body.as_bytes(), holds.expected());
        assert_eq!(whole(body).as_deref(), expected, "{shown}");
        let check = |pieces: Vec<&[u8]>| {
            assert!(holds.of(parse_reply(pieces, MAX)).as_deref() == expected, "{shown}");
        };
        check(vec![body]);
        for length in [1, 2, 3, 7, 1_000, 16_385] {
            check(body.chunks(length).collect());
        }
        for _ in 0..10 {
            let (mut rest, mut pieces) = (body, vec![]);
            while !rest.is_empty() {
                let longest = [3, 300, 30_000][random.random_range(0..3)];
                let (piece, tail) = rest.split_at(random.random_range(1..=longest).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            check(pieces);
        }
    }
}

#[test]
fn reply_cut_at_each_byte_of_an_escape_is_the_same() {
    let image = bytes(20_000);
    let text = base64(&image).replace('/', "\\/").replace('=', "\\u003d");
    let body = format!(r#"{{"predictions":[{{"p":"\"\\","image":"{}\u003d"}}]}}"#, text);
    for at in 0..body.len().min(300) {
        let (head, tail) = body.as_bytes().split_at(at);
        assert_eq!(parse_reply([head, tail], MAX).expect("read").image, image);
        let (head, tail) = body.as_bytes().split_at(body.len() - at);
        assert_eq!(parse_reply([head, tail], MAX).expect("read").image, image);
        // Around the place where a string becomes a long one.
        let (head, tail) = body.as_bytes().split_at(scan::LONG_STRING - 150 + at);
        assert_eq!(parse_reply([head, tail], MAX).expect("read").image, image);
    }
}

#[test]
fn reply_with_long_strings_beside_the_image_gives_the_image() {
    let image = bytes(500);
    for other in ["A".repeat(10_000), "A".repeat(100_000), "é".repeat(40_000), "\u{7}".repeat(10_000)] {
        let body = json!({"predictions": [{"prompt": other, "image": {"b64": base64(&image)}, "z": other}]});
        assert_eq!(parse(body.to_string().as_bytes()).expect("read").image, image);
    }
}

#[test]
fn reply_that_names_model_and_seed_gives_them() {
    for (body, model, seed) in [
        (json!({"predictions": [{"model_name": "sd", "image": "AAAA", "seed": 7}]}), Some("sd"), Some(7)),
        (json!({"model_name": "sd", "predictions": ["AAAA"]}), Some("sd"), None),
        (json!({"predictions": [{"model_name": "", "image": "AAAA", "seed": -1}]}), None, None),
        (json!({"predictions": [{"model_name": "x".repeat(20_000), "image": "AAAA"}]}), None, None),
    ] {
        let reply = parse(body.to_string().as_bytes()).expect("read");
        assert_eq!((reply.model.as_deref(), reply.seed), (model, seed));
        assert_eq!(reply.image, [0, 0, 0][..]);
    }
}

#[test]
fn reply_without_an_image_says_what_is_wrong() {
    for (body, part) in [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        (r#"{"predictions":[{"image":"AAAA"#, "not JSON"),
        (r#"{"predictions":[{"image":"AAAA"}]} x"#, "not JSON"),
        ("[[[[[", "not JSON"),
        (r#"{"predictions":[]}"#, "list of predictions is empty"),
        (r#"{"predictions":[{"image":{"b64":"%%"}}]}"#, "not base64"),
        (r#"{"predictions":[{"image":{"b64":""}}]}"#, "empty"),
        (r#"{"predictions":[{"label":3}]}"#, "no image"),
        (r#"{"predictions":[[[[1,2,3],[4,5]]]]}"#, "height x width x 3"),
        (r#"{"predictions":[{"image":[[[[[[[[["AAAA"]]]]]]]]]}]}"#, "no image"),
    ] {
        let Err(Error::BadReply { reason }) = parse(body.as_bytes()) else { panic!("{body}") };
        assert!(reason.contains(part), "{body}: {reason}");
    }
    let truncated = format!(r#"{{"predictions":["{}"#, "A".repeat(50_000));
    assert!(matches!(parse(truncated.as_bytes()), Err(Error::BadReply { .. })));
}

#[test]
fn reply_that_is_an_error_in_disguise_is_that_error() {
    let kind = |body: &str| parse(body.as_bytes()).expect_err("an error").kind();
    assert_eq!(kind(r#"{"error":"CUDA out of memory"}"#), "out_of_memory");
    assert_eq!(kind(r#"{"predictions":[{"error":"no luck"}]}"#), "failed");
}

#[test]
fn reply_with_an_image_at_the_limit_is_taken_and_one_beyond_is_not() {
    for max in [10, 1_000, 30_000] {
        for (length, fits) in [(max, true), (max + 1, false)] {
            let body = json!({"predictions": [{"image": base64(&bytes(length))}]}).to_string();
            let reply = parse_reply(body.as_bytes().chunks(999), max as u64);
            match reply {
                Ok(reply) => assert!(fits && reply.image.len() == length, "{length}"),
                Err(Error::TooLarge { max_bytes }) => assert!(!fits && max_bytes == max as u64, "{length}"),
                Err(other) => panic!("{length}: {other}"),
            }
        }
    }
}

#[test]
fn reply_without_end_is_given_up_at_its_cap() {
    let piece = vec![b'A'; 10_000];
    let endless =
        |start: &'static [u8], piece: &'static [u8]| std::iter::once(start).chain(std::iter::repeat(piece));
    let piece: &'static [u8] = piece.leak();
    for (start, piece) in [(&b"{\"predictions\":[\""[..], piece), (b"[", b"[[[1,2,3]]],"), (b"\"", b"\\")] {
        let mut taken = 0;
        let counted = endless(start, piece).inspect(|piece| taken += piece.len() as u64);
        assert!(parse_reply(counted, MAX).is_err());
        assert!(taken <= max_reply_bytes(MAX) + piece.len() as u64, "{taken}");
    }
    for endless in [&b"["[..], b" ", b"1,", b"\"a\","] {
        let Err(Error::BadReply { reason }) = parse_reply(std::iter::repeat(endless), MAX) else { panic!() };
        assert!(reason.contains("128 KiB"), "{reason}");
    }
}

#[test]
fn reader_told_of_a_length_over_the_cap_refuses_before_reading() {
    assert!(matches!(ReplyReader::new(Some(max_reply_bytes(MAX) + 1), MAX), Err(Error::TooLarge { .. })));
    assert!(ReplyReader::new(Some(max_reply_bytes(MAX)), MAX).is_ok());
}
