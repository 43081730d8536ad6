//! Pictures of no place.

use super::brief::{Style, Thing};
use super::colour::{Gradient, Lch, Rgb};
use super::light::avoid;
use super::maths::{cos, exp, index, lerp, pow, saturate, sin, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::shape::{Point, Shape};
use super::sky::rows;
use super::world::World;

/// A picture in `style`.
pub(super) fn picture<'a>(world: &'a World, plan: &mut Plan<'a>, style: Style) {
    match style {
        Style::Flow => flow(world, plan),
        Style::Waves => waves(world, plan),
        Style::Marble => marble(world, plan),
        Style::Mosaic => mosaic(world, plan),
        Style::Circles => circles(world, plan),
    }
}

/// Stops from dark to light through the colours that were asked for.
fn ramp(world: &World) -> Vec<Lch> {
    let brief = &world.brief;
    let mut stops: Vec<Lch> = brief.colours.iter().take(5).copied().collect();
    let first = stops.first().copied().unwrap_or(Lch::new(0.6, 0.13, 250.0));
    if stops.is_empty() {
        stops.push(first);
    }
    if stops.len() == 1 {
        stops.push(Lch { l: lerp(first.l, 0.80, 0.6), c: first.c * 0.8, h: first.h + 24.0 });
        stops.insert(0, Lch { l: first.l * 0.62, c: first.c * 0.85, h: first.h - 18.0 });
    }
    stops.sort_by(|a, b| a.l.total_cmp(&b.l));
    let (dark, light) = (stops[0], stops[stops.len() - 1]);
    let night = if brief.time == super::brief::Time::Night { 0.10 } else { 0.18 };
    stops.insert(0, Lch { l: dark.l.min(night), c: dark.c.min(0.06), h: dark.h - 10.0 });
    stops.push(Lch { l: 0.95, c: (light.c * 0.28).min(0.05), h: light.h + 12.0 });
    stops.into_iter().map(|stop| avoid(brief, stop)).collect()
}

fn backdrop<'a>(world: &'a World, plan: &mut Plan<'a>, top: Rgb, bottom: Rgb) {
    let frame = world.frame;
    plan.add(rows(frame.height), frame.width * 3.0, move |canvas, rows| {
        for y in rows {
            let colour = top.mix(bottom, y as f32 / frame.height);
            canvas.row_mut(y).fill(colour);
        }
    });
}

/// Strokes along a field, dark ones first.
fn flow<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("flow");
    let noise = Noise::new(rng.seed());
    let stops = ramp(world);
    let gradient = Gradient::new(&stops);
    backdrop(world, plan, gradient.at(0.05), gradient.at(0.16));
    let lean = rng.range(-0.08, 0.08);
    let swirl = rng.range(0.32, 0.55);
    let area = frame.width * frame.height / (frame.unit * frame.unit);
    let count = world.detail.count(2300.0 * area);
    let pieces = 22;
    let way = move |p: Point| {
        let (u, v) = (p[0] / frame.unit, p[1] / frame.unit);
        let turn =
            lean + swirl * noise.fbm(u * 1.25, v * 1.25, 2.0) + 0.05 * noise.gradient(u * 5.0, v * 5.0);
        [cos(turn), sin(turn)]
    };
    plan.add(count, frame.unit * frame.unit * 0.02 + 4000.0, move |canvas, strokes| {
        for stroke in strokes {
            let t = stroke as f32 / count as f32;
            let mut at = [rng.range(-0.15, 1.05) * frame.width, rng.range(-0.05, 1.05) * frame.height];
            let (u, v) = (at[0] / frame.unit, at[1] / frame.unit);
            let region = 0.5 + 0.55 * noise.fbm(u * 0.9 + 30.0, v * 0.9, 2.0);
            let level = saturate(region * 0.62 + 0.40 * t - 0.10 + rng.range(-0.10, 0.12));
            let colour = gradient.at(level) * rng.range(0.85, 1.15);
            let width = frame.unit * lerp(0.016, 0.0035, t) * rng.range(0.5, 1.4);
            let step = frame.unit * rng.range(0.008, 0.016);
            let alpha = lerp(0.55, 0.92, t);
            for piece in 0..pieces {
                let d = way(at);
                let to = [at[0] + d[0] * step, at[1] + d[1] * step];
                let taper = |k: i32| sin(0.5 * (k as f32 + 0.5) / (pieces as f32 + 1.0)) * width;
                canvas.stroke(at, to, [taper(piece), taper(piece + 1)], colour, alpha);
                at = to;
            }
        }
    });
}

/// Sheets of cut paper, each with its shadow on the one behind.
fn waves<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("waves");
    let noise = Noise::new(rng.seed());
    let gradient = Gradient::new(&ramp(world));
    let sheets = 6 + index(6.0 * world.detail.density);
    let dark_first = rng.chance(0.5);
    let swing = rng.range(0.10, 0.17);
    let long = rng.range(0.8, 1.3);
    let tone = move |i: usize| {
        let t = i as f32 / sheets as f32;
        0.10 + 0.84 * if dark_first { t } else { 1.0 - t }
    };
    let colours: Vec<Rgb> = (0..=sheets).map(|i| gradient.at(tone(i))).collect();
    let edges: Vec<Vec<f32>> = (0..sheets)
        .map(|i| {
            let base = frame.height * (0.10 + 0.86 * i as f32 / sheets as f32);
            let edge = |x: usize| {
                let u = x as f32 / frame.unit * long;
                let slow = noise.gradient(u + i as f32 * 0.37, i as f32 * 0.42);
                let quick = noise.gradient(u * 2.3 + 9.0, i as f32 * 0.55);
                base + frame.unit * swing * (slow + 0.35 * quick)
            };
            (0..rows(frame.width)).map(edge).collect()
        })
        .collect();
    let texture = Noise::new(rng.seed());
    plan.add(rows(frame.height), frame.width * (22.0 + 9.0 * sheets as f32), move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let py = y as f32 + 0.5;
                let mut colour = colours[0] * (1.0 - 0.10 * py / frame.height);
                for (i, edge) in edges.iter().enumerate() {
                    let depth = py - edge[x];
                    if depth < -0.09 * frame.unit {
                        continue;
                    }
                    // The sheet's shadow, then the sheet with a lit rim.
                    let off = (-depth).max(0.0) / frame.unit;
                    let shadow = 0.50 * exp(-off * 34.0) + 0.16 * exp(-off * 110.0);
                    colour = colour * (1.0 - shadow);
                    let cover = saturate(depth + 0.5);
                    let rim = exp(-depth.max(0.0) / (frame.unit * 0.005));
                    let body =
                        colours[i + 1] * (1.05 - 0.22 * saturate(depth / (frame.unit * 0.30)) + 0.20 * rim);
                    colour = colour.mix(body, cover);
                }
                let fibre = texture.gradient(x as f32 * 0.22, py * 0.31);
                *pixel = colour * (1.0 + 0.018 * fibre);
            }
        }
    });
}

/// Poured paint: noise that bends noise, lit as if it were wet.
fn marble<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("marble");
    let noise = Noise::new(rng.seed());
    let gradient = Gradient::new(&ramp(world));
    let accent = ramp(world)
        .iter()
        .max_by(|a, b| a.c.total_cmp(&b.c))
        .map_or(Rgb::grey(0.5), |stop| Lch { l: 0.72, h: stop.h + 35.0, ..*stop }.rgb());
    let scale = rng.range(1.0, 1.5);
    let octaves = world.detail.octaves(4.5);
    let mut above = vec![0.0_f32; rows(frame.width)];
    plan.add(rows(frame.height), frame.width * 260.0, move |canvas, rows| {
        for y in rows {
            let mut left = None;
            for (x, (pixel, above)) in canvas.row_mut(y).iter_mut().zip(&mut above).enumerate() {
                let p = [x as f32 / frame.unit * scale, y as f32 / frame.unit * scale];
                let q = [
                    noise.fbm(p[0], p[1], octaves.min(2.0)),
                    noise.fbm(p[0] + 5.2, p[1] + 1.3, octaves.min(2.0)),
                ];
                let w = [p[0] + 0.8 * q[0], p[1] + 0.8 * q[1]];
                let r = noise.fbm(w[0] * 1.4 + 1.7, w[1] * 1.4 + 9.2, octaves.min(3.0));
                let v = noise.fbm(w[0] + 0.8 * r + 8.3, w[1] + 0.8 * r + 2.8, octaves);
                let slope_x = (v - left.unwrap_or(v)) * frame.unit;
                let slope_y = (v - if y == 0 { v } else { *above }) * frame.unit;
                left = Some(v);
                *above = v;
                let bands = 0.5 + 0.5 * sin(v * 1.6 + 0.5 * r);
                let level = saturate(0.62 * bands + 0.25 + 0.34 * v);
                let mut colour = gradient.at(level);
                colour = colour.mix(accent, smoothstep(0.35, 0.75, q[0].abs() + 0.35 * r) * 0.55);
                let tilt = (slope_x * 0.05 - slope_y * 0.07).clamp(-1.0, 1.0);
                let vein = pow(saturate(1.0 - (v * 3.2).abs()), 8.0);
                colour = colour.mix(gradient.at(0.97), vein * 0.5) * (1.0 + 0.42 * tilt);
                *pixel = colour + Rgb::grey(0.16 * pow(saturate(tilt), 3.0));
            }
        }
    });
}

/// Stained glass.
fn mosaic<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("mosaic");
    let noise = Noise::new(rng.seed());
    let large = Noise::new(rng.seed());
    let gradient = Gradient::new(&ramp(world));
    let scale = rng.range(9.0, 14.0);
    let sun = [rng.range(0.2, 0.8) * frame.width, rng.range(0.1, 0.5) * frame.height];
    let lead = gradient.at(0.0) * 0.35;
    plan.add(rows(frame.height), frame.width * 290.0, move |canvas, rows| {
        for y in rows {
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let p = [x as f32 / frame.unit, y as f32 / frame.unit];
                let bent = [p[0] + 0.03 * large.gradient(p[0] * 4.0, p[1] * 4.0), p[1]];
                let cell = noise.cell(bent[0] * scale, bent[1] * scale);
                let site = [p[0] + cell.centre[0] / scale, p[1] + cell.centre[1] / scale];
                let chance = (cell.id >> 8 & 0xFF) as f32 / 255.0;
                let to_sun = [site[0] - sun[0] / frame.unit, site[1] - sun[1] / frame.unit];
                let near = exp(-(to_sun[0] * to_sun[0] + to_sun[1] * to_sun[1]) * 5.0);
                let level = 0.40
                    + 0.36 * large.fbm(site[0] * 1.5, site[1] * 1.5, 2.0)
                    + 0.26 * (chance - 0.5)
                    + 0.34 * near;
                let glass = gradient.at(saturate(level.clamp(0.12, 0.95)));
                let tilt = (cell.centre[0] * 0.5 + cell.centre[1] * 0.8)
                    * lerp(-0.5, 0.5, (cell.id & 0xFF) as f32 / 255.0);
                let streak = large.fbm(p[0] * 14.0 + chance * 90.0, p[1] * 50.0, 2.0);
                let inner = smoothstep(0.0, 0.22, cell.border);
                let light =
                    glass * ((0.82 + 0.28 * inner) * (1.0 + 0.5 * tilt + 0.07 * streak) + 0.25 * near);
                let half = 0.024 * scale / 11.0;
                let soft = scale / frame.unit;
                let glassy = smoothstep(half - soft * 0.5, half + soft, cell.border);
                *pixel = lead.mix(light, glassy);
            }
        }
    });
}

/// Circles, arcs and bars on paper.
fn circles<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("circles");
    let dark = world.brief.time == super::brief::Time::Night || rng.chance(0.25);
    let stops = ramp(world);
    let paper =
        if dark { Lch { l: 0.20, ..stops[0] } } else { Lch::new(0.93, 0.03, lerp(80.0, stops[1].h, 0.1)) };
    let ink = if dark { Lch::new(0.92, 0.03, 85.0) } else { Lch::new(0.20, 0.03, stops[0].h) }.rgb();
    backdrop(world, plan, paper.rgb(), Lch { l: paper.l - 0.04, ..paper }.rgb());
    let mut inks: Vec<Lch> = stops[1..stops.len() - 1].to_vec();
    let lead = inks[inks.len() / 2];
    let named = inks.len();
    if world.brief.colours.len() != 2 {
        inks.push(avoid(&world.brief, Lch::new(0.74, 0.15, lead.h + 180.0)));
    }
    let inks: Vec<Rgb> = inks.into_iter().map(Lch::rgb).collect();
    let count = world.detail.count(26.0);
    let heart = [frame.width * rng.range(0.36, 0.62), frame.height * rng.range(0.36, 0.60)];
    let hero = inks[rng.pick(&[0, named - 1])];
    let unit = frame.unit.min(frame.width);
    let glow = world.brief.allows(Thing::Glow);
    plan.add(count + 2, unit * unit * 0.4, move |canvas, numbers| {
        for number in numbers {
            if number == 0 {
                let radius = unit * 0.27;
                if glow {
                    canvas.disc(heart, radius * 1.22, 0.18, hero, 0.16);
                }
                canvas.disc(heart, radius, 0.0, hero, 1.0);
                canvas.disc(
                    [heart[0] - radius * 0.2, heart[1] - radius * 0.2],
                    radius * 0.55,
                    0.0,
                    rng.pick(&inks),
                    0.85,
                );
                continue;
            }
            let out = unit * rng.range(0.12, 0.46);
            let turn = rng.unit();
            let at = [
                heart[0] + out * cos(turn) * (frame.width / unit).sqrt(),
                heart[1] + out * sin(turn) * (frame.height / unit).sqrt(),
            ];
            let colour = rng.pick(&inks);
            let size = unit * pow(rng.unit(), 1.7) * 0.13 + unit * 0.014;
            match rng.pick(&[0, 0, 1, 1, 2, 3, 3, 4, 5]) {
                0 => canvas.disc(at, size, 0.0, colour, rng.range(0.75, 1.0)),
                1 => rings(canvas, at, size * 1.2, colour, ink, rng.chance(0.5)),
                2 => {
                    let spin = rng.unit();
                    let corner = |k: f32| {
                        [at[0] + size * 1.3 * cos(spin + k / 3.0), at[1] + size * 1.3 * sin(spin + k / 3.0)]
                    };
                    Shape::polygon(vec![corner(0.0), corner(1.0), corner(2.0)]).paint(canvas, colour, 0.86);
                }
                3 => {
                    let spin = turn + rng.pick(&[0.0, 0.25, 0.125]);
                    let reach = unit * rng.range(0.10, 0.42);
                    let d = [cos(spin) * reach, sin(spin) * reach];
                    let width = unit * rng.pick(&[0.0022, 0.004, 0.011]);
                    canvas.stroke(
                        [at[0] - d[0], at[1] - d[1]],
                        [at[0] + d[0], at[1] + d[1]],
                        [width, width],
                        ink,
                        0.92,
                    );
                }
                4 => {
                    let cell = unit * rng.range(0.014, 0.024);
                    for i in 0..4_u8 {
                        for j in 0..4_u8 {
                            let corner = [at[0] + f32::from(i) * cell, at[1] + f32::from(j) * cell];
                            let tone = if (i + j) % 2 == 0 { colour } else { ink };
                            Shape::rect(corner[0], corner[1], corner[0] + cell, corner[1] + cell)
                                .paint(canvas, tone, 0.9);
                        }
                    }
                }
                _ => arc(canvas, at, size * 2.0, turn, unit * rng.range(0.003, 0.014), ink.mix(colour, 0.5)),
            }
        }
    });
}

fn rings(canvas: &mut super::canvas::Canvas, at: Point, size: f32, colour: Rgb, ink: Rgb, filled: bool) {
    if filled {
        canvas.disc(at, size * 0.86, 0.0, colour, 0.9);
    }
    arc(canvas, at, size, 0.0, size * 0.05, ink);
    arc(canvas, at, size, 0.5, size * 0.05, ink);
    canvas.disc(at, size * 0.36, 0.0, ink, 0.92);
    canvas.disc(at, size * 0.15, 0.0, colour, 1.0);
}

/// Half a circle, drawn as a line.
fn arc(canvas: &mut super::canvas::Canvas, at: Point, radius: f32, turn: f32, width: f32, colour: Rgb) {
    let count = index(radius * 0.5).clamp(12, 200);
    let outline = |r: f32, i: usize| {
        let a = turn + 0.5 * i as f32 / count as f32;
        [at[0] + r * cos(a), at[1] + r * sin(a)]
    };
    let half = width.max(1.0) * 0.5;
    let mut points: Vec<Point> = (0..=count).map(|i| outline(radius + half, i)).collect();
    points.extend((0..=count).rev().map(|i| outline(radius - half, i)));
    Shape::polygon(points).paint(canvas, colour, 1.0);
}
