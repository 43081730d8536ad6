use super::{
    Inspected, PixelsError,
    pixels::{decode, fit},
};

/// The hash holds a handful of waves; more pixels than this tell it nothing.
const EDGE: u32 = 32;

/// A thumbhash of an image: about 25 bytes from which a page draws a placeholder, in base64.
///
/// `inspected` is what [`inspect`](super::inspect) found in the same `bytes`. The image is decoded:
/// synchronous work on the processor, milliseconds for a megapixel.
///
/// # Errors
/// The image cannot be decoded.
pub fn thumbhash(bytes: &[u8], inspected: Inspected) -> Result<String, PixelsError> {
    let bytes = bytes.get(..inspected.length).unwrap_or(bytes);
    let (pixels, orientation) = decode(bytes, inspected)?;
    let small = pixels.scale(None, fit(pixels.dimensions, EDGE))?.upright(orientation)?;
    let (width, height) = (small.dimensions.width as usize, small.dimensions.height as usize);
    let hash = if small.alpha {
        ::thumbhash::rgba_to_thumb_hash(width, height, &small.data)
    } else {
        let opaque: Vec<u8> =
            small.data.as_chunks().0.iter().flat_map(|&[r, g, b]| [r, g, b, u8::MAX]).collect();
        ::thumbhash::rgba_to_thumb_hash(width, height, &opaque)
    };
    Ok(base64_simd::STANDARD.encode_to_string(hash))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;
    use crate::image::{Limits, inspect};

    fn hash_of(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("encodes");
        let inspected =
            inspect(&bytes, Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 }).expect("an image");
        let text = thumbhash(&bytes, inspected).expect("a hash");
        base64_simd::STANDARD.decode_to_vec(text).expect("base64")
    }

    #[test]
    fn hash_tells_colour_shape_and_transparency() {
        let red = RgbImage::from_pixel(300, 200, Rgb([200, 20, 20]));
        let hash = hash_of(red);
        let (r, g, b, a) = ::thumbhash::thumb_hash_to_average_rgba(&hash).expect("an average");
        assert!(r > 0.7 && g < 0.2 && b < 0.2 && a > 0.99, "{r} {g} {b} {a}");
        let ratio = ::thumbhash::thumb_hash_to_approximate_aspect_ratio(&hash).expect("a ratio");
        assert!((1.2..1.8).contains(&ratio), "{ratio}");
        assert!(hash.len() <= 25, "{}", hash.len());

        let faint = RgbaImage::from_pixel(1, 1000, Rgba([0, 0, 255, 51]));
        let (.., a) = ::thumbhash::thumb_hash_to_average_rgba(&hash_of(faint)).expect("an average");
        assert!((0.1..0.3).contains(&a), "{a}");
    }
}
