//! Single things that stand in a landscape.

use super::brief::{Season, Setting, Thing};
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{exp, lerp, saturate, sin, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::plants::blade;
use super::rng::Rng;
use super::shape::{Place, Point, Shape};
use super::sky::rows;
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
        plan.add(1, unit * unit * 5.0, move |canvas, _| balloons(canvas, world, &mut rng));
    }
    if brief.asks(Thing::Lighthouse) {
        let mut rng = world.rng("lighthouse");
        plan.add(1, unit * unit * 6.0, move |canvas, _| lighthouse(canvas, world, &mut rng));
    }
    if brief.asks(Thing::Boat) {
        let mut rng = world.rng("boat");
        plan.add(1, unit * unit * 3.0, move |canvas, _| boat(canvas, world, &mut rng));
    }
    if brief.asks(Thing::House) && brief.setting != Setting::City {
        let mut rng = world.rng("house");
        plan.add(1, unit * unit * 5.0, move |canvas, _| house(canvas, world, &mut rng));
    }
    let animals = [Thing::Fox, Thing::Cat, Thing::Wolf, Thing::Deer];
    let animals: Vec<Thing> = animals.into_iter().filter(|animal| brief.asks(*animal)).collect();
    if !animals.is_empty() {
        knoll(world, plan);
        let mut rng = world.rng("animals");
        plan.add(1, unit * unit * 4.0, move |canvas, _| {
            let count = animals.len() as f32;
            let first = rng.range(0.40, 0.60) - 0.13 * (count - 1.0);
            for (i, &animal) in animals.iter().enumerate() {
                let x = world.frame.width * (first + 0.26 * i as f32);
                let facing = if x < world.light.at[0] { 1.0 } else { -1.0 };
                let foot = [x, ground(world, x) + unit * 0.006];
                self::animal(canvas, world, animal, foot, unit * rng.range(0.27, 0.31), facing);
            }
        });
    }
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

fn balloons(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
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

fn boat(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let across =
        if world.light.at[0] < frame.width * 0.5 { rng.range(0.54, 0.70) } else { rng.range(0.30, 0.46) };
    let size = frame.unit * rng.range(0.24, 0.30);
    let at = [frame.width * across, lerp(frame.horizon, frame.height, 0.24)];
    let place = Place { at, scale: [size, size] };
    let said = world.brief.colour_of(Thing::Boat);
    let sail = said.unwrap_or(Lch::new(0.93, 0.03, 85.0));
    let hull = Lch::new(0.34, if said.is_some() { 0.04 } else { 0.10 }, 30.0);
    let (sail, hull) = (lit(world, sail) * 1.5, lit(world, hull));
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

fn lighthouse(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
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

fn house(canvas: &mut Canvas, world: &World, rng: &mut Rng) {
    let frame = world.frame;
    let size = frame.unit * rng.range(0.20, 0.24);
    let x = frame.width * if world.brief.asks(Thing::Tree) { 0.24 } else { rng.range(0.36, 0.64) };
    let at = [x, lerp(frame.horizon, frame.height, 0.34)];
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

/// The row of the knoll's ground at column `x`.
fn ground(world: &World, x: f32) -> f32 {
    let frame = world.frame;
    let u = x / frame.width - 0.5;
    let noise = Noise::new(world.rng("knoll").seed());
    frame.height - frame.unit * (0.19 - 0.30 * u * u + 0.012 * noise.gradient(x / frame.unit * 3.0, 0.0))
}

/// Near ground for an animal to stand on.
fn knoll<'a>(world: &'a World, plan: &mut Plan<'a>) {
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
