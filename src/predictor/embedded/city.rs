//! A skyline.

use super::brief::Thing;
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{exp, floor, index, lerp, pow, saturate};
use super::noise::Noise;
use super::plan::Plan;
use super::rng::Rng;
use super::shape::Shape;
use super::water::{open_shore, water};
use super::world::World;

/// How a building looks.
#[derive(Debug, Clone)]
struct Facade {
    lit_side: Rgb,
    dark_side: Rgb,
    haze: Rgb,
    /// Where the haze at its foot begins, and how strong it is.
    foot: f32,
    mist: f32,
    corner: f32,
    left: f32,
    top: f32,
    cell: [f32; 2],
    share_lit: f32,
    lamps: Vec<Rgb>,
    noise: Noise,
}

/// Towers in rows, lights in their windows, and water before them.
pub(super) fn skyline<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    glow(world, plan);
    let rows_of = 3 + index(2.0 * world.detail.density);
    for row in 0..rows_of {
        let t = (row + 1) as f32 / rows_of as f32;
        let mut rng = world.rng("city").fork(&format!("row {row}"));
        let buildings = layout(world, t, &mut rng);
        let area: f32 = buildings.iter().map(|[left, right, height]| (right - left) * height).sum();
        let cost = area / buildings.len().max(1) as f32 * 40.0;
        plan.add(buildings.len(), cost, move |canvas, numbers| {
            for number in numbers {
                building(world, canvas, buildings[number], t, &mut rng);
            }
        });
    }
    if world.brief.allows(Thing::Water) {
        quay(world, plan);
        water(world, plan, open_shore(world));
    } else {
        let ground = Lch::new(0.20, 0.02, 260.0).rgb() * (world.light.ambient + world.light.sun * 0.2);
        plan.add(1, frame.width * 100.0, move |canvas, _| {
            Shape::rect(0.0, frame.horizon, frame.width, frame.height).paint(canvas, ground, 1.0);
        });
    }
}

/// The light of a city in the air above it.
fn glow<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let warm = Lch::new(0.66, 0.12, 55.0);
    let tint = world.brief.colours.first().map_or(warm, |colour| Lch { l: 0.62, ..*colour });
    let light = avoid(&world.brief, tint).rgb() * (0.42 * world.light.night);
    plan.add(super::sky::rows(frame.horizon), frame.width * 3.0, move |canvas, rows| {
        for y in rows {
            let share = exp(-(frame.horizon - y as f32) / frame.unit * 4.2);
            canvas.row_mut(y).iter_mut().for_each(|pixel| *pixel = *pixel + light * share);
        }
    });
}

/// Left, right and height of the buildings of the row at depth `t` (1 is the nearest).
fn layout(world: &World, t: f32, rng: &mut Rng) -> Vec<[f32; 3]> {
    let frame = world.frame;
    let noise = Noise::new(rng.seed());
    let mut buildings = Vec::new();
    let mut x = -rng.range(0.0, 0.05) * frame.unit;
    let centre = rng.range(0.3, 0.7);
    while x < frame.width {
        let width = frame.unit * rng.range(0.040, 0.095) * lerp(0.75, 1.05, t);
        let u = x / frame.width - centre;
        let downtown = exp(-u * u * 9.0);
        let swell = 0.5 + 0.5 * noise.gradient(x / frame.unit * 2.3, t * 7.0);
        let tall = 0.08 + (0.30 * downtown + 0.14 * swell) * lerp(1.15, 0.62, t);
        let height =
            tall * rng.range(0.60, 1.25) * frame.unit * (frame.horizon / frame.unit / 0.70).clamp(0.6, 1.6);
        buildings.push([x, x + width, height.min(frame.horizon * 0.88)]);
        x += width * if rng.chance(0.3) { rng.range(1.02, 1.25) } else { rng.range(0.80, 1.0) };
    }
    buildings
}

fn building(world: &World, canvas: &mut Canvas, [left, right, height]: [f32; 3], t: f32, rng: &mut Rng) {
    let frame = world.frame;
    let base = frame.horizon + 1.0;
    let top = base - height;
    let width = right - left;
    let facade = facade(world, left, right, top, t, rng);
    let paint = |canvas: &mut Canvas, shape: &Shape| shape.fill(canvas, |x, y| (facade.at(x, y), 1.0));
    let middle = (left + right) * 0.5;
    match rng.pick(&[0, 0, 1, 1, 2, 3, 4]) {
        1 => {
            let step = height * rng.range(0.10, 0.22);
            let inset = width * rng.range(0.14, 0.24);
            paint(canvas, &Shape::rect(left, top + step, right, base));
            paint(canvas, &Shape::rect(left + inset, top, right - inset, top + step + 1.0));
        }
        2 => {
            let slope = width * rng.range(0.3, 0.8) * if rng.chance(0.5) { 1.0 } else { -1.0 };
            let (a, b) = if slope > 0.0 { (slope, 0.0) } else { (0.0, -slope) };
            paint(
                canvas,
                &Shape::polygon(vec![[left, top + a], [right, top + b], [right, base], [left, base]]),
            );
        }
        3 => {
            let step = height * 0.16;
            paint(canvas, &Shape::rect(left, top + step, right, base));
            let mut at = [left + width * 0.14, right - width * 0.14, top + step];
            for _ in 0..3 {
                paint(canvas, &Shape::rect(at[0], at[2] - step * 0.36, at[1], at[2] + 1.0));
                at = [at[0] + width * 0.10, at[1] - width * 0.10, at[2] - step * 0.34];
            }
            let spire = vec![
                [middle - width * 0.05, top + 2.0],
                [middle, top - height * 0.20],
                [middle + width * 0.05, top + 2.0],
            ];
            paint(canvas, &Shape::polygon(spire));
        }
        kind => {
            paint(canvas, &Shape::rect(left, top, right, base));
            if kind == 4 {
                let mast = [left + width * rng.range(0.3, 0.7), top - height * rng.range(0.08, 0.20)];
                let thin = (frame.unit * 0.0022).max(0.8);
                canvas.stroke([mast[0], top], mast, [thin * 1.4, thin], facade.dark_side, 1.0);
                if world.light.night > 0.2 {
                    canvas.glow(mast, frame.unit * 0.012, Rgb([1.6, 0.12, 0.08]));
                }
            }
        }
    }
    if world.brief.asks(Thing::Windows) && t > 0.4 && rng.chance(0.45) {
        sign(world, canvas, [left, right, top, base], rng);
    }
}

/// A neon sign: a bright bar with its glow.
fn sign(world: &World, canvas: &mut Canvas, [left, right, top, base]: [f32; 4], rng: &mut Rng) {
    let unit = world.frame.unit;
    let hues = [
        Lch::new(0.70, 0.25, 340.0),
        Lch::new(0.82, 0.15, 200.0),
        Lch::new(0.75, 0.22, 310.0),
        Lch::new(0.85, 0.16, 90.0),
    ];
    let said = &world.brief.colours;
    let hue = if said.is_empty() { rng.pick(&hues) } else { rng.pick(said) };
    let light = avoid(&world.brief, Lch { l: hue.l.max(0.65), ..hue }).rgb() * 1.7;
    let x = lerp(left, right, rng.range(0.15, 0.85));
    let y = lerp(top, base, rng.range(0.12, 0.45));
    let size =
        if rng.chance(0.65) { [0.006, rng.range(0.04, 0.10)] } else { [rng.range(0.02, 0.035), 0.007] };
    let (half, tall) = (size[0] * unit * 0.5, size[1] * unit);
    Shape::rect(x - half, y, x + half, y + tall).paint(canvas, light, 1.0);
    canvas.glow([x, y + tall * 0.5], unit * 0.05 + tall * 0.8, light * 0.14);
}

fn facade(world: &World, left: f32, right: f32, top: f32, t: f32, rng: &mut Rng) -> Facade {
    let (light, brief, frame) = (&world.light, &world.brief, world.frame);
    let base = Lch::new(rng.range(0.26, 0.46), 0.022, rng.range(20.0, 290.0));
    let base = avoid(brief, base.mix(tinted(brief, base, rng.unit()), 0.5));
    let albedo = base.rgb() * rng.range(0.7, 1.2);
    let haze = light.sky_at(&frame, (left + right) * 0.5, frame.horizon * 0.92);
    let street = brief.colours.first().map_or(Lch::new(0.5, 0.09, 50.0), |colour| Lch { l: 0.45, ..*colour });
    let haze = haze + avoid(brief, street).rgb() * (0.30 * light.night);
    let share = saturate(0.86 * pow(1.0 - t, 0.8)) * lerp(1.0, 0.8, light.night);
    let share = if brief.asks(Thing::Fog) { saturate(share + 0.25) } else { share };
    let lit = |sun: f32, sky: f32| (albedo * (light.sun * sun + light.ambient * sky)).mix(haze, share);
    let sunny = light.direction[0] > 0.0;
    let night = light.night.max(if brief.asks(Thing::Windows) { 0.8 } else { 0.0 });
    let share_lit = lerp(0.04, 0.36, saturate(night * 1.4)) * rng.range(0.25, 1.4);
    let warm =
        [Rgb([1.0, 0.60, 0.24]), Rgb([1.0, 0.70, 0.36]), Rgb([1.0, 0.80, 0.55]), Rgb([0.72, 0.86, 1.0])];
    let mut lamps: Vec<Rgb> = warm.to_vec();
    if brief.asks(Thing::Windows) {
        lamps.extend(brief.colours.iter().map(|colour| Lch { l: 0.75, ..*colour }.rgb()));
    }
    let cell = frame.unit * rng.range(0.0075, 0.0115) * lerp(0.75, 1.0, t);
    let faces = [lit(0.62, 0.75), lit(0.10, 0.55)];
    Facade {
        lit_side: faces[usize::from(!sunny)],
        dark_side: faces[usize::from(sunny)],
        haze,
        foot: frame.horizon,
        mist: 0.45 * (1.1 - t),
        corner: lerp(left, right, rng.range(0.35, 0.7)),
        left,
        top: top + cell * 0.6,
        cell: [cell * rng.range(0.8, 1.2), cell * rng.range(1.0, 1.5)],
        share_lit,
        lamps: lamps
            .into_iter()
            .map(|lamp| lamp * lerp(0.35, 1.0, pow(t, 0.7)) * lerp(0.8, 1.25, night))
            .collect(),
        noise: Noise::new(rng.seed()),
    }
}

impl Facade {
    fn at(&self, x: f32, y: f32) -> Rgb {
        // The side away from the viewer's left is the other tone.
        let side = saturate(x - self.corner + 0.5);
        let mut wall = self.dark_side.mix(self.lit_side, side);
        let (u, v) = ((x - self.left) / self.cell[0], (y - self.top) / self.cell[1]);
        let (iu, iv) = (floor(u), floor(v));
        let edge = |f: f32, half: f32, size: f32| saturate((half - (f - 0.5).abs()) * size + 0.5);
        let pane = edge(u - iu as f32, 0.30, self.cell[0]) * edge(v - iv as f32, 0.28, self.cell[1]);
        if pane > 0.0 && iv >= 0 {
            let chance = self.noise.unit(iu, iv);
            let floor_lit = self.noise.unit(-7, iv) < 0.05;
            if chance < self.share_lit || floor_lit && self.share_lit > 0.1 {
                let pick = self.noise.hash(iu + 91, iv) as usize % self.lamps.len();
                let power = self.noise.unit(iu, iv + 513);
                let power = 0.16 + 1.0 * power * power;
                wall = wall.mix(self.lamps[pick] * power, pane * 0.95);
            } else {
                wall = wall * (1.0 - 0.30 * pane);
            }
        }
        let low = saturate(1.0 - (self.foot - y) / (self.foot * 0.42));
        wall.mix(self.haze, self.mist * low * low)
    }
}

/// A dark bank with lamps, between the towers and the water.
fn quay<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("quay");
    let dark = Lch::new(0.17, 0.02, 255.0).rgb() * (world.light.ambient + world.light.sun * 0.2);
    let night = world.light.night;
    plan.add(1, frame.width * 60.0, move |canvas, _| {
        let high = frame.unit * 0.012;
        Shape::rect(0.0, frame.horizon - high, frame.width, frame.horizon + 1.0).paint(canvas, dark, 1.0);
        let mut x = 0.0;
        while x < frame.width {
            let size = frame.unit * rng.range(0.008, 0.020);
            canvas.disc([x, frame.horizon - high], size, 0.3, dark * rng.range(0.8, 1.3), 1.0);
            x += size * 1.3;
        }
        let mut x = frame.unit * 0.03;
        while x < frame.width && night > 0.2 {
            let lamp = [x, frame.horizon - high * 1.5];
            canvas.disc(lamp, (frame.unit * 0.0028).max(0.9), 0.5, Rgb([1.7, 1.25, 0.7]), 1.0);
            canvas.glow(lamp, frame.unit * 0.03, Rgb([0.5, 0.33, 0.15]) * night);
            x += frame.unit * rng.range(0.05, 0.075);
        }
    });
}
