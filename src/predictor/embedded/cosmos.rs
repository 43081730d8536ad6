//! Space: nebulae, stars, planets.

use super::brief::Thing;
use super::canvas::Canvas;
use super::colour::{Gradient, Lch, Rgb};
use super::light::avoid;
use super::maths::{cos, exp, lerp, pow, saturate, sin, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::scene::wants;
use super::shape::Point;
use super::sky::{rows, stars};
use super::world::World;

/// A nebula behind stars, and often a planet.
pub(super) fn space<'a>(world: &'a World, plan: &mut Plan<'a>) {
    nebula(world, plan);
    if world.brief.allows(Thing::Stars) {
        stars(world, plan, 1.0, world.frame.height * 1.4);
    }
    let nebula_only = world.brief.asks(Thing::Nebula) && !world.brief.asks(Thing::Planet);
    if wants(world, Thing::Planet, if nebula_only { 0.25 } else { 0.8 }) {
        planets(world, plan);
    }
}

fn colours(world: &World) -> [Lch; 3] {
    let said = &world.brief.colours;
    let pick = |i: usize| {
        let at = i * (said.len().max(1) - 1) / 2;
        let colour = said.get(at).copied().unwrap_or(Lch::new(0.6, 0.14, 280.0));
        let shift = if said.len() < 3 { (i as f32 - 1.0) * 26.0 } else { 0.0 };
        avoid(&world.brief, Lch { h: colour.h + shift, ..colour })
    };
    [pick(0), pick(1), pick(2)]
}

fn nebula<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("nebula");
    let noise = Noise::new(rng.seed());
    let [a, b, c] = colours(world);
    let strength = if world.brief.asks(Thing::Nebula) { 1.25 } else { 0.8 };
    let deep = Lch::new(0.10, 0.035, a.h).rgb();
    let tones = [a, b, c].map(|tone| {
        Lch { l: 0.62, c: tone.c.max(if tone.c < 0.03 { tone.c } else { 0.13 }), h: tone.h }.rgb()
    });
    let octaves = world.detail.octaves(5.0);
    let centre = [rng.range(0.3, 0.7) * frame.width, rng.range(0.3, 0.7) * frame.height];
    let lean = rng.range(-0.2, 0.2);
    plan.add(rows(frame.height), frame.width * 230.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let p = [(x as f32 - centre[0]) / frame.unit, (y as f32 - centre[1]) / frame.unit];
                let q = [p[0] * cos(lean) - p[1] * sin(lean), p[0] * sin(lean) + p[1] * cos(lean)];
                let warp = [
                    noise.fbm(q[0] * 1.3, q[1] * 1.3, octaves.min(3.0)),
                    noise.fbm(q[0] * 1.3 + 7.0, q[1] * 1.3 + 3.0, octaves.min(3.0)),
                ];
                let w = [q[0] * 1.5 + 0.75 * warp[0], q[1] * 1.9 + 0.75 * warp[1]];
                let gas = noise.fbm(w[0] + 11.0, w[1], octaves);
                let veil = noise.ridged(w[0] * 1.2 - 5.0, w[1] * 1.2, octaves);
                let reach = exp(-(q[0] * q[0] * 0.9 + q[1] * q[1] * 3.2) * 1.5);
                let glow = smoothstep(-0.35, 0.9, gas + 0.55 * reach - 0.15);
                let hot = pow(saturate(veil * 1.05), 4.0) * reach;
                let tone = tones[0].mix(tones[1], smoothstep(-0.3, 0.45, warp[0] + 0.4 * gas));
                let light = tone * (glow * glow * 0.75)
                    + tones[2] * (hot * 0.85)
                    + Rgb([1.0, 0.93, 0.88]) * (hot * hot * 0.6);
                let dust = 1.0
                    - 0.6
                        * smoothstep(0.05, 0.6, noise.gradient(w[0] * 1.7 + 3.0, w[1] * 1.7) + 0.4 * warp[1]);
                *pixel = deep + light * (dust * strength);
            }
        }
    });
}

/// A ball with weather on it.
struct Planet {
    at: Point,
    radius: f32,
    ramp: Gradient,
    banded: bool,
    noise: Noise,
    to_light: [f32; 3],
    air: Rgb,
    tilt: f32,
    rings: Option<Rings>,
}

struct Rings {
    tone: Rgb,
    flat: f32,
}

fn planets<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("planet");
    let [a, b, c] = colours(world);
    let said = world.brief.colour_of(Thing::Planet);
    let side = if rng.chance(0.5) { 1.0 } else { -1.0 };
    let to_light = [-side * 0.72, -0.45, 0.53];
    let base = said.unwrap_or(c);
    let ramp = |base: Lch, other: Lch| {
        let dark = Lch::new(0.34, base.c * 0.8, base.h);
        let light = Lch::new(0.86, base.c * 0.45, base.h + 15.0);
        Gradient::new(&[
            dark,
            Lch { l: 0.58, ..base },
            light,
            Lch { l: 0.50, ..other },
            Lch { l: 0.74, c: other.c * 0.7, h: other.h },
        ])
    };
    let rings = wants(world, Thing::Rings, 0.4);
    let big = Planet {
        at: [frame.width * (0.5 + side * rng.range(0.08, 0.20)), frame.height * rng.range(0.42, 0.60)],
        radius: frame.unit.min(frame.width) * rng.range(0.19, 0.27) * if rings { 0.85 } else { 1.1 },
        ramp: ramp(base, if said.is_some() { base } else { a }),
        banded: rings || rng.chance(0.5),
        noise: Noise::new(rng.seed()),
        to_light,
        air: Lch::new(0.70, 0.12, base.h - 20.0).rgb(),
        tilt: rng.range(-0.07, 0.07),
        rings: rings
            .then(|| Rings { tone: Lch::new(0.78, 0.05, base.h + 20.0).rgb(), flat: rng.range(0.22, 0.36) }),
    };
    let moon = Planet {
        at: [frame.width * (0.5 - side * rng.range(0.20, 0.32)), frame.height * rng.range(0.16, 0.34)],
        radius: frame.unit.min(frame.width) * rng.range(0.030, 0.055),
        ramp: ramp(Lch::new(0.6, 0.03, b.h), Lch::new(0.6, 0.02, b.h)),
        banded: false,
        noise: Noise::new(rng.seed()),
        to_light,
        air: Rgb::BLACK,
        tilt: 0.0,
        rings: None,
    };
    let octaves = world.detail.octaves(6.0);
    for planet in [moon, big] {
        let reach = planet.radius * if planet.rings.is_some() { 2.5 } else { 1.5 };
        let top = super::maths::index((planet.at[1] - reach).max(0.0));
        let bottom = rows((planet.at[1] + reach).min(frame.height));
        plan.add(bottom.saturating_sub(top), planet.radius * 200.0, move |canvas, lines| {
            for y in lines.start + top..lines.end + top {
                for x in canvas.span(planet.at[0] - reach, planet.at[0] + reach, canvas.width) {
                    planet.paint(canvas, x, y, octaves);
                }
            }
        });
    }
}

impl Planet {
    fn paint(&self, canvas: &mut Canvas, x: usize, y: usize, octaves: f32) {
        let d = [(x as f32 + 0.5 - self.at[0]) / self.radius, (y as f32 + 0.5 - self.at[1]) / self.radius];
        let p =
            [d[0] * cos(self.tilt) + d[1] * sin(self.tilt), d[1] * cos(self.tilt) - d[0] * sin(self.tilt)];
        let r = (p[0] * p[0] + p[1] * p[1]).sqrt();
        let ring = self.ring(p);
        if p[1] < 0.0 {
            self.put_ring(canvas, x, y, ring);
        }
        let cover = saturate((1.0 - r) * self.radius + 0.5);
        if cover > 0.0 {
            canvas.blend(x, y, self.ground(p, r, octaves), cover);
        } else if self.air.luma() > 0.0 {
            let facing = saturate((d[0] * self.to_light[0] + d[1] * self.to_light[1]) / r * 0.6 + 0.45);
            canvas.add(x, y, self.air * (exp(-(r - 1.0) * 14.0) * facing * 0.55));
        }
        if p[1] >= 0.0 {
            self.put_ring(canvas, x, y, ring);
        }
    }

    fn ground(&self, p: [f32; 2], r: f32, octaves: f32) -> Rgb {
        let z = (1.0 - r * r).max(0.0).sqrt();
        let n = self.noise;
        // Towards the rim the surface turns away: its texture is closer there.
        let bulge = 1.0 / (0.55 + 0.45 * z);
        let q = [p[0] * bulge, p[1] * bulge];
        let level = if self.banded {
            let curl = n.fbm(q[0] * 2.2, q[1] * 6.0, octaves);
            let bands = n.fbm(2.0, p[1] * 3.4 + 0.10 * curl, 3.0);
            0.5 + 0.62 * bands + 0.10 * curl
        } else {
            let land = n.fbm(q[0] * 1.7, q[1] * 1.7, octaves);
            0.5 + 0.6 * land + 0.12 * n.ridged(q[0] * 4.0, q[1] * 4.0, octaves.min(3.0))
        };
        let facing = p[0] * self.to_light[0] + p[1] * self.to_light[1] + z * self.to_light[2];
        let day = smoothstep(-0.12, 0.55, facing) * (0.25 + 0.9 * facing.max(0.0));
        let rim = pow(1.0 - z, 3.0);
        let shaded = self.ringed_shadow(p);
        self.ramp.at(level) * (day * 1.25 * shaded + 0.012) + self.air * (rim * saturate(facing + 0.35) * 0.7)
    }

    /// The share of ring at a point, and its light.
    fn ring(&self, p: [f32; 2]) -> (f32, Rgb) {
        let Some(rings) = &self.rings else { return (0.0, Rgb::BLACK) };
        let r = (p[0] * p[0] + (p[1] / rings.flat) * (p[1] / rings.flat)).sqrt();
        let edge = smoothstep(1.30, 1.36, r) * smoothstep(2.30, 2.22, r);
        if edge <= 0.0 {
            return (0.0, Rgb::BLACK);
        }
        let grooves = 0.55 + 0.6 * self.noise.fbm(r * 7.0, 40.0, 4.0);
        let gap = 1.0 - 0.9 * smoothstep(0.05, 0.02, (r - 1.93).abs());
        let share = saturate(edge * grooves * gap * 0.92);
        // The planet's shadow falls on the far side from the light.
        let along = p[0] * self.to_light[0] + p[1] * self.to_light[1];
        let off = (p[0] * self.to_light[1] - p[1] * self.to_light[0]).abs();
        let dark = smoothstep(-0.2, -0.5, along) * smoothstep(0.95, 0.70, off);
        (share, rings.tone * (lerp(0.7, 1.0, grooves) * (1.0 - 0.88 * dark)))
    }

    fn put_ring(&self, canvas: &mut Canvas, x: usize, y: usize, (share, light): (f32, Rgb)) {
        if share > 0.0 {
            canvas.blend(x, y, light, share);
        }
    }

    fn ringed_shadow(&self, p: [f32; 2]) -> f32 {
        let Some(rings) = &self.rings else { return 1.0 };
        let lifted = [p[0] + self.to_light[0] * 0.25, p[1] + self.to_light[1] * 0.25 + 0.12];
        let r = (lifted[0] * lifted[0] + (lifted[1] / rings.flat) * (lifted[1] / rings.flat)).sqrt();
        1.0 - 0.35 * smoothstep(1.30, 1.40, r) * smoothstep(2.3, 2.1, r) * if p[1] < 0.0 { 1.0 } else { 0.3 }
    }
}
