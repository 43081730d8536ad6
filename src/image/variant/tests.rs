use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;
use crate::image::{Inspected, pixels::decoder_format};

const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_pixels: 1 << 24 };

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
    bytes
}

/// A picture with edges and gradients, as a model might draw it.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let [x, y] = [x * 255 / width, y * 255 / height].map(|c| u8::try_from(c).expect("below 256"));
        if x / 64 % 2 == 0 { Rgb([x, y, 40]) } else { Rgb([y, 255 - x, 200]) }
    })
}

const fn spec(width: u32, height: u32, fit: Fit, format: Format) -> VariantSpec {
    let quality = if matches!(format, Format::Png) { 0 } else { 80 };
    VariantSpec { width, height, fit, format: VariantFormat::Stored(format), quality }
}

fn decoded(variant: &Variant) -> DynamicImage {
    let Inspected { format, dimensions, length } = inspect(&variant.bytes, LIMITS).expect("an image");
    assert_eq!(variant.format, format);
    assert_eq!((dimensions, length), (variant.dimensions, variant.bytes.len()));
    ::image::load_from_memory_with_format(&variant.bytes, decoder_format(format)).expect("decodes")
}

#[test]
fn variant_of_every_format_in_every_format_looks_like_the_original() {
    let original = picture(640, 480);
    let expected = DynamicImage::ImageRgb8(original.clone()).resize_exact(
        320,
        240,
        ::image::imageops::FilterType::Triangle,
    );
    for from in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = encoded(original.clone(), from);
        for to in Format::ALL {
            let variant = variant(&bytes, &spec(320, 2048, Fit::Contain, to), LIMITS).expect("a variant");
            assert_eq!(variant.dimensions, Dimensions { width: 320, height: 240 });
            let (seen, wanted) = (decoded(&variant).into_rgb8(), expected.to_rgb8());
            let difference: u64 =
                seen.iter().zip(wanted.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = difference / seen.len() as u64;
            assert!(mean < 8, "{from:?} to {to}: off by {mean} of 255");
        }
    }
}

#[test]
fn lossy_variant_is_smaller_with_less_quality() {
    let bytes = encoded(picture(512, 512), ImageFormat::Png);
    for format in [Format::Jpeg, Format::WebP] {
        let [low, high] = [20, 95].map(|quality| {
            let spec = VariantSpec { quality, ..spec(512, 512, Fit::Contain, format) };
            variant(&bytes, &spec, LIMITS).expect("a variant").bytes.len()
        });
        assert!(low < high, "{format}: {low} against {high}");
    }
}

#[test]
fn cover_shows_the_middle() {
    // Red left and right, green in the middle.
    let image = RgbImage::from_fn(300, 100, |x, _| {
        if (100..200).contains(&x) { Rgb([0, 200, 0]) } else { Rgb([200, 0, 0]) }
    });
    let bytes = encoded(image, ImageFormat::Png);
    let covered = variant(&bytes, &spec(64, 64, Fit::Cover, Format::Png), LIMITS).expect("a variant");
    assert_eq!(covered.dimensions, Dimensions { width: 64, height: 64 });
    for pixel in decoded(&covered).into_rgb8().pixels().skip(64 * 20).step_by(63) {
        assert!(pixel[1] > 150 || pixel[0] < 120, "{pixel:?}");
    }
    let filled = variant(&bytes, &spec(64, 64, Fit::Fill, Format::Png), LIMITS).expect("a variant");
    assert!(decoded(&filled).into_rgb8().get_pixel(2, 32)[0] > 150);
}

#[test]
fn transparency_stays_where_the_format_has_it_and_lies_on_white_in_jpeg() {
    let image =
        RgbaImage::from_fn(
            200,
            200,
            |x, _| if x < 100 { Rgba([9, 9, 9, 0]) } else { Rgba([0, 0, 200, 255]) },
        );
    let bytes = encoded(image, ImageFormat::Png);
    for format in Format::ALL {
        let variant = variant(&bytes, &spec(64, 64, Fit::Contain, format), LIMITS).expect("a variant");
        let seen = decoded(&variant).into_rgba8();
        let clear = seen.get_pixel(4, 32);
        if format == Format::Jpeg {
            assert!(clear[0] > 240 && clear[3] == 255, "{clear:?}");
        } else {
            assert!(clear[3] < 8, "{format}: {clear:?}");
        }
        assert!(seen.get_pixel(60, 32)[2] > 180);
    }
}

#[test]
fn image_that_is_to_be_turned_is_turned() {
    let bytes = include_bytes!("../testdata/rotated.jpg");
    let variant = variant(bytes, &spec(64, 2048, Fit::Contain, Format::Png), LIMITS).expect("a variant");
    assert!(variant.dimensions.height > variant.dimensions.width);
    decoded(&variant);
}

#[test]
fn image_over_the_pixel_limit_is_not_decoded() {
    let bytes = encoded(picture(65, 64), ImageFormat::Png);
    let limits = Limits { max_pixels: 64 * 64, ..LIMITS };
    let error = variant(&bytes, &spec(64, 64, Fit::Contain, Format::Png), limits).expect_err("refused");
    assert!(matches!(error, VariantError::Inspect(InspectError::TooManyPixels { .. })), "{error}");
}

#[test]
fn same_work_gives_the_same_bytes() {
    let bytes = encoded(picture(300, 300), ImageFormat::Png);
    for format in Format::ALL {
        let make = || variant(&bytes, &spec(128, 128, Fit::Contain, format), LIMITS).expect("a variant");
        assert_eq!(make(), make(), "{format}");
    }
}

#[test]
fn variant_of_a_changed_image_never_panics() {
    let bytes = include_bytes!("../testdata/lossy_alpha.webp");
    for position in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[position] ^= 0x55;
        if let Ok(variant) = variant(&changed, &spec(64, 64, Fit::Cover, Format::WebP), LIMITS) {
            assert!(variant.dimensions.width <= 64 && variant.dimensions.height <= 64);
        }
    }
}

#[cfg(feature = "avif")]
mod avif {
    use super::*;

    fn made(width: u32, height: u32, alpha: bool, into: u32, quality: u8) -> Variant {
        let image = DynamicImage::ImageRgb8(picture(width, height));
        let mut image = if alpha { DynamicImage::ImageRgba8(image.into_rgba8()) } else { image };
        if let Some(pixels) = image.as_mut_rgba8() {
            pixels.pixels_mut().step_by(2).for_each(|pixel| pixel[3] = 0);
        }
        let format = VariantFormat::Avif;
        let spec = VariantSpec { width: into, height: into, fit: Fit::Contain, format, quality };
        variant(&encoded(image, ImageFormat::Png), &spec, LIMITS).expect("a variant")
    }

    /// The first box of this type, from its content on. Not a parser: what is looked for is in no payload here.
    fn found<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
        bytes.windows(4).position(|window| window == name).map(|at| &bytes[at + 4..])
    }

    #[test]
    fn avif_is_one_of_the_size_planned_however_small() {
        for (of, into, size) in [
            ((640, 480), 128, (128, 96)),
            ((333, 77), 64, (64, 15)),
            ((20, 20), 64, (20, 20)),
            ((1, 1), 64, (1, 1)),
            ((1, 300), 64, (1, 64)),
            ((3, 5), 64, (3, 5)),
        ] {
            for alpha in [false, true] {
                let variant = made(of.0, of.1, alpha, into, 75);
                assert_eq!(&variant.bytes[4..12], b"ftypavif", "{of:?}");
                assert_eq!((variant.dimensions.width, variant.dimensions.height), size, "{of:?}");
                // Image spatial extents: version and flags, then the two sides.
                let extents = &found(&variant.bytes, b"ispe").expect("extents")[4..12];
                assert_eq!(extents, [size.0.to_be_bytes(), size.1.to_be_bytes()].concat(), "{of:?}");
            }
        }
    }

    #[test]
    fn avif_has_alpha_where_the_image_has() {
        let auxiliary = |alpha| found(&made(64, 64, alpha, 64, 75).bytes, b"auxC").is_some();
        assert!(auxiliary(true));
        assert!(!auxiliary(false));
    }

    #[test]
    fn avif_is_smaller_with_less_quality_and_the_same_every_time() {
        let [low, high, again] = [10, 90, 90].map(|quality| made(256, 256, false, 128, quality).bytes);
        assert!(low.len() < high.len(), "{} against {}", low.len(), high.len());
        assert_eq!(high, again);
    }

    #[test]
    fn memory_of_a_variant_is_that_of_the_larger_stage() {
        assert_eq!(variant_memory(1 << 24), decoding_memory(1 << 24), "to decode so much takes more");
        assert_eq!(variant_memory(1 << 20), (128 << 20) + (8 << 20), "to encode so much");
        assert_eq!(variant_memory(1 << 22), variant_memory(1 << 20), "no more is encoded");
    }
}
