//! Below the sea.

use super::brief::Thing;
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::ground::Ground;
use super::light::avoid;
use super::maths::{angle, cos, exp, lerp, pow, saturate, sin, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::rng::Rng;
use super::scene::wants;
use super::shape::{Place, Point, Shape};
use super::sky::rows;
use super::terrain::Terrain;
use super::world::World;

/// Shafts of light, a sandy floor with corals, fish and bubbles.
pub(super) fn underwater<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let light = &world.light;
    plan.add(rows(frame.height), frame.width * 20.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                *pixel = light.sky_at(&frame, x as f32, y as f32);
            }
        }
    });
    let terrain = Terrain::new(world, Ground::Seabed);
    plan.add(rows(frame.width), frame.height * 90.0, move |canvas, columns| {
        for x in columns {
            terrain.column(canvas, x);
        }
    });
    corals(world, plan);
    if wants(world, Thing::Jellyfish, 0.25) {
        jellyfish(world, plan);
    }
    if wants(world, Thing::Fish, 0.9) {
        fish(world, plan);
    }
    shafts(world, plan);
    motes(world, plan);
}

fn shafts<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("shafts");
    let noise = Noise::new(rng.seed());
    let source = [frame.width * rng.range(0.3, 0.7), -frame.height * 0.35];
    let light = world.light.stops[0].rgb() * lerp(0.42, 0.16, world.light.night);
    let octaves = world.detail.octaves(4.0);
    plan.add(rows(frame.height), frame.width * 75.0, move |canvas, rows| {
        for y in rows {
            let fade = pow(1.0 - y as f32 / frame.height, 1.6);
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let turn = angle(x as f32 - source[0], y as f32 - source[1]);
                let beam = noise.fbm(turn * 34.0, 0.35 * y as f32 / frame.height, octaves);
                let share = smoothstep(0.0, 0.75, beam) * fade;
                *pixel = *pixel + light * share;
            }
        }
    });
}

fn corals<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("corals");
    let count = world.detail.count(34.0 * (frame.width / frame.unit).max(0.4));
    let water = world.light.stops[3].rgb();
    let lit = world.light.ambient.mix(Rgb::grey(world.light.ambient.luma()), 0.5) * 4.2;
    plan.add(count, frame.unit * 120.0, move |canvas, numbers| {
        for number in numbers {
            let near = number as f32 / count as f32;
            let x = rng.unit() * frame.width;
            // Less of it in the middle, where one looks into the distance.
            let middle = 1.0 - (x / frame.width * 2.0 - 1.0).abs();
            let foot = [x, lerp(frame.horizon + frame.unit * 0.08, frame.height * 1.02, near)];
            let size = frame.unit * lerp(0.05, 0.26, near) * rng.range(0.6, 1.1) * lerp(1.15, 0.45, middle);
            let hue = rng.pick(&[12.0, 340.0, 35.0, 300.0, 75.0, 150.0]);
            let tint = avoid(&world.brief, Lch::new(rng.range(0.50, 0.66), 0.15, hue)).rgb() * lit;
            let colour = tint.mix(water, lerp(0.72, 0.15, near));
            match rng.pick(&[0, 0, 1, 2]) {
                0 => kelp(canvas, foot, size * 1.7, colour.mix(water, 0.2) * Rgb([0.55, 0.9, 0.5]), &mut rng),
                1 => fan(canvas, foot, [0.0, -1.0], size * 0.36, size * 0.085, 5, colour, &mut rng),
                _ => lumps(canvas, foot, size * 0.5, colour, &mut rng),
            }
        }
    });
}

fn kelp(canvas: &mut Canvas, foot: Point, height: f32, colour: Rgb, rng: &mut Rng) {
    let phase = rng.unit();
    let mut at = foot;
    let pieces = 16;
    for i in 0..pieces {
        let t = (i + 1) as f32 / pieces as f32;
        let sway = sin(phase + t * 0.8) * height * 0.10 * t;
        let next = [foot[0] + sway, foot[1] - height * t];
        canvas.stroke(at, next, [height * 0.022 * (1.1 - t), height * 0.022 * (1.05 - t)], colour, 1.0);
        let side = if i % 2 == 0 { 1.0 } else { -1.0 };
        let leaf = [next[0] + side * height * 0.10 * (1.1 - t), next[1] - height * 0.075];
        canvas.stroke(next, leaf, [height * 0.030 * (1.1 - t), 0.5], colour * rng.range(0.85, 1.2), 1.0);
        at = next;
    }
}

#[expect(clippy::too_many_arguments, reason = "a recursion that carries its brush")]
fn fan(
    canvas: &mut Canvas,
    from: Point,
    way: [f32; 2],
    length: f32,
    width: f32,
    depth: u32,
    colour: Rgb,
    rng: &mut Rng,
) {
    let to = [from[0] + way[0] * length, from[1] + way[1] * length];
    canvas.stroke(from, to, [width, width * 0.8], colour, 1.0);
    if depth == 0 {
        canvas.disc(to, width * 0.75, 0.3, colour * 1.35, 1.0);
        return;
    }
    for spread in [-0.075, 0.075] {
        let turn = spread + rng.range(-0.035, 0.035);
        let next = [way[0] * cos(turn) - way[1] * sin(turn), way[0] * sin(turn) + way[1] * cos(turn)];
        fan(canvas, to, next, length * rng.range(0.68, 0.86), width * 0.74, depth - 1, colour * 1.04, rng);
    }
}

fn lumps(canvas: &mut Canvas, foot: Point, size: f32, colour: Rgb, rng: &mut Rng) {
    for i in 0..26 {
        let t = i as f32 / 26.0;
        let at = [
            foot[0] + rng.range(-1.0, 1.0) * size * (1.1 - 0.6 * t),
            foot[1] - size * (0.15 + 0.75 * t) * rng.range(0.6, 1.0),
        ];
        canvas.disc(at, size * rng.range(0.13, 0.24), 0.5, colour * lerp(0.6, 1.35, t), 1.0);
    }
}

/// A fish that swims to the right: its body, and its tail and fins.
const FISH: [&str; 2] = [
    "M 0.5 0.0 C 0.36 -0.20 0.02 -0.25 -0.30 -0.03 L -0.30 0.03 C 0.02 0.25 0.36 0.18 0.5 0.0 Z",
    "M -0.26 0.0 L -0.52 -0.19 Q -0.44 0.0 -0.52 0.19 Z M 0.16 -0.17 Q 0.0 -0.33 -0.16 -0.28 Q -0.10 -0.16 -0.06 -0.13 Z M 0.08 0.15 Q -0.02 0.28 -0.12 0.25 Q -0.06 0.15 -0.04 0.12 Z",
];

fn fish<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("fish");
    let water = world.light.stops[2].rgb();
    let lit = world.light.ambient.mix(Rgb::grey(world.light.ambient.luma()), 0.5) * 4.6;
    let said = world.brief.colour_of(Thing::Fish);
    let schools = 4;
    let per_school = world.detail.count(11.0);
    plan.add(schools, per_school as f32 * frame.unit * 40.0, move |canvas, numbers| {
        for school in numbers {
            let near = (school as f32 + 0.4) / schools as f32;
            let centre = [rng.range(0.15, 0.85) * frame.width, rng.range(0.18, 0.68) * frame.height];
            let way = if rng.chance(0.5) { 1.0 } else { -1.0 };
            let hue = rng.pick(&[48.0, 85.0, 20.0, 330.0, 250.0]);
            let colour = said.unwrap_or(Lch::new(0.72, 0.16, hue));
            let tint = avoid(&world.brief, colour).rgb() * lit;
            let last = school == schools - 1;
            for _ in 0..if last { 2 } else { per_school } {
                let size = frame.unit * lerp(0.022, 0.115, near * near) * rng.range(0.8, 1.2);
                let at = [
                    centre[0] + rng.range(-1.0, 1.0) * frame.unit * 0.17,
                    centre[1] + rng.range(-1.0, 1.0) * frame.unit * 0.09,
                ];
                one_fish(canvas, at, size, way, tint.mix(water, lerp(0.75, 0.05, near)));
            }
        }
    });
}

fn one_fish(canvas: &mut Canvas, at: Point, size: f32, way: f32, colour: Rgb) {
    let place = Place { at, scale: [size * way, size] };
    Shape::parse(FISH[1], place).paint(canvas, colour * 0.72, 0.95);
    Shape::parse(FISH[0], place).fill(canvas, |_, y| {
        let v = (y - at[1]) / size;
        // Dark above, bright below, as fish are.
        (colour * lerp(0.75, 1.45, smoothstep(-0.18, 0.14, v)), 1.0)
    });
    if size > 12.0 {
        let eye = place.apply([0.32, -0.04]);
        canvas.disc(eye, size * 0.036, 0.2, Rgb::grey(0.85), 1.0);
        canvas.disc(eye, size * 0.021, 0.2, Rgb::grey(0.01), 1.0);
    }
}

fn jellyfish<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("jellyfish");
    let said = world.brief.colour_of(Thing::Jellyfish);
    let count = if world.brief.asks(Thing::Jellyfish) { 4 } else { 2 };
    plan.add(count, frame.unit * 300.0, move |canvas, numbers| {
        for number in numbers {
            let near = (number + 1) as f32 / count as f32;
            let size = frame.unit * lerp(0.05, 0.14, near * near);
            let at = [rng.range(0.18, 0.82) * frame.width, rng.range(0.16, 0.50) * frame.height];
            let colour = said.unwrap_or(Lch::new(0.75, 0.14, rng.pick(&[330.0, 300.0, 20.0])));
            let light = avoid(&world.brief, colour).rgb();
            canvas.glow(at, size * 3.2, light * 0.28);
            for arm in 0..9 {
                let x = (arm as f32 / 8.0 - 0.5) * size * 1.4;
                let phase = rng.unit();
                let mut from = [at[0] + x, at[1] + size * 0.15];
                for k in 1..=14 {
                    let t = k as f32 / 14.0;
                    let to = [at[0] + x * (1.0 - 0.3 * t) + sin(phase + t * 1.3) * size * 0.18 * t, at[1] + size * (0.15 + 2.3 * t)];
                    let width = size * 0.05 * (1.1 - t);
                    canvas.stroke(from, to, [width, width], light * 0.9, 0.55 * (1.0 - t));
                    from = to;
                }
            }
            let bell = "M -1 0.2 C -1.05 -0.75 -0.5 -1 0 -1 C 0.5 -1 1.05 -0.75 1 0.2 Q 0.8 0.06 0.66 0.2 Q 0.5 0.06 0.33 0.2 Q 0.16 0.06 0 0.2 Q -0.16 0.06 -0.33 0.2 Q -0.5 0.06 -0.66 0.2 Q -0.8 0.06 -1 0.2 Z";
            Shape::parse(bell, Place { at, scale: [size * 0.85, size * 0.85] }).fill(canvas, |x, y| {
                let p = [(x - at[0]) / size, (y - at[1]) / size];
                let r = (p[0] * p[0] + p[1] * p[1]).sqrt();
                (light * lerp(0.8, 1.5, saturate(r)), 0.40 + 0.45 * smoothstep(0.3, 0.9, r))
            });
        }
    });
}

fn motes<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("motes");
    let light = world.light.stops[0].rgb();
    let count = world.detail.count(170.0);
    plan.add(count, frame.unit * 0.5, move |canvas, numbers| {
        for number in numbers {
            let at = [rng.unit() * frame.width, rng.unit() * frame.height];
            canvas.disc(at, (frame.unit * rng.range(0.0008, 0.0022)).max(0.6), 0.8, light, 0.35);
            if number % 6 == 0 {
                let radius = frame.unit * rng.range(0.004, 0.011);
                canvas.disc(at, radius, 0.25, light, 0.16);
                canvas.disc(
                    [at[0] - radius * 0.35, at[1] - radius * 0.35],
                    radius * 0.28,
                    0.5,
                    Rgb::grey(1.0),
                    0.75,
                );
            }
        }
    });
    // The deep takes the light.
    plan.add(rows(frame.height), frame.width * 3.0, move |canvas, rows| {
        for y in rows {
            let dark = 1.0 - 0.32 * exp(-(frame.height - y as f32) / frame.height * 3.5);
            canvas.row_mut(y).iter_mut().for_each(|pixel| *pixel = *pixel * dark);
        }
    });
}
