//! Who draws: one contract, one file a protocol.
//!
//! A predictor turns a [`Request`] into the bytes of an encoded image. It neither trusts nor checks
//! those bytes; that is the pipeline's inspection. Dropping the future of
//! [`Predictor::predict`] cancels the call upstream.

pub mod embedded;
mod error;
mod held;
pub mod kserve_v1;
mod progress;
mod traced;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::error::Error;
pub use self::held::{Held, Memory};
pub use self::progress::{Progress, ProgressReceiver, ProgressSender, progress_channel};
pub use self::traced::Traced;

/// Which predictor, and what is its own.
#[derive(Debug, Clone)]
pub enum Config {
    /// The procedural artist inside this binary.
    Embedded,
    /// A KServe V1 predictor.
    KserveV1(Box<KserveV1Config>),
}

/// How to reach a KServe V1 predictor.
#[derive(Debug, Clone)]
pub struct KserveV1Config {
    /// The URL that is posted to: `<base>/v1/models/<name>:predict`.
    pub predict_url: url::Url,
    /// The URL that tells whether the model is ready: `<base>/v1/models/<name>`.
    pub model_url: url::Url,
    /// The model's name.
    pub model_name: String,
    /// How long one prediction may take, from dispatch to its whole reply; retries and the waits
    /// between them included.
    pub timeout: std::time::Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: std::time::Duration,
    /// Tries after the first one, only where nothing was dispatched or on 429 and 503.
    pub max_retries: u32,
    /// Bytes of the decoded image at most.
    pub max_image_bytes: u64,
    /// Whether the model is known to take `seed`: then the server draws one when the caller does not.
    pub takes_seed: bool,
    /// Request parameters never sent, because the model refuses them.
    pub omit_parameters: Vec<String>,
    /// Where the bearer token comes from.
    pub bearer: Option<Bearer>,
    /// Headers added to each request; values are marked sensitive.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The `Host` to send where a mesh routes by it.
    pub host: Option<http::HeaderValue>,
    /// A PEM file of certificate authorities trusted besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

/// Where a bearer token comes from.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// Given in the configuration.
    Value(crate::secret::Secret),
    /// A file that is read again when it changes, as a rotated service account token is.
    File(std::path::PathBuf),
}

/// What a predictor is and what it takes; told in `/health`, in the log and in metadata.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Description {
    /// The protocol: `embedded`, `kserve-v1`.
    pub protocol: &'static str,
    /// The model's name.
    pub model: String,
    /// Where it is, without credentials; absent for the embedded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether it takes a seed, so that the same request gives the same image.
    pub takes_seed: bool,
    /// Whether its progress is real steps; otherwise it is an estimate, labelled so.
    pub reports_steps: bool,
}

/// Whether a predictor can be expected to answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum State {
    /// It answers.
    Ready,
    /// It is there, but its model is not loaded yet.
    Starting,
    /// It answers that it cannot, or does not answer.
    Unavailable {
        /// What was seen, in one line.
        reason: String,
    },
    /// It did not answer a probe in time: a stock runtime's probe hangs while it predicts.
    Busy,
    /// Nobody has asked it yet.
    Unknown,
}

/// One image to be drawn; values are validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What to draw.
    pub prompt: String,
    /// What to avoid.
    pub negative_prompt: Option<String>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// The seed; absent where the model draws its own.
    pub seed: Option<u32>,
}

/// A predictor's answer.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The encoded image as it came; not inspected yet.
    pub image: Bytes,
    /// The model's name as the answer gives it, if it does.
    pub model: Option<String>,
    /// The seed that took effect, if the predictor knows one.
    pub seed: Option<u32>,
    /// The image's room in memory.
    pub held: Held,
}

/// Someone who draws.
#[async_trait]
pub trait Predictor: Send + Sync + 'static {
    /// What it is and what it takes.
    fn describe(&self) -> Description;

    /// Draws one image, telling its progress. Dropping the future cancels the call.
    async fn predict(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error>;

    /// Asks it how it is, within a second or two.
    async fn probe(&self) -> State;
}
