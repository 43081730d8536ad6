//! The embedded predictor: a procedural artist.
//!
//! It is no model: it reads the words of a prompt that it knows, and paints from noise and outlines.
//! With it the server does its main job on a machine that has nothing else. The same request with the
//! same seed gives the same picture, byte for byte, on every platform: chance comes from `rng`, and
//! functions that platforms compute differently from `maths`. Memory is 16 bytes a pixel while it
//! paints, and less while it encodes.
//!
//! | file | what is in it |
//! |---|---|
//! | `words`, `reading`, `brief` | from the prompt to what is asked for |
//! | `world`, `light` | measures, detail, and the light of the hour |
//! | `scene`, `plan` | the layers of a picture, cut into even steps |
//! | `sky`, `ground`, `terrain`, `water`, `plants`, `nature`, `weather` | landscapes |
//! | `city`, `cosmos`, `deep`, `abstracts`, `figures` | the other subjects |
//! | `canvas`, `shape`, `noise`, `colour`, `maths`, `rng`, `finish` | the tools |

mod abstracts;
mod brief;
mod canvas;
mod city;
mod colour;
mod cosmos;
mod deep;
mod figures;
mod finish;
mod ground;
mod light;
mod maths;
mod nature;
mod noise;
mod plan;
mod plants;
mod reading;
mod rng;
mod scene;
mod shape;
mod sky;
mod terrain;
#[cfg(test)]
mod tests;
mod water;
mod weather;
mod words;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Description, Error, Held, Prediction, Predictor, Progress, ProgressSender, Request, State};

/// The procedural artist.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded {
    _private: (),
}

impl Embedded {
    /// The artist; it needs nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

/// The name it goes by in metadata and in the log.
const MODEL: &str = "procedural-artist";

#[async_trait]
impl Predictor for Embedded {
    fn describe(&self) -> Description {
        Description {
            protocol: "embedded",
            model: MODEL.to_owned(),
            endpoint: None,
            takes_seed: true,
            reports_steps: true,
        }
    }

    async fn predict(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error> {
        let seed = request.seed.unwrap_or_else(rand::random);
        let abandoned = Arc::new(AtomicBool::new(false));
        let _guard = AbandonOnDrop(Arc::clone(&abandoned));
        let (request, progress) = (request.clone(), progress.clone());
        // Painting keeps a core busy: it must not hold up the threads that serve connections.
        let painting = tokio::task::spawn_blocking(move || {
            let total = request.num_inference_steps.max(1);
            paint(&request, seed, &|| !abandoned.load(Ordering::Relaxed), &mut |step| {
                progress.send(Progress::Drawing { step: f64::from(step), total, estimated: false });
            })
        });
        let failed = |message: String| Error::Failed { message };
        let png = painting.await.map_err(|error| failed(format!("painting stopped: {error}")))?;
        let png = png.map_err(|error| failed(format!("encoding stopped: {error}")))?;
        let png = png.ok_or_else(|| failed("painting was given up".to_owned()))?;
        Ok(Prediction {
            image: Bytes::from(png),
            model: Some(MODEL.to_owned()),
            seed: Some(seed),
            held: Held::default(),
        })
    }

    async fn probe(&self) -> State {
        State::Ready
    }
}

/// Tells the painting thread that nobody waits for its picture any more.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Paints `request` with `seed` and gives the PNG, or nothing if it was no longer wanted.
fn paint(
    request: &Request,
    seed: u32,
    is_wanted: &dyn Fn() -> bool,
    done: &mut dyn FnMut(u32),
) -> Result<Option<Vec<u8>>, image::ImageError> {
    let world = world::World::new(request, seed);
    let (width, height) = (request.width as usize, request.height as usize);
    let mut canvas = canvas::Canvas::new(width, height);
    let mut finish = finish::Finish::new(&world, width * height);
    let mut plan = plan::Plan::default();
    scene::compose(&world, &mut plan);
    scene::finish(&world, &mut plan, &mut finish);
    if !plan.run(&mut canvas, request.num_inference_steps.max(1), is_wanted, done) {
        return Ok(None);
    }
    drop(canvas);
    finish.encode(request.width, request.height).map(Some)
}
