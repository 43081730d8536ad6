//! The light of a time of day, in the colours that were asked for.

use super::brief::{Brief, Setting, Thing, Time};
use super::colour::{Gradient, Lch, Rgb};
use super::maths::{exp, lerp, saturate};
use super::shape::Point;
use super::world::Frame;

/// What lights the picture.
#[derive(Debug)]
pub(super) struct Light {
    /// The sky from the zenith to the horizon.
    pub(super) sky: Gradient,
    /// The same colours, as four stops.
    pub(super) stops: [Lch; 4],
    /// Direct light.
    pub(super) sun: Rgb,
    /// Light from all of the sky.
    pub(super) ambient: Rgb,
    /// The sky's glow around the sun.
    pub(super) glow: Rgb,
    /// How dark the sky is: 0 by day, 1 at night.
    pub(super) night: f32,
    /// Where the sun or the moon stands, in pixels.
    pub(super) at: Point,
    /// The way to the light: right, up, away.
    pub(super) direction: [f32; 3],
    /// What stands there.
    pub(super) body: Body,
}

/// What is seen where the light comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// The sun's disc.
    Sun,
    /// The moon.
    Moon,
    /// Nothing.
    Hidden,
}

/// A time of day: four sky stops, the sun's colour and strength, its height above the horizon.
struct Hour {
    stops: [Lch; 4],
    sun: Lch,
    strength: f32,
    ambient: f32,
    elevation: f32,
    night: f32,
}

impl Light {
    /// The light for `brief`.
    pub(super) fn new(brief: &Brief, frame: &Frame) -> Self {
        let hour = if brief.setting == Setting::Underwater { below(brief.time) } else { hour(brief.time) };
        let mut rng = brief.rng.fork("light");
        let coloured = if brief.colours.is_empty() { 1.0 } else { 0.55 };
        let gloom = coloured
            * if brief.asks(Thing::Storm) {
                0.75
            } else if brief.asks(Thing::Rain) {
                0.55
            } else {
                0.0
            };
        // Loosely followed words let the hues wander.
        let wander = rng.range(-1.0, 1.0) * 22.0 * (1.2 - brief.strictness).max(0.0);
        let stops: [Lch; 4] = std::array::from_fn(|i| {
            let mut stop = tinted(brief, hour.stops[i], i as f32 / 3.0);
            stop.c *= 1.0 - 0.75 * gloom;
            stop.l *= 1.0 - 0.25 * gloom;
            stop.h += wander + rng.range(-6.0, 6.0);
            avoid(brief, stop)
        });
        // Some of the sun is left in it: a picture of one hue alone would be flat.
        let sun = avoid(brief, hour.sun.mix(tinted(brief, hour.sun, 0.85), 0.6));
        let side = if rng.chance(0.5) { -1.0 } else { 1.0 };
        let across = 0.5 + side * rng.range(0.08, 0.26);
        let high = hour.elevation * rng.range(0.8, 1.25);
        // An animal stands before a low sun or moon.
        let near = brief.has_animal() && brief.time != Time::Noon;
        let across = if near { 0.5 + (across - 0.5) * 0.55 } else { across };
        let high = match brief.setting {
            Setting::Mountains if near && brief.time == Time::Night => 0.66,
            _ if near && brief.time == Time::Night => 0.24,
            _ => high,
        };
        let at = [frame.width * across, frame.horizon - high * frame.horizon.min(frame.unit * 0.75)];
        // Shadows take their colour from the sky above, not from the glow at the horizon.
        let mean = stops[1].mix(stops[2], 0.5).rgb();
        let above = stops[0].mix(stops[1], 0.7).rgb();
        let mean = mean.mix(above * (mean.luma() / above.luma().max(0.01)), 0.75);
        let shown = if brief.time == Time::Night { Thing::Moon } else { Thing::Sun };
        let clear = gloom == 0.0 && brief.allows(shown);
        let body = match brief.time {
            _ if !clear => Body::Hidden,
            Time::Night if brief.asks(Thing::Moon) || night_has_moon(brief) => Body::Moon,
            Time::Night => Body::Hidden,
            Time::Dusk if !brief.asks(Thing::Sun) => Body::Hidden,
            _ => Body::Sun,
        };
        let lit = if body == Body::Hidden { 0.75 } else { 1.0 } * (1.0 - 0.7 * gloom);
        let length = (1.0 + 0.45 * 0.45 + 0.12 * 0.12_f32).sqrt();
        let lift = 0.35 + 0.6 * saturate(hour.elevation);
        Self {
            sky: Gradient::new(&stops),
            stops,
            // A low sun hardly reaches the ground.
            sun: sun.rgb().saturated(0.7)
                * (hour.strength * lit * if brief.time == Time::Sunset { 0.5 } else { 1.0 }),
            ambient: mean.mix(Rgb::grey(mean.luma()), 0.35 - 0.25 * hour.night)
                * (hour.ambient * (1.0 + 0.5 * gloom)),
            glow: sun.rgb() * (hour.strength * 0.34 * lit),
            night: hour.night,
            at,
            direction: [side * 0.85 / length, lift / length, -0.25 / length],
            body,
        }
    }

    /// The clear sky at a pixel; below the horizon its haze goes on.
    #[inline]
    pub(super) fn sky_at(&self, frame: &Frame, x: f32, y: f32) -> Rgb {
        let base = self.sky.at(y / frame.horizon);
        let dx = (x - self.at[0]) / frame.unit;
        let dy = (y - self.at[1]) / frame.unit;
        let near = (dx * dx * 0.8 + dy * dy * 1.5).sqrt();
        let wide = (dx * dx * 0.22 + dy * dy * 3.0).sqrt();
        base + self.glow
            * (0.85 * exp(-near * 5.0) + 0.55 * exp(-wide * 4.0) + 0.16 / (1.0 + 260.0 * near * near))
    }
}

/// `base` in the colours that were asked for; `t` tells which of several: 0 the first, 1 the last.
pub(super) fn tinted(brief: &Brief, base: Lch, t: f32) -> Lch {
    let colours = &brief.colours;
    let Some(&last) = colours.last() else { return base };
    let at = saturate(t) * (colours.len() - 1) as f32;
    let from = super::maths::index(at).min(colours.len() - 1);
    let next = colours.get(from + 1).copied().unwrap_or(last);
    let want = colours[from].mix(next, at - from as f32);
    let pull = saturate(0.55 + 0.25 * brief.strictness);
    let l = lerp(base.l, want.l, 0.28 * pull);
    if want.c < 0.03 {
        let towards = if want.l > 0.8 || want.l < 0.3 { 0.5 } else { 0.25 };
        return Lch::new(lerp(base.l, want.l, towards * pull), lerp(base.c, want.c, pull), base.h);
    }
    // Near white and near black there is little room for chroma.
    let room = 0.42 * (1.04 - l).min(l + 0.08);
    let mut out = base.mix(Lch::new(l, want.c.max(base.c).min(room), want.h), pull);
    out.l = l;
    out
}

/// `colour`, turned away from hues that are not wanted.
pub(super) fn avoid(brief: &Brief, colour: Lch) -> Lch {
    let mut colour = colour;
    for bad in &brief.unwanted {
        let way = super::colour::hue_between(bad.h, colour.h);
        if bad.c > 0.03 && way.abs() < 55.0 {
            colour.c *= 0.25 + 0.4 * way.abs() / 55.0;
            colour.h += if way < 0.0 { -40.0 } else { 40.0 };
        } else if bad.c <= 0.03 && bad.l < 0.3 {
            colour.l = lerp(colour.l, 0.8, 0.25);
        } else if bad.c <= 0.03 && bad.l > 0.9 {
            colour.l *= 0.88;
        }
    }
    colour
}

fn night_has_moon(brief: &Brief) -> bool {
    let crowded = brief.asks(Thing::MilkyWay) || brief.asks(Thing::Aurora);
    !crowded && !matches!(brief.setting, Setting::Space)
}

/// The light below the sea.
fn below(time: Time) -> Hour {
    let lch = Lch::new;
    let dark = if time == Time::Night { 0.55 } else { 1.0 };
    Hour {
        stops: [
            lch(0.80 * dark, 0.095, 200.0),
            lch(0.62 * dark, 0.105, 217.0),
            lch(0.45 * dark, 0.10, 236.0),
            lch(0.32 * dark, 0.085, 248.0),
        ],
        sun: lch(0.92, 0.06, 190.0),
        strength: 0.45 * dark,
        ambient: 0.9,
        elevation: 1.05,
        night: if time == Time::Night { 0.7 } else { 0.0 },
    }
}

fn hour(time: Time) -> Hour {
    let lch = Lch::new;
    match time {
        Time::Dawn => Hour {
            stops: [
                lch(0.50, 0.085, 268.0),
                lch(0.68, 0.075, 305.0),
                lch(0.82, 0.085, 15.0),
                lch(0.91, 0.075, 68.0),
            ],
            sun: lch(0.88, 0.10, 60.0),
            strength: 1.35,
            ambient: 0.85,
            elevation: 0.14,
            night: 0.0,
        },
        Time::Noon => Hour {
            stops: [
                lch(0.52, 0.135, 254.0),
                lch(0.64, 0.115, 247.0),
                lch(0.78, 0.075, 236.0),
                lch(0.91, 0.03, 225.0),
            ],
            sun: lch(0.97, 0.035, 95.0),
            strength: 1.25,
            ambient: 0.62,
            elevation: 0.72,
            night: 0.0,
        },
        Time::Golden => Hour {
            stops: [
                lch(0.54, 0.085, 252.0),
                lch(0.70, 0.055, 262.0),
                lch(0.83, 0.085, 72.0),
                lch(0.90, 0.105, 80.0),
            ],
            sun: lch(0.87, 0.13, 72.0),
            strength: 1.6,
            ambient: 0.65,
            elevation: 0.30,
            night: 0.0,
        },
        Time::Sunset => Hour {
            stops: [
                lch(0.32, 0.10, 282.0),
                lch(0.50, 0.125, 330.0),
                lch(0.68, 0.165, 38.0),
                lch(0.83, 0.145, 70.0),
            ],
            sun: lch(0.80, 0.16, 55.0),
            strength: 1.5,
            ambient: 0.62,
            elevation: 0.13,
            night: 0.1,
        },
        Time::Dusk => Hour {
            stops: [
                lch(0.20, 0.075, 274.0),
                lch(0.33, 0.09, 286.0),
                lch(0.50, 0.11, 335.0),
                lch(0.68, 0.105, 45.0),
            ],
            sun: lch(0.62, 0.10, 10.0),
            strength: 0.75,
            ambient: 0.75,
            elevation: 0.03,
            night: 0.45,
        },
        Time::Night => Hour {
            stops: [
                lch(0.11, 0.045, 272.0),
                lch(0.17, 0.055, 266.0),
                lch(0.25, 0.062, 258.0),
                lch(0.34, 0.06, 245.0),
            ],
            sun: lch(0.78, 0.035, 250.0),
            strength: 0.34,
            ambient: 1.7,
            elevation: 0.62,
            night: 1.0,
        },
    }
}
