//! Functions that are the same bit for bit on every platform.
//!
//! Rust's `+ - * /` and `sqrt` are IEEE 754 everywhere; `sin`, `exp` and their like come from the
//! platform's libm and differ in the last bit. These polynomials do not, and are faster; their error is
//! far below what an eye sees.

/// The largest integer not above `x`. A cast, because the baseline x86-64 has no rounding instruction.
#[expect(clippy::cast_possible_truncation, reason = "casts saturate; coordinates are far within i32")]
#[inline]
pub(super) fn floor(x: f32) -> i32 {
    let whole = x as i32;
    if x < whole as f32 { whole - 1 } else { whole }
}

/// `x` as an index: rounded down, and 0 where negative.
#[expect(clippy::cast_possible_truncation, reason = "casts saturate, and the caller bounds the index")]
#[inline]
pub(super) fn index(x: f32) -> usize {
    x as usize
}

/// `x` as a byte, rounded down and saturated.
#[expect(clippy::cast_possible_truncation, reason = "casts saturate: that is what is wanted")]
#[inline]
pub(super) fn byte(x: f32) -> u8 {
    x as u8
}

/// From `a` to `b` as `t` goes from 0 to 1.
#[inline]
pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Held within 0 and 1.
#[inline]
pub(super) fn saturate(x: f32) -> f32 {
    x.clamp(0.0, 1.0)
}

/// 0 below `low`, 1 above `high`, a smooth curve between.
#[inline]
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = saturate((x - low) / (high - low));
    t * t * (3.0 - 2.0 * t)
}

/// The sine of `turns` full turns.
#[inline]
pub(super) fn sin(turns: f32) -> f32 {
    let t = turns - floor(turns + 0.5) as f32;
    let folded = if t > 0.25 {
        0.5 - t
    } else if t < -0.25 {
        -0.5 - t
    } else {
        t
    };
    let x = folded * std::f32::consts::TAU;
    let s = x * x;
    x * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s / 362_880.0))))
}

/// The cosine of `turns` full turns.
#[inline]
pub(super) fn cos(turns: f32) -> f32 {
    sin(turns + 0.25)
}

/// `2^x`, held within what an `f32` can be.
#[inline]
pub(super) fn exp2(x: f32) -> f32 {
    let x = x.clamp(-120.0, 120.0);
    let whole = floor(x);
    let f = x - whole as f32;
    let fraction = 1.0
        + f * (std::f32::consts::LN_2
            + f * (0.240_226_5 + f * (0.055_504_1 + f * (0.009_618_1 + f * 0.001_333_4))));
    fraction * f32::from_bits(((whole + 127) as u32) << 23)
}

/// `e^x`.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    exp2(x * std::f32::consts::LOG2_E)
}

/// The logarithm of base 2; `x` must be positive.
#[inline]
pub(super) fn log2(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    let t = (m - 1.0) / (m + 1.0);
    let s = t * t;
    exponent as f32
        + 2.0 * std::f32::consts::LOG2_E * t * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s / 9.0))))
}

/// `x^p` for positive `x`.
#[inline]
pub(super) fn pow(x: f32, p: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { exp2(p * log2(x)) }
}

/// The angle of `(x, y)` in turns, within -0.5 and 0.5.
pub(super) fn angle(y: f32, x: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let (low, high) = if ax < ay { (ax, ay) } else { (ay, ax) };
    if high == 0.0 {
        return 0.0;
    }
    let t = low / high;
    let s = t * t;
    let atan = t * (0.999_866 + s * (-0.330_299_5 + s * (0.180_141 + s * (-0.085_133 + s * 0.020_835_1))));
    let octant = if ay > ax { std::f32::consts::FRAC_PI_2 - atan } else { atan };
    let half = if x < 0.0 { std::f32::consts::PI - octant } else { octant };
    half.copysign(y) / std::f32::consts::TAU
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_over_their_range_follow_the_real_ones() {
        for step in -400..400 {
            let x = step as f32 * 0.013;
            assert!((sin(x) - (x * std::f32::consts::TAU).sin()).abs() < 2e-5, "sin {x}");
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-4, "exp {x}");
            assert_eq!(floor(x) as f32, x.floor(), "floor {x}");
            let y = x.abs() + 0.001;
            assert!((log2(y) - y.log2()).abs() < 1e-4, "log2 {y}");
            assert!((pow(y, 1.7) / y.powf(1.7) - 1.0).abs() < 1e-3, "pow {y}");
            let real = (x - 1.0).atan2(0.5 - x) / std::f32::consts::TAU;
            assert!((angle(x - 1.0, 0.5 - x) - real).abs() < 1e-4, "angle {x}");
        }
    }
}
