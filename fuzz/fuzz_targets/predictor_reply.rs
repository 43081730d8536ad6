//! A predictor's reply, in chunks of any size.
//!
//! Invariants: chunking changes nothing; an image is never larger than the cap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::predictor::kserve_v1::parse_reply;

const MAX_IMAGE_BYTES: u64 = 64 * 1024;

fuzz_target!(|input: (u8, &[u8])| {
    let (chunk, body) = input;
    let whole = parse_reply([body], MAX_IMAGE_BYTES);
    let chunked = parse_reply(body.chunks(usize::from(chunk).max(1)), MAX_IMAGE_BYTES);
    match (whole, chunked) {
        (Ok(whole), Ok(chunked)) => {
            assert_eq!(whole.image, chunked.image);
            assert_eq!(whole.model, chunked.model);
            assert_eq!(whole.seed, chunked.seed);
            assert!(whole.image.len() as u64 <= MAX_IMAGE_BYTES);
        }
        (Err(whole), Err(chunked)) => assert_eq!(whole.kind(), chunked.kind()),
        (whole, chunked) => panic!("whole {whole:?}, chunked {chunked:?}"),
    }
});
