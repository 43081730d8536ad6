//! What falls, drifts and flashes in front of everything.

use super::brief::{Setting, Thing};
use super::colour::Rgb;
use super::maths::{lerp, saturate, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::sky::rows;
use super::world::World;

/// Fog, which is behind what stands near by. A forest has its own.
pub(super) fn behind<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let brief = &world.brief;
    if brief.asks(Thing::Fog) && brief.setting != Setting::Forest {
        fog(world, plan);
    }
}

/// Rain and snow, which are in front of everything.
pub(super) fn before<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let brief = &world.brief;
    if brief.asks(Thing::Rain) {
        rain(world, plan);
    }
    if brief.asks(Thing::Snow) {
        snow(world, plan);
    }
}

fn rain<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("rain");
    let slant = rng.range(-0.14, 0.14);
    let count = world.detail.count(900.0 * frame.width * frame.height / (frame.unit * frame.unit));
    let light = world.light.stops[3].rgb().mix(Rgb::grey(1.0), 0.35);
    plan.add(count, frame.unit * 0.35, move |canvas, drops| {
        for _ in drops {
            let near = rng.unit();
            let length = frame.unit * lerp(0.03, 0.10, near * near);
            let from = [rng.range(-0.1, 1.1) * frame.width, rng.range(-0.1, 1.0) * frame.height];
            let to = [from[0] + slant * length, from[1] + length];
            let width = frame.unit * lerp(0.0009, 0.0026, near * near);
            canvas.stroke(from, to, [width * 0.4, width], light, lerp(0.14, 0.32, near));
        }
    });
}

fn snow<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("snow");
    let count = world.detail.count(750.0 * frame.width * frame.height / (frame.unit * frame.unit));
    let light = world.light.stops[3].rgb().mix(Rgb::grey(1.0), 0.6) * lerp(1.0, 0.55, world.light.night);
    plan.add(count, frame.unit * 0.3, move |canvas, flakes| {
        for _ in flakes {
            let near = rng.unit();
            let near = near * near * near;
            let at = [rng.unit() * frame.width, rng.unit() * frame.height];
            let radius = frame.unit * lerp(0.0013, 0.0075, near);
            canvas.disc(at, radius.max(0.7), 0.75, light, lerp(0.85, 0.55, near));
        }
    });
}

fn fog<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let noise = Noise::new(world.rng("fog").seed());
    let mist = world.light.stops[3].rgb() * lerp(0.88, 0.7, world.light.night);
    let octaves = world.detail.octaves(4.0);
    plan.add(rows(frame.height), frame.width * 60.0, move |canvas, rows| {
        for y in rows {
            let off = (y as f32 - frame.horizon) / frame.unit;
            let body = if off < 0.0 { smoothstep(-0.34, 0.0, off) } else { smoothstep(0.45, 0.0, off) };
            if body <= 0.0 {
                continue;
            }
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let u = x as f32 / frame.unit;
                let drift = noise.fbm(u * 1.3, off * 6.0, octaves);
                *pixel = pixel.mix(mist, saturate(body * (0.5 + 0.65 * drift)));
            }
        }
    });
}

/// Lightning, which is in the sky.
pub(super) fn lightning<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("lightning");
    let start = frame.width * rng.range(0.25, 0.75);
    plan.add(1, frame.unit * 900.0, move |canvas, _| {
        let light = Rgb([0.86, 0.88, 1.0]);
        let mut bolts = vec![([start, -2.0], frame.horizon * 0.995, 1.0_f32)];
        canvas.glow([start, frame.horizon * 0.18], frame.unit * 0.75, light * 0.45);
        while let Some((mut at, end, strength)) = bolts.pop() {
            let mut way = 0.0;
            while at[1] < end {
                way = way * 0.6 + rng.range(-0.035, 0.035) * frame.unit;
                let next = [at[0] + way, at[1] + rng.range(0.012, 0.03) * frame.unit];
                let width = frame.unit * 0.0036 * strength;
                canvas.stroke(at, next, [width, width], light * 3.0, saturate(0.5 + strength * 0.5));
                canvas.glow(next, frame.unit * 0.07 * strength, light * (0.07 * strength));
                if strength > 0.3 && rng.chance(0.13) && bolts.len() < 8 {
                    let reach = at[1] + (end - at[1]) * rng.range(0.25, 0.7);
                    bolts.push((
                        [next[0] + rng.range(-0.03, 0.03) * frame.unit, next[1]],
                        reach,
                        strength * 0.45,
                    ));
                }
                at = next;
            }
        }
    });
}
