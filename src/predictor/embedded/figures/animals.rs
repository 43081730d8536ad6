//! Animals on a knoll.

use super::lit;
use crate::predictor::embedded::brief::{Season, Setting, Thing};
use crate::predictor::embedded::canvas::Canvas;
use crate::predictor::embedded::colour::{Lch, Rgb};
use crate::predictor::embedded::light::tinted;
use crate::predictor::embedded::maths::{lerp, saturate, smoothstep};
use crate::predictor::embedded::nature::on_bank;
use crate::predictor::embedded::noise::Noise;
use crate::predictor::embedded::plan::Plan;
use crate::predictor::embedded::plants::blade;
use crate::predictor::embedded::shape::{Place, Point, Shape};
use crate::predictor::embedded::world::World;

/// The animals that were asked for, on near ground.
pub(super) fn animals<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let kinds = [Thing::Fox, Thing::Cat, Thing::Wolf, Thing::Deer];
    let kinds: Vec<Thing> = kinds.into_iter().filter(|kind| world.brief.asks(*kind)).collect();
    if kinds.is_empty() {
        return;
    }
    if !on_bank(world) {
        knoll(world, plan);
    }
    let unit = world.frame.unit;
    let mut rng = world.rng("animals");
    plan.add(1, unit * unit * 4.0, move |canvas, _| {
        let others = (kinds.len() - 1) as f32;
        let lit_by = world.light.at[0] / world.frame.width;
        let first = if lit_by < 0.5 { lit_by + 0.07 } else { lit_by - 0.07 };
        let first = first + rng.range(-0.03, 0.03) - 0.13 * others;
        for (i, &kind) in kinds.iter().enumerate() {
            let x = world.frame.width * (first + 0.26 * i as f32);
            let facing = if x < world.light.at[0] { 1.0 } else { -1.0 };
            let foot = [x, ground(world, x) + unit * 0.006];
            animal(canvas, world, kind, foot, unit * rng.range(0.27, 0.31), facing);
        }
    });
}

/// The row of the knoll's ground at column `x`.
pub(super) fn ground(world: &World, x: f32) -> f32 {
    let frame = world.frame;
    let u = x / frame.width - 0.5;
    let noise = Noise::new(world.rng("knoll").seed());
    frame.height - frame.unit * (0.19 - 0.30 * u * u + 0.012 * noise.gradient(x / frame.unit * 3.0, 0.0))
}

/// Near ground for an animal to stand on.
pub(super) fn knoll<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("knoll blades");
    let winter = world.brief.season == Some(Season::Winter);
    let base = match world.brief.season {
        Some(Season::Winter) => Lch::new(0.90, 0.02, 250.0),
        Some(Season::Autumn) => Lch::new(0.40, 0.09, 75.0),
        _ if world.brief.setting == Setting::Dunes => Lch::new(0.62, 0.10, 65.0),
        _ => Lch::new(0.34, 0.08, 135.0),
    };
    let base = base.mix(tinted(&world.brief, base, 0.3), 0.3);
    let near = lit(world, base);
    let rim = lit(world, Lch { l: base.l + 0.14, ..base }) + world.light.glow * 0.3;
    plan.add(1, frame.width * frame.unit * 1.2, move |canvas, _| {
        for x in 0..canvas.width {
            let edge = ground(world, x as f32);
            for y in canvas.span(edge - 1.0, frame.height, canvas.height) {
                let depth = (y as f32 + 0.5 - edge) / frame.unit;
                let tone = rim.mix(near, smoothstep(0.0, 0.06, depth))
                    * (1.0 - 0.35 * smoothstep(0.05, 0.25, depth));
                canvas.blend(x, y, tone, saturate(y as f32 + 1.0 - edge));
            }
        }
    });
    if winter || world.brief.setting == Setting::Dunes || !world.brief.allows(Thing::Grass) {
        return;
    }
    let count = world.detail.count(900.0 * frame.width / frame.unit);
    plan.add(count, frame.unit * 0.7, move |canvas, blades| {
        for i in blades {
            let t = i as f32 / count as f32;
            let x = rng.unit() * frame.width;
            let y = lerp(ground(world, x) + 2.0, frame.height * 1.02, t * t);
            let size = frame.unit * lerp(0.020, 0.055, t) * rng.range(0.6, 1.3);
            blade(
                canvas,
                [x, y],
                size,
                size * rng.range(-0.4, 0.5),
                near.mix(rim, rng.unit()) * lerp(1.0, 0.7, t),
            );
        }
    });
}

/// Outlines face right, stand on y = 0 and are 1 high: body, then lighter parts, then darker parts.
struct Beast {
    body: &'static str,
    light: &'static str,
    dark: &'static str,
}

const FOX: Beast = Beast {
    body: "M -0.20 -0.02 C -0.40 0.03 -0.66 0.02 -0.76 -0.14 C -0.82 -0.26 -0.76 -0.38 -0.68 -0.46 C -0.69 -0.34 -0.62 -0.24 -0.50 -0.20 C -0.42 -0.17 -0.34 -0.19 -0.29 -0.24 C -0.27 -0.44 -0.12 -0.56 -0.02 -0.66 C 0.01 -0.71 0.02 -0.76 0.03 -0.80 L 0.03 -1.0 C 0.08 -0.97 0.13 -0.92 0.15 -0.87 L 0.22 -1.0 C 0.26 -0.94 0.27 -0.88 0.27 -0.83 C 0.33 -0.78 0.39 -0.74 0.45 -0.71 C 0.46 -0.69 0.45 -0.67 0.43 -0.67 C 0.36 -0.64 0.29 -0.62 0.23 -0.61 C 0.26 -0.46 0.25 -0.32 0.23 -0.20 L 0.23 -0.05 C 0.27 -0.05 0.30 -0.03 0.30 0 L 0.13 0 L 0.12 -0.16 C 0.09 -0.12 0.08 -0.08 0.09 -0.04 C 0.12 -0.04 0.14 -0.02 0.14 0 L -0.12 0 Z",
    light: "M -0.68 -0.46 C -0.69 -0.37 -0.65 -0.29 -0.58 -0.24 C -0.66 -0.22 -0.74 -0.22 -0.79 -0.26 C -0.80 -0.34 -0.74 -0.41 -0.68 -0.46 Z M 0.43 -0.67 C 0.36 -0.64 0.29 -0.62 0.23 -0.61 C 0.26 -0.48 0.25 -0.38 0.22 -0.30 C 0.15 -0.36 0.12 -0.50 0.13 -0.62 C 0.20 -0.68 0.32 -0.66 0.43 -0.67 Z",
    dark: "M 0.23 -0.16 L 0.23 -0.05 C 0.27 -0.05 0.30 -0.03 0.30 0 L 0.13 0 L 0.125 -0.14 Z M 0.45 -0.71 C 0.46 -0.69 0.45 -0.67 0.43 -0.67 C 0.41 -0.68 0.41 -0.71 0.43 -0.72 Z M 0.055 -0.96 L 0.06 -0.86 L 0.11 -0.89 Z M 0.22 -0.96 L 0.19 -0.88 L 0.245 -0.86 Z M 0.265 -0.765 C 0.285 -0.785 0.305 -0.775 0.31 -0.755 C 0.295 -0.745 0.275 -0.75 0.265 -0.765 Z",
};

const CAT: Beast = Beast {
    body: "M 0.20 -0.02 C 0.34 0.01 0.52 0.02 0.60 -0.10 C 0.68 -0.22 0.60 -0.36 0.52 -0.42 C 0.49 -0.44 0.46 -0.41 0.48 -0.38 C 0.54 -0.30 0.55 -0.20 0.49 -0.14 C 0.44 -0.09 0.36 -0.10 0.30 -0.12 C 0.32 -0.34 0.26 -0.50 0.15 -0.60 C 0.21 -0.66 0.23 -0.74 0.22 -0.82 L 0.22 -1.0 C 0.16 -0.98 0.11 -0.94 0.08 -0.90 C 0.03 -0.915 -0.03 -0.915 -0.08 -0.90 C -0.11 -0.94 -0.16 -0.98 -0.22 -1.0 L -0.22 -0.82 C -0.23 -0.74 -0.21 -0.66 -0.15 -0.60 C -0.27 -0.48 -0.33 -0.28 -0.30 -0.10 C -0.29 -0.03 -0.25 0 -0.20 0 L 0.18 0 Z",
    light: "",
    dark: "M 0.19 -0.94 L 0.115 -0.885 L 0.195 -0.82 Z M -0.19 -0.94 L -0.115 -0.885 L -0.195 -0.82 Z",
};

const WOLF: Beast = Beast {
    body: "M -0.18 -0.01 C -0.34 0.03 -0.52 0.03 -0.62 -0.04 C -0.50 -0.06 -0.40 -0.12 -0.32 -0.20 C -0.32 -0.40 -0.20 -0.54 -0.06 -0.66 C -0.05 -0.70 -0.06 -0.74 -0.08 -0.78 L -0.16 -0.90 C -0.09 -0.90 -0.02 -0.88 0.03 -0.85 C 0.10 -0.91 0.18 -0.98 0.27 -1.04 C 0.30 -1.05 0.32 -1.02 0.31 -1.0 L 0.26 -0.92 L 0.28 -0.91 C 0.25 -0.85 0.22 -0.80 0.20 -0.74 C 0.25 -0.60 0.27 -0.44 0.24 -0.28 L 0.24 -0.05 C 0.28 -0.05 0.31 -0.03 0.31 0 L 0.14 0 L 0.12 -0.20 C 0.08 -0.14 0.07 -0.09 0.08 -0.05 C 0.12 -0.05 0.14 -0.02 0.14 0 L -0.12 0 Z",
    light: "M 0.26 -0.90 C 0.23 -0.85 0.21 -0.79 0.20 -0.74 C 0.25 -0.60 0.26 -0.48 0.24 -0.38 C 0.16 -0.46 0.12 -0.62 0.14 -0.76 C 0.17 -0.84 0.21 -0.87 0.26 -0.90 Z",
    dark: "M 0.27 -1.04 C 0.30 -1.05 0.32 -1.02 0.31 -1.0 C 0.29 -1.0 0.27 -1.02 0.27 -1.04 Z",
};

const DEER: Beast = Beast {
    body: "M 0.12 -0.56 C 0.18 -0.62 0.20 -0.68 0.21 -0.74 L 0.13 -0.80 C 0.17 -0.81 0.21 -0.80 0.24 -0.78 C 0.27 -0.79 0.30 -0.78 0.33 -0.75 L 0.43 -0.69 C 0.45 -0.67 0.44 -0.65 0.42 -0.645 C 0.38 -0.635 0.34 -0.635 0.31 -0.64 C 0.29 -0.56 0.27 -0.48 0.23 -0.42 C 0.21 -0.37 0.19 -0.34 0.18 -0.32 L 0.175 -0.16 L 0.19 0 L 0.145 0 L 0.13 -0.16 L 0.115 -0.31 L 0.09 -0.31 L 0.075 -0.16 L 0.085 0 L 0.04 0 L 0.03 -0.17 L 0.02 -0.33 C -0.08 -0.31 -0.17 -0.32 -0.25 -0.36 C -0.24 -0.29 -0.26 -0.22 -0.25 -0.16 L -0.22 0 L -0.265 0 L -0.30 -0.16 C -0.30 -0.20 -0.31 -0.23 -0.33 -0.26 C -0.34 -0.20 -0.34 -0.17 -0.345 -0.14 L -0.33 0 L -0.375 0 L -0.395 -0.15 C -0.39 -0.22 -0.40 -0.28 -0.42 -0.34 C -0.45 -0.42 -0.43 -0.50 -0.39 -0.54 C -0.42 -0.52 -0.45 -0.48 -0.46 -0.45 C -0.48 -0.50 -0.44 -0.56 -0.38 -0.58 C -0.22 -0.62 -0.02 -0.57 0.12 -0.56 Z",
    light: "M -0.46 -0.45 C -0.48 -0.50 -0.44 -0.55 -0.40 -0.55 C -0.43 -0.52 -0.45 -0.48 -0.46 -0.45 Z M 0.02 -0.33 C -0.08 -0.31 -0.17 -0.32 -0.25 -0.36 C -0.16 -0.38 -0.06 -0.37 0.02 -0.33 Z",
    dark: "M 0.43 -0.69 C 0.45 -0.67 0.44 -0.65 0.42 -0.645 C 0.41 -0.66 0.41 -0.68 0.43 -0.69 Z",
};

/// The stag's antlers: strokes from point to point.
const ANTLERS: [[f32; 4]; 14] = [
    [0.24, -0.78, 0.19, -0.86],
    [0.19, -0.86, 0.12, -0.90],
    [0.12, -0.90, 0.09, -0.99],
    [0.12, -0.90, 0.05, -0.93],
    [0.19, -0.86, 0.19, -0.95],
    [0.20, -0.84, 0.26, -0.89],
    [0.09, -0.95, 0.03, -1.0],
    [0.26, -0.78, 0.31, -0.86],
    [0.31, -0.86, 0.38, -0.90],
    [0.38, -0.90, 0.40, -0.99],
    [0.38, -0.90, 0.45, -0.93],
    [0.31, -0.86, 0.31, -0.95],
    [0.30, -0.84, 0.36, -0.83],
    [0.40, -0.95, 0.46, -1.0],
];

fn animal(canvas: &mut Canvas, world: &World, kind: Thing, foot: Point, size: f32, facing: f32) {
    let (beast, coat) = match kind {
        Thing::Fox => (&FOX, Lch::new(0.62, 0.17, 48.0)),
        Thing::Cat => (&CAT, Lch::new(0.24, 0.015, 280.0)),
        Thing::Wolf => (&WOLF, Lch::new(0.42, 0.015, 260.0)),
        _ => (&DEER, Lch::new(0.46, 0.08, 55.0)),
    };
    let size = if kind == Thing::Deer { size * 1.35 } else { size };
    let coat = world.brief.colour_of(kind).unwrap_or(coat);
    let coat = lit(world, coat) * 1.25;
    let light = lit(world, Lch::new(0.94, 0.015, 80.0)) * 1.15;
    let dark = coat.mix(Rgb::BLACK, 0.78);
    let place = Place { at: foot, scale: [size * facing, size] };
    canvas.disc([foot[0], foot[1] + size * 0.01], size * 0.02, 1.0, Rgb::BLACK, 0.2);
    let sun = world.light.direction[0];
    let rim = world.light.sun * 0.22 + world.light.glow * 0.25;
    if kind == Thing::Deer {
        for [x0, y0, x1, y1] in ANTLERS {
            let width = size * 0.016;
            canvas.stroke(
                place.apply([x0, y0]),
                place.apply([x1, y1]),
                [width, width * 0.75],
                coat.mix(light, 0.25),
                1.0,
            );
        }
    }
    // A rim of light on the side that faces it: the same outline in the light's colour, a little aside.
    let [lx, ly, _] = world.light.direction;
    let aside = size * 0.013;
    let halo = world.light.sky.at(0.95) * 0.55 + world.light.glow * 0.9;
    let behind = Place { at: [foot[0] + lx * aside, foot[1] - ly * aside * 0.8], ..place };
    Shape::parse(beast.body, behind).paint(canvas, halo, 0.85);
    let fur = Noise::new(17);
    Shape::parse(beast.body, place).fill(canvas, |x, y| {
        let p = [(x - foot[0]) / size, (y - foot[1]) / size];
        let hair = fur.fbm(p[0] * 24.0, p[1] * 9.0, 2.0);
        let round = 0.92 + 0.30 * p[0] * sun - 0.22 * p[1] - 0.16 + 0.06 * hair;
        (coat * round + rim * saturate(0.1 + 0.5 * p[0] * sun), 1.0)
    });
    Shape::parse(beast.light, place).paint(canvas, light, 0.92);
    Shape::parse(beast.dark, place).paint(canvas, dark, 0.95);
}
