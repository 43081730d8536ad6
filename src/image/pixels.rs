//! Decoded pixels: the way from an inspected file, and to another size.

use std::io::Cursor;

use ::image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage, RgbaImage,
    metadata::Orientation,
};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::{Dimensions, Format, Inspected};

/// What a decoder may allocate: this much a pixel, and some.
const DECODER_BYTES_PER_PIXEL: u64 = 16;
const DECODER_SLACK_BYTES: u64 = 8 << 20;
const WHITE: u16 = 255;

/// Why there are no pixels.
#[derive(Debug, thiserror::Error)]
pub enum PixelsError {
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
    /// The decoded image could not be brought to another size.
    #[error("the pixels cannot be scaled")]
    Scale(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Decoded pixels of 8 bits a channel, with or without alpha.
pub(super) struct Pixels {
    pub(super) data: Vec<u8>,
    pub(super) dimensions: Dimensions,
    pub(super) alpha: bool,
}

/// Bytes that decoding an image of so many pixels takes at most.
#[must_use]
pub const fn decoding_memory(pixels: u64) -> u64 {
    pixels.saturating_mul(DECODER_BYTES_PER_PIXEL).saturating_add(DECODER_SLACK_BYTES)
}

/// Decodes the image that `inspected` was found in. What the decoder may allocate follows from the
/// inspected size, so a file that claims another one ends here.
pub(super) fn decode(bytes: &[u8], inspected: Inspected) -> Result<(Pixels, Orientation), PixelsError> {
    let Inspected { format, dimensions, .. } = inspected;
    let failed = |source| PixelsError::Decode { format, source };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), decoder_format(format));
    let mut limits = ::image::Limits::no_limits();
    limits.max_image_width = Some(dimensions.width);
    limits.max_image_height = Some(dimensions.height);
    limits.max_alloc = Some(decoding_memory(dimensions.pixels()));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if (Dimensions { width, height }) != dimensions {
        return Err(PixelsError::Dimensions { format, width, height });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((Pixels::from(DynamicImage::from_decoder(decoder).map_err(failed)?), orientation))
}

pub(super) const fn decoder_format(format: Format) -> ImageFormat {
    match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::WebP => ImageFormat::WebP,
    }
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
    /// Whether every pixel has the same colour once it lies on white.
    pub(super) fn is_uniform(&self) -> bool {
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

    /// Scales the middle part that has the shape of `shape` (all of it, if there is none) to `to`.
    pub(super) fn scale(&self, shape: Option<Dimensions>, to: Dimensions) -> Result<Self, PixelsError> {
        let Dimensions { width, height } = self.dimensions;
        let kind = if self.alpha { PixelType::U8x4 } else { PixelType::U8x3 };
        let source = images::ImageRef::new(width, height, &self.data, kind).map_err(scale_error)?;
        let mut target = images::Image::new(to.width, to.height, kind);
        // Alpha is multiplied in before and divided out after, so that no colour bleeds out of
        // transparent parts.
        let mut options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .use_alpha(self.alpha);
        if let Some(shape) = shape {
            let (left, top, width, height) = middle(self.dimensions, shape);
            options = options.crop(left, top, width, height);
        }
        Resizer::new().resize(&source, &mut target, &options).map_err(scale_error)?;
        Ok(Self { data: target.into_vec(), dimensions: to, alpha: self.alpha })
    }

    /// Turned the way the image's EXIF data asks for.
    pub(super) fn upright(self, orientation: Orientation) -> Result<Self, PixelsError> {
        if orientation == Orientation::NoTransforms {
            return Ok(self);
        }
        let Dimensions { width, height } = self.dimensions;
        let image = if self.alpha {
            RgbaImage::from_raw(width, height, self.data).map(DynamicImage::ImageRgba8)
        } else {
            RgbImage::from_raw(width, height, self.data).map(DynamicImage::ImageRgb8)
        };
        let mut image = image.ok_or_else(|| PixelsError::Scale("the pixels do not fill the image".into()))?;
        image.apply_orientation(orientation);
        Ok(Self::from(image))
    }

    /// Without alpha: on white.
    pub(super) fn into_rgb(self) -> Self {
        if !self.alpha {
            return self;
        }
        let data = self.data.as_chunks().0.iter().flat_map(over_white).collect();
        Self { data, dimensions: self.dimensions, alpha: false }
    }
}

/// The largest size of the same shape whose longer side has at most `max_edge` pixels (but at least
/// one, and at most what a JPEG can have); a smaller one stays.
pub(super) fn fit(Dimensions { width, height }: Dimensions, max_edge: u32) -> Dimensions {
    let longer = width.max(height).max(1);
    let target = longer.min(max_edge.clamp(1, u16::MAX.into()));
    let scale = |side: u32| scaled(side, target, longer).clamp(1, target);
    Dimensions { width: scale(width), height: scale(height) }
}

/// `side * numerator / denominator`, rounded.
pub(super) fn scaled(side: u32, numerator: u32, denominator: u32) -> u32 {
    let denominator = u64::from(denominator.max(1));
    let scaled = (u64::from(side) * u64::from(numerator) + denominator / 2) / denominator;
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

/// The largest part of `whole` with the shape of `shape`, in the middle: left, top, width, height.
fn middle(whole: Dimensions, shape: Dimensions) -> (f64, f64, f64, f64) {
    let (width, height) = (f64::from(whole.width), f64::from(whole.height));
    let ratio = f64::from(shape.width.max(1)) / f64::from(shape.height.max(1));
    let (part_width, part_height) = (width.min(height * ratio), height.min(width / ratio));
    ((width - part_width) / 2.0, (height - part_height) / 2.0, part_width, part_height)
}

fn over_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    [r, g, b].map(|channel| {
        let alpha = u16::from(alpha);
        let mixed = (u16::from(channel) * alpha + WHITE * (WHITE - alpha) + WHITE / 2) / WHITE;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    })
}

fn scale_error(error: impl std::error::Error + Send + Sync + 'static) -> PixelsError {
    PixelsError::Scale(Box::new(error))
}
