//! An image in another size or format.

mod format;
mod spec;

#[cfg(feature = "avif")]
use ::image::codecs::avif::AvifEncoder;
use ::image::{
    ExtendedColorType, ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};

use self::spec::Plan;
pub use self::{
    format::VariantFormat,
    spec::{Fit, VariantSpec},
};
use super::{
    Dimensions, Format, InspectError, Limits, PixelsError, decoding_memory, inspect,
    pixels::{Pixels, decode},
};

/// How hard libwebp tries, 0 to 6: 2 is a third of the work of 4 for files as small, give or take
/// three hundredths.
const WEBP_METHOD: u8 = 2;
/// How little the AVIF encoder tries, 1 to 10: its fastest is costly enough.
#[cfg(feature = "avif")]
const AVIF_SPEED: u8 = 10;

/// An image made from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The encoded image.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: VariantFormat,
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
        format: VariantFormat,
        /// What the encoder says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Bytes that the AVIF encoder holds: this much a pixel, and some. Measured, with alpha: 28 a pixel and 3 MiB for pictures,
/// 120 for noise at the best quality that is made.
const AVIF_BYTES_PER_PIXEL: u64 = 128;
const AVIF_SLACK_BYTES: u64 = 8 << 20;

/// Bytes that making a variant takes at most, of an image of at most so many pixels.
#[must_use]
pub fn variant_memory(pixels: u64) -> u64 {
    let side = VariantFormat::Avif.max_side().map_or(u64::MAX, u64::from);
    let encoding = pixels.min(side.saturating_mul(side)) * AVIF_BYTES_PER_PIXEL + AVIF_SLACK_BYTES;
    let encoding = if VariantFormat::Avif.is_made() { encoding } else { 0 };
    // Decoded pixels are let go before they are encoded.
    decoding_memory(pixels).max(encoding)
}

/// Makes the variant of `bytes` that `spec` describes.
///
/// Nothing is decoded before the header is within `limits`. Synchronous work on the processor, with
/// [`variant_memory`] at most: call it where blocking is allowed.
///
/// # Errors
/// See [`VariantError`].
pub fn variant(bytes: &[u8], spec: &VariantSpec, limits: Limits) -> Result<Variant, VariantError> {
    let inspected = inspect(bytes, limits)?;
    let bytes = &bytes[..inspected.length];
    let (pixels, orientation) = decode(bytes, inspected)?;
    let plan = spec.plan(pixels.dimensions, orientation);
    let upright = scale(pixels, plan)?.upright(orientation)?;
    let (bytes, dimensions) = encode(upright, spec)?;
    Ok(Variant { bytes, format: spec.format, dimensions })
}

/// Lets the original's pixels go: the encoder needs the room.
fn scale(pixels: Pixels, plan: Plan) -> Result<Pixels, PixelsError> {
    match plan.crop {
        None if plan.to == pixels.dimensions => Ok(pixels),
        crop => pixels.scale(crop, plan.to),
    }
}

fn encode(pixels: Pixels, spec: &VariantSpec) -> Result<(Vec<u8>, Dimensions), VariantError> {
    let format = spec.format;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| VariantError::Encode { format, source };
    let pixels = if format == Format::Jpeg { pixels.into_rgb() } else { pixels };
    let Dimensions { width, height } = pixels.dimensions;
    let colour = if pixels.alpha { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    match format {
        VariantFormat::Stored(Format::Png) => PngEncoder::new(&mut bytes)
            .write_image(&pixels.data, width, height, colour)
            .map_err(|error| failed(error.into()))?,
        VariantFormat::Stored(Format::Jpeg) => JpegEncoder::new_with_quality(&mut bytes, spec.quality)
            .write_image(&pixels.data, width, height, colour)
            .map_err(|error| failed(error.into()))?,
        VariantFormat::Stored(Format::WebP) => {
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
        #[cfg(feature = "avif")]
        VariantFormat::Avif => AvifEncoder::new_with_speed_quality(&mut bytes, AVIF_SPEED, spec.quality)
            // One tile: else the machine's cores decide how many, and so what the bytes are.
            .with_num_threads(Some(1))
            .write_image(&pixels.data, width, height, colour)
            .map_err(|error| failed(error.into()))?,
        #[cfg(not(feature = "avif"))]
        VariantFormat::Avif => return Err(failed("this build makes no AVIF".into())),
    }
    Ok((bytes, pixels.dimensions))
}

#[cfg(test)]
mod tests;
