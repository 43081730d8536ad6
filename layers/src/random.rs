//! Random bits for identifiers that need to be distinct, not secret.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 bits. The standard library keys its hashers from the system's random source once a thread; hashing nothing with
/// the next key costs no system call.
pub(crate) fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 64 bits, not all zero.
pub(crate) fn nonzero_bits() -> u64 {
    bits().max(1)
}
