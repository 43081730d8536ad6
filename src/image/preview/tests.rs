use std::io::Cursor;

use ::image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;
use crate::image::{Limits, inspect, pixels::decoder_format};

const MAX_BYTES: usize = 90_000;
const MAX_EDGE: u32 = 512;
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_pixels: 1 << 24 };

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
    bytes
}

fn preview_of(bytes: &[u8], max_bytes: usize, max_edge: u32) -> Result<Preview, PreviewError> {
    preview(bytes, inspect(bytes, LIMITS).expect("an image"), max_bytes, max_edge)
}

/// Pixels that compress badly.
fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, r, g, b] = state.to_le_bytes();
        Rgb([r, g, b])
    })
}

fn decoded(preview: &Preview) -> RgbImage {
    let image = ::image::load_from_memory_with_format(&preview.bytes, decoder_format(preview.format));
    let image = image.expect("the preview decodes").into_rgb8();
    assert_eq!(image.dimensions(), (preview.width, preview.height));
    image
}

#[test]
fn image_that_is_small_enough_is_returned_as_it_is() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = encoded(noise(64, 48), format);
        let preview = preview_of(&[&bytes[..], b"tail"].concat(), MAX_BYTES, MAX_EDGE).expect("a preview");
        assert_eq!(preview.bytes, bytes);
        assert_eq!((preview.width, preview.height, preview.uniform), (64, 48, false));
        assert_eq!(decoder_format(preview.format), format);
    }
}

#[test]
fn large_image_is_scaled_and_keeps_its_shape() {
    for (width, height, expected) in
        [(640, 480, (512, 384)), (300, 600, (256, 512)), (2048, 1, (512, 1)), (1, 2048, (1, 512))]
    {
        let bytes = encoded(noise(width, height), ImageFormat::Png);
        let preview = preview_of(&bytes, MAX_BYTES, MAX_EDGE).expect("a preview");
        assert_eq!((preview.width, preview.height), expected);
        assert_eq!(preview.format, Format::Jpeg);
        assert!(preview.bytes.len() <= MAX_BYTES);
        decoded(&preview);
    }
}

#[test]
fn preview_fits_any_allowance_a_jpeg_can_meet() {
    let bytes = encoded(noise(256, 256), ImageFormat::Png);
    for max_bytes in [90_000, 20_000, 4_000, 1_000] {
        let preview = preview_of(&bytes, max_bytes, MAX_EDGE).expect("a preview");
        assert!(preview.bytes.len() <= max_bytes);
        decoded(&preview);
    }
    let error = preview_of(&bytes, 100, MAX_EDGE).expect_err("no room");
    assert!(matches!(error, PreviewError::NoRoom { max_bytes: 100 }), "{error}");
}

#[test]
fn preview_of_every_pixel_type_shows_the_colour() {
    let grey = ImageBuffer::from_pixel(600, 600, Luma([0x8000_u16]));
    let colour = ImageBuffer::from_pixel(600, 600, Rgba([0_u16, 0x8000, 0xffff, 0xffff]));
    for (image, expected) in [
        (DynamicImage::ImageLuma16(grey.clone()), [128, 128, 128]),
        (DynamicImage::ImageLuma8(DynamicImage::ImageLuma16(grey).into_luma8()), [128, 128, 128]),
        (DynamicImage::ImageRgba16(colour), [0, 128, 255]),
    ] {
        let preview = preview_of(&encoded(image, ImageFormat::Png), MAX_BYTES, MAX_EDGE).expect("a preview");
        assert!(preview.uniform);
        assert_close(*decoded(&preview).get_pixel(256, 256), expected);
    }
}

#[test]
fn transparent_parts_become_white_without_bleeding() {
    let image =
        RgbaImage::from_fn(
            1024,
            1024,
            |x, _| {
                if x < 512 { Rgba([0, 0, 0, 0]) } else { Rgba([200, 0, 0, 255]) }
            },
        );
    let preview = preview_of(&encoded(image, ImageFormat::WebP), MAX_BYTES, MAX_EDGE).expect("a preview");
    assert!(!preview.uniform);
    let image = decoded(&preview);
    assert_close(*image.get_pixel(20, 20), [255, 255, 255]);
    assert_close(*image.get_pixel(500, 500), [200, 0, 0]);
}

#[test]
fn image_of_one_colour_is_uniform_and_of_two_is_not() {
    let black = RgbImage::new(512, 512);
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        assert!(preview_of(&encoded(black.clone(), format), MAX_BYTES, MAX_EDGE).expect("a preview").uniform);
    }
    let mut speck = black;
    speck.put_pixel(511, 511, Rgb([0, 0, 1]));
    assert!(!preview_of(&encoded(speck, ImageFormat::Png), MAX_BYTES, MAX_EDGE).expect("a preview").uniform);
    let invisible = RgbaImage::from_fn(16, 16, |x, y| Rgba([u8::try_from(x * y).expect("small"), 0, 0, 0]));
    assert!(
        preview_of(&encoded(invisible, ImageFormat::Png), MAX_BYTES, MAX_EDGE).expect("a preview").uniform
    );
}

#[test]
fn files_of_other_encoders_are_decoded() {
    for bytes in [
        &include_bytes!("../testdata/progressive.jpg")[..],
        include_bytes!("../testdata/restart.jpg"),
        include_bytes!("../testdata/cmyk.jpg"),
        include_bytes!("../testdata/lossy.webp"),
        include_bytes!("../testdata/lossy_alpha.webp"),
        include_bytes!("../testdata/animated.webp"),
        include_bytes!("../testdata/palette.png"),
    ] {
        let preview = preview_of(bytes, MAX_BYTES, 16).expect("a preview");
        assert_eq!((preview.width, preview.height, preview.uniform), (16, 10, false));
        decoded(&preview);
    }
}

#[test]
fn image_that_is_to_be_turned_is_turned() {
    let preview = preview_of(include_bytes!("../testdata/rotated.jpg"), MAX_BYTES, 16).expect("a preview");
    assert_eq!((preview.width, preview.height), (10, 16));
}

#[test]
fn image_with_sound_structure_and_spoilt_data_is_a_decode_error() {
    let mut webp = encoded(noise(64, 64), ImageFormat::WebP);
    webp[30..].fill(0xff);
    let error = preview_of(&webp, MAX_BYTES, MAX_EDGE).expect_err("spoilt");
    assert!(
        matches!(error, PreviewError::Pixels(PixelsError::Decode { format: Format::WebP, .. })),
        "{error}"
    );
}

#[test]
fn image_of_another_size_than_inspected_is_refused() {
    let bytes = encoded(noise(8, 8), ImageFormat::Png);
    let mut inspected = inspect(&bytes, LIMITS).expect("an image");
    inspected.dimensions = Dimensions { width: 9, height: 9 };
    let error = preview(&bytes, inspected, MAX_BYTES, MAX_EDGE).expect_err("refused");
    assert!(
        matches!(error, PreviewError::Pixels(PixelsError::Dimensions { width: 8, height: 8, .. })),
        "{error}"
    );
}

#[test]
fn preview_of_a_changed_image_never_panics() {
    for bytes in [
        &include_bytes!("../testdata/progressive.jpg")[..],
        include_bytes!("../testdata/lossy_alpha.webp"),
        include_bytes!("../testdata/restart.jpg"),
    ] {
        let mut decoded = 0;
        for position in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[position] ^= 0x55;
            let Ok(inspected) = inspect(&changed, LIMITS) else { continue };
            if let Ok(preview) = preview(&changed, inspected, MAX_BYTES, 16) {
                decoded += 1;
                assert!(preview.width <= 16 && preview.height <= 16);
            }
        }
        assert!(decoded > 0);
    }
}

fn assert_close(pixel: Rgb<u8>, expected: [u8; 3]) {
    for (channel, expected) in pixel.0.into_iter().zip(expected) {
        assert!(channel.abs_diff(expected) <= 4, "{:?} is not {expected:?}", pixel.0);
    }
}
