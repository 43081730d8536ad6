//! Buildings.

use super::{foot, lit};
use crate::predictor::embedded::brief::{Season, Setting, Thing};
use crate::predictor::embedded::canvas::Canvas;
use crate::predictor::embedded::colour::{Lch, Rgb};
use crate::predictor::embedded::maths::{exp, index, lerp, saturate, sin, smoothstep};
use crate::predictor::embedded::noise::Noise;
use crate::predictor::embedded::rng::Rng;
use crate::predictor::embedded::shape::{Place, Point, Shape};
use crate::predictor::embedded::sky::rows;
use crate::predictor::embedded::world::World;

/// A lighthouse on a rock, and its beam where it is dark.
pub(super) fn lighthouse(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let left = world.light.at[0] > frame.width * 0.5;
    let x = frame.width * if left { rng.range(0.20, 0.30) } else { rng.range(0.70, 0.80) };
    let size = frame.unit * rng.range(0.36, 0.42);
    let base = frame.horizon + frame.unit * 0.02;
    rock(canvas, world, [x, base], size, rng);
    let at = [x, base - size * 0.20];
    let place = Place { at, scale: [size, size] };
    let white = lit(world, Lch::new(0.95, 0.01, 90.0)) * 1.35;
    let bands =
        lit(world, world.brief.colour_of(Thing::Lighthouse).unwrap_or(Lch::new(0.55, 0.19, 27.0))) * 1.3;
    let dark = lit(world, Lch::new(0.25, 0.03, 260.0));
    let sun = world.light.direction[0];
    Shape::parse("M -0.105 0.05 L -0.068 -0.72 L 0.068 -0.72 L 0.105 0.05 Z", place).fill(
        canvas,
        |px, py| {
            let p = [(px - at[0]) / size, (py - at[1]) / size];
            let half = lerp(0.068, 0.105, saturate((p[1] + 0.72) / 0.77));
            let across = p[0] / half;
            let band = smoothstep(-0.06, 0.06, sin((p[1] + 0.72) / 0.36));
            let round = 0.62 + 0.34 * (1.0 - across * across).max(0.0).sqrt() + 0.42 * across * sun;
            (bands.mix(white, band) * round, 1.0)
        },
    );
    Shape::parse("M -0.105 -0.72 L 0.105 -0.72 L 0.095 -0.755 L -0.095 -0.755 Z", place)
        .paint(canvas, dark, 1.0);
    let glowing = world.light.night > 0.05 || world.brief.asks(Thing::Storm) || world.brief.asks(Thing::Fog);
    let lamp = if glowing { Rgb([2.4, 2.0, 1.2]) } else { white * Rgb([0.7, 0.85, 0.95]) };
    Shape::parse("M -0.052 -0.755 L 0.052 -0.755 L 0.052 -0.85 L -0.052 -0.85 Z", place)
        .paint(canvas, lamp, 1.0);
    Shape::parse("M -0.075 -0.845 Q -0.05 -0.93 0 -0.95 Q 0.05 -0.93 0.075 -0.845 Z", place).paint(
        canvas,
        bands * 0.8,
        1.0,
    );
    canvas.stroke(
        place.apply([0.0, -0.94]),
        place.apply([0.0, -1.0]),
        [size * 0.012, size * 0.006],
        dark,
        1.0,
    );
    for k in [-0.018_f32, 0.018] {
        canvas.stroke(
            place.apply([k, -0.755]),
            place.apply([k, -0.85]),
            [size * 0.007, size * 0.007],
            dark,
            1.0,
        );
    }
    if glowing {
        let heart = place.apply([0.0, -0.80]);
        canvas.glow(heart, size * 0.55, Rgb([0.75, 0.6, 0.32]));
        beam(canvas, world, heart, if left { 1.0 } else { -1.0 });
    }
}

fn beam(canvas: &mut Canvas, world: &World, from: Point, side: f32) {
    let frame = world.frame;
    let strength = lerp(0.22, 0.40, world.light.night);
    for y in 0..canvas.height.min(rows(frame.horizon)) {
        for x in 0..canvas.width {
            let d = [(x as f32 - from[0]) * side / frame.unit, (y as f32 - from[1]) / frame.unit];
            if d[0] <= 0.0 {
                continue;
            }
            let off = (d[1] + 0.08 * d[0]).abs() / (0.012 + 0.10 * d[0]);
            let share = exp(-off * off * 2.2) * exp(-d[0] * 1.6);
            if share > 0.004 {
                canvas.add(x, y, Rgb([1.0, 0.90, 0.62]) * (share * strength));
            }
        }
    }
}

fn rock(canvas: &mut Canvas, world: &World, at: Point, size: f32, rng: &mut Rng) {
    let noise = Noise::new(rng.seed());
    let stone = lit(world, Lch::new(0.34, 0.02, 60.0));
    let count = 64;
    let mut points: Vec<Point> = (0..=count)
        .map(|i| {
            let u = i as f32 / count as f32 * 2.0 - 1.0;
            let rise = (1.0 - u.abs() * u.abs()).max(0.0) * 0.26
                + 0.06 * noise.ridged(u * 3.0, 0.3, 4.0) * (1.0 - u.abs());
            [at[0] + u * size * 0.62, at[1] + size * 0.03 - rise * size]
        })
        .collect();
    points.push([at[0] + size * 0.50, at[1] + size * 0.07]);
    points.push([at[0] - size * 0.50, at[1] + size * 0.07]);
    let sun = world.light.direction[0];
    Shape::polygon(points).fill(canvas, |x, y| {
        let p = [(x - at[0]) / size * 9.0, (y - at[1]) / size * 14.0];
        let facet = noise.fbm(p[0], p[1], 5.0) - noise.fbm(p[0] - 0.25 * sun, p[1] + 0.25, 5.0);
        let wet = smoothstep(0.02, 0.06, (y - at[1]) / size);
        (stone * saturate(0.95 + 1.6 * facet) * (1.0 - 0.4 * wet), 1.0)
    });
}

/// A cottage with a lit window and a smoking chimney.
pub(super) fn cottage(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let size = frame.unit * rng.range(0.20, 0.24);
    let x = frame.width * if world.brief.asks(Thing::Tree) { 0.24 } else { rng.range(0.36, 0.64) };
    let share = if world.brief.setting == Setting::Hills { 0.52 } else { 0.40 };
    let at = foot(world, x, share);
    let place = Place { at, scale: [size, size] };
    let said = world.brief.colour_of(Thing::House);
    let wall = lit(world, said.unwrap_or(Lch::new(0.86, 0.04, 75.0))) * 1.1;
    let winter = world.brief.season == Some(Season::Winter);
    let roof =
        lit(world, if winter { Lch::new(0.94, 0.012, 250.0) } else { Lch::new(0.44, 0.11, 35.0) }) * 1.2;
    let dark = lit(world, Lch::new(0.30, 0.04, 50.0));
    let sunny = if world.light.direction[0] > 0.0 { [0.72, 1.05] } else { [1.05, 0.72] };
    smoke(canvas, world, place.apply([0.36, -0.80]), size, rng);
    Shape::parse("M 0.30 -0.58 L 0.42 -0.58 L 0.42 -0.82 L 0.30 -0.82 Z", place).paint(
        canvas,
        dark * 1.3,
        1.0,
    );
    Shape::parse("M -0.58 0.03 L -0.58 -0.36 L -0.30 -0.70 L -0.04 -0.36 L -0.04 0.03 Z", place).paint(
        canvas,
        wall * sunny[0],
        1.0,
    );
    Shape::parse("M -0.04 0.03 L -0.04 -0.37 L 0.60 -0.37 L 0.60 0.03 Z", place).paint(
        canvas,
        wall * sunny[1],
        1.0,
    );
    Shape::parse("M -0.31 -0.73 L 0.40 -0.73 L 0.68 -0.33 L 0.00 -0.33 Z", place).fill(canvas, |_, y| {
        let v = (y - at[1]) / size;
        (roof * (0.95 + 0.10 * sin(v * 14.0)), 1.0)
    });
    Shape::parse(
        "M -0.31 -0.75 L -0.66 -0.32 L -0.61 -0.28 L -0.305 -0.655 L -0.02 -0.29 L 0.04 -0.33 Z",
        place,
    )
    .paint(canvas, roof * 0.72, 1.0);
    let lamps = world.light.night > 0.05 || winter || world.brief.asks(Thing::Rain);
    let pane = if lamps { Rgb([1.9, 1.15, 0.42]) } else { world.light.sky.at(0.5) * 0.55 };
    for [u, v, w, h] in [[-0.40, -0.30, 0.17, 0.17], [0.10, -0.27, 0.13, 0.15], [0.36, -0.27, 0.13, 0.15]] {
        let (a, b) = (place.apply([u - 0.015, v - 0.015]), place.apply([u + w + 0.015, v + h + 0.015]));
        Shape::rect(a[0], a[1], b[0], b[1]).paint(canvas, dark, 1.0);
        let (a, b) = (place.apply([u, v]), place.apply([u + w, v + h]));
        Shape::rect(a[0], a[1], b[0], b[1]).paint(canvas, pane, 1.0);
        let middle = [(a[0] + b[0]) * 0.5, (a[1] + b[1]) * 0.5];
        canvas.stroke([middle[0], a[1]], [middle[0], b[1]], [size * 0.012, size * 0.012], dark, 1.0);
        canvas.stroke([a[0], middle[1]], [b[0], middle[1]], [size * 0.012, size * 0.012], dark, 1.0);
        if lamps {
            canvas.glow(middle, size * 0.55, Rgb([0.30, 0.17, 0.05]));
        }
    }
    Shape::parse("M 0.265 0.03 L 0.265 -0.20 Q 0.30 -0.24 0.335 -0.20 L 0.335 0.03 Z", place)
        .paint(canvas, dark, 1.0);
}

fn smoke(canvas: &mut Canvas, world: &World, from: Point, size: f32, rng: &mut Rng) {
    let pale = world.light.sky.at(0.9).mix(Rgb::grey(0.8), 0.25);
    let drift = rng.range(0.2, 0.5) * if rng.chance(0.5) { 1.0 } else { -1.0 };
    for puff in 0..34 {
        let t = puff as f32 / 34.0;
        let sway = sin(t * 1.3 + 0.1) * 0.10 * t;
        let at =
            [from[0] + (drift * t * t + sway + rng.range(-0.03, 0.03) * t) * size, from[1] - t * size * 1.05];
        canvas.disc(at, size * (0.025 + 0.11 * t), 0.9, pale, 0.20 * (1.0 - t));
    }
}

/// A castle's parts: left, right, top, and whether a roof stands on it.
const TOWERS: [(f32, f32, f32, bool); 7] = [
    (-0.52, -0.40, -0.52, true),
    (-0.40, 0.40, -0.26, false),
    (0.40, 0.54, -0.46, true),
    (-0.24, 0.26, -0.44, false),
    (-0.30, -0.20, -0.74, true),
    (-0.06, 0.10, -0.90, true),
    (0.20, 0.29, -0.64, true),
];

/// A castle with pointed roofs.
pub(super) fn castle(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let size = frame.unit * rng.range(0.38, 0.44);
    let at = foot(world, frame.width * rng.range(0.40, 0.60), 0.30);
    let place = Place { at, scale: [size, size] };
    let haze = world.light.sky_at(&frame, at[0], frame.horizon);
    let stone = lit(world, world.brief.colour_of(Thing::Castle).unwrap_or(Lch::new(0.72, 0.025, 75.0)));
    let roof = lit(world, Lch::new(0.42, 0.10, 262.0)).mix(haze, 0.12);
    let sun = world.light.direction[0];
    let dark = world.light.night > 0.05;
    let pane = if dark { Rgb([1.7, 1.0, 0.38]) } else { stone * 0.22 };
    for (left, right, top, roofed) in TOWERS {
        let wall = |u: f32, v: f32| {
            let across = (u - left) / (right - left) * 2.0 - 1.0;
            let round = if roofed { 0.80 + 0.20 * (1.0 - across * across).max(0.0).sqrt() } else { 0.88 };
            (stone * (round + 0.22 * across * sun)).mix(haze, 0.12 + 0.30 * smoothstep(-0.30, 0.05, v))
        };
        let mut outline = vec![[left, 0.06], [left, top]];
        if !roofed {
            let teeth = 2 * index((right - left) * 14.0) + 1;
            for tooth in 0..=teeth {
                let x = lerp(left, right, tooth as f32 / teeth as f32);
                let (a, b) = if tooth % 2 == 0 { (top - 0.025, top) } else { (top, top - 0.025) };
                outline.extend([[x, b], [x, a]]);
            }
        }
        outline.extend([[right, top], [right, 0.06]]);
        let outline = outline.into_iter().map(|point| place.apply(point)).collect();
        Shape::polygon(outline).fill(canvas, |x, y| (wall((x - at[0]) / size, (y - at[1]) / size), 1.0));
        let middle = (left + right) * 0.5;
        if roofed {
            let (half, high) = ((right - left) * 0.62, (right - left) * 1.9);
            let cone = [[middle - half, top + 0.005], [middle, top - high], [middle + half, top + 0.005]];
            Shape::polygon(cone.map(|point| place.apply(point)).to_vec())
                .fill(canvas, |x, _| (roof * (1.0 + 0.5 * sun * ((x - at[0]) / size - middle) / half), 1.0));
            canvas.stroke(
                place.apply([middle, top - high]),
                place.apply([middle, top - high - 0.05]),
                [1.0, 0.6],
                roof,
                1.0,
            );
        }
        for v in [0.12, 0.24] {
            let slit = [middle - 0.010, top + v * 0.6, middle + 0.010, top + v * 0.6 + 0.04];
            let (a, b) = (place.apply([slit[0], slit[1]]), place.apply([slit[2], slit[3]]));
            Shape::rect(a[0], a[1], b[0], b[1]).paint(canvas, pane, 0.9);
            if dark {
                canvas.glow(a, size * 0.06, Rgb([0.25, 0.14, 0.04]));
            }
        }
    }
    Shape::parse("M -0.05 0.06 L -0.05 -0.09 Q 0.02 -0.17 0.09 -0.09 L 0.09 0.06 Z", place).paint(
        canvas,
        pane * 0.7,
        0.95,
    );
}
