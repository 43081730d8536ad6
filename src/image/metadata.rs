use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Format, ImageId};

/// How an image came to be: the request as it was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// What was asked for.
    pub prompt: String,
    /// What was to be avoided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Number of denoising steps.
    pub num_inference_steps: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// The seed the predictor was given; absent where the model takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// The model's name, as the predictor knows it.
    pub model: String,
    /// The predictor's protocol: `embedded`, `kserve-v1`, ...
    pub predictor: String,
    /// Seconds from the call to the predictor to its whole answer.
    pub generation_seconds: f64,
}

/// What is known about a stored image. Its JSON form is the sidecar beside the image and the
/// `metadata` that clients get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The image's id.
    pub image_id: ImageId,
    /// The sniffed format.
    pub format: Format,
    /// Width in pixels, read from the image itself.
    pub width: u32,
    /// Height in pixels, read from the image itself.
    pub height: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// BLAKE3 of the bytes, 256 bits in lower-case hex, as `b3sum` prints it. It takes a quarter of the time of SHA-256,
    /// which was a fifth to a quarter of what a generation cost this server.
    pub blake3: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From this moment on the id answers 404.
    pub expires_at: DateTime<Utc>,
    /// A placeholder to draw while the image loads: a thumbhash in base64, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbhash: Option<String>,
    /// How it came to be.
    #[serde(flatten)]
    pub generation: Generation,
}

impl Metadata {
    /// The file name of the image: `<id>.<extension>`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.image_id, self.format.extension())
    }

    /// Whether the image's time is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at <= now
    }

    /// The strong entity tag (RFC 9110, section 8.8.3), quotes included: the content's hash.
    #[must_use]
    pub fn entity_tag(&self) -> String {
        format!("\"{}\"", self.blake3.get(..32).unwrap_or(&self.blake3))
    }
}
