//! Colour: light is added in linear RGB, colours are chosen and blended in OKLab.

use std::ops::{Add, Mul};

use super::maths::{cos, exp, index, lerp, pow, sin};

/// Linear light with the primaries of sRGB; 1 is white, more is brighter than white.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rgb(pub(super) [f32; 3]);

/// A colour as an eye orders it (Ottosson's OKLab in polar form).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lch {
    /// Lightness, 0 to 1.
    pub(super) l: f32,
    /// Chroma, 0 (grey) to about 0.3.
    pub(super) c: f32,
    /// Hue in degrees: 29 red, 70 orange, 110 yellow, 142 green, 195 cyan, 264 blue, 328 magenta.
    pub(super) h: f32,
}

/// A row of colours, blended in OKLab and baked into a table.
#[derive(Debug, Clone)]
pub(super) struct Gradient(Vec<Rgb>);

impl Rgb {
    /// No light.
    pub(super) const BLACK: Self = Self([0.0; 3]);

    /// A grey of this much light.
    pub(super) const fn grey(light: f32) -> Self {
        Self([light; 3])
    }

    /// From this to `other` as `t` goes from 0 to 1.
    #[inline]
    pub(super) fn mix(self, other: Self, t: f32) -> Self {
        let [r, g, b] = self.0;
        let [r2, g2, b2] = other.0;
        Self([lerp(r, r2, t), lerp(g, g2, t), lerp(b, b2, t)])
    }

    /// How bright an eye finds it (luminance).
    #[inline]
    pub(super) fn luma(self) -> f32 {
        let [r, g, b] = self.0;
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// Further from grey by this factor, or nearer to it.
    #[inline]
    pub(super) fn saturated(self, factor: f32) -> Self {
        Self::grey(self.luma()).mix(self, factor)
    }

    /// Film's shoulder: colours below 0.7 stay, light above it nears white without ever clipping.
    #[inline]
    pub(super) fn shoulder(self) -> Self {
        let roll = |x: f32| if x < 0.7 { x.max(0.0) } else { 1.0 - 0.3 * exp((0.7 - x) / 0.3) };
        Self(self.0.map(roll))
    }
}

impl Add for Rgb {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        let [r, g, b] = self.0;
        let [r2, g2, b2] = other.0;
        Self([r + r2, g + g2, b + b2])
    }
}

impl Mul<f32> for Rgb {
    type Output = Self;
    #[inline]
    fn mul(self, factor: f32) -> Self {
        Self(self.0.map(|x| x * factor))
    }
}

impl Mul for Rgb {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        let [r, g, b] = self.0;
        let [r2, g2, b2] = other.0;
        Self([r * r2, g * g2, b * b2])
    }
}

impl Lch {
    /// Lightness, chroma, hue in degrees.
    pub(super) const fn new(l: f32, c: f32, h: f32) -> Self {
        Self { l, c, h }
    }

    /// From this to `other`, the short way round the hues.
    pub(super) fn mix(self, other: Self, t: f32) -> Self {
        let way = hue_between(self.h, other.h);
        Self { l: lerp(self.l, other.l, t), c: lerp(self.c, other.c, t), h: self.h + way * t }
    }

    /// The light it stands for; what no screen can show is cut off.
    pub(super) fn rgb(self) -> Rgb {
        from_lab(self.lab())
    }

    fn lab(self) -> [f32; 3] {
        let turns = self.h / 360.0;
        [self.l, self.c * cos(turns), self.c * sin(turns)]
    }
}

/// The way from hue `a` to hue `b`, within -180 and 180 degrees.
pub(super) fn hue_between(a: f32, b: f32) -> f32 {
    let mut way = (b - a) % 360.0;
    if way > 180.0 {
        way -= 360.0;
    } else if way < -180.0 {
        way += 360.0;
    }
    way
}

impl Gradient {
    /// A table through `stops`, evenly spaced; there must be two at least.
    pub(super) fn new(stops: &[Lch]) -> Self {
        const SIZE: usize = 512;
        let labs: Vec<[f32; 3]> = stops.iter().map(|stop| stop.lab()).collect();
        let spans = (labs.len() - 1) as f32;
        let bake = |i: usize| {
            let at = i as f32 / (SIZE - 1) as f32 * spans;
            let from = index(at).min(labs.len() - 2);
            let t = at - from as f32;
            let t = t * t * (3.0 - 2.0 * t) * 0.4 + t * 0.6;
            from_lab(std::array::from_fn(|k| lerp(labs[from][k], labs[from + 1][k], t)))
        };
        Self((0..SIZE).map(bake).collect())
    }

    /// The colour at `t`, 0 to 1.
    #[inline]
    pub(super) fn at(&self, t: f32) -> Rgb {
        let last = self.0.len() - 1;
        let at = t.clamp(0.0, 1.0) * last as f32;
        let from = index(at).min(last - 1);
        self.0[from].mix(self.0[from + 1], at - from as f32)
    }
}

/// What a screen wants: the sRGB curve, 0 to 1.
pub(super) fn encode_srgb(x: f32) -> f32 {
    if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * pow(x, 1.0 / 2.4) - 0.055 }
}

fn from_lab([l, a, b]: [f32; 3]) -> Rgb {
    let cube = |x: f32| x * x * x;
    let long = cube(l + 0.396_337_8 * a + 0.215_803_8 * b);
    let medium = cube(l - 0.105_561_3 * a - 0.063_854_2 * b);
    let short = cube(l - 0.089_484_2 * a - 1.291_485_5 * b);
    Rgb([
        (4.076_741_7 * long - 3.307_711_6 * medium + 0.230_969_9 * short).max(0.0),
        (-1.268_438 * long + 2.609_757_4 * medium - 0.341_319_4 * short).max(0.0),
        (-0.004_196_1 * long - 0.703_418_6 * medium + 1.707_614_7 * short).max(0.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lch_of_known_colours_gives_their_light() {
        let red = Lch::new(0.628, 0.2577, 29.23).rgb();
        assert!((red.0[0] - 1.0).abs() < 0.02 && red.0[1] < 0.02 && red.0[2] < 0.02, "{red:?}");
        let white = Lch::new(1.0, 0.0, 0.0).rgb();
        assert!(white.0.iter().all(|x| (x - 1.0).abs() < 1e-3), "{white:?}");
    }

    #[test]
    fn hue_between_takes_the_short_way() {
        assert_eq!(hue_between(350.0, 10.0), 20.0);
        assert_eq!(hue_between(10.0, 350.0), -20.0);
    }

    #[test]
    fn shoulder_of_strong_light_stays_below_white() {
        assert!(Rgb::grey(1.5).shoulder().0[0] < 1.0);
        assert_eq!(Rgb::grey(0.5).shoulder(), Rgb::grey(0.5));
    }
}
