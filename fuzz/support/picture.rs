//! A store with one picture, and a predictor that always draws that picture.

use std::time::Duration;

use bytes::Bytes;
use mcp_image_server::{
    image::{ImageId, Metadata},
    predictor::{Description, Error, Held, Prediction, Predictor, Progress, ProgressSender, Request, State},
    storage::NewImage,
};
use serde_json::json;

/// The one picture there is: PNG, 96 x 64.
pub const PICTURE: &[u8] = include_bytes!("picture.png");
/// Under what id it is stored before each input.
pub const PICTURE_ID: &str = "01980000-0000-7000-8000-000000000000";
/// Its entity tag.
pub const PICTURE_TAG: &str = "\"a6234aaec97c2da8319db68ef5529870\"";

/// What its metadata gives as its hash; nobody computes it again.
const PICTURE_HASH: &str = "a6234aaec97c2da8319db68ef5529870583bfd24de9996aa964d6b2d7c28e54b";

pub(crate) fn id() -> ImageId {
    PICTURE_ID.parse().expect("an id")
}

pub(crate) fn stored() -> NewImage {
    let metadata = json!({
        "image_id": PICTURE_ID, "format": "png", "width": 96, "height": 64, "size_bytes": PICTURE.len(),
        "blake3": PICTURE_HASH, "created_at": "2025-07-13T00:00:00Z", "expires_at": "2925-07-13T00:00:00Z",
        "prompt": "a picture", "num_inference_steps": 1, "guidance_scale": 1.0, "model": "still",
        "predictor": "fuzz", "generation_seconds": 0.0,
    });
    let metadata: Metadata = serde_json::from_value(metadata).expect("metadata");
    NewImage { bytes: Bytes::from_static(PICTURE), metadata }
}

/// Draws the picture at once; a prompt that begins with `slow` takes half a minute, in steps.
pub(crate) struct Still;

#[async_trait::async_trait]
impl Predictor for Still {
    fn describe(&self) -> Description {
        Description {
            protocol: "fuzz",
            model: "still".to_owned(),
            endpoint: None,
            takes_seed: true,
            reports_steps: true,
        }
    }

    async fn predict(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error> {
        if request.prompt.starts_with("slow") {
            for step in [1.0, 2.0, 3.0] {
                progress.send(Progress::Drawing { step, total: 3, estimated: false });
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
        Ok(Prediction { image: Bytes::from_static(PICTURE), model: None, seed: None, held: Held::default() })
    }

    async fn probe(&self) -> State {
        State::Ready
    }
}
