//! What bytes are, told by their structure: nothing is decoded, nothing is allocated by a size that
//! they claim, and each byte is looked at a fixed number of times.

mod found;
mod jpeg;
mod png;
mod webp;

use super::Format;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl Dimensions {
    /// Width times height.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// What an image may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Length in bytes.
    pub max_bytes: u64,
    /// Width times height.
    pub max_pixels: u64,
}

/// An image that passed: its format, its size, and how many of its bytes are the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspected {
    /// The sniffed format.
    pub format: Format,
    /// Read from the header, nothing was decoded.
    pub dimensions: Dimensions,
    /// Bytes up to the end of the image; what follows belongs to something else and is cut.
    pub length: usize,
}

/// Why bytes are not an image that may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// No bytes at all.
    #[error("the image is empty")]
    Empty,
    /// The first bytes are of none of the formats.
    #[error("not an image: expected PNG, JPEG or WebP, found {found}")]
    UnknownFormat {
        /// A short description of what the first bytes look like.
        found: String,
    },
    /// The format's structure is broken or ends early.
    #[error("broken {format} image: {reason}")]
    Broken {
        /// The format that the first bytes promised.
        format: Format,
        /// What is wrong.
        reason: &'static str,
    },
    /// Over the byte limit.
    #[error("the image has {bytes} bytes, more than the {max_bytes} allowed")]
    TooManyBytes {
        /// The image's length.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Over the pixel limit.
    #[error("the image has {width}x{height} pixels, more than the {max_pixels} allowed")]
    TooManyPixels {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit.
        max_pixels: u64,
    },
}

/// Reads an image's format, dimensions and true length from its structure, without decoding it.
///
/// # Errors
/// Anything that is not a whole PNG, JPEG or WebP image within `limits`.
pub fn inspect(bytes: &[u8], limits: Limits) -> Result<Inspected, InspectError> {
    if bytes.is_empty() {
        return Err(InspectError::Empty);
    }
    let Some(format) = Format::sniff(bytes) else {
        return Err(InspectError::UnknownFormat { found: found::describe(bytes) });
    };
    let walked = match format {
        Format::Png => png::walk(bytes),
        Format::Jpeg => jpeg::walk(bytes),
        Format::WebP => webp::walk(bytes),
    };
    let Walked { dimensions, length } = walked.map_err(|reason| InspectError::Broken { format, reason })?;
    if dimensions.pixels() > limits.max_pixels {
        let Dimensions { width, height } = dimensions;
        return Err(InspectError::TooManyPixels { width, height, max_pixels: limits.max_pixels });
    }
    let max_bytes = limits.max_bytes;
    match u64::try_from(length) {
        Ok(length) if length <= max_bytes => {}
        bytes => return Err(InspectError::TooManyBytes { bytes: bytes.unwrap_or(u64::MAX), max_bytes }),
    }
    Ok(Inspected { format, dimensions, length })
}

/// What a walk over a container finds.
struct Walked {
    dimensions: Dimensions,
    /// Bytes up to the image's end.
    length: usize,
}

/// A walk's outcome; the error is a [`InspectError::Broken`]'s reason.
type Walk = Result<Walked, &'static str>;

/// Splits `n` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (front, back) = rest.split_at_checked(n)?;
    *rest = back;
    Some(front)
}

/// Splits an array off the front of `rest`.
fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, back) = rest.split_first_chunk()?;
    *rest = back;
    Some(*front)
}

#[cfg(test)]
mod tests;
