//! An image in another size or format.

mod spec;

use ::image::{
    ExtendedColorType, ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};

pub use self::spec::{Fit, VariantSpec};
use super::{
    Dimensions, Format, InspectError, Limits, PixelsError, inspect,
    pixels::{Pixels, decode},
};

/// How hard libwebp tries, 0 to 6: 2 is a third of the work of 4 for files as small, give or take
/// three hundredths.
const WEBP_METHOD: u8 = 2;

/// An image made from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The encoded image.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: Format,
    /// Its size.
    pub dimensions: Dimensions,
}

/// Why there is no variant.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// The original may not be decoded: over a limit, or not an image.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The original cannot be decoded or scaled.
    #[error(transparent)]
    Pixels(#[from] PixelsError),
    /// The result could not be encoded.
    #[error("the {format} image cannot be encoded")]
    Encode {
        /// The format that was asked for.
        format: Format,
        /// What the encoder says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes the variant of `bytes` that `spec` describes.
///
/// Nothing is decoded before the header is within `limits`. Synchronous work on the processor, with
/// about 16 bytes of memory a pixel at most: call it where blocking is allowed.
///
/// # Errors
/// See [`VariantError`].
pub fn variant(bytes: &[u8], spec: &VariantSpec, limits: Limits) -> Result<Variant, VariantError> {
    let inspected = inspect(bytes, limits)?;
    let bytes = &bytes[..inspected.length];
    let (pixels, orientation) = decode(bytes, inspected)?;
    let plan = spec.plan(pixels.dimensions, orientation);
    let scaled = match plan.crop {
        None if plan.to == pixels.dimensions => pixels,
        crop => pixels.scale(crop, plan.to)?,
    };
    let upright = scaled.upright(orientation)?;
    let (bytes, dimensions) = encode(upright, spec)?;
    Ok(Variant { bytes, format: spec.format, dimensions })
}

fn encode(pixels: Pixels, spec: &VariantSpec) -> Result<(Vec<u8>, Dimensions), VariantError> {
    let format = spec.format;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| VariantError::Encode { format, source };
    let pixels = if format == Format::Jpeg { pixels.into_rgb() } else { pixels };
    let Dimensions { width, height } = pixels.dimensions;
    let colour = if pixels.alpha { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    match format {
        Format::Png => PngEncoder::new(&mut bytes)
            .write_image(&pixels.data, width, height, colour)
            .map_err(|error| failed(error.into()))?,
        Format::Jpeg => JpegEncoder::new_with_quality(&mut bytes, spec.quality)
            .write_image(&pixels.data, width, height, colour)
            .map_err(|error| failed(error.into()))?,
        Format::WebP => {
            let encoder = if pixels.alpha {
                webpx::Encoder::new_rgba(&pixels.data, width, height)
            } else {
                webpx::Encoder::new_rgb(&pixels.data, width, height)
            };
            bytes = encoder
                .quality(spec.quality.into())
                .method(WEBP_METHOD)
                .encode(webpx::Unstoppable)
                .map_err(|error| failed(error.to_string().into()))?;
        }
    }
    Ok((bytes, pixels.dimensions))
}

#[cfg(test)]
mod tests;
