//! Land: a height field, drawn column by column from the near to the far.

use super::brief::{Season, Thing};
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{exp, index, lerp, log2, saturate, sin, smoothstep};
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

/// A land and how it is seen.
#[derive(Debug)]
pub(super) struct Terrain<'a> {
    world: &'a World,
    ground: Ground,
    noise: Noise,
    /// Nearest and farthest distance that is drawn.
    range: [f32; 2],
    /// How high the eye is.
    camera: f32,
    /// Pixels to a unit at distance 1.
    focal: f32,
    /// The growth from one sample to the next.
    stride: f32,
    octaves: f32,
    /// How fast things fade with distance.
    haze: f32,
    snow_line: f32,
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

/// A place that was seen.
#[derive(Debug, Clone, Copy)]
struct Sample {
    z: f32,
    height: f32,
    colour: Rgb,
}

/// What a column shows so far.
#[derive(Default)]
struct Sight {
    across: f32,
    haze: Rgb,
    /// Everything below this row is painted.
    top: f32,
    last: Option<Sample>,
    partial: Partial,
}

/// A pixel that is only partly covered so far.
#[derive(Default)]
struct Partial {
    sum: Rgb,
    cover: f32,
}

impl<'a> Terrain<'a> {
    /// The land of `ground` in `world`.
    pub(super) fn new(world: &'a World, ground: Ground) -> Self {
        let brief = &world.brief;
        let mut rng = world.rng("terrain");
        let fog = if brief.asks(Thing::Fog) {
            2.6
        } else if brief.asks(Thing::Rain) {
            1.9
        } else {
            1.0
        };
        let winter = brief.season == Some(Season::Winter);
        let (range, camera, haze) = match ground {
            Ground::Mountains => ([1.6, 46.0], 1.15, 0.022),
            Ground::Shore => ([12.0, 46.0], 1.0, 0.024),
            Ground::Hills => ([1.2, 40.0], 1.3, 0.030),
            Ground::Dunes => ([1.0, 30.0], 1.5, 0.038),
            Ground::Islands => ([13.0, 40.0], 1.0, 0.030),
            Ground::Seabed => ([1.2, 14.0], 1.3, 0.22),
        };
        let stripes = (brief.asks(Thing::Rows) && ground == Ground::Hills).then(|| {
            let said = brief.colour_of(Thing::Flowers).or(brief.colours.last().copied());
            let bloom = said.unwrap_or(Lch::new(0.62, 0.16, 305.0));
            [bloom.rgb() * 0.9, Lch::new(0.42, 0.09, 130.0).rgb()]
        });
        Self {
            world,
            ground,
            noise: Noise::new(rng.seed()),
            range,
            camera,
            focal: world.frame.unit * 1.15,
            stride: (0.010 + 0.10 * (1.0 - world.detail.density))
                * (512.0 / world.frame.unit).clamp(0.35, 1.6),
            octaves: world.detail.octaves(9.0),
            haze: haze * fog,
            snow_line: match ground {
                _ if winter => -2.0,
                Ground::Islands => 9.0,
                _ => rng.range(2.0, 3.2),
            },
            stripes,
            palette: palette(world, ground),
        }
    }

    /// Draws column `x`, and tells the row where the land meets the water or the picture's edge.
    pub(super) fn column(&self, canvas: &mut Canvas, x: usize) -> f32 {
        let frame = &self.world.frame;
        let across = (x as f32 + 0.5 - frame.width * 0.5) / self.focal;
        let light = &self.world.light;
        let haze = light.sky_at(frame, x as f32 + 0.5, frame.horizon * 0.96).mix(light.sky.at(0.45), 0.42);
        let start = self.near(across);
        let bottom = canvas.height as f32;
        let shore = (frame.horizon + self.camera * self.focal / start).min(bottom);
        let islands = self.ground == Ground::Islands;
        let watery = islands || self.ground == Ground::Shore;
        let mut landfall = if islands { frame.horizon } else { shore };
        let mut sight = Sight { across, haze, top: if watery { shore } else { bottom }, ..Sight::default() };
        let mut z = start;
        let mut grow = self.stride;
        while z < self.range[1] && sight.top > 0.0 {
            let (height, y) = self.seen(across, z);
            if islands && height < 0.0 {
                // Water: it hides what is below it, and is painted later.
                if y < sight.top {
                    sight.partial.flush(canvas, x, sight.top);
                    sight.top = y;
                }
                sight.last = None;
            } else if y >= sight.top {
                if let Some(last) = sight.last.take() {
                    let (_, _, crest) = self.crest(across, [last.z / (1.0 + grow), z]);
                    if crest < sight.top {
                        sight.partial.span(canvas, x, [sight.top, crest], [last.colour; 2]);
                        sight.top = crest;
                    }
                }
                grow = self.stride;
            } else if sight.last.is_none() && sight.top - y > 2.5 && grow > 0.3 * self.stride {
                // Higher ground comes into view: go back, and look closer.
                z *= (1.0 + 0.2 * grow) / (1.0 + grow);
                grow *= 0.2;
                continue;
            } else {
                if sight.last.is_none() && islands {
                    landfall = landfall.max(sight.top);
                }
                let drop = sight.top - y;
                self.paint(canvas, x, &mut sight, (z, height, y));
                grow = self.stride * (2.2 / drop.max(0.5)).clamp(0.25, 1.0);
            }
            z *= 1.0 + grow;
        }
        sight.partial.flush(canvas, x, sight.top);
        landfall
    }

    /// The height of the land at a distance, and the row it is seen in.
    fn seen(&self, across: f32, z: f32) -> (f32, f32) {
        let height = self.height(across * z, z, self.octaves_at(z));
        (height, self.world.frame.horizon + (self.camera - height) * self.focal / z)
    }

    /// The highest point on the canvas between two distances; without it, edges would be jagged.
    fn crest(&self, across: f32, [mut low, mut high]: [f32; 2]) -> (f32, f32, f32) {
        let mut best = (low, 0.0, f32::MAX);
        for _ in 0..5 {
            let third = (high - low) / 3.0;
            let [a, b] = [low + third, high - third].map(|z| (z, self.seen(across, z)));
            let (nearer, farther) = (a.1.1, b.1.1);
            for (z, (height, y)) in [a, b] {
                if y < best.2 {
                    best = (z, height, y);
                }
            }
            if nearer < farther { high -= third } else { low += third }
        }
        best
    }

    /// Paints up to a place that is seen above all before it.
    fn paint(&self, canvas: &mut Canvas, x: usize, sight: &mut Sight, (z, height, y): (f32, f32, f32)) {
        if y >= sight.top {
            return;
        }
        let across = sight.across;
        let far = |last: &Sample| z - last.z > 0.4 * z / self.focal;
        let slope = sight.last.filter(far).map(|last| (height - last.height) / (z - last.z));
        let along = slope.map(|slope| (slope, across));
        let colour = self.shade(across * z, z, height, self.octaves_at(z), along, sight.haze);
        let from = sight.last.map_or(colour, |last| last.colour);
        sight.partial.span(canvas, x, [sight.top, y], [from, colour]);
        sight.top = y;
        sight.last = Some(Sample { z, height, colour });
    }

    fn near(&self, across: f32) -> f32 {
        match self.ground {
            Ground::Shore => self.range[0] * (1.0 + 0.10 * self.noise.fbm(across * 5.0, 7.7, 3.0)),
            _ => self.range[0],
        }
    }

    fn octaves_at(&self, z: f32) -> f32 {
        // Finer than a pixel is noise without meaning.
        self.octaves.min(log2(self.focal / z * 3.5).max(2.0))
    }

    fn height(&self, x: f32, z: f32, octaves: f32) -> f32 {
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
                let start = self.range[0] * 0.9;
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

    /// The light that comes from a place. `along` is the slope along the line of sight, if it is known,
    /// and how that line runs.
    fn shade(&self, x: f32, z: f32, height: f32, octaves: f32, along: Option<(f32, f32)>, haze: Rgb) -> Rgb {
        let step = (z / self.focal).max(0.004) * 1.2;
        let slope_x = (self.height(x + step, z, octaves) - height) / step;
        let slope_z = match along {
            Some((slope, across)) => slope - slope_x * across,
            None => (self.height(x, z + step, octaves) - height) / step,
        };
        let length = (1.0 + slope_x * slope_x + slope_z * slope_z).sqrt();
        let light = &self.world.light;
        let [lx, ly, lz] = light.direction;
        let facing = (-slope_x * lx + ly - slope_z * lz) / length;
        let up = 1.0 / length;
        let shadow = if facing > 0.0 { self.shadow(x, z, height) } else { 0.0 };
        let albedo = self.albedo(x, z, height, up);
        let direct = light.sun * (facing.max(0.0) * shadow * 1.15);
        let sky = light.ambient * (0.35 + 0.65 * up * up);
        let lit = albedo * (direct + sky);
        let low = exp(-height.max(0.0) * 0.22);
        let fog = 1.0 - exp(-(z - 1.0) * self.haze * (0.45 + 0.75 * low));
        lit.mix(haze, saturate(fog))
    }

    /// 1 in the light, 0 in the shadow of higher ground.
    fn shadow(&self, x: f32, z: f32, height: f32) -> f32 {
        let [lx, ly, lz] = self.world.light.direction;
        if matches!(self.ground, Ground::Seabed) {
            return 1.0;
        }
        let mut open = 1.0_f32;
        let mut t = 0.14;
        for _ in 0..3 {
            let ground = self.height(x + lx * t, z + lz * t, 3.0_f32.min(self.octaves));
            let clear = (height + ly * t + 0.06 - ground) / t;
            open = open.min(saturate(0.5 + clear * 3.0));
            t *= 2.9;
        }
        open
    }

    fn albedo(&self, x: f32, z: f32, height: f32, up: f32) -> Rgb {
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

impl Partial {
    /// Covers column `x` from row `rows[0]` up to `rows[1]`, from one colour to the other.
    fn span(&mut self, canvas: &mut Canvas, x: usize, rows: [f32; 2], colours: [Rgb; 2]) {
        let [bottom, end] = rows;
        let length = (bottom - end).max(1e-4);
        let mut low = bottom.min(canvas.height as f32);
        while low > end.max(0.0) {
            let row = index(low.ceil_row());
            let high = (row as f32).max(end);
            let share = low - high;
            let middle = (low + high) * 0.5;
            self.sum = self.sum + colours[0].mix(colours[1], (bottom - middle) / length) * share;
            self.cover += share;
            if high <= row as f32 {
                self.flush(canvas, x, row as f32 + 0.5);
            }
            if high >= low {
                break;
            }
            low = high;
        }
    }

    /// Puts what is gathered on the pixel that row position `at` lies in.
    fn flush(&mut self, canvas: &mut Canvas, x: usize, at: f32) {
        let row = index(at.max(0.0)).min(canvas.height - 1);
        if self.cover > 1e-4 {
            canvas.blend(x, row, self.sum * (1.0 / self.cover), self.cover.min(1.0));
        }
        *self = Self::default();
    }
}

trait RowAbove {
    /// The row that ends at, or holds, this position.
    fn ceil_row(self) -> Self;
}

impl RowAbove for f32 {
    fn ceil_row(self) -> Self {
        let whole = index(self) as Self;
        if whole >= self { whole - 1.0 } else { whole }
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
