//! One generation, from request to stored image. Every door (MCP, REST) goes through here.

mod params;
mod pipeline;
mod placeholder;
mod traced;

use std::time::Duration;

pub use params::{FieldError, InvalidParams, Kind, PARAMETERS, Parameter, Params, input_schema};
pub use pipeline::{Generator, Load};

pub use crate::admission::Client;
pub use crate::predictor::{Progress, ProgressReceiver, ProgressSender, progress_channel};
use crate::{image, predictor, storage};

/// What the pipeline allows.
#[derive(Debug, Clone)]
pub struct Config {
    /// Predictions in flight at once.
    pub concurrency: usize,
    /// Generations that may wait for a place.
    pub queue_size: usize,
    /// How long a generation may wait for a place.
    pub queue_timeout: Duration,
    /// How long a generation may take: waiting, drawing and storing.
    pub timeout: Duration,
    /// How long an image lives.
    pub image_ttl: Duration,
    /// What a stored image may be at most.
    pub limits: image::Limits,
    /// Where clients get images.
    pub urls: image::ImageUrls,
}

/// A generated and stored image.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Where clients get it.
    pub url: String,
    /// What is known about it.
    pub metadata: image::Metadata,
    /// The stored bytes.
    pub bytes: bytes::Bytes,
    /// Their room in memory.
    pub held: predictor::Held,
}

/// Why there is no image. `Display` is fit for the caller and says what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are not allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidParams),
    /// Too many generations wait already.
    #[error(
        "the server is busy: all places are taken and {waiting} generations wait; try again in {} s",
        .retry_after.as_secs()
    )]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When a place may be free.
        retry_after: Duration,
    },
    /// No place became free in time.
    #[error("the server is busy: no place became free within {} s; try again later", .waited.as_secs())]
    WaitedTooLong {
        /// How long it waited.
        waited: Duration,
        /// When a place may be free.
        retry_after: Duration,
    },
    /// There was no image in the time that a generation has as a whole.
    #[error(
        "there was no image within {} s; ask for fewer steps or a smaller image, or ask the operator to raise GENERATION_TIMEOUT",
        .0.as_secs_f64()
    )]
    TimedOut(Duration),
    /// The predictor gave no image.
    #[error(transparent)]
    Predictor(#[from] predictor::Error),
    /// What the predictor gave is not an image that may be stored.
    #[error("the image model's answer was refused: {0}")]
    BadImage(#[from] image::InspectError),
    /// The image could not be stored.
    #[error("the image could not be stored: {0}")]
    Storage(#[from] storage::Error),
}

/// Counts from zero: an alert sees the first event of a kind only if there was a sample before it.
pub fn register_counters(model: &str) {
    metrics::counter!("mcp_image_generated_bytes_total").increment(0);
    let own = ["ok", "cancelled", "overloaded", "bad_image", "storage"];
    for outcome in own.into_iter().chain(predictor::Error::KINDS) {
        metrics::counter!("mcp_image_generations_total", "outcome" => outcome, "model" => model.to_owned())
            .increment(0);
    }
}

impl Error {
    /// A short fixed word for metrics and logs.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Overloaded { .. } | Self::WaitedTooLong { .. } => "overloaded",
            // As if the predictor had: what took the time is its drawing, or others'.
            Self::TimedOut(_) => "timed_out",
            Self::Predictor(error) => error.kind(),
            Self::BadImage(_) => "bad_image",
            Self::Storage(_) => "storage",
        }
    }
}
