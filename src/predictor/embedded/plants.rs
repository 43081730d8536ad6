//! Trees, grass and flowers.

use super::brief::{Season, Thing};
use super::canvas::Canvas;
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{cos, index, lerp, pow, saturate, sin};
use super::rng::Rng;
use super::shape::{Point, Shape};
use super::world::World;

/// A pine of `height` pixels whose trunk ends at `foot`; `fade` is the share of `haze` at its foot.
pub(super) fn pine(
    canvas: &mut Canvas,
    foot: Point,
    height: f32,
    colour: Rgb,
    rng: &mut Rng,
    mist: (Rgb, f32),
) {
    let half = height * rng.range(0.15, 0.21);
    let lean = rng.range(-0.015, 0.015) * height;
    let tiers = index(lerp(8.0, 26.0, saturate(height / 220.0)));
    let mut left = Vec::with_capacity(tiers * 2 + 2);
    let mut right = Vec::with_capacity(tiers * 2 + 2);
    for tier in 0..tiers {
        let t = (tier as f32 + 0.7) / tiers as f32;
        let y = foot[1] - height * (1.0 - 0.985 * t);
        let reach = half * pow(t, 0.80) * rng.range(0.86, 1.10);
        let droop = height * 0.75 / tiers as f32;
        let x = foot[0] + lean * (1.0 - t);
        for (side, points) in [(-1.0, &mut left), (1.0, &mut right)] {
            let out = reach * rng.range(0.72, 1.12);
            points.push([x + side * out, y + droop * rng.range(0.3, 1.0)]);
            points.push([x + side * out * rng.range(0.50, 0.72), y + droop * 0.05]);
        }
    }
    let mut outline = vec![[foot[0] + lean, foot[1] - height]];
    outline.extend(left);
    let trunk = half * 0.10;
    outline.extend([[foot[0] - trunk, foot[1] - height * 0.05], [foot[0] - trunk, foot[1]]]);
    outline.extend([[foot[0] + trunk, foot[1]], [foot[0] + trunk, foot[1] - height * 0.05]]);
    outline.extend(right.into_iter().rev());
    let (haze, share) = mist;
    Shape::polygon(outline).fill(canvas, |_, y| {
        let low = saturate(1.0 - (foot[1] - y) / height);
        (colour.mix(haze, share * low * low), 1.0)
    });
}

/// Foliage colours: shaded, lit, and touched by the sun.
pub(super) fn foliage(world: &World) -> [Rgb; 3] {
    let brief = &world.brief;
    let said = brief.colour_of(Thing::Tree);
    let base = match brief.season {
        _ if said.is_some() => said.unwrap_or(Lch::new(0.5, 0.1, 140.0)),
        Some(Season::Autumn) => Lch::new(0.60, 0.16, 48.0),
        Some(Season::Spring) => Lch::new(0.80, 0.10, 355.0),
        Some(Season::Winter) => Lch::new(0.88, 0.02, 250.0),
        None | Some(Season::Summer) => Lch::new(0.50, 0.11, 135.0),
    };
    let base = avoid(brief, base.mix(tinted(brief, base, 0.5), 0.35));
    let tone = |dl: f32, dh: f32, dc: f32| Lch::new(base.l + dl, base.c * dc, base.h + dh).rgb();
    let light = &world.light;
    [
        tone(-0.16, 12.0, 0.9) * (light.ambient * 0.85 + light.sun * 0.10),
        tone(0.0, 0.0, 1.0) * (light.ambient * 0.9 + light.sun * 0.45),
        tone(0.12, -14.0, 1.05) * (light.ambient + light.sun * 0.85),
    ]
}

/// A broad tree: a branching trunk and a crown of leaves, lit from where the light comes from.
pub(super) fn broad_tree(canvas: &mut Canvas, world: &World, foot: Point, height: f32, rng: &mut Rng) {
    let bark = Lch::new(0.24, 0.02, 50.0).rgb() * (world.light.ambient + world.light.sun * 0.3);
    let mut tips = Vec::new();
    branch(canvas, foot, [0.0, -1.0], height * 0.36, height * 0.075, 5, bark, rng, &mut tips);
    let bare = world.brief.season == Some(Season::Winter);
    let tones = foliage(world);
    let per_tip = world.detail.count(if bare { 2.0 } else { 46.0 });
    let [lx, ly, _] = world.light.direction;
    let centre = [foot[0], foot[1] - height * 0.66];
    for tip in &tips {
        for _ in 0..per_tip {
            let turn = rng.unit();
            let out = height * 0.095 * rng.unit().sqrt();
            let at = [tip[0] + out * cos(turn), tip[1] + out * sin(turn) * 0.8];
            let facing = ((at[0] - centre[0]) * lx - (at[1] - centre[1]) * ly) / (height * 0.45);
            let level = saturate(0.45 + 0.75 * facing + rng.range(-0.35, 0.35)) * 2.0;
            let tone =
                if level < 1.0 { tones[0].mix(tones[1], level) } else { tones[1].mix(tones[2], level - 1.0) };
            canvas.disc(at, height * rng.range(0.005, 0.0125), 0.3, tone, 0.92);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a recursion that carries its brush")]
fn branch(
    canvas: &mut Canvas,
    from: Point,
    way: [f32; 2],
    length: f32,
    width: f32,
    depth: u32,
    bark: Rgb,
    rng: &mut Rng,
    tips: &mut Vec<Point>,
) {
    let to = [from[0] + way[0] * length, from[1] + way[1] * length];
    canvas.stroke(from, to, [width, width * 0.68], bark, 1.0);
    if depth <= 2 {
        tips.push(to);
    }
    if depth == 0 {
        return;
    }
    let forks = if depth > 3 { 3 } else { 2 };
    for fork in 0..forks {
        let spread = if forks == 1 { 0.0 } else { fork as f32 / (forks - 1) as f32 * 2.0 - 1.0 };
        let turn = spread * 0.115 + rng.range(-0.04, 0.04);
        let (c, s) = (cos(turn), sin(turn));
        let next = [way[0] * c - way[1] * s, way[0] * s + way[1] * c];
        // Branches seek the light.
        let next = [next[0], next[1] - 0.10];
        let norm = (next[0] * next[0] + next[1] * next[1]).sqrt();
        let next = [next[0] / norm, next[1] / norm];
        branch(canvas, to, next, length * rng.range(0.62, 0.80), width * 0.62, depth - 1, bark, rng, tips);
    }
}

/// A palm that bends towards `side` (-1 or 1).
pub(super) fn palm(canvas: &mut Canvas, foot: Point, height: f32, side: f32, colour: Rgb, rng: &mut Rng) {
    let bend = side * rng.range(0.22, 0.42) * height;
    let at = |t: f32| [foot[0] + bend * t * t, foot[1] - height * t];
    for i in 0..10 {
        let (t0, t1) = (i as f32 / 10.0, (i + 1) as f32 / 10.0);
        let width = |t: f32| height * lerp(0.034, 0.017, t);
        canvas.stroke(at(t0), at(t1), [width(t0), width(t1)], colour, 1.0);
    }
    let crown = at(1.0);
    for i in 0..11 {
        let turn = -0.25 + (i as f32 / 10.0 - 0.5) * 0.86 + rng.range(-0.02, 0.02);
        let reach = height * rng.range(0.32, 0.42);
        let way = [cos(turn), sin(turn)];
        let rib = |t: f32| {
            let sag = t * t * (0.30 + 0.25 * way[0].abs());
            [crown[0] + way[0] * reach * t, crown[1] + way[1] * reach * t + sag * reach]
        };
        for k in 0..26 {
            let t = k as f32 / 26.0;
            let (p, q) = (rib(t), rib(t + 0.07));
            canvas.stroke(p, q, [height * 0.012, height * 0.010], colour, 1.0);
            let leaf = reach * 0.24 * (1.0 - t) * (0.35 + t).min(1.0) + reach * 0.03;
            for spread in [-1.0, 1.0] {
                let d = [q[0] - p[0], q[1] - p[1]];
                let norm = (d[0] * d[0] + d[1] * d[1]).sqrt().max(1e-3);
                let d = [d[0] / norm, d[1] / norm];
                let tip = [
                    p[0] + (d[0] * 0.7 - spread * d[1] * 0.6) * leaf,
                    p[1] + (d[1] * 0.7 + spread * d[0] * 0.6) * leaf + leaf * 0.45,
                ];
                canvas.stroke(p, tip, [height * 0.014, height * 0.004], colour, 1.0);
            }
        }
    }
}

/// One blade of grass.
pub(super) fn blade(canvas: &mut Canvas, foot: Point, height: f32, lean: f32, colour: Rgb) {
    let mid = [foot[0] + lean * 0.35, foot[1] - height * 0.6];
    let tip = [foot[0] + lean, foot[1] - height];
    let width = (height * 0.07).max(0.8);
    canvas.stroke(foot, mid, [width, width * 0.75], colour, 1.0);
    canvas.stroke(mid, tip, [width * 0.75, width * 0.2], colour, 1.0);
}

/// One flower, seen from the side and above.
pub(super) fn flower(canvas: &mut Canvas, at: Point, size: f32, petals: Rgb, heart: Rgb, rng: &mut Rng) {
    let count = 5.0;
    let turn = rng.unit();
    for i in 0..5 {
        let a = turn + i as f32 / count;
        let petal = [at[0] + cos(a) * size * 0.55, at[1] + sin(a) * size * 0.38];
        canvas.disc(petal, size * 0.48, 0.25, petals * rng.range(0.82, 1.12), 1.0);
    }
    canvas.disc(at, size * 0.26, 0.2, heart, 1.0);
}
