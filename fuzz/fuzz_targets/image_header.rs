//! Bytes that a predictor calls an image.
//!
//! Invariants: what passes has a format, dimensions within the limit, and an end within the bytes;
//! the same bytes cut to that end pass the same way; a preview of it never takes more than its cap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::image::{Format, Limits, inspect, preview};

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 18 };
const PREVIEW_BYTES: usize = 16 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let Ok(inspected) = inspect(bytes, LIMITS) else { return };
    assert_eq!(Format::sniff(bytes), Some(inspected.format));
    assert!(inspected.length <= bytes.len() && inspected.length as u64 <= LIMITS.max_bytes);
    assert!((1..=LIMITS.max_pixels).contains(&inspected.dimensions.pixels()));
    assert_eq!(inspect(&bytes[..inspected.length], LIMITS), Ok(inspected));
    if let Ok(small) = preview(&bytes[..inspected.length], inspected, PREVIEW_BYTES, 64) {
        assert!(small.bytes.len() <= PREVIEW_BYTES);
        assert!((1..=64).contains(&small.width) && (1..=64).contains(&small.height));
    }
});
