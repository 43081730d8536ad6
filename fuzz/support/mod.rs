//! What the targets share: the real stack in memory, scripts of requests, and what holds for any answer.
//!
//! Time is tokio's paused clock: when nothing is left to do, it jumps to the next deadline. So a wait
//! of minutes costs nothing, and an input that hangs is told from one that is slow.

pub mod answers;
mod log;
mod picture;
pub mod script;
mod server;

pub use picture::{PICTURE, PICTURE_ID, PICTURE_TAG};
pub use server::{Server, Spoken};
