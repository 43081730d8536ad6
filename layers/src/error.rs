//! Typed causes: what a layer says when it refuses, and how to find it again.
//!
//! A layer fails with a [`BoxError`] that holds one of these structs; wrappers on the way (a body library, an I/O
//! adapter) may put it deeper into a chain. [`find_cause`] walks the chain, so that one table outside all layers can
//! answer:
//!
//! ```
//! use std::time::Duration;
//! use layers::{BoxError, Elapsed, find_cause};
//!
//! let error: BoxError = std::io::Error::other(Elapsed(Duration::from_secs(5))).into();
//! let elapsed = find_cause::<Elapsed>(&*error).expect("found behind the I/O error");
//! assert_eq!(elapsed.to_string(), "no response within 5s");
//! ```

use std::error::Error;
use std::time::Duration;

pub use crate::rate_limit::RateLimited;

/// Any error: what layers and bodies fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// No response head within the time that the deadline layer allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no response within {0:?}")]
pub struct Elapsed(pub Duration);

/// The request does not name exactly one valid authority (RFC 9112, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// Neither `Host` nor `:authority`.
    #[error("the request has no Host")]
    Missing,
    /// More than one `Host` line.
    #[error("the request has more than one Host")]
    Several,
    /// Not a host with an optional port; user information is not allowed either.
    #[error("the Host is not a valid host with an optional port")]
    Invalid,
    /// The request target names another authority than `Host`.
    #[error("the Host differs from the authority of the request target")]
    Disagrees,
}

/// The request's authority is valid, but not one that is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Host `{host}` is not allowed")]
pub struct HostRefused {
    /// What the client sent: letters, digits and the punctuation of a host only.
    pub host: Box<str>,
}

/// The request comes from a web page whose origin is not allowed, or that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Origin {} is not allowed", .origin.as_deref().unwrap_or("(several, or not readable)"))]
pub struct OriginRefused {
    /// What the client sent; `None` if that was several lines or not visible ASCII.
    pub origin: Option<Box<str>>,
}

/// The request's body is longer than allowed, by its declared or by its real length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request's body is longer than {limit} bytes")]
pub struct BodyTooLarge {
    /// Bytes allowed.
    pub limit: usize,
}

/// The request's body came too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request's body stalled: fewer than {min_bytes} more bytes within {within:?}")]
pub struct BodyStalled {
    /// The time in which the bytes were due.
    pub within: Duration,
    /// The bytes that were due, unless the body ends before.
    pub min_bytes: usize,
}

/// The code behind panicked while it handled this request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {message}")]
pub struct Panicked {
    /// The panic's message; for the log, not for clients.
    pub message: Box<str>,
}

/// Finds a cause of type `T`: the error itself, what is in its [`source`](Error::source) chain, or what an
/// [`io::Error`](std::io::Error) on that chain wraps.
///
/// Takes `&*error` of a [`BoxError`].
pub fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An I/O error's `source` skips the error that it wraps.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    #[test]
    fn find_cause_in_a_chain_finds_the_innermost() {
        let error: BoxError = Outer(Outer(BodyTooLarge { limit: 7 }.into()).into()).into();
        assert_eq!(find_cause::<BodyTooLarge>(&*error), Some(&BodyTooLarge { limit: 7 }));
    }

    #[test]
    fn find_cause_behind_nested_io_errors_is_found() {
        let error = std::io::Error::other(std::io::Error::other(BadHost::Missing));
        assert_eq!(find_cause::<BadHost>(&error), Some(&BadHost::Missing));
    }

    #[test]
    fn find_cause_of_another_type_is_none() {
        let error: BoxError = Outer(BadHost::Several.into()).into();
        assert!(find_cause::<Elapsed>(&*error).is_none());
        assert!(find_cause::<Elapsed>(&std::io::Error::from(std::io::ErrorKind::NotFound)).is_none());
    }

    #[test]
    fn origin_refused_without_a_readable_value_still_says_so() {
        let known = OriginRefused { origin: Some("https://a.example".into()) };
        assert_eq!(known.to_string(), "the Origin https://a.example is not allowed");
        let unknown = OriginRefused { origin: None };
        assert_eq!(unknown.to_string(), "the Origin (several, or not readable) is not allowed");
    }
}
