//! The sky and what is in it.

use super::brief::{Setting, Thing, Time};
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::Body;
use super::maths::{angle, cos, exp, lerp, pow, saturate, sin, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::shape::Point;
use super::world::World;

/// The clear sky over the whole canvas, and the sun, the moon, stars, clouds above the horizon.
pub(super) fn sky<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let width = world.frame.width;
    plan.add(rows(world.frame.height), width * 22.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                *pixel = world.light.sky_at(&world.frame, x as f32 + 0.5, y as f32 + 0.5);
            }
        }
    });
    let brief = &world.brief;
    let overcast = brief.asks(Thing::Storm) || brief.asks(Thing::Rain);
    let starry = brief.asks(Thing::Stars) || world.light.night > 0.3 && !overcast;
    if starry && brief.allows(Thing::Stars) {
        if brief.asks(Thing::MilkyWay) {
            milky_way(world, plan);
        }
        stars(world, plan, world.light.night.max(0.5), world.frame.horizon);
    }
    if brief.asks(Thing::Aurora) {
        aurora(world, plan);
    }
    body(world, plan);
    clouds(world, plan);
    if brief.asks(Thing::Lightning) {
        super::weather::lightning(world, plan);
    }
    if brief.asks(Thing::Rainbow) {
        rainbow(world, plan);
    }
}

/// Rows of a canvas that is `height` high, as units of work.
pub(super) fn rows(height: f32) -> usize {
    super::maths::index(height.max(0.0).ceil())
}

/// Stars above `bottom`, most of them faint.
pub(super) fn stars<'a>(world: &'a World, plan: &mut Plan<'a>, strength: f32, bottom: f32) {
    let frame = world.frame;
    let mut rng = world.rng("stars");
    let area = frame.width * bottom / (frame.unit * frame.unit);
    let most = if world.brief.asks(Thing::MilkyWay) { 1500.0 } else { 900.0 };
    let count = world.detail.count(most * area);
    plan.add(count, 120.0, move |canvas, stars| {
        for _ in stars {
            let at = [rng.unit() * frame.width, pow(rng.unit(), 1.25) * bottom];
            let rank = rng.unit();
            let warmth = rng.range(-1.0, 1.0);
            let light = strength * (0.05 + 1.6 * pow(rank, 9.0)) * (1.0 - pow(at[1] / bottom, 4.0));
            let tone = Rgb([1.0 + 0.22 * warmth, 1.0, 1.0 - 0.25 * warmth]);
            let near = [at[0] - world.light.at[0], at[1] - world.light.at[1]];
            let halo = (near[0] * near[0] + near[1] * near[1]).sqrt() / (frame.unit * 0.16);
            let hidden = world.light.body == Body::Moon && halo < 1.0;
            if !hidden {
                let radius = (0.0010 + 0.0012 * pow(rank, 30.0)) * frame.unit;
                star(canvas, at, radius.max(0.75), tone * (light * 2.0));
            }
        }
    });
}

fn star(canvas: &mut Canvas, at: Point, radius: f32, light: Rgb) {
    canvas.glow(at, radius * 2.4, light);
    if light.luma() > 1.6 {
        canvas.glow(at, radius * 6.0, light * 0.08);
    }
}

fn milky_way<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("milky way");
    let noise = Noise::new(rng.seed());
    let lean = rng.range(0.09, 0.14) * if rng.chance(0.5) { 1.0 } else { -1.0 };
    let (along, across) = ([sin(lean), -cos(lean)], [cos(lean), sin(lean)]);
    let centre = [frame.width * rng.range(0.4, 0.6), frame.horizon * 0.5];
    let octaves = world.detail.octaves(6.0);
    let core = super::light::tinted(&world.brief, Lch::new(0.72, 0.07, 50.0), 1.0).rgb();
    let arm = super::light::tinted(&world.brief, Lch::new(0.55, 0.09, 290.0), 0.5).rgb();
    plan.add(rows(frame.horizon), frame.width * 170.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let p = [(x as f32 - centre[0]) / frame.unit, (y as f32 - centre[1]) / frame.unit];
                let u = p[0] * along[0] + p[1] * along[1];
                let v = p[0] * across[0] + p[1] * across[1];
                let bend = v + 0.05 * noise.gradient(u * 1.6, 3.0);
                let band = exp(-bend * bend * 34.0);
                if band < 0.02 {
                    continue;
                }
                let cloud = noise.fbm(u * 3.2 + 5.0, v * 4.2, octaves);
                let rift = smoothstep(
                    0.0,
                    0.55,
                    noise.fbm(u * 2.6 - 9.0, v * 7.0 + 2.0, octaves) + 0.45 * exp(-bend * bend * 500.0),
                );
                let fade = 1.0 - smoothstep(0.72, 1.0, y as f32 / frame.horizon);
                let light = band * saturate(0.55 + 0.75 * cloud) * (1.0 - 0.8 * rift) * fade;
                let tone = arm.mix(core, saturate(band * band * 1.1 + 0.3 * cloud));
                *pixel = *pixel + tone * (light * 0.62);
            }
        }
    });
    let mut rng = world.rng("milky way stars");
    let count = world.detail.count(2200.0 * frame.horizon / frame.unit);
    plan.add(count, 90.0, move |canvas, stars| {
        for _ in stars {
            let u = rng.range(-1.2, 1.2);
            let v = (rng.unit() + rng.unit() + rng.unit() - 1.5) * 0.30;
            let at = [
                centre[0] + (u * along[0] + v * across[0]) * frame.unit,
                centre[1] + (u * along[1] + v * across[1]) * frame.unit,
            ];
            let light = 0.10 + 0.7 * pow(rng.unit(), 6.0);
            if at[1] < frame.horizon * 0.97 {
                star(canvas, at, (0.0010 * frame.unit).max(0.7), Rgb([1.0, 0.96, 0.92]) * light);
            }
        }
    });
}

fn aurora<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("aurora");
    let noise = Noise::new(rng.seed());
    let tint = world.brief.colour_of(Thing::Aurora);
    let low = tint.unwrap_or(Lch::new(0.80, 0.20, 155.0)).rgb();
    let high = super::light::avoid(&world.brief, Lch::new(0.55, 0.20, 305.0)).rgb();
    let fine = world.detail.octaves(4.0);
    let curtains: Vec<Curtain> = (0..3)
        .map(|i| {
            let edge = rng.range(0.50, 0.62) + 0.11 * i as f32;
            let shift = rng.range(0.0, 50.0);
            let fold = |x: usize| noise.fbm(x as f32 / frame.unit * 1.1 + shift, 0.5, fine.min(2.5));
            let folds = (0..rows(frame.width)).map(fold).collect();
            Curtain { edge: edge - 0.12, shift, strength: 0.62 - 0.14 * i as f32, folds }
        })
        .collect();
    plan.add(rows(frame.horizon), frame.width * 330.0, move |canvas, rows| {
        for y in rows {
            let v = y as f32 / frame.horizon;
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let u = x as f32 / frame.unit;
                for curtain in &curtains {
                    let fold = curtain.folds[x];
                    let above = curtain.edge + 0.26 * fold - v;
                    if above < -0.06 {
                        continue;
                    }
                    let at = u * 7.0 + curtain.shift + fold * 3.0;
                    let rays = (0.55 + 0.75 * noise.fbm(at, v * 0.35, fine)).max(0.0);
                    let foot = 1.0 + above / 0.06;
                    let body =
                        if above < 0.0 { foot * foot } else { exp(-above * lerp(5.5, 3.5, saturate(rays))) };
                    let tone = low.mix(high, smoothstep(0.05, 0.5, above));
                    *pixel = *pixel + tone * (body * rays * curtain.strength);
                }
            }
        }
    });
}

/// A sheet of northern light.
struct Curtain {
    /// Where its foot hangs, as a share of the sky.
    edge: f32,
    shift: f32,
    strength: f32,
    /// How its foot bends, for each column.
    folds: Vec<f32>,
}

fn body<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let (light, frame) = (&world.light, world.frame);
    let mut rng = world.rng("body");
    let noise = Noise::new(rng.seed());
    match light.body {
        Body::Hidden => {}
        Body::Sun => {
            let low = world.brief.time != Time::Noon;
            let radius = frame.unit * if low { rng.range(0.036, 0.055) } else { 0.026 };
            plan.add(1, radius * radius * 6.0, move |canvas, _| {
                let sun = light.glow.mix(Rgb::grey(light.glow.luma()), 0.25) * 6.5;
                canvas.disc(light.at, radius, 0.03, sun, 1.0);
            });
        }
        Body::Moon => {
            let near = if world.brief.has_animal() { 2.3 } else { 1.0 };
            let radius = frame.unit * rng.range(0.045, 0.065) * near;
            let crescent = world.brief.asks(Thing::Crescent);
            let tint = world.brief.colour_of(Thing::Moon).map_or(Rgb([1.0, 0.97, 0.90]), |c| c.rgb() * 1.2);
            plan.add(1, radius * radius * 60.0, move |canvas, _| {
                canvas.glow(light.at, radius * 2.0 + frame.unit * 0.25, tint * 0.15);
                moon(canvas, light.at, radius, tint, crescent, noise);
            });
        }
    }
}

fn moon(canvas: &mut Canvas, at: Point, radius: f32, tint: Rgb, crescent: bool, noise: Noise) {
    for y in canvas.span(at[1] - radius - 1.0, at[1] + radius + 1.0, canvas.height) {
        for x in canvas.span(at[0] - radius - 1.0, at[0] + radius + 1.0, canvas.width) {
            let p = [(x as f32 + 0.5 - at[0]) / radius, (y as f32 + 0.5 - at[1]) / radius];
            let r = (p[0] * p[0] + p[1] * p[1]).sqrt();
            let cover = saturate((1.0 - r) * radius + 0.5);
            if cover <= 0.0 {
                continue;
            }
            let seas = smoothstep(-0.1, 0.5, noise.fbm(p[0] * 1.7, p[1] * 1.7, 5.0));
            let z = (1.0 - r * r).max(0.0).sqrt();
            let lit =
                if crescent { smoothstep(-0.05, 0.25, 0.82 * p[0] - 0.25 * p[1] - 0.55 * z) } else { 1.0 };
            let light = (1.25 - 0.42 * seas) * (0.85 + 0.15 * z) * lit;
            canvas.blend(x, y, tint * light, cover * if crescent { lit.max(0.03) } else { 1.0 });
        }
    }
}

fn clouds<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let (brief, frame, light) = (&world.brief, world.frame, &world.light);
    if !brief.allows(Thing::Clouds) {
        return;
    }
    let mut rng = world.rng("clouds");
    let asked = brief.asks(Thing::Clouds);
    let storm = brief.asks(Thing::Storm) || brief.asks(Thing::Rain);
    let clear = brief.asks(Thing::Stars) || brief.asks(Thing::Aurora);
    let usual = match brief.time {
        Time::Night => 0.0,
        Time::Noon => rng.range(0.30, 0.50),
        _ => rng.range(0.22, 0.46),
    };
    let amount = if storm {
        0.95
    } else if asked {
        0.62
    } else if clear {
        0.0
    } else {
        usual
    };
    if amount < 0.05 || brief.setting == Setting::Underwater {
        return;
    }
    let noise = Noise::new(rng.seed());
    let octaves = world.detail.octaves(6.0);
    let zenith = light.stops[1].rgb();
    let shade = zenith.mix(light.stops[3].rgb(), 0.45) * if storm { 0.42 } else { 0.80 };
    let bright = light.stops[3].rgb().mix(light.sun, 0.55)
        * lerp(1.0, 0.6, light.night)
        * if storm { 0.75 } else { 1.05 };
    let threshold = lerp(0.55, -0.55, amount);
    let drift = [rng.range(0.0, 100.0), rng.range(0.0, 100.0)];
    plan.add(rows(frame.horizon), frame.width * 200.0, move |canvas, rows| {
        for y in rows {
            let up = (frame.horizon - y as f32) / frame.unit;
            let depth = 1.0 / (up + 0.16);
            let fade = smoothstep(0.0, 0.12, up);
            let fine = (octaves - 0.5 * depth).max(2.0);
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let across = (x as f32 - frame.width * 0.5) / frame.unit;
                let p = [across * depth * 0.95 + drift[0], depth * 1.25 + drift[1]];
                let warp = noise.gradient(p[0] * 0.7 + 4.0, p[1] * 0.7);
                let at =
                    |dx: f32, dy: f32, octaves: f32| noise.fbm(p[0] + dx + 0.35 * warp, p[1] + dy, octaves);
                let thick = at(0.0, 0.0, fine);
                let cover = smoothstep(threshold, threshold + 0.62, thick);
                if cover < 0.004 {
                    continue;
                }
                let to = [light.at[0] - x as f32, light.at[1] - y as f32];
                let far = (to[0] * to[0] + to[1] * to[1]).sqrt().max(1.0);
                let step = 0.16;
                let behind = at(to[0] / far * step, -to[1] / far * step, fine.min(3.5));
                let lit = saturate(0.42 + 1.1 * (thick - behind) - 0.25 * (cover - 0.5));
                let near = exp(-far / frame.unit * 2.6);
                let tone = shade.mix(bright + light.glow * (near * 1.3), lit);
                *pixel = pixel.mix(tone, cover * fade * lerp(0.92, 0.75, light.night));
            }
        }
    });
}

fn rainbow<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let centre = [frame.width - world.light.at[0], frame.horizon * 1.12];
    let radius = frame.unit * 0.62;
    let width = frame.unit * 0.075;
    plan.add(rows(frame.horizon), frame.width * 14.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let d = [x as f32 - centre[0], y as f32 - centre[1]];
                let t = ((d[0] * d[0] + d[1] * d[1]).sqrt() - radius) / width;
                let inside = smoothstep(-1.6, -0.4, -t) * 0.05;
                let cover = smoothstep(0.0, 0.18, t) * smoothstep(1.0, 0.8, t);
                let side = 0.75 + 0.25 * cos(angle(d[1], d[0]) + 0.25);
                if cover > 0.0 {
                    let bow = Lch::new(0.74, 0.17, lerp(300.0, 25.0, t)).rgb();
                    *pixel = pixel.mix(bow, cover * 0.42 * side) + bow * (cover * 0.12);
                } else if inside > 0.0 {
                    *pixel = *pixel * (1.0 + inside);
                }
            }
        }
    });
}
