//! A small preview of an image: what a model gets to see inline.

use std::io::Cursor;

use ::image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader,
    RgbImage, codecs::jpeg::JpegEncoder, metadata::Orientation,
};
use bytes::Bytes;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::{Dimensions, Format, Inspected};

/// JPEG qualities, tried in this order until the preview is small enough.
const QUALITIES: [u8; 7] = [85, 75, 65, 50, 35, 20, 10];
/// What a decoder may allocate: this much a pixel, and some.
const DECODER_BYTES_PER_PIXEL: u64 = 16;
const DECODER_SLACK_BYTES: u64 = 8 << 20;
const WHITE: u16 = 255;

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
    /// The structure is whole, but what it holds is not an image.
    #[error("the {format} image cannot be decoded")]
    Decode {
        /// The image's format.
        format: Format,
        /// What the decoder says.
        #[source]
        source: ImageError,
    },
    /// The decoder reads another size than the inspection.
    #[error("the {format} image decodes to {width}x{height} pixels, which is not the size in its header")]
    Dimensions {
        /// The image's format.
        format: Format,
        /// Decoded pixels across.
        width: u32,
        /// Decoded pixels down.
        height: u32,
    },
    /// The decoded image could not be scaled down or encoded.
    #[error("the preview cannot be made")]
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
    let (image, orientation) = decode(bytes, inspected)?;
    let pixels = Pixels::from(image);
    let uniform = pixels.is_uniform();

    if bytes.len() <= max_bytes && dimensions.width.max(dimensions.height) <= max_edge {
        let Dimensions { width, height } = dimensions;
        return Ok(Preview { bytes: Bytes::copy_from_slice(bytes), format, width, height, uniform });
    }
    let small = pixels.resize(fit(dimensions, max_edge))?.into_upright_rgb(orientation)?;
    shrink(small, max_bytes, uniform)
}

/// Bytes that making a preview of an image of so many pixels takes at most.
#[must_use]
pub const fn preview_memory(pixels: u64) -> u64 {
    pixels.saturating_mul(DECODER_BYTES_PER_PIXEL).saturating_add(DECODER_SLACK_BYTES)
}

fn decode(bytes: &[u8], inspected: Inspected) -> Result<(DynamicImage, Orientation), PreviewError> {
    let Inspected { format, dimensions, .. } = inspected;
    let failed = |source| PreviewError::Decode { format, source };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), decoder_format(format));
    let mut limits = ::image::Limits::no_limits();
    limits.max_image_width = Some(dimensions.width);
    limits.max_image_height = Some(dimensions.height);
    limits.max_alloc = Some(preview_memory(dimensions.pixels()));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if (Dimensions { width, height }) != dimensions {
        return Err(PreviewError::Dimensions { format, width, height });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(failed)?, orientation))
}

const fn decoder_format(format: Format) -> ImageFormat {
    match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::WebP => ImageFormat::WebP,
    }
}

/// Decoded pixels of 8 bits a channel, with or without alpha.
struct Pixels {
    data: Vec<u8>,
    dimensions: Dimensions,
    alpha: bool,
}

impl From<DynamicImage> for Pixels {
    fn from(image: DynamicImage) -> Self {
        let dimensions = Dimensions { width: image.width(), height: image.height() };
        let alpha = image.color().has_alpha();
        let data = if alpha { image.into_rgba8().into_raw() } else { image.into_rgb8().into_raw() };
        Self { data, dimensions, alpha }
    }
}

impl Pixels {
    fn is_uniform(&self) -> bool {
        fn all_equal<T: PartialEq>(mut pixels: impl Iterator<Item = T>) -> bool {
            let first = pixels.next();
            pixels.all(|pixel| Some(&pixel) == first.as_ref())
        }
        if self.alpha {
            all_equal(self.data.as_chunks().0.iter().map(over_white))
        } else {
            all_equal(self.data.as_chunks::<3>().0.iter())
        }
    }

    fn resize(self, to: Dimensions) -> Result<Self, PreviewError> {
        if to == self.dimensions {
            return Ok(self);
        }
        let Dimensions { width, height } = self.dimensions;
        let kind = if self.alpha { PixelType::U8x4 } else { PixelType::U8x3 };
        let source = images::Image::from_vec_u8(width, height, self.data, kind).map_err(encode_error)?;
        let mut target = images::Image::new(to.width, to.height, kind);
        // Alpha is multiplied in before and divided out after, so that no colour bleeds out of
        // transparent parts.
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .use_alpha(self.alpha);
        Resizer::new().resize(&source, &mut target, &options).map_err(encode_error)?;
        Ok(Self { data: target.into_vec(), dimensions: to, alpha: self.alpha })
    }

    /// Without alpha, and turned the way the image's EXIF data asks for.
    fn into_upright_rgb(self, orientation: Orientation) -> Result<Self, PreviewError> {
        let data = if self.alpha {
            self.data.as_chunks().0.iter().flat_map(over_white).collect()
        } else {
            self.data
        };
        let Dimensions { width, height } = self.dimensions;
        let image = RgbImage::from_raw(width, height, data)
            .ok_or_else(|| PreviewError::Encode("the pixels do not fill the preview".into()))?;
        let mut image = DynamicImage::ImageRgb8(image);
        image.apply_orientation(orientation);
        Ok(Self::from(image))
    }

    fn encode(&self, quality: u8) -> Result<Vec<u8>, PreviewError> {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, quality)
            .write_image(&self.data, self.dimensions.width, self.dimensions.height, ExtendedColorType::Rgb8)
            .map_err(encode_error)?;
        Ok(jpeg)
    }
}

/// Encodes with falling quality, then with falling size, until the preview fits.
fn shrink(mut pixels: Pixels, max_bytes: usize, uniform: bool) -> Result<Preview, PreviewError> {
    loop {
        let Dimensions { width, height } = pixels.dimensions;
        for quality in QUALITIES {
            let jpeg = pixels.encode(quality)?;
            if jpeg.len() <= max_bytes {
                return Ok(Preview { bytes: jpeg.into(), format: Format::Jpeg, width, height, uniform });
            }
        }
        let longer = width.max(height);
        if longer == 1 {
            return Err(PreviewError::NoRoom { max_bytes });
        }
        pixels = pixels.resize(fit(Dimensions { width, height }, longer / 2))?;
    }
}

/// The largest size of the same shape whose longer side has at most `max_edge` pixels (but at least
/// one, and at most what a JPEG can have); a smaller one stays.
fn fit(Dimensions { width, height }: Dimensions, max_edge: u32) -> Dimensions {
    let longer = width.max(height).max(1);
    let target = longer.min(max_edge.clamp(1, u16::MAX.into()));
    let scale = |side: u32| {
        let scaled = (u64::from(side) * u64::from(target) + u64::from(longer) / 2) / u64::from(longer);
        u32::try_from(scaled).unwrap_or(target).clamp(1, target)
    };
    Dimensions { width: scale(width), height: scale(height) }
}

fn over_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    [r, g, b].map(|channel| {
        let alpha = u16::from(alpha);
        let mixed = (u16::from(channel) * alpha + WHITE * (WHITE - alpha) + WHITE / 2) / WHITE;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    })
}

fn encode_error(error: impl std::error::Error + Send + Sync + 'static) -> PreviewError {
    PreviewError::Encode(Box::new(error))
}

#[cfg(test)]
mod tests;
