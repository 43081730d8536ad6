//! What land is like: its heights, and what grows or lies on it.

use super::brief::{Season, Thing};
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{exp, lerp, saturate, sin, smoothstep};
use super::noise::Noise;
use super::world::World;

/// The kind of land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// A valley, and a range behind it.
    Mountains,
    /// A range that rises from a lake.
    Shore,
    /// Rolling meadows.
    Hills,
    /// Sand.
    Dunes,
    /// Islands far out.
    Islands,
    /// The floor of the sea.
    Seabed,
}

/// A land. Its places are told by `x` across and `z` away from the eye.
#[derive(Debug)]
pub(super) struct Land {
    /// The kind.
    pub(super) ground: Ground,
    /// What its shapes are made from.
    pub(super) noise: Noise,
    /// Where it begins.
    start: f32,
    /// Pixels to a unit at distance 1.
    focal: f32,
    snow_line: f32,
    /// Rows of a crop: bloom and leaf.
    stripes: Option<[Rgb; 2]>,
    palette: Palette,
}

/// What land is made of.
#[derive(Debug, Clone, Copy)]
struct Palette {
    grass: Rgb,
    dry: Rgb,
    wood: Rgb,
    rock: Rgb,
    pale: Rgb,
    snow: Rgb,
}

impl Land {
    /// The land of `ground` in `world`, which begins at distance `start`.
    pub(super) fn new(world: &World, ground: Ground, start: f32, focal: f32) -> Self {
        let brief = &world.brief;
        let mut rng = world.rng("terrain");
        let noise = Noise::new(rng.seed());
        let stripes = (brief.asks(Thing::Rows) && ground == Ground::Hills).then(|| {
            let said = brief.colour_of(Thing::Flowers).or(brief.colours.last().copied());
            let bloom = said.unwrap_or(Lch::new(0.62, 0.16, 305.0));
            [bloom.rgb() * 0.9, Lch::new(0.42, 0.09, 130.0).rgb()]
        });
        let snow_line = match ground {
            _ if brief.season == Some(Season::Winter) => -2.0,
            Ground::Islands => 9.0,
            _ => rng.range(2.0, 3.2),
        };
        Self { ground, noise, start, focal, snow_line, stripes, palette: palette(world, ground) }
    }

    /// The height of a place.
    pub(super) fn height(&self, x: f32, z: f32, octaves: f32) -> f32 {
        let n = self.noise;
        match self.ground {
            Ground::Mountains => {
                let rise = smoothstep(5.0, 21.0, z);
                let low = 0.55 * n.fbm(x * 0.22, z * 0.22, octaves.min(4.0)) * smoothstep(1.0, 6.0, z);
                let rough =
                    if z < 9.0 { 0.03 * n.fbm(x * 2.6, z * 2.6, (octaves - 4.0).min(3.0)) } else { 0.0 };
                low + rough * smoothstep(9.0, 4.0, z) + rise * (8.6 * self.massif(x, z, octaves) + 0.3)
            }
            Ground::Shore => {
                let start = self.start * 0.9;
                let rise = smoothstep(start, 26.0, z);
                let bank = 0.25 * saturate((z - start) * 0.8);
                bank + 0.30 * rise + rise * 7.6 * self.massif(x, z, octaves)
            }
            Ground::Hills => {
                let roll = n.fbm(x * 0.17, z * 0.20, octaves.min(3.0));
                let near = smoothstep(0.8, 14.0, z) * (1.05 * roll + 0.15);
                if z < 14.0 {
                    return near + 0.012 * n.fbm(x * 6.0, z * 6.0, (octaves - 5.0).min(2.0));
                }
                let far = 0.5 + n.fbm(x * 0.10 + 31.0, z * 0.05, octaves.min(5.0));
                near + (smoothstep(14.0, 36.0, z) * 2.2 * far).max(0.0)
            }
            Ground::Dunes => {
                let bend = 0.9 * n.gradient(x * 0.12, z * 0.12);
                let crest = |fx: f32, fz: f32| {
                    let r = 1.0 - n.gradient(x * fx + bend, z * fz + bend * 0.6).abs();
                    r * r
                };
                let big = crest(0.16, 0.21);
                let small = crest(0.42, 0.5) * smoothstep(22.0, 8.0, z);
                smoothstep(0.5, 9.0, z)
                    * (1.7 * big * (0.45 + 0.55 * smoothstep(26.0, 12.0, z)) + 0.32 * small * big - 0.7)
            }
            Ground::Islands => {
                let mass = n.fbm(x * 0.075 + 40.0, z * 0.10, octaves.min(2.0)) - 0.10;
                let rough = n.eroded(x * 0.22, z * 0.22, octaves);
                mass * smoothstep(13.0, 20.0, z) * 5.0 * (0.30 + rough) - 0.02
            }
            Ground::Seabed => {
                0.45 * n.fbm(x * 0.5, z * 0.5, octaves.min(5.0))
                    + 0.02 * sin(x * 3.0 + 2.0 * n.gradient(x, z))
            }
        }
    }

    /// The shape of a range: broad masses with sharp crests.
    fn massif(&self, x: f32, z: f32, octaves: f32) -> f32 {
        let n = self.noise;
        let broad = 0.5 + 0.7 * n.gradient(x * 0.085 + 3.0, z * 0.085);
        let rough = n.eroded(x * 0.13, z * 0.13, octaves);
        saturate(broad).sqrt() * (0.18 + 0.72 * rough) * (0.55 + 0.45 * rough.min(1.2))
    }

    /// The colour of a place `height` high, where `up` tells how level it is: 1 flat, 0 a wall.
    pub(super) fn albedo(&self, x: f32, z: f32, height: f32, up: f32) -> Rgb {
        let p = &self.palette;
        let n = self.noise;
        match self.ground {
            Ground::Dunes => {
                let ripple = 1.0
                    + 0.05
                        * sin((x * 0.8 + z * 2.2) * 2.4 + 1.4 * n.gradient(x * 0.9, z * 0.9))
                        * exp(-z * 0.25);
                p.pale.mix(p.dry, saturate(0.5 + 0.6 * n.fbm(x * 0.3, z * 0.3, 2.0))) * ripple
            }
            Ground::Seabed => p.pale,
            Ground::Hills => self.meadow(x, z, height),
            Ground::Mountains | Ground::Shore | Ground::Islands => {
                let patch = n.fbm(x * 0.55 + 11.0, z * 0.55, 4.0);
                let near =
                    if z < 8.0 { n.gradient(x * 21.0, z * 12.0) * smoothstep(8.0, 2.0, z) } else { 0.0 };
                let fine = n.gradient(x * 5.0, z * 5.0) + 0.8 * near;
                let rock = p
                    .rock
                    .mix(p.pale, saturate(0.4 + 0.5 * patch + 0.25 * n.gradient(height * 2.6, x * 0.4)));
                let meadow = p.grass.mix(p.dry, saturate(0.5 + 0.8 * patch)) * (1.0 + 0.14 * fine);
                let wooded = smoothstep(-0.05, 0.12, patch + 0.22 * fine)
                    * smoothstep(2.6, 1.4, height)
                    * smoothstep(0.55, 0.70, up);
                let green = meadow.mix(p.wood, wooded * 0.9);
                let growth =
                    smoothstep(0.56, 0.74, up + 0.10 * fine) * smoothstep(3.1, 1.9, height + 0.7 * patch);
                let bare = rock.mix(green, growth);
                let cover = smoothstep(0.0, 0.7, height - self.snow_line + 0.9 * patch + 0.2 * fine);
                let lies = smoothstep(0.42, 0.60, up + 0.06 * fine);
                let hold = if self.snow_line < 0.0 { 1.0 - 0.75 * wooded } else { 1.0 };
                bare.mix(p.snow, cover * lies * hold)
            }
        }
    }

    fn meadow(&self, x: f32, z: f32, height: f32) -> Rgb {
        let p = &self.palette;
        let n = self.noise;
        let patch = n.fbm(x * 0.35 + 11.0, z * 0.35, 3.0);
        let fine = if z < 12.0 { n.fbm(x * 7.0, z * 3.5, 2.0) * smoothstep(12.0, 4.0, z) } else { 0.0 };
        let winter = self.snow_line < 0.0;
        let grass = p.grass.mix(p.dry, saturate(0.45 + 0.9 * patch)) * (1.0 + 0.20 * fine);
        let ground = if winter { p.snow * (1.0 + 0.05 * fine) } else { grass };
        if let Some([bloom, leaf]) = self.stripes {
            let row = sin(x * 1.55 + 0.03 * n.gradient(z, 1.0));
            let width = (z / self.focal * 10.0).min(1.0);
            let ridge = lerp(smoothstep(-0.55, 0.25, row), 0.66, width);
            let near = smoothstep(20.0, 10.0, z);
            return ground.mix(leaf.mix(bloom * (1.0 + 0.35 * fine), ridge), near);
        }
        // Hedges and copses.
        let far = smoothstep(3.0, 6.0, z);
        let copse =
            if far > 0.0 { smoothstep(0.16, 0.28, n.fbm(x * 0.9 - 7.0, z * 0.7, 4.0)) * far } else { 0.0 };
        let bare = ground.mix(p.wood, copse * if winter { 0.7 } else { 0.85 });
        bare.mix(p.rock, smoothstep(2.5, 5.0, height) * 0.4)
    }
}

fn palette(world: &World, ground: Ground) -> Palette {
    let brief = &world.brief;
    let (grass, dry, wood) = match brief.season {
        Some(Season::Spring) => {
            (Lch::new(0.62, 0.13, 130.0), Lch::new(0.70, 0.12, 118.0), Lch::new(0.40, 0.08, 140.0))
        }
        Some(Season::Autumn) => {
            (Lch::new(0.55, 0.10, 95.0), Lch::new(0.62, 0.12, 70.0), Lch::new(0.48, 0.13, 48.0))
        }
        Some(Season::Winter) => {
            (Lch::new(0.86, 0.015, 240.0), Lch::new(0.80, 0.02, 240.0), Lch::new(0.36, 0.025, 200.0))
        }
        _ => (Lch::new(0.53, 0.11, 132.0), Lch::new(0.62, 0.11, 112.0), Lch::new(0.33, 0.065, 145.0)),
    };
    let (rock, pale) = match ground {
        Ground::Dunes => (Lch::new(0.60, 0.09, 60.0), Lch::new(0.76, 0.095, 72.0)),
        Ground::Seabed => (Lch::new(0.5, 0.03, 90.0), Lch::new(0.78, 0.05, 90.0)),
        _ => (Lch::new(0.42, 0.022, 60.0), Lch::new(0.56, 0.026, 65.0)),
    };
    let dry = if ground == Ground::Dunes { Lch::new(0.66, 0.11, 58.0) } else { dry };
    let bake = |base: Lch, t: f32, share: f32| {
        let tint = tinted(brief, base, t);
        avoid(brief, Lch { l: lerp(base.l, tint.l, 0.5), ..base.mix(tint, share) }).rgb()
    };
    // A colour said of the land is the land's own, whatever the sky has.
    let said =
        brief.colour_of(Thing::Land).or(brief.colour_of(Thing::Grass)).filter(|_| ground != Ground::Seabed);
    let bake = |base: Lch, t: f32, share: f32| match said {
        Some(colour) if share > 0.3 => {
            let own =
                Lch { l: lerp(base.l, colour.l, 0.45), c: colour.c * 0.8, h: colour.h + (t - 0.3) * 14.0 };
            avoid(brief, own).rgb()
        }
        _ => bake(base, t, share),
    };
    let share = if ground == Ground::Dunes { 0.75 } else { 0.45 };
    Palette {
        grass: bake(grass, 0.2, share),
        dry: bake(dry, 0.6, share),
        wood: bake(wood, 0.0, share),
        rock: bake(rock, 0.3, share),
        pale: bake(pale, 0.7, share),
        snow: bake(Lch::new(0.90, 0.014, 250.0), 0.9, 0.25),
    }
}
