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
//! | [`cors`], [`options`] | what pages of other origins may ask and read |
//! | [`request_id`], [`trace`] | telling requests apart, in logs and traces |
//! | [`rate_limit`], [`deadline`], [`body_limit`], [`body_idle`] | how often, how long, how much, how slowly |
//! | [`http_metrics`] | what is counted |
//! | [`mod@panic`], [`rescue`] | panics to causes, causes to responses |
//! | [`boxed`] | a whole stack as one type |
//! | [`send_file`] | bodies that the kernel sends from files |
//! | [`gate`], [`observe`] | parts for layers of one's own: to let through or refuse, to watch a body |
//!
//! # Order
//!
//! From the outside in, what works well: [`client_addr`], [`request_id`], [`trace`] and [`http_metrics`], so that every
//! answer has an id and is logged and counted; [`cors`]; [`rescue`]; [`mod@panic`]; then what refuses, the cheap before the dear:
//! [`authority`], [`options`], [`rate_limit`], [`body_limit`], [`body_idle`], [`deadline`]. All services call the very service that
//! they were ready for, hold their shared state behind an `Arc`, and are `Clone` if the inner one is.

pub mod authority;
pub mod body;
pub mod body_idle;
pub mod body_limit;
pub mod boxed;
pub mod client_addr;
pub mod cors;
pub mod deadline;
pub mod early_head;
pub mod error;
pub mod gate;
pub mod http_metrics;
pub mod observe;
pub mod options;
pub mod panic;
pub mod rate_limit;
pub mod request_id;
pub mod rescue;
pub mod send_file;
pub mod trace;

mod fields;
mod method;
mod random;
#[cfg(test)]
mod test_metrics;
#[cfg(test)]
mod test_tracing;

pub use body::{Body, IntoBodyLayer};
pub use error::{
    BadHost, BodyStalled, BodyTooLarge, BoxError, Elapsed, HostRefused, OriginRefused, Panicked, RateLimited,
    find_cause,
};

/// Names the route of a request, out of a fixed set of a few names: a label of metrics and logs.
pub type Classify = fn(&http::Uri) -> &'static str;
