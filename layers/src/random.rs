//! Random bits for identifiers that need to be distinct, not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

thread_local! {
    /// Keyed from the system's random source once a thread, as the standard library keys its hashers.
    static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
}

/// 64 bits, by SplitMix64 (Steele, Lea and Flood, 2014): each request takes a few.
pub(crate) fn bits() -> u64 {
    // A thread that ends takes the slow way.
    STATE.try_with(next).unwrap_or_else(|_| RandomState::new().build_hasher().finish())
}

/// 64 bits, not all zero.
pub(crate) fn nonzero_bits() -> u64 {
    bits().max(1)
}

fn next(state: &Cell<u64>) -> u64 {
    let sum = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(sum);
    let mixed = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bits_are_those_of_the_generator() {
        // The first outputs for the seed 1234567 of the authors' reference code.
        let state = Cell::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| next(&state)), expected);
    }

    #[test]
    fn threads_have_bits_of_their_own() {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| [(); 1000].map(|()| bits()))).collect();
        let all: HashSet<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 8000);
    }
}
