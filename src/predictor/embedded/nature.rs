//! Landscapes.

use std::cell::RefCell;
use std::rc::Rc;

use super::brief::{Season, Setting, Thing};
use super::colour::{Lch, Rgb};
use super::figures;
use super::ground::Ground;
use super::light::{avoid, tinted};
use super::maths::{index, lerp, pow, saturate};
use super::noise::Noise;
use super::plan::Plan;
use super::plants::{blade, broad_tree, flower, palm, pine};
use super::scene::wants;
use super::sky::rows;
use super::terrain::Terrain;
use super::water::{Shore, open_shore, water};
use super::world::World;

/// A range, over a valley or a lake, with pines near by.
pub(super) fn mountains<'a>(world: &'a World, plan: &mut Plan<'a>) {
    if lake(world) {
        let shore = land(world, plan, Ground::Shore);
        water(world, plan, shore);
    } else {
        land(world, plan, Ground::Mountains);
    }
    if wants(world, Thing::Pines, 1.0) && world.brief.allows(Thing::Tree) {
        framing_pines(world, plan);
    }
    foreground(world, plan);
}

/// Whether there is a lake below the mountains.
pub(super) fn lake(world: &World) -> bool {
    let brief = &world.brief;
    let needs_land = brief.has_animal()
        || [Thing::Flowers, Thing::House, Thing::Tree].into_iter().any(|thing| brief.asks(thing));
    brief.asks(Thing::Water) || (!needs_land && wants(world, Thing::Water, 0.55))
}

/// Whether what stands near by needs a bank to stand on.
pub(super) fn on_bank(world: &World) -> bool {
    let stands = [Thing::House, Thing::Castle, Thing::Tree].into_iter().any(|thing| world.brief.asks(thing));
    stands && world.brief.setting == Setting::Mountains && lake(world)
}

/// Meadows, with a tree or flowers.
pub(super) fn hills<'a>(world: &'a World, plan: &mut Plan<'a>) {
    land(world, plan, Ground::Hills);
    foreground(world, plan);
}

/// Sand.
pub(super) fn dunes<'a>(world: &'a World, plan: &mut Plan<'a>) {
    land(world, plan, Ground::Dunes);
}

/// The sea, with islands or a beach with palms.
pub(super) fn sea<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let islands = wants(world, Thing::Palm, 0.35);
    let shore = if islands { land(world, plan, Ground::Islands) } else { open_shore(world) };
    water(world, plan, shore);
    if world.brief.asks(Thing::Palm) {
        palms(world, plan);
    }
}

/// Rows of pines in the mist.
pub(super) fn forest<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let light = &world.light;
    let mut rng = world.rng("forest");
    let noise = Noise::new(rng.seed());
    let autumn = world.brief.season == Some(Season::Autumn);
    let base = match world.brief.season {
        Some(Season::Autumn) => Lch::new(0.36, 0.10, 55.0),
        Some(Season::Winter) => Lch::new(0.40, 0.03, 225.0),
        _ => Lch::new(0.27, 0.05, 160.0),
    };
    let said = world.brief.colour_of(Thing::Land).map(|colour| Lch {
        l: base.l.max(colour.l * 0.6),
        c: colour.c * 0.7,
        h: colour.h,
    });
    let near = said.unwrap_or(base.mix(tinted(&world.brief, base, 0.2), 0.8));
    let near = avoid(&world.brief, near);
    let mist = light.stops[3].rgb().mix(light.stops[1].rgb(), 0.38) * lerp(0.9, 0.75, light.night);
    let layers = 4 + index(4.0 * world.detail.density);
    for layer in 0..layers {
        let t = (layer + 1) as f32 / layers as f32;
        let foot = frame.horizon + (t - 0.62) * frame.unit * 0.38;
        let size = frame.unit * lerp(0.10, 0.52, pow(t, 1.7));
        let spacing = size * lerp(0.10, 0.17, t);
        let count = index(frame.width / spacing) + 3;
        let dark = near.rgb() * (light.ambient * 0.9 + light.sun * 0.12);
        let colour = mist.mix(dark, pow(t, 1.25));
        let mut rng = rng.fork(&format!("row {layer}"));
        let drift = rng.range(0.0, 50.0);
        plan.add(count, size * size * 2.4, move |canvas, trees| {
            for tree in trees {
                let x = (tree as f32 - 1.0 + rng.range(-0.45, 0.45)) * spacing;
                let sway = noise.fbm(x / frame.unit * 1.6 + drift, layer as f32 * 9.0, 3.0);
                let height = size * (1.0 + 0.42 * sway) * rng.range(0.72, 1.18);
                let y = foot + size * 0.16 * noise.gradient(x / frame.unit * 0.9, drift);
                let tone = if autumn && rng.chance(0.6) {
                    1.0 + rng.range(0.0, 1.1)
                } else {
                    1.0 + rng.range(-0.12, 0.12)
                };
                let colour = Rgb([colour.0[0] * tone, colour.0[1] * (0.5 + 0.5 * tone), colour.0[2]]);
                pine(canvas, [x, y], height, colour, &mut rng, (mist, 0.75 * (1.1 - t)));
            }
        });
        // The mist that the row stands in; the last one stands on the ground.
        if layer + 1 < layers {
            veil(world, plan, [foot - size * 0.62, foot + size * 0.02], mist, noise, drift);
            continue;
        }
        if world.brief.asks(Thing::Fog) {
            veil(world, plan, [foot - size * 0.85, foot + size * 0.35], mist, noise, drift);
        }
        let winter = world.brief.season == Some(Season::Winter);
        let snow = Lch::new(0.88, 0.02, 250.0).rgb() * (light.ambient * 0.9 + light.sun * 0.3);
        let floor = if winter { snow } else { colour * 0.85 };
        let first = index((foot - size * 0.2).clamp(0.0, frame.height));
        plan.add(rows(frame.height) - first, frame.width * 25.0, move |canvas, lines| {
            for y in lines.start + first..lines.end + first {
                for x in 0..canvas.width {
                    let edge =
                        foot + size * (0.16 * noise.gradient(x as f32 / frame.unit * 0.9, drift) - 0.02);
                    let depth = saturate((y as f32 - edge) / (frame.height - edge).max(1.0));
                    canvas.blend(x, y, floor * (1.0 - 0.45 * depth), saturate((y as f32 - edge) * 0.4 + 0.5));
                }
            }
        });
        let mut rng = world.rng("scrub");
        let bushes = if winter { 0 } else { world.detail.count(420.0 * frame.width / frame.unit) };
        plan.add(bushes, frame.unit * 0.3, move |canvas, numbers| {
            for number in numbers {
                let near = number as f32 / bushes as f32;
                let x = rng.unit() * frame.width;
                let edge = foot + size * 0.16 * noise.gradient(x / frame.unit * 0.9, drift);
                let y = lerp(edge - 0.01 * frame.unit, frame.height * 1.03, near * near);
                let high = frame.unit * lerp(0.02, 0.07, near) * rng.range(0.5, 1.3);
                let tone = floor * rng.range(0.75, 1.35);
                for frond in 0..5_u8 {
                    let lean = (f32::from(frond) - 2.0) * 0.4 + rng.range(-0.2, 0.2);
                    blade(canvas, [x, y], high * (1.1 - 0.2 * lean.abs()), high * lean, tone);
                }
            }
        });
    }
    if world.brief.asks(Thing::Tree) {
        foreground(world, plan);
    }
}

/// Mist that grows from nothing at the first height to nearly everything below the second.
fn veil<'a>(world: &'a World, plan: &mut Plan<'a>, span: [f32; 2], mist: Rgb, noise: Noise, drift: f32) {
    let frame = world.frame;
    let thin = !world.brief.allows(Thing::Fog);
    let (most, power) = if thin {
        (0.35, 3.0)
    } else if world.brief.asks(Thing::Fog) {
        (0.97, 1.2)
    } else {
        (0.92, 1.9)
    };
    let first = index(span[0].clamp(0.0, frame.height));
    plan.add(rows(frame.height) - first, frame.width * 45.0, move |canvas, lines| {
        for y in lines.start + first..lines.end + first {
            let t = (y as f32 - span[0]) / (span[1] - span[0]);
            for (x, pixel) in canvas.row_mut(y).iter_mut().enumerate() {
                let p = [x as f32 / frame.unit * 1.3 + drift, y as f32 / frame.unit * 4.0];
                let cloud = t + 0.30 * noise.fbm(p[0], p[1], 2.0) * (1.0 - saturate(t - 1.0));
                *pixel = pixel.mix(mist, most * pow(saturate(cloud), power));
            }
        }
    });
}

fn land<'a>(world: &'a World, plan: &mut Plan<'a>, ground: Ground) -> Shore {
    let shore: Shore = Rc::new(RefCell::new(vec![world.frame.horizon; rows(world.frame.width)]));
    let terrain = Terrain::new(world, ground);
    let out = Rc::clone(&shore);
    plan.add(rows(world.frame.width), world.frame.height * 170.0, move |canvas, columns| {
        for x in columns {
            out.borrow_mut()[x] = terrain.column(canvas, x);
        }
    });
    shore
}

/// Dark pines at the sides, which give depth.
fn framing_pines<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("framing");
    let many = world.brief.asks(Thing::Pines);
    let lit = world.light.ambient * 0.5 + world.light.sun * 0.06;
    let base = if world.brief.season == Some(Season::Winter) {
        Lch::new(0.36, 0.03, 220.0)
    } else {
        Lch::new(0.26, 0.05, 155.0)
    };
    let dark = avoid(&world.brief, tinted(&world.brief, base, 0.0).mix(base, 0.6)).rgb() * lit;
    let haze = world.light.stops[3].rgb();
    let count = world.detail.count(if many { 44.0 } else { 20.0 });
    let heavy = rng.chance(0.5);
    plan.add(count, frame.unit * frame.unit * 0.06, move |canvas, trees| {
        for tree in trees {
            let t = (tree as f32 + 0.5) / count as f32;
            let side = if (tree % 3 == 0) == heavy { 1.0 } else { -1.0 };
            let inward = pow(rng.unit(), 1.6) * if many { 0.42 } else { 0.30 } * frame.width;
            let x = if side < 0.0 { inward - 0.03 * frame.width } else { frame.width * 1.03 - inward };
            let middle = 1.0 - inward / (0.5 * frame.width);
            let height =
                frame.unit * lerp(0.10, 0.46, pow(middle, 1.5)) * lerp(0.65, 1.0, t) * rng.range(0.7, 1.1);
            let y = frame.height * lerp(0.955, 1.03, t);
            pine(canvas, [x, y], height, dark * lerp(1.5, 0.85, t), &mut rng, (haze, 0.10 * (1.0 - t)));
        }
    });
}

/// What stands near by on the ground: a tree, grass, flowers.
fn foreground<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let brief = &world.brief;
    let frame = world.frame;
    if on_bank(world) {
        figures::bank(world, plan);
    }
    if brief.asks(Thing::House) || brief.asks(Thing::Castle) {
        figures::house(world, plan);
    }
    if brief.asks(Thing::Tree) {
        let mut rng = world.rng("tree");
        let shifted = if brief.asks(Thing::House) { 0.22 } else { 0.0 };
        let x = frame.width * (rng.range(0.34, 0.66) * (1.0 - shifted) + shifted);
        let height = frame.unit * rng.range(0.48, 0.58);
        let foot = figures::foot(world, x, 0.45);
        plan.add(1, height * height * 12.0 * world.detail.density, move |canvas, _| {
            broad_tree(canvas, world, foot, height, &mut rng);
        });
    }
    if brief.season == Some(Season::Winter) && !brief.asks(Thing::Flowers) {
        return;
    }
    let meadows = brief.setting == Setting::Hills || brief.setting == Setting::Mountains && !lake(world);
    let grassy = meadows && brief.allows(Thing::Grass) && !brief.asks(Thing::Rows);
    if grassy || brief.asks(Thing::Grass) || brief.asks(Thing::Flowers) {
        meadow(world, plan);
    }
}

fn meadow<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let brief = &world.brief;
    let frame = world.frame;
    let mut rng = world.rng("meadow");
    let light = &world.light;
    let lit = light.ambient * 0.8 + light.sun * 0.5;
    let green = |l: f32, h: f32| {
        let base = Lch::new(l, 0.10, h);
        let said = brief.colour_of(Thing::Land).or(brief.colour_of(Thing::Grass));
        let tone = said.map_or(base.mix(tinted(brief, base, 0.3), 0.4), |colour| Lch {
            l,
            c: colour.c * 0.8,
            h: colour.h,
        });
        avoid(brief, tone).rgb() * lit
    };
    let tones = match brief.season {
        Some(Season::Autumn) => [green(0.34, 90.0), green(0.52, 75.0)],
        _ => [green(0.32, 140.0), green(0.56, 125.0)],
    };
    let flowers = brief.asks(Thing::Flowers) && brief.allows(Thing::Flowers);
    let rows_of = brief.asks(Thing::Rows);
    let said = brief.colour_of(Thing::Flowers);
    let hues: Vec<Rgb> = match (said, brief.colours.as_slice()) {
        (Some(colour), _) => vec![colour.rgb(), Lch { l: colour.l + 0.08, ..colour }.rgb()],
        (None, []) => [
            (0.62, 0.21, 28.0),
            (0.72, 0.16, 320.0),
            (0.88, 0.15, 95.0),
            (0.66, 0.14, 285.0),
            (0.95, 0.01, 90.0),
        ]
        .map(|(l, c, h)| avoid(brief, Lch::new(l, c, h)).rgb())
        .to_vec(),
        (None, colours) => {
            colours.iter().map(|colour| Lch { l: colour.l.max(0.5), ..*colour }.rgb()).collect()
        }
    };
    let heart = Lch::new(0.80, 0.15, 85.0).rgb() * lit;
    let count = world.detail.count(1500.0 * frame.width / frame.unit);
    let top = lerp(frame.horizon, frame.height, 0.52);
    plan.add(count, frame.unit * 0.9, move |canvas, blades| {
        for i in blades {
            // From the back to the front, and larger.
            let t = i as f32 / count as f32;
            let near = t * t;
            let x = rng.unit() * frame.width;
            let y = lerp(top, frame.height * 1.03, near);
            let size = frame.unit * lerp(0.018, 0.085, near);
            let tone = tones[0].mix(tones[1], rng.unit());
            let lean = size * rng.range(-0.35, 0.45);
            let bloom = flowers && !(rows_of && t < 0.3) && rng.chance(lerp(0.30, 0.20, t));
            if bloom {
                let high = size * rng.range(0.8, 1.3);
                let head = [x + lean * 0.6, y - high];
                canvas.stroke([x, y], head, [(size * 0.05).max(0.7), (size * 0.05).max(0.7)], tone, 1.0);
                let petals = rng.pick(&hues) * lit;
                flower(canvas, head, size * rng.range(0.16, 0.26), petals, heart, &mut rng);
            } else {
                blade(canvas, [x, y], size * rng.range(0.6, 1.25), lean, tone);
            }
        }
    });
}

fn palms<'a>(world: &'a World, plan: &mut Plan<'a>) {
    let frame = world.frame;
    let mut rng = world.rng("palms");
    let light = &world.light;
    let dark = Lch::new(0.22, 0.035, 140.0).rgb() * (light.ambient * 0.8 + light.sun * 0.15);
    let sand = avoid(&world.brief, Lch::new(0.80, 0.07, 80.0)).rgb() * (light.ambient + light.sun * 0.6);
    let side = if rng.chance(0.5) { -1.0 } else { 1.0 };
    let noise = Noise::new(rng.seed());
    let edge = move |x: f32| {
        let u = (x / frame.width - 0.5) * side;
        frame.height
            * (1.0 - 0.02 - 0.17 * saturate(u + 0.28) - 0.012 * noise.gradient(x / frame.unit * 3.0, 0.5))
    };
    let first = index(frame.height * 0.75);
    plan.add(rows(frame.height) - first, frame.width * 25.0, move |canvas, rows| {
        for y in rows.start + first..rows.end + first {
            for x in 0..canvas.width {
                let depth = y as f32 + 0.5 - edge(x as f32);
                let wet = saturate(depth / (frame.unit * 0.02));
                let tone =
                    1.0 + 0.06 * noise.fbm(x as f32 / frame.unit * 40.0, y as f32 / frame.unit * 60.0, 2.0);
                let foam = saturate(1.0 - depth.abs() / (frame.unit * 0.006));
                canvas.blend(x, y, sand * (tone * lerp(0.72, 1.0, wet)), saturate(depth + 0.5));
                canvas.blend(x, y, Rgb::grey(0.9) * lerp(1.0, 0.3, world.light.night), foam * 0.7);
            }
        }
    });
    let count = 3;
    plan.add(count, frame.unit * frame.unit * 0.08, move |canvas, trees| {
        for tree in trees {
            let x = frame.width * (0.5 + side * (0.27 + 0.10 * tree as f32 + rng.range(-0.02, 0.02)));
            let height = frame.unit * rng.range(0.42, 0.60);
            palm(
                canvas,
                [x, edge(x) + frame.unit * 0.02],
                height,
                -side * rng.range(0.5, 1.0),
                dark,
                &mut rng,
            );
        }
    });
}
