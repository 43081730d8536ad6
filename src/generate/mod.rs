//! One generation, from request to stored image. Every door (MCP, REST) goes through here.

mod params;

use std::time::Duration;

pub use params::{FieldError, InvalidParams, Kind, PARAMETERS, Parameter, Params, input_schema};

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
    /// How long an image lives.
    pub image_ttl: Duration,
    /// What a stored image may be at most.
    pub limits: image::Limits,
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
}

/// Why there is no image. `Display` is fit for the caller and says what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are not allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidParams),
    /// Too many generations wait already.
    #[error("the server is busy: {waiting} generations are waiting; try again in {} s", .retry_after.as_secs())]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When a place may be free.
        retry_after: Duration,
    },
    /// The server is going down and takes no new work.
    #[error("the server is shutting down; try again")]
    ShuttingDown,
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
