//! Tower layers for an HTTP edge: one body, typed causes, limits that hold for the whole stream.
//!
//! They know HTTP, and nothing of what is served. Each module has one runnable example. A layer fails with a
//! [`BoxError`] that holds a typed cause (see [`error`]); [`rescue`] turns causes into responses.
//!
//! # Layout
//!
//! | module | what it is for |
//! |---|---|
//! | [`body`], [`error`] | what all others are made of |
//! | [`client_addr`], [`authority`] | who asks, and who may be asked |
//! | [`request_id`] | telling requests apart |
//! | [`rate_limit`], [`deadline`] | limits on how often and how long |
//! | [`rescue`] | causes to responses |
//! | [`gate`] | for layers of one's own that let through or refuse |

pub mod authority;
pub mod body;
pub mod client_addr;
pub mod deadline;
pub mod error;
pub mod gate;
pub mod rate_limit;
pub mod request_id;
pub mod rescue;

mod random;
#[cfg(test)]
mod test_metrics;

pub use body::{Body, IntoBodyLayer};
pub use error::{
    BadHost, BodyStalled, BodyTooLarge, BoxError, Elapsed, HostRefused, OriginRefused, Panicked, RateLimited,
    find_cause,
};
