//! Bytes that a predictor calls an image.
//!
//! Invariants: what passes has a format, dimensions within the limit, and an end within the bytes;
//! what follows that end changes nothing, and a byte less is no whole image; the decoder agrees
//! about the dimensions; a preview or variant is a whole image itself, of the format and the size it
//! says, within its caps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::image::{
    Fit, Format, Inspected, Limits, PixelsError, PreviewError, VariantSpec, inspect, preview, variant,
};

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 16 };
const PREVIEW_BYTES: usize = 2 * 1024;
const PREVIEW_EDGE: u32 = 64;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(repaired) = repaired(bytes) {
        check(&repaired);
    }
});

fn check(bytes: &[u8]) {
    let Ok(inspected) = inspect(bytes, LIMITS) else { return };
    assert_eq!(Format::sniff(bytes), Some(inspected.format));
    assert!(inspected.length <= bytes.len() && inspected.length as u64 <= LIMITS.max_bytes);
    assert!((1..=LIMITS.max_pixels).contains(&inspected.dimensions.pixels()));
    let image = &bytes[..inspected.length];
    assert_eq!(inspect(image, LIMITS), Ok(inspected));
    assert_eq!(inspect(&[image, b"\0junk"].concat(), LIMITS), Ok(inspected));
    assert!(inspect(&image[..image.len() - 1], LIMITS).is_err());

    match preview(image, inspected, PREVIEW_BYTES, PREVIEW_EDGE) {
        Ok(small) => {
            assert!(small.bytes.len() <= PREVIEW_BYTES);
            assert!(small.width.max(small.height) <= PREVIEW_EDGE);
            let again = inspect(&small.bytes, LIMITS).expect("a preview is an image");
            assert_eq!((again.format, again.length), (small.format, small.bytes.len()));
            assert_eq!((again.dimensions.width, again.dimensions.height), (small.width, small.height));
            check_variant(image, inspected);
        }
        Err(PreviewError::Pixels(PixelsError::Dimensions { width, height, .. })) => {
            panic!("{inspected:?}, but it decodes to {width}x{height}")
        }
        Err(_) => {}
    }
}

/// One of the variants of an image that can be decoded: which one, its length says.
fn check_variant(image: &[u8], inspected: Inspected) {
    let format = Format::ALL[image.len() % 3];
    let quality = if format == Format::Png { 0 } else { 50 };
    let spec = VariantSpec {
        width: 24,
        height: 16,
        fit: Fit::ALL[image.len() / 3 % 3],
        format: format.into(),
        quality,
    };
    let made = variant(image, &spec, LIMITS).expect("what has a preview has variants");
    let again = inspect(&made.bytes, LIMITS).expect("a variant is an image");
    assert_eq!((again.format, again.length), (format, made.bytes.len()));
    assert_eq!(again.dimensions, made.dimensions);
    assert!(made.dimensions.width <= 24 && made.dimensions.height <= 16);
    assert!(made.dimensions.pixels() <= inspected.dimensions.pixels(), "it is never enlarged");
}

/// The same PNG with the right checksums, which a fuzzer does not guess.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut png = bytes.to_vec();
    let mut at = 8;
    (Format::sniff(bytes) == Some(Format::Png)).then_some(())?;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let end = at.checked_add(8)?.checked_add(length)?;
        let Some(covered) = png.get(at + 4..end) else { break };
        let crc = crc32(covered).to_be_bytes();
        let Some(given) = png.get_mut(end..end + 4) else { break };
        given.copy_from_slice(&crc);
        at = end + 4;
    }
    (png != bytes).then_some(png)
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}
