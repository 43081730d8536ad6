//! Balloons and boats.

use super::lit;
use crate::predictor::embedded::brief::Thing;
use crate::predictor::embedded::canvas::Canvas;
use crate::predictor::embedded::colour::{Lch, Rgb};
use crate::predictor::embedded::maths::{lerp, saturate, sin, smoothstep};
use crate::predictor::embedded::noise::Noise;
use crate::predictor::embedded::rng::Rng;
use crate::predictor::embedded::shape::{Place, Point, Shape};
use crate::predictor::embedded::world::World;

/// Hot air balloons, the nearest the largest.
pub(super) fn balloons(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let said = world.brief.colour_of(Thing::Balloon).or_else(|| world.brief.colours.first().copied());
    let count = if frame.width > frame.unit * 1.2 { 4 } else { 3 };
    let sides = if rng.chance(0.5) { [0.62, 0.24, 0.84, 0.42] } else { [0.36, 0.74, 0.15, 0.58] };
    for i in (0..count).rev() {
        let near = 1.0 - i as f32 * 0.30;
        let size = frame.unit * 0.16 * near.max(0.16);
        let at =
            [frame.width * sides[i], frame.horizon * (0.42 + 0.16 * (1.0 - near) * rng.range(-1.0, 1.4))];
        let turn = rng.unit() - 0.5;
        let hue = said.map_or(turn * 360.0, |colour| colour.h + if i == 0 { 0.0 } else { turn * 120.0 });
        let main = Lch::new(0.60, said.map_or(0.18, |colour| colour.c.max(0.02)), hue);
        let second = Lch::new(0.88, 0.09, hue + rng.pick(&[40.0, 70.0, -50.0]));
        balloon(
            canvas,
            world,
            at,
            size,
            [lit(world, main) * 1.5, lit(world, second) * 1.4],
            0.42 * (1.0 - near),
        );
    }
}

fn balloon(canvas: &mut Canvas, world: &World, at: Point, size: f32, colours: [Rgb; 2], fade: f32) {
    let haze = world.light.sky_at(&world.frame, at[0], at[1]);
    let place = Place { at, scale: [size, size] };
    let envelope = "M 0 -1 C 0.62 -1 0.95 -0.58 0.93 -0.12 C 0.90 0.34 0.48 0.68 0.20 1.06 L -0.20 1.06 C -0.48 0.68 -0.90 0.34 -0.93 -0.12 C -0.95 -0.58 -0.62 -1 0 -1 Z";
    let [lx, ly, _] = world.light.direction;
    Shape::parse(envelope, place).fill(canvas, |x, y| {
        let p = [(x - at[0]) / size, (y - at[1]) / size];
        let half = if p[1] < 0.0 {
            0.94 * (1.0 - p[1] * p[1] * 0.96).max(0.01).sqrt()
        } else {
            lerp(0.94, 0.20, smoothstep(-0.25, 1.25, p[1]))
        };
        let across = (p[0] / half).clamp(-1.0, 1.0);
        // Gores are seen narrower towards the sides of the ball.
        let gore = across * (1.0 + 0.30 * across * across) / 1.30 * 5.0 + 0.5;
        let wave = sin(gore * 0.5);
        let stripe = smoothstep(-0.12, 0.12, wave);
        let belt = smoothstep(0.02, 0.0, (p[1] + 0.12).abs() - 0.10);
        let tone = colours[0].mix(colours[1], stripe.max(belt * 0.9));
        let z = (1.0 - across * across).sqrt();
        let shade = 0.50 + 0.45 * z + 0.34 * (across * lx - p[1] * ly * 0.8);
        ((tone * shade).mix(haze, fade), 1.0)
    });
    let dark = Lch::new(0.34, 0.06, 55.0);
    let basket = lit(world, dark).mix(haze, fade);
    for side in [-1.0_f32, 1.0] {
        canvas.stroke(
            place.apply([0.17 * side, 1.06]),
            place.apply([0.11 * side, 1.34]),
            [size * 0.012, size * 0.012],
            basket,
            1.0,
        );
    }
    Shape::parse("M -0.13 1.34 L 0.13 1.34 L 0.11 1.54 Q 0 1.58 -0.11 1.54 Z", place)
        .paint(canvas, basket, 1.0);
}

/// A sailing boat, and its picture in the water.
pub(super) fn boat(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let across =
        if world.light.at[0] < frame.width * 0.5 { rng.range(0.54, 0.70) } else { rng.range(0.30, 0.46) };
    let size = frame.unit * rng.range(0.24, 0.30);
    let at = [frame.width * across, lerp(frame.horizon, frame.height, 0.24)];
    let place = Place { at, scale: [size, size] };
    let said = world.brief.colour_of(Thing::Boat);
    let sail = said.unwrap_or(Lch::new(0.93, 0.03, 85.0));
    let hull = Lch::new(0.34, if said.is_some() { 0.04 } else { 0.10 }, 30.0);
    let (sail, hull) = (lit(world, sail) * 1.9 + world.light.ambient * 0.15, lit(world, hull) * 0.8);
    const HULL: &str = "M -0.40 -0.075 Q 0.05 -0.035 0.47 -0.10 Q 0.40 0.02 0.30 0.06 L -0.30 0.06 Q -0.37 0.02 -0.40 -0.075 Z";
    const MAIN: &str = "M 0.03 -1.0 Q -0.20 -0.58 -0.40 -0.17 Q -0.18 -0.13 0.03 -0.15 Z";
    const JIB: &str = "M 0.065 -0.92 Q 0.30 -0.52 0.44 -0.15 Q 0.24 -0.19 0.065 -0.16 Z";
    // Its picture in the water, broken by waves.
    let noise = Noise::new(rng.seed());
    let mirrored = Place { at: [at[0], at[1] + size * 0.06], scale: [size, -size * 0.85] };
    for (outline, colour) in [(HULL, hull), (MAIN, sail), (JIB, sail * 0.85)] {
        Shape::parse(outline, mirrored).fill(canvas, |x, y| {
            let depth = (y - at[1]) / size;
            let ripple = noise.fbm(x / size * 3.0, y / size * 22.0, 3.0);
            (colour, saturate(0.52 - 0.42 * depth + 0.55 * ripple) * 0.75)
        });
    }
    let side = world.light.direction[0];
    for (outline, colour, belly) in [(MAIN, sail, -0.18), (JIB, sail * 0.93, 0.24)] {
        Shape::parse(outline, place).fill(canvas, |x, y| {
            let p = [(x - at[0]) / size, (y - at[1]) / size];
            let round = 1.0 + 0.28 * side * (p[0] - belly) * 2.0 + 0.10 * (p[1] + 0.5);
            let seam = 1.0 - 0.06 * smoothstep(0.46, 0.5, (sin(p[1] * 4.0) * 0.5).abs());
            (colour * (round * seam), 1.0)
        });
    }
    canvas.stroke(
        place.apply([0.047, -1.03]),
        place.apply([0.047, -0.06]),
        [size * 0.010, size * 0.016],
        hull * 0.6,
        1.0,
    );
    Shape::parse(HULL, place).fill(canvas, |_, y| {
        let v = (y - at[1]) / size;
        (hull.mix(sail, smoothstep(-0.045, -0.06, v) * 0.7), 1.0)
    });
}
