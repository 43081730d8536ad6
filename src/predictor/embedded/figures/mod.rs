//! Single things that stand in a landscape.

mod animals;
mod built;
mod craft;

use super::brief::{Setting, Thing};
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::avoid;
use super::maths::{lerp, sin};
use super::nature::on_bank;
use super::plan::Plan;
use super::shape::Point;
use super::world::World;

/// Draws the figures that were asked for, where they belong.
pub(super) fn place<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let brief = &world.brief;
    let unit = world.frame.unit;
    if brief.asks(Thing::Birds) || (birds_are_usual(world) && brief.allows(Thing::Birds)) {
        birds(world, plan);
    }
    if brief.asks(Thing::Balloon) {
        let mut rng = world.rng("balloon");
        plan.add(1, unit * unit * 5.0, move |canvas, _| craft::balloons(canvas, world, &mut rng));
    }
    if brief.asks(Thing::Lighthouse) {
        let mut rng = world.rng("lighthouse");
        plan.add(1, unit * unit * 6.0, move |canvas, _| built::lighthouse(canvas, world, &mut rng));
    }
    if brief.asks(Thing::Boat) {
        let mut rng = world.rng("boat");
        plan.add(1, unit * unit * 3.0, move |canvas, _| craft::boat(canvas, world, &mut rng));
    }
    if brief.asks(Thing::House) && matches!(brief.setting, Setting::Dunes | Setting::Sea | Setting::Forest) {
        house(world, plan);
    }
    animals::animals(world, plan);
}

/// Near ground beyond which there is water.
pub(super) fn bank<'a>(world: &'a World, plan: &mut Plan<'a>) {
    animals::knoll(world, plan);
}

/// Where a thing stands: on the bank if there is one, or this share down from the horizon.
pub(super) fn foot(world: &World, x: f32, share: f32) -> Point {
    let frame = world.frame;
    let y = if on_bank(world) {
        animals::ground(world, x) + 0.02 * frame.unit
    } else {
        lerp(frame.horizon, frame.height, share)
    };
    [x, y]
}

/// A house or a castle, before the grass that it stands in.
pub(super) fn house<'a>(world: &'a World, plan: &mut Plan<'a>) {
    if world.brief.asks(Thing::Castle) {
        let mut rng = world.rng("castle");
        plan.add(1, world.frame.unit * world.frame.unit * 5.0, move |canvas, _| {
            built::castle(canvas, world, &mut rng);
        });
        return;
    }
    let mut rng = world.rng("house");
    let unit = world.frame.unit;
    plan.add(1, unit * unit * 5.0, move |canvas, _| built::cottage(canvas, world, &mut rng));
}

fn birds_are_usual(world: &World) -> bool {
    let suits = matches!(world.brief.setting, Setting::Sea | Setting::Hills | Setting::Mountains);
    suits && world.light.night < 0.3 && world.brief.rng.fork("usual birds").chance(0.3)
}

/// How a thing of this colour looks in the light: some of it from the front, some from the sky.
fn lit(world: &World, colour: Lch) -> Rgb {
    avoid(&world.brief, colour).rgb() * (world.light.ambient * 0.75 + world.light.sun * 0.42)
}

fn birds<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("birds");
    let asked = world.brief.asks(Thing::Birds);
    let count = if asked { 13 } else { 6 };
    let said = world.brief.colour_of(Thing::Birds);
    let colour = said.map_or(world.light.sky.at(0.15) * 0.18, |colour| lit(world, colour));
    let centre = [frame.width * rng.range(0.3, 0.7), frame.horizon * rng.range(0.26, 0.50)];
    plan.add(1, frame.unit * 200.0, move |canvas, _| {
        for bird in 0..count {
            let near = rng.unit();
            let size = frame.unit * lerp(0.012, if asked { 0.042 } else { 0.022 }, near * near);
            let at = [
                centre[0] + rng.range(-0.26, 0.26) * frame.unit * (1.0 + 0.02 * bird as f32),
                centre[1] + rng.range(-0.14, 0.14) * frame.unit,
            ];
            let flap = rng.range(-0.15, 0.55);
            let bank = rng.range(-0.25, 0.25);
            gull(canvas, at, size, flap, bank, colour);
        }
    });
}

fn gull(canvas: &mut Canvas, at: Point, size: f32, flap: f32, bank: f32, colour: Rgb) {
    for side in [-1.0_f32, 1.0] {
        let wing = |t: f32| {
            let x = side * t * size;
            let arch = (sin(0.5 * (t * 1.15).min(1.0)) * 0.42 + flap * (t * t * 0.5 - t * 0.15)) * size;
            [at[0] + x, at[1] - arch * 0.9 + bank * x * 0.5]
        };
        for k in 0..9 {
            let (t0, t1) = (k as f32 / 9.0, (k + 1) as f32 / 9.0);
            let width = |t: f32| size * 0.15 * (1.0 - t * t).max(0.05);
            canvas.stroke(wing(t0), wing(t1), [width(t0), width(t1)], colour, 1.0);
        }
    }
    canvas.stroke(
        [at[0] - size * 0.05, at[1]],
        [at[0] + size * 0.07, at[1] + size * 0.10],
        [size * 0.17, size * 0.06],
        colour,
        1.0,
    );
}
