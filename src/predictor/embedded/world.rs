//! What every layer of one picture shares.

use super::brief::{Brief, Setting, Thing};
use super::light::Light;
use super::maths::{exp, log2};
use super::rng::Rng;
use crate::predictor::Request;

/// The picture's measures, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Across.
    pub(super) width: f32,
    /// Down.
    pub(super) height: f32,
    /// The length that sizes of things are told in: the height, or less where the picture is narrow.
    pub(super) unit: f32,
    /// Where the sky meets the ground.
    pub(super) horizon: f32,
}

/// How far the refinement goes; grows with the steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    /// Octaves of noise at most.
    octaves: f32,
    /// The share of strokes, leaves, stars that are drawn, below 1.
    pub(super) density: f32,
}

/// What every layer of one picture shares.
#[derive(Debug)]
pub(super) struct World {
    /// What was asked for.
    pub(super) brief: Brief,
    /// The picture's measures.
    pub(super) frame: Frame,
    /// How fine it gets.
    pub(super) detail: Detail,
    /// What lights it.
    pub(super) light: Light,
}

impl World {
    /// The world of `request`; `seed` is the one that takes effect.
    pub(super) fn new(request: &Request, seed: u32) -> Self {
        let brief = Brief::read(request, seed);
        let (width, height) = (request.width as f32, request.height as f32);
        let horizon = height * horizon_of(&brief);
        let frame = Frame { width, height, unit: height.min(width * 1.25), horizon };
        let steps = request.num_inference_steps as f32;
        let detail = Detail { octaves: 1.4 + 1.1 * log2(steps + 1.0), density: 1.0 - exp(-steps / 14.0) };
        let light = Light::new(&brief, &frame);
        Self { brief, frame, detail, light }
    }

    /// Chance for one layer.
    pub(super) fn rng(&self, label: &str) -> Rng {
        self.brief.rng.fork(label)
    }
}

impl Detail {
    /// Octaves of noise, where `most` are worth their time.
    pub(super) fn octaves(self, most: f32) -> f32 {
        self.octaves.min(most)
    }

    /// How many of `most` things are drawn.
    pub(super) fn count(self, most: f32) -> usize {
        super::maths::index(most * self.density).max(1)
    }
}

fn horizon_of(brief: &Brief) -> f32 {
    let water = brief.asks(Thing::Water);
    let at = match brief.setting {
        Setting::Mountains if water => 0.58,
        Setting::Mountains => 0.68,
        Setting::Hills => 0.56,
        Setting::Dunes => 0.50,
        Setting::Sea => 0.56,
        Setting::Forest => 0.74,
        Setting::City if water || brief.asks(Thing::Rain) => 0.68,
        Setting::City => 0.80,
        Setting::Underwater => 0.66,
        Setting::Space | Setting::Abstract(_) => 0.80,
    };
    at + brief.rng.fork("horizon").range(-0.03, 0.03)
}
