//! Removes images whose time is over.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use metrics::{counter, gauge, histogram};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use crate::storage::{Error, Expired, ImageStore};

/// The first cycle begins within this time after the start.
const FIRST_CYCLE_WITHIN: Duration = Duration::from_secs(5);

/// Clocks of replicas may differ by this much: a periodic cycle leaves an image for so long after
/// its expiry, but never for more than a tenth of the interval.
const MAX_SLACK: Duration = Duration::from_secs(30);

/// How often the cleaner comes by.
#[derive(Debug, Clone)]
pub struct Config {
    /// From the end of one cycle to the start of the next.
    pub interval: Duration,
}

/// Has a store remove what is due, once or periodically.
pub struct Cleaner {
    store: Arc<dyn ImageStore>,
    config: Config,
}

/// A cleaner at work. It ends when this is dropped.
#[derive(Debug)]
pub struct CleanerHandle {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Cleaner {
    /// A cleaner for `store`, not yet at work.
    #[must_use]
    pub fn new(store: Arc<dyn ImageStore>, config: Config) -> Self {
        Self { store, config }
    }

    /// One cycle, now: removes all that is due at this moment.
    ///
    /// # Errors
    /// When the store cannot be looked through. Single images that could not be removed are
    /// counted in the result.
    pub async fn run_once(&self) -> Result<Expired, Error> {
        self.cycle(SystemTime::now()).await
    }

    /// Runs cycles from now on: the first within seconds, the next ones an interval apart, give or
    /// take a tenth, so that replicas do not come by in step. A cycle that fails is logged, and the
    /// next one tries again.
    #[must_use = "the cleaner ends when its handle is dropped"]
    pub fn start(self) -> CleanerHandle {
        register_counters();
        let token = CancellationToken::new();
        let stopped = token.clone();
        let work = async move { stopped.run_until_cancelled(self.work()).await.unwrap_or_default() };
        let task = tokio::spawn(work.instrument(tracing::info_span!("cleaner")));
        CleanerHandle { stop: token.drop_guard(), task }
    }

    async fn work(&self) {
        let slack = MAX_SLACK.min(self.config.interval / 10);
        let mut pause = FIRST_CYCLE_WITHIN.min(self.config.interval).mul_f64(rand::random_range(0.0..1.0));
        loop {
            tokio::time::sleep(pause).await;
            let now = SystemTime::now();
            // It has logged and counted its failure.
            let _ = self.cycle(now.checked_sub(slack).unwrap_or(now)).await;
            pause = self.config.interval.mul_f64(rand::random_range(0.9..1.1));
        }
    }

    async fn cycle(&self, now: SystemTime) -> Result<Expired, Error> {
        let started = Instant::now();
        let result = self.store.expire(now).await;
        let seconds = started.elapsed().as_secs_f64();
        histogram!("mcp_image_cleaner_duration_seconds").record(seconds);
        let outcome = match &result {
            Ok(expired) => {
                report(expired, seconds);
                "ok"
            }
            Err(error) => {
                tracing::error!(error = error as &(dyn std::error::Error + 'static), "the cleaner failed");
                "error"
            }
        };
        counter!("mcp_image_cleaner_runs_total", "outcome" => outcome).increment(1);
        result
    }
}

impl fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleaner")
            .field("store", &self.store.kind())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl CleanerHandle {
    /// Ends the cleaner and waits for its end. A cycle under way stops at the next image.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the cleaner did not end by itself");
        }
    }
}

/// Counts from zero.
fn register_counters() {
    for outcome in ["ok", "error"] {
        counter!("mcp_image_cleaner_runs_total", "outcome" => outcome).increment(0);
    }
    count(&Expired::default());
}

fn count(expired: &Expired) {
    counter!("mcp_image_cleaner_removed_images_total").increment(expired.removed);
    counter!("mcp_image_cleaner_removed_bytes_total").increment(expired.removed_bytes);
    counter!("mcp_image_cleaner_swept_total").increment(expired.swept);
    counter!("mcp_image_cleaner_failed_images_total").increment(expired.failed);
}

fn report(expired: &Expired, seconds: f64) {
    let Expired { removed, removed_bytes, swept, failed, .. } = *expired;
    count(expired);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!("mcp_image_cleaner_last_success_timestamp_seconds").set(since_epoch.as_secs_f64());
    if failed > 0 {
        tracing::warn!(removed, removed_bytes, swept, failed, seconds, "cleaned, but not everything");
    } else if removed > 0 || swept > 0 {
        tracing::info!(removed, removed_bytes, swept, failed, seconds, "cleaned");
    } else {
        tracing::debug!(removed, removed_bytes, swept, failed, seconds, "nothing to clean");
    }
}

#[cfg(test)]
mod tests;
