//! What an image is: its id, its format, its size, and what is known about it.
//!
//! Pure: no I/O, no clock but the one in [`ImageId::now`], nothing of the other rooms.

mod format;
mod id;
mod inspect;
mod metadata;
mod preview;

pub use format::{Format, UnknownFormat};
pub use id::{ImageId, InvalidImageId};
pub use inspect::{Dimensions, InspectError, Inspected, Limits, inspect};
pub use metadata::{Generation, Metadata};
pub use preview::{Preview, PreviewError, preview, preview_memory};
