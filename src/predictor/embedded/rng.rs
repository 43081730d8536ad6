//! The artist's own random numbers: SplitMix64, written out so that no crate's update changes a picture.

/// SplitMix64 (Steele, Lea, Flood 2014), with labelled forks so that leaving one element out of a
/// picture does not move the others.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    root: u64,
    state: u64,
}

impl Rng {
    /// The sequence that belongs to `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        Self { root: seed, state: seed }
    }

    /// An independent sequence, the same whatever was drawn from this one before.
    pub(super) fn fork(&self, label: &str) -> Self {
        Self::new(mix(self.root ^ hash(label.as_bytes())))
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// 32 bits, as a seed for noise.
    pub(super) fn seed(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// Evenly from `[0, 1)`.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    /// Evenly from `[low, high)`.
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// One of `choices`, which must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = choices.len() as u64;
        let index = (self.next() >> 32) % count;
        choices[usize::try_from(index).unwrap_or(0)]
    }
}

/// FNV-1a, 64 bits.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_of_seed_zero_is_the_published_one() {
        let mut rng = Rng::new(0);
        assert_eq!(rng.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(rng.next(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn fork_after_draws_is_the_same() {
        let mut rng = Rng::new(7);
        let before = rng.fork("sky").next();
        rng.next();
        assert_eq!(rng.fork("sky").next(), before);
        assert_ne!(rng.fork("sea").next(), before);
    }
}
