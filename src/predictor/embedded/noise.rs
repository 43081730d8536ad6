//! Lattice noise: the grain of clouds, mountains and water.

use super::maths::{floor, lerp, saturate};

/// A field of noise; each seed is another field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    seed: u32,
}

/// What a cell pattern says about a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// Which cell it is in.
    pub(super) id: u32,
    /// The distance to the border with the next cell.
    pub(super) border: f32,
    /// The way to the cell's centre.
    pub(super) centre: [f32; 2],
}

/// An octave is turned by this (a 3-4-5 triangle) against the one before, so that no lattice shows.
const TURN: [f32; 2] = [0.8, 0.6];

impl Noise {
    /// The field of `seed`.
    pub(super) const fn new(seed: u32) -> Self {
        Self { seed }
    }

    /// A hash of lattice point `(x, y)`.
    #[inline]
    pub(super) fn hash(self, x: i32, y: i32) -> u32 {
        let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ self.seed;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        h ^ (h >> 15)
    }

    /// A hash of one round, for noise: its quality is enough there, and noise is most of the work.
    #[inline]
    fn quick(self, x: i32, y: i32) -> u32 {
        let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ self.seed;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h ^ (h >> 14)
    }

    /// Evenly from `[0, 1)` at lattice point `(x, y)`.
    #[inline]
    pub(super) fn unit(self, x: i32, y: i32) -> f32 {
        (self.hash(x, y) >> 8) as f32 / 16_777_216.0
    }

    /// Smooth noise within about -1 and 1 (gradients on a lattice).
    #[inline]
    pub(super) fn gradient(self, x: f32, y: f32) -> f32 {
        let (ix, iy) = (floor(x), floor(y));
        let (fx, fy) = (x - ix as f32, y - iy as f32);
        let corner = |dx: i32, dy: i32| {
            let h = self.quick(ix + dx, iy + dy) as i32;
            let gx = (h >> 16) as f32;
            let gy = (h << 16 >> 16) as f32;
            gx * (fx - dx as f32) + gy * (fy - dy as f32)
        };
        let (u, v) = (fade(fx), fade(fy));
        let top = lerp(corner(0, 0), corner(1, 0), u);
        let bottom = lerp(corner(0, 1), corner(1, 1), u);
        lerp(top, bottom, v) * (1.6 / 32_768.0)
    }

    /// Value noise within 0 and 1, with its slopes.
    #[inline]
    fn value(self, x: f32, y: f32) -> [f32; 3] {
        let (ix, iy) = (floor(x), floor(y));
        let (fx, fy) = (x - ix as f32, y - iy as f32);
        let (u, v) = (fade(fx), fade(fy));
        let (du, dv) = (fade_slope(fx), fade_slope(fy));
        let corner =
            |dx: i32, dy: i32| (self.quick(ix + dx, iy + dy) as i32 >> 8) as f32 / 16_777_216.0 + 0.5;
        let (a, b, c, d) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
        let twist = a - b - c + d;
        [
            a + (b - a) * u + (c - a) * v + twist * u * v,
            du * ((b - a) + twist * v),
            dv * ((c - a) + twist * u),
        ]
    }

    /// Octaves of [`Self::gradient`], each half as strong and twice as fine, within about -1 and 1.
    /// A fraction of an octave fades it in, so that detail grows without a jump.
    pub(super) fn fbm(self, x: f32, y: f32, octaves: f32) -> f32 {
        octave_sum(x, y, octaves, |x, y, _| self.gradient(x, y))
    }

    /// Octaves of folded noise with sharp crests, within about 0 and 1.
    pub(super) fn ridged(self, x: f32, y: f32, octaves: f32) -> f32 {
        octave_sum(x, y, octaves, |x, y, _| {
            let crest = 1.0 - self.gradient(x, y).abs();
            crest * crest
        }) * 0.5
    }

    /// Terrain: octaves that are weaker where the ground is already steep, so that valleys are smooth
    /// and crests are rough; within about 0 and 1.
    pub(super) fn eroded(self, x: f32, y: f32, octaves: f32) -> f32 {
        let mut slope = [0.0_f32; 2];
        octave_sum(x, y, octaves, |x, y, _| {
            let [n, dx, dy] = self.value(x, y);
            slope[0] += dx;
            slope[1] += dy;
            n / (1.0 + slope[0] * slope[0] + slope[1] * slope[1])
        })
    }

    /// The cell pattern of scattered points at `(x, y)`, one point to a unit square.
    pub(super) fn cell(self, x: f32, y: f32) -> Cell {
        let (ix, iy) = (floor(x), floor(y));
        let site = |dx: i32, dy: i32| {
            let (cx, cy) = (ix + dx, iy + dy);
            let id = self.hash(cx, cy);
            let jx = (id & 0xFFFF) as f32 / 65_536.0;
            let jy = (id >> 16) as f32 / 65_536.0;
            ([cx as f32 + 0.1 + 0.8 * jx - x, cy as f32 + 0.1 + 0.8 * jy - y], id)
        };
        let mut best = f32::MAX;
        let mut centre = [0.0; 2];
        let mut id = 0;
        for dy in -1..=1 {
            for dx in -1..=1 {
                let (to, hash) = site(dx, dy);
                let distance = to[0] * to[0] + to[1] * to[1];
                if distance < best {
                    (best, centre, id) = (distance, to, hash);
                }
            }
        }
        let mut border = f32::MAX;
        for dy in -2..=2 {
            for dx in -2..=2 {
                let (to, hash) = site(dx, dy);
                let between = [to[0] - centre[0], to[1] - centre[1]];
                let length = (between[0] * between[0] + between[1] * between[1]).sqrt();
                if hash != id && length > 1e-4 {
                    let middle = [(to[0] + centre[0]) * 0.5, (to[1] + centre[1]) * 0.5];
                    border = border.min((middle[0] * between[0] + middle[1] * between[1]) / length);
                }
            }
        }
        Cell { id, border, centre }
    }
}

#[inline]
fn octave_sum(x: f32, y: f32, octaves: f32, mut noise: impl FnMut(f32, f32, f32) -> f32) -> f32 {
    let (mut x, mut y) = (x, y);
    let (mut sum, mut amplitude, mut left) = (0.0, 1.0, octaves);
    while left > 0.0 {
        let weight = amplitude * saturate(left);
        sum += weight * noise(x, y, weight);
        (x, y) = (2.0 * (TURN[0] * x - TURN[1] * y) + 17.3, 2.0 * (TURN[1] * x + TURN[0] * y) + 9.1);
        amplitude *= 0.5;
        left -= 1.0;
    }
    sum
}

#[inline]
fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

#[inline]
fn fade_slope(t: f32) -> f32 {
    30.0 * t * t * (t * (t - 2.0) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_at_fixed_points_is_bit_for_bit_the_same() {
        let noise = Noise::new(1);
        let bits = [
            noise.fbm(1.5, -2.25, 6.5).to_bits(),
            noise.ridged(-7.1, 3.9, 5.0).to_bits(),
            noise.eroded(12.75, 40.5, 8.0).to_bits(),
            noise.cell(0.3, -0.8).border.to_bits(),
        ];
        assert_eq!(bits, GOLDEN);
    }

    #[test]
    fn fbm_over_a_field_stays_in_range_and_varies() {
        let noise = Noise::new(9);
        let values: Vec<f32> = (0..400).map(|i| noise.fbm(i as f32 * 0.37, i as f32 * 0.11, 5.0)).collect();
        assert!(values.iter().all(|v| v.abs() < 2.0));
        assert!(values.iter().any(|v| *v > 0.3) && values.iter().any(|v| *v < -0.3));
    }

    const GOLDEN: [u32; 4] = [1_032_829_583, 1_058_736_444, 1_067_128_463, 1_045_156_084];
}
