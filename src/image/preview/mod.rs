//! A small preview of an image: what a model gets to see inline.

use ::image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use bytes::Bytes;

use super::{
    Dimensions, Format, Inspected, PixelsError,
    pixels::{Pixels, decode, fit},
};

/// JPEG qualities, tried in this order until the preview is small enough.
const QUALITIES: [u8; 7] = [85, 75, 65, 50, 35, 20, 10];

/// An encoded image of a small size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The encoded preview.
    pub bytes: Bytes,
    /// Its format: JPEG, or the original's where that was small enough.
    pub format: Format,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// Whether every pixel of the original has the same colour, as in the black frames that a
    /// model's safety checker puts in place of an image.
    pub uniform: bool,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The image cannot be decoded or scaled.
    #[error(transparent)]
    Pixels(#[from] PixelsError),
    /// The decoded image could not be encoded.
    #[error("the preview cannot be encoded")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not even one pixel has room in the bytes allowed.
    #[error("no preview fits into {max_bytes} bytes")]
    NoRoom {
        /// The bytes allowed.
        max_bytes: usize,
    },
}

/// Makes a preview of at most `max_bytes` bytes whose longer side has at most `max_edge` pixels.
/// An image that is that small already is returned as it is. Transparent parts become white.
///
/// `inspected` is what [`inspect`](super::inspect) found in the same `bytes`. The image is decoded
/// in any case, so success also tells that it can be. Synchronous work on the processor, with about
/// 16 bytes of memory a pixel at most: call it where blocking is allowed.
///
/// # Errors
/// The image cannot be decoded; or `max_bytes` is less than a JPEG's tables need (1 kB suffices).
pub fn preview(
    bytes: &[u8],
    inspected: Inspected,
    max_bytes: usize,
    max_edge: u32,
) -> Result<Preview, PreviewError> {
    let Inspected { format, dimensions, length } = inspected;
    let bytes = bytes.get(..length).unwrap_or(bytes);
    let (pixels, orientation) = decode(bytes, inspected)?;
    let uniform = pixels.is_uniform();

    if bytes.len() <= max_bytes && dimensions.width.max(dimensions.height) <= max_edge {
        let Dimensions { width, height } = dimensions;
        return Ok(Preview { bytes: Bytes::copy_from_slice(bytes), format, width, height, uniform });
    }
    let small = resize(pixels, fit(dimensions, max_edge))?.into_rgb().upright(orientation)?;
    shrink(small, max_bytes, uniform)
}

/// Encodes with falling quality, then with falling size, until the preview fits.
fn shrink(mut pixels: Pixels, max_bytes: usize, uniform: bool) -> Result<Preview, PreviewError> {
    loop {
        let Dimensions { width, height } = pixels.dimensions;
        for quality in QUALITIES {
            let jpeg = encode(&pixels, quality)?;
            if jpeg.len() <= max_bytes {
                return Ok(Preview { bytes: jpeg.into(), format: Format::Jpeg, width, height, uniform });
            }
        }
        let longer = width.max(height);
        if longer == 1 {
            return Err(PreviewError::NoRoom { max_bytes });
        }
        pixels = resize(pixels, fit(Dimensions { width, height }, longer / 2))?;
    }
}

fn resize(pixels: Pixels, to: Dimensions) -> Result<Pixels, PixelsError> {
    if to == pixels.dimensions { Ok(pixels) } else { pixels.scale(None, to) }
}

fn encode(pixels: &Pixels, quality: u8) -> Result<Vec<u8>, PreviewError> {
    let mut jpeg = Vec::new();
    let Dimensions { width, height } = pixels.dimensions;
    JpegEncoder::new_with_quality(&mut jpeg, quality)
        .write_image(&pixels.data, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| PreviewError::Encode(Box::new(error)))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests;
