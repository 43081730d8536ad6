//! Tells a CDN which images are gone.
//!
//! One POST for up to a hundred images, as the Standard Webhooks specification has it: the headers
//! `webhook-id` (the same in every try), `webhook-timestamp` (seconds since 1970) and
//! `webhook-signature` (`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` in base64).

mod message;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::{counter, gauge};
use reqwest::{StatusCode, redirect};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span, warn};
use url::Url;

use self::message::Message;
use crate::{image::ImageId, secret::Secret};

/// Images that may wait to be told; what comes beyond is left to the CDN's own expiry.
const QUEUE: usize = 10_000;
/// Images told at once.
const BATCH: usize = 100;
/// One try, from connecting to the answer's head.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one message.
const TRIES: u32 = 6;
/// The wait after the first try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Whom to tell.
#[derive(Debug, Clone)]
pub struct Config {
    /// The webhook.
    pub url: Url,
    /// The key of the signature; with the prefix `whsec_`, it is base64 of the key.
    pub secret: Secret,
    /// What image URLs start with.
    pub base_url: String,
}

/// Why an image is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Deleted,
    Expired,
}

/// Takes word of images that are gone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Purger {
    queue: mpsc::Sender<(Reason, ImageId)>,
}

/// The work of telling; it ends when this is dropped.
#[derive(Debug)]
pub struct PurgerHandle {
    task: JoinHandle<()>,
    last: CancellationToken,
}

impl PurgerHandle {
    /// Takes no more word, tells what waits, and ends; within this time, or it leaves the rest.
    pub async fn finish(mut self, within: Duration) {
        self.last.cancel();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            warn!("IMAGE_PURGE_WEBHOOK was not told all: the rest is left to the CDN's own expiry");
        }
    }
}

impl Drop for PurgerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Purger {
    /// Begins to tell a webhook.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn start(config: Config) -> Result<(Self, PurgerHandle), reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("mcp-image-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let last = CancellationToken::new();
        let worker = Worker { client, config: Arc::new(config), queue: receiver, last: last.clone() };
        let task = tokio::spawn(worker.run().instrument(info_span!("purge")));
        Ok((Self { queue: sender }, PurgerHandle { task, last }))
    }

    /// The image was deleted.
    pub fn deleted(&self, id: ImageId) {
        self.tell(Reason::Deleted, &[id]);
    }

    /// The images' time is over.
    pub fn expired(&self, ids: &[ImageId]) {
        self.tell(Reason::Expired, ids);
    }

    fn tell(&self, reason: Reason, ids: &[ImageId]) {
        let dropped = ids.iter().filter(|id| self.queue.try_send((reason, **id)).is_err()).count();
        count("queued", ids.len() - dropped);
        if dropped > 0 {
            count("dropped", dropped);
            warn!(dropped, "IMAGE_PURGE_WEBHOOK is behind: images are left to the CDN's own expiry");
        }
    }
}

struct Worker {
    client: reqwest::Client,
    config: Arc<Config>,
    queue: mpsc::Receiver<(Reason, ImageId)>,
    /// Whether what waits is all that will come.
    last: CancellationToken,
}

impl Worker {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.next(&mut batch).await > 0 {
            for reason in [Reason::Deleted, Reason::Expired] {
                let of_reason = batch.iter().filter(|(found, _)| *found == reason);
                let ids: Vec<_> = of_reason.map(|(_, id)| *id).collect();
                if !ids.is_empty() {
                    self.send(&Message::new(reason, &ids, &self.config.base_url), ids.len()).await;
                }
            }
            batch.clear();
            gauge!("mcp_image_purge_queue_depth")
                .set(f64::from(u32::try_from(self.queue.len()).unwrap_or(u32::MAX)));
        }
    }

    /// Fills `batch`; leaves it empty at the end.
    async fn next(&mut self, batch: &mut Vec<(Reason, ImageId)>) -> usize {
        tokio::select! {
            biased;
            () = self.last.cancelled(), if !self.queue.is_closed() => self.queue.close(),
            taken = self.queue.recv_many(batch, BATCH) => return taken,
        }
        self.queue.recv_many(batch, BATCH).await
    }

    async fn send(&self, message: &Message, images: usize) {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=TRIES {
            match self.attempt(message).await {
                Ok(status) if status.is_success() => return count("told", images),
                Ok(status) if is_final(status) => {
                    error!(%status, images, "IMAGE_PURGE_WEBHOOK refuses");
                    break;
                }
                Ok(status) => warn!(%status, attempt, images, "IMAGE_PURGE_WEBHOOK does not take it now"),
                // The URL may hold a token.
                Err(error) => {
                    warn!(error = %error.without_url(), attempt, images, "IMAGE_PURGE_WEBHOOK cannot be reached");
                }
            }
            if attempt < TRIES {
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                wait *= 2;
            }
        }
        error!(images, "not told: images are left to the CDN's own expiry");
        count("failed", images);
    }

    async fn attempt(&self, message: &Message) -> Result<StatusCode, reqwest::Error> {
        let timestamp = chrono::Utc::now().timestamp();
        let request = self
            .client
            .post(self.config.url.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", message.signature(&self.config.secret, timestamp))
            .body(Bytes::clone(&message.body));
        Ok(request.send().await?.status())
    }
}

/// Whether another try would come to the same.
fn is_final(status: StatusCode) -> bool {
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !passing.contains(&status)
}

/// Exports what is counted from the start.
pub(super) fn register() {
    for outcome in ["queued", "dropped", "told", "failed"] {
        count(outcome, 0);
    }
    gauge!("mcp_image_purge_queue_depth").set(0.0);
}

fn count(outcome: &'static str, images: usize) {
    counter!("mcp_image_purged_images_total", "outcome" => outcome).increment(images as u64);
}

#[cfg(test)]
mod tests;
