//! A maker of images for tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeZone, Utc};
use tokio::sync::Notify;

use super::Generate;
use crate::{
    generate::{Error, Generated, Params, Progress, ProgressSender},
    image::{Format, Generation, ImageId, Metadata},
    predictor::Held,
};

/// What the fake does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Answer,
    /// Tells one step, waits for `Fake::go`, then answers.
    Wait,
    Fail,
    Panic,
}

#[derive(Debug)]
pub(crate) struct Fake {
    pub act: Act,
    pub go: Notify,
    pub calls: AtomicUsize,
    /// Calls that gave an image.
    pub done: AtomicUsize,
    /// Calls that were dropped before they were done.
    pub dropped: AtomicUsize,
    /// Bytes that a preview would like to have.
    pub preview_bytes: usize,
    /// Whether a preview keeps to its limit.
    pub obedient: bool,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            act: Act::Answer,
            go: Notify::new(),
            calls: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            preview_bytes: 10,
            obedient: true,
        }
    }
}

impl Fake {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped before it is defused.
struct Bomb<'a>(Option<&'a AtomicUsize>);

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Generate for Fake {
    async fn generate(
        &self,
        params: Params,
        _caller: &http::Extensions,
        progress: &ProgressSender,
    ) -> Result<Generated, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut bomb = Bomb(Some(&self.dropped));
        match self.act {
            Act::Answer => {}
            Act::Wait => {
                progress.send(Progress::Drawing { step: 12.0, total: 50, estimated: false });
                self.go.notified().await;
            }
            Act::Fail => {
                bomb.0 = None;
                return Err(Error::Predictor(crate::predictor::Error::OutOfMemory));
            }
            Act::Panic => panic!("a panic for a test"),
        }
        bomb.0 = None;
        self.done.fetch_add(1, Ordering::SeqCst);
        let mut image = generated();
        image.metadata.generation.prompt = params.prompt;
        Ok(image)
    }

    async fn preview(&self, _generated: &Generated, max_bytes: usize) -> Option<(Bytes, &'static str)> {
        let bytes = if self.obedient { self.preview_bytes.min(max_bytes) } else { self.preview_bytes };
        Some((vec![0xab; bytes].into(), "image/webp"))
    }

    fn description(&self) -> String {
        "A test draws it.".to_owned()
    }
}

/// An image with every field set.
pub(crate) fn generated() -> Generated {
    let image_id = ImageId::now();
    let time = Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, 0).unwrap();
    Generated {
        url: format!("http://localhost:8000/images/{image_id}.png"),
        metadata: Metadata {
            image_id,
            format: Format::Png,
            width: 512,
            height: 256,
            size_bytes: 5,
            blake3: "0".repeat(64),
            created_at: time,
            expires_at: time,
            thumbhash: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".to_owned()),
            generation: Generation {
                prompt: "a fox".to_owned(),
                negative_prompt: Some("blur".to_owned()),
                num_inference_steps: 50,
                guidance_scale: 7.5,
                seed: Some(7),
                model: "a-model".to_owned(),
                predictor: "embedded".to_owned(),
                generation_seconds: 0.5,
            },
        },
        bytes: Bytes::from_static(b"image"),
        held: Held::default(),
    }
}
