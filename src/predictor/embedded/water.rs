//! Water: what is above it, mirrored and broken by waves.

use std::cell::RefCell;
use std::rc::Rc;

use super::brief::{Setting, Thing};
use super::colour::{Lch, Rgb};
use super::light::{avoid, tinted};
use super::maths::{exp, index, lerp, saturate, smoothstep};
use super::noise::Noise;
use super::plan::Plan;
use super::sky::rows;
use super::world::World;

/// For each column the row where the water begins.
pub(super) type Shore = Rc<RefCell<Vec<f32>>>;

/// A shore along the horizon.
pub(super) fn open_shore(world: &World) -> Shore {
    Rc::new(RefCell::new(vec![world.frame.horizon; rows(world.frame.width)]))
}

/// How a water lies.
#[derive(Debug, Clone, Copy)]
struct Surface {
    noise: Noise,
    /// The height of waves.
    chop: f32,
    octaves: f32,
    deep: Rgb,
    foam: f32,
    /// How much shorter the mirrored picture is: an eye above the water sees it so.
    squeeze: f32,
}

/// Water below `shore`.
pub(super) fn water<'a>(world: &'a World, plan: &mut Plan<'a>, shore: Shore) {
    let frame = world.frame;
    let surface = surface(world);
    // The shore tells where water begins; the earliest row it can begin at is the horizon.
    let first = index(frame.horizon);
    let last = rows(frame.height);
    let focal = frame.unit * 1.15;
    // The line that a column is mirrored at: the shore, but without a jump where an island ends.
    let mut mirror = Vec::new();
    plan.add(last.saturating_sub(first), frame.width * 130.0, move |canvas, rows| {
        let shore = shore.borrow();
        if mirror.is_empty() {
            mirror = smooth(&shore, index(frame.unit * 0.07));
        }
        for y in rows.start + first..rows.end + first {
            for x in 0..canvas.width {
                let begin = shore[x];
                let below = y as f32 + 0.5 - begin;
                if below < -0.5 {
                    continue;
                }
                let drop = (y as f32 + 0.5 - frame.horizon).max(0.35);
                let z = focal / drop;
                let colour = surface.at(
                    world,
                    canvas,
                    [x as f32 + 0.5, y as f32 + 0.5],
                    mirror[x].min(y as f32 + 0.4),
                    z,
                );
                canvas.blend(x, y, colour, saturate(below + 0.5));
            }
        }
    });
}

impl Surface {
    fn at(
        &self,
        world: &World,
        canvas: &super::canvas::Canvas,
        [px, py]: [f32; 2],
        begin: f32,
        z: f32,
    ) -> Rgb {
        let (frame, light) = (&world.frame, &world.light);
        let across = (px - frame.width * 0.5) / (frame.unit * 1.15);
        let p = [across * z * 3.2, z * 6.5];
        // Far waves are smaller than a pixel: only their mean is seen.
        let fine = (self.octaves - 0.55 * super::maths::log2(z.max(1.0))).max(1.0);
        let wave = self.noise.fbm(p[0], p[1], fine);
        let tilt = self.noise.gradient(p[0] * 1.9 + 31.0, p[1] * 1.9);
        let far = 1.0 / (1.0 + 0.10 * z);
        let below = py - begin;
        let swing = self.chop * frame.unit;
        let sx = px + swing * 0.55 * tilt * far;
        let lift = swing
            * (0.35 * wave.abs() + 0.8 * wave * far)
            * (0.25 + 0.75 * saturate(below / (0.25 * frame.unit)));
        let sy = (begin - below * self.squeeze - 0.5 - lift.abs() * 1.2 - lift * 0.4).clamp(0.5, begin - 0.5);
        let mirror = canvas.sample(sx, sy);
        let steep = saturate(below / (frame.height - frame.horizon).max(1.0));
        let mirrored = saturate(lerp(0.94, 0.60, steep) - 0.45 * self.chop * 10.0 * wave.max(0.0) * far);
        let body = self.deep * (1.0 + 0.5 * wave);
        let sky = light.sky.at(0.5 * (1.0 - steep)) * (0.16 + 0.10 * tilt);
        let mut colour = body.mix(mirror * 0.84 + sky, mirrored);
        colour = colour + self.glitter(world, px, below, wave, tilt);
        let crest = smoothstep(0.42, 0.75, wave + 0.4 * tilt.abs()) * self.foam * far.sqrt();
        colour.mix(light.ambient + light.sun * 0.35, crest * 0.55)
    }

    fn glitter(&self, world: &World, px: f32, below: f32, wave: f32, tilt: f32) -> Rgb {
        let (frame, light) = (&world.frame, &world.light);
        if light.body == super::light::Body::Hidden {
            return Rgb::BLACK;
        }
        let width = frame.unit * (0.035 + 0.10 * below / frame.unit);
        let off = (px - light.at[0]) / width;
        let path = exp(-off * off);
        let spark = smoothstep(0.12, 0.42, wave + 0.5 * tilt);
        light.glow * (path * spark * lerp(1.9, 0.5, saturate(below / (frame.unit * 0.5))))
    }
}

fn surface(world: &World) -> Surface {
    let brief = &world.brief;
    let mut rng = world.rng("water");
    let sea = brief.setting == Setting::Sea;
    let rough = brief.asks(Thing::Storm);
    let chop = if rough {
        0.075
    } else if sea {
        0.042
    } else {
        0.016
    };
    let base = if sea { Lch::new(0.36, 0.075, 232.0) } else { Lch::new(0.30, 0.05, 220.0) };
    let night = world.light.night;
    let tint = avoid(brief, base.mix(tinted(brief, base, 0.1), 0.7));
    let deep = tint.rgb() * (world.light.ambient.luma() * 1.5 + 0.05) * lerp(1.0, 0.8, night);
    let foam = if rough {
        1.0
    } else if sea {
        0.30
    } else {
        0.0
    };
    Surface {
        noise: Noise::new(rng.seed()),
        chop,
        octaves: world.detail.octaves(5.0),
        deep,
        foam,
        squeeze: if sea { 1.0 } else { 1.35 },
    }
}

/// The lowest of a line's neighbourhood, evened out.
fn smooth(line: &[f32], reach: usize) -> Vec<f32> {
    let around = |at: usize| at.saturating_sub(reach)..(at + reach + 1).min(line.len());
    let lowest: Vec<f32> =
        (0..line.len()).map(|at| line[around(at)].iter().copied().fold(0.0, f32::max)).collect();
    (0..line.len()).map(|at| lowest[around(at)].iter().sum::<f32>() / around(at).len() as f32).collect()
}
