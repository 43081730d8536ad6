//! Land: a height field, drawn column by column from the near to the far.

use super::brief::Thing;
use super::canvas::Canvas;
use super::colour::Rgb;
use super::ground::{Ground, Land};
use super::maths::{exp, index, log2, saturate};
use super::world::World;

/// A land and how it is seen.
#[derive(Debug)]
pub(super) struct Terrain<'a> {
    world: &'a World,
    land: Land,
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
        let fog = if brief.asks(Thing::Fog) {
            2.6
        } else if brief.asks(Thing::Rain) {
            1.9
        } else {
            1.0
        };
        let (range, camera, haze) = match ground {
            Ground::Mountains => ([1.6, 46.0], 1.15, 0.022),
            Ground::Shore => ([12.0, 46.0], 1.0, 0.024),
            Ground::Hills => ([1.2, 40.0], 1.3, 0.030),
            Ground::Dunes => ([1.0, 30.0], 1.5, 0.038),
            Ground::Islands => ([13.0, 40.0], 1.0, 0.030),
            Ground::Seabed => ([1.2, 14.0], 1.3, 0.22),
        };
        let focal = world.frame.unit * 1.15;
        Self {
            world,
            land: Land::new(world, ground, range[0], focal),
            range,
            camera,
            focal,
            stride: (0.010 + 0.10 * (1.0 - world.detail.density))
                * (512.0 / world.frame.unit).clamp(0.35, 1.6),
            octaves: world.detail.octaves(9.0),
            haze: haze * fog,
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
        let islands = self.land.ground == Ground::Islands;
        let watery = islands || self.land.ground == Ground::Shore;
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
        let height = self.land.height(across * z, z, self.octaves_at(z));
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
        match self.land.ground {
            Ground::Shore => self.range[0] * (1.0 + 0.10 * self.land.noise.fbm(across * 5.0, 7.7, 3.0)),
            _ => self.range[0],
        }
    }

    fn octaves_at(&self, z: f32) -> f32 {
        // Finer than a pixel is noise without meaning.
        self.octaves.min(log2(self.focal / z * 3.5).max(2.0))
    }

    /// The light that comes from a place. `along` is the slope along the line of sight, if it is known,
    /// and how that line runs.
    fn shade(&self, x: f32, z: f32, height: f32, octaves: f32, along: Option<(f32, f32)>, haze: Rgb) -> Rgb {
        let step = (z / self.focal).max(0.004) * 1.2;
        let slope_x = (self.land.height(x + step, z, octaves) - height) / step;
        let slope_z = match along {
            Some((slope, across)) => slope - slope_x * across,
            None => (self.land.height(x, z + step, octaves) - height) / step,
        };
        let length = (1.0 + slope_x * slope_x + slope_z * slope_z).sqrt();
        let light = &self.world.light;
        let [lx, ly, lz] = light.direction;
        let facing = (-slope_x * lx + ly - slope_z * lz) / length;
        let up = 1.0 / length;
        let shadow = if facing > 0.0 { self.shadow(x, z, height) } else { 0.0 };
        let albedo = self.land.albedo(x, z, height, up);
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
        if matches!(self.land.ground, Ground::Seabed) {
            return 1.0;
        }
        let mut open = 1.0_f32;
        let mut t = 0.14;
        for _ in 0..3 {
            let ground = self.land.height(x + lx * t, z + lz * t, 3.0_f32.min(self.octaves));
            let clear = (height + ly * t + 0.06 - ground) / t;
            open = open.min(saturate(0.5 + clear * 3.0));
            t *= 2.9;
        }
        open
    }
}

impl Partial {
    /// Covers column `x` from row `rows[0]` up to `rows[1]`, from one colour to the other.
    fn span(&mut self, canvas: &mut Canvas, x: usize, rows: [f32; 2], colours: [Rgb; 2]) {
        let [bottom, end] = rows;
        let length = (bottom - end).max(1e-4);
        let mut low = bottom.min(canvas.height as f32);
        while low > end.max(0.0) {
            let row = row_above(low);
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

/// The row that ends at this position, or holds it.
fn row_above(at: f32) -> usize {
    let whole = index(at);
    if whole as f32 >= at { whole.saturating_sub(1) } else { whole }
}
