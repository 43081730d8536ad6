//! What an image is: its id, its format, its size, and what is known about it.
//!
//! Pure: no I/O, no clock but the one in [`ImageId::now`], nothing of the other rooms.

mod format;
mod id;
mod inspect;
mod metadata;
mod pixels;
mod preview;
mod thumbhash;
mod urls;
mod variant;

pub use format::{Format, UnknownFormat};
pub use id::{ImageId, InvalidImageId};
pub use inspect::{Dimensions, InspectError, Inspected, Limits, inspect};
pub use metadata::{Generation, Metadata};
pub use pixels::{PixelsError, decoding_memory};
pub use preview::{Preview, PreviewError, preview};
pub use thumbhash::thumbhash;
pub use urls::{BadSignature, ImageUrls, Signature, SigningKey};
pub use variant::{Fit, Variant, VariantError, VariantFormat, VariantSpec, variant, variant_memory};
