//! The pipeline, as this room asks it for images.

use std::{num::NonZero, sync::LazyLock, thread};

use async_trait::async_trait;
use bytes::Bytes;
use layers::client_addr::ClientAddr;
use tokio::sync::Semaphore;
use tracing::warn;

use super::Generate;
use crate::{
    generate::{self, Generated, Generator, Params, ProgressSender},
    image::{Dimensions, Inspected, preview},
};

/// The longest edge of a preview, in pixels.
const PREVIEW_EDGE: u32 = 512;

/// Previews are made so many at once, one a core: each holds a decoded image, which is much larger
/// than the image itself, and generations that are drawn already are not bounded by their places.
static PREVIEWS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(thread::available_parallelism().map_or(1, NonZero::get)));

#[async_trait]
impl Generate for Generator {
    async fn generate(
        &self,
        params: Params,
        caller: &http::Extensions,
        progress: &ProgressSender,
    ) -> Result<Generated, generate::Error> {
        let client = caller.get().map(ClientAddr::key);
        self.generate_within(caller.get(), params, client, progress).await
    }

    async fn preview(&self, generated: &Generated, max_bytes: usize) -> Option<(Bytes, &'static str)> {
        let metadata = &generated.metadata;
        let inspected = Inspected {
            format: metadata.format,
            dimensions: Dimensions { width: metadata.width, height: metadata.height },
            length: generated.bytes.len(),
        };
        let (image_id, bytes) = (metadata.image_id, generated.bytes.clone());
        let place = PREVIEWS.acquire().await.ok()?;
        // Decoding and encoding take milliseconds: not on a thread that serves others.
        let made = tokio::task::spawn_blocking(move || {
            let _place = place;
            preview(&bytes, inspected, max_bytes, PREVIEW_EDGE)
        })
        .await;
        match made {
            Ok(Ok(small)) => Some((small.bytes, small.format.media_type())),
            Ok(Err(error)) => {
                warn!(%image_id, %error, "no preview could be made");
                None
            }
            Err(error) => {
                warn!(%image_id, %error, "no preview could be made");
                None
            }
        }
    }

    fn description(&self) -> String {
        let description = self.predictor().describe();
        if description.protocol == "embedded" {
            "Images come from a procedural artist inside this server, not from a model.".to_owned()
        } else {
            format!("Images come from the model {}.", description.model)
        }
    }
}
