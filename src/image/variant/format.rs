use std::fmt;

use super::super::Format;

/// The format of a variant: one that images are stored in, too, or AVIF, which is made and never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VariantFormat {
    /// A format that images are stored in.
    Stored(Format),
    /// AV1 Image File Format. It takes some thirty times the work of WebP: see [`Self::max_side`].
    Avif,
}

/// Pixels of an AVIF image's longer side at most. Its encoder cannot be stopped once it is at work, and one of 1024 by
/// 1024 holds a core for most of a second; twice the side would hold it for more than three.
const AVIF_MAX_SIDE: u32 = 1024;
/// Files are a tenth or two smaller than WebP's of 80, and within 0.5 dB of it.
const AVIF_QUALITY: u8 = 75;
/// Near 100 the encoder keeps every bit of noise: 400 MB of memory for a picture of nothing else, a quarter of it at 90.
const AVIF_MAX_QUALITY: u8 = 90;

impl VariantFormat {
    /// Every format that this build makes: AVIF is among them with the feature `avif`.
    pub const MADE: &'static [Self] = &[
        Self::Stored(Format::Png),
        Self::Stored(Format::Jpeg),
        Self::Stored(Format::WebP),
        #[cfg(feature = "avif")]
        Self::Avif,
    ];

    /// Whether this build makes it.
    #[must_use]
    pub fn is_made(self) -> bool {
        Self::MADE.contains(&self)
    }

    /// Pixels of the longer side at most, where there is a bound of the format's own.
    #[must_use]
    pub const fn max_side(self) -> Option<u32> {
        match self {
            Self::Stored(_) => None,
            Self::Avif => Some(AVIF_MAX_SIDE),
        }
    }

    /// The quality that a variant has where `asked`, 1 to 100, is asked for, or none; 0 for a format that loses nothing.
    /// The same number looks much alike in all of them.
    #[must_use]
    pub fn quality(self, asked: Option<u8>) -> u8 {
        match self {
            Self::Stored(Format::Png) => 0,
            Self::Stored(Format::Jpeg | Format::WebP) => asked.unwrap_or(80),
            Self::Avif => asked.unwrap_or(AVIF_QUALITY).min(AVIF_MAX_QUALITY),
        }
    }

    /// The media type (`image/png`, ...).
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Stored(format) => format.media_type(),
            Self::Avif => "image/avif",
        }
    }

    /// The name in lower case: `png`, `jpeg`, `webp`, `avif`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored(format) => format.name(),
            Self::Avif => "avif",
        }
    }

    /// The file extension, without a dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Stored(format) => format.extension(),
            Self::Avif => "avif",
        }
    }
}

impl From<Format> for VariantFormat {
    fn from(format: Format) -> Self {
        Self::Stored(format)
    }
}

impl PartialEq<Format> for VariantFormat {
    fn eq(&self, other: &Format) -> bool {
        *self == Self::Stored(*other)
    }
}

impl fmt::Display for VariantFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(format) => format.fmt(f),
            Self::Avif => f.write_str("AVIF"),
        }
    }
}
