//! Removes images and records whose time is over, and the oldest images where a quota is exceeded.
//!
//! Every replica has a cleaner. They need no lock: removing what is gone is success. On a folder each counts
//! only what it removed itself; a bucket does not tell who removed an object, so cleaners that come by at the same
//! moment count it each.

mod quota;

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use metrics::{counter, gauge, histogram};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

pub use self::quota::Quota;
use self::quota::{Evicted, Keeper};
use crate::storage::{Error, Expired, RecordError, Storage};

/// The first cycle begins within this time after the start.
const FIRST_CYCLE_WITHIN: Duration = Duration::from_secs(5);

/// Clocks of replicas may differ by this much: a periodic cycle leaves an image for so long after
/// its expiry, but never for more than a tenth of the interval.
const MAX_SLACK: Duration = Duration::from_secs(30);

/// Where a quota is exceeded a cycle comes early, but this long after the one before.
const PAUSE_WHEN_FULL: Duration = Duration::from_secs(1);

/// How often the cleaner comes by, and what it leaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// From the end of one cycle to the start of the next.
    pub interval: Duration,
    /// How much may be stored.
    pub quota: Quota,
}

/// What one cycle did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cleaned {
    /// What went because its time was over, or was left over; records' leftovers and failures
    /// included.
    #[serde(flatten)]
    pub expired: Expired,
    /// Images removed because a quota was exceeded.
    pub evicted: u64,
    /// Bytes of those images.
    pub evicted_bytes: u64,
    /// Expired records removed.
    pub removed_records: u64,
}

impl fmt::Display for Cleaned {
    /// For a person, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expired, evicted, evicted_bytes, removed_records } = self;
        let Expired { removed, removed_bytes, swept, failed, .. } = expired;
        write!(f, "removed {removed} images ({removed_bytes} bytes) and {removed_records} records, ")?;
        if *evicted > 0 {
            write!(f, "evicted {evicted} images ({evicted_bytes} bytes), ")?;
        }
        write!(f, "swept {swept} leftovers, failed {failed}")
    }
}

/// Has a store remove what is due, once or periodically.
#[derive(Debug)]
pub struct Cleaner {
    storage: Storage,
    config: Config,
    keeper: Keeper,
}

/// A cleaner at work. It ends when this is dropped.
#[derive(Debug)]
pub struct CleanerHandle {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Cleaner {
    /// A cleaner for `storage`, not yet at work.
    #[must_use]
    pub fn new(storage: Storage, config: Config) -> Self {
        let keeper = Keeper::new(config.quota);
        Self { storage, config, keeper }
    }

    /// One cycle, now: removes all that is due at this moment.
    ///
    /// # Errors
    /// When the store cannot be looked through. Single images that could not be removed are
    /// counted in the result.
    pub async fn run_once(&self) -> Result<Cleaned, Error> {
        self.cycle(SystemTime::now(), self.config.quota.is_set()).await
    }

    /// Runs cycles from now on: the first within seconds, the next ones an interval apart, give or
    /// take a tenth, so that replicas do not come by in step; or sooner, where what this process
    /// saves exceeds a quota. A cycle that fails is logged, and the next one tries again.
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
        tokio::time::sleep(pause).await;
        loop {
            let now = SystemTime::now();
            // It has logged and counted its failure.
            let _ = self.cycle(now.checked_sub(slack).unwrap_or(now), true).await;
            pause = self.config.interval.mul_f64(rand::random_range(0.9..1.1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A cycle that could not help would not do better at once.
                () = self.filled_up(), if !self.is_full() => {}
            }
        }
    }

    fn is_full(&self) -> bool {
        self.config.quota.is_exceeded_by(self.storage.usage.get())
    }

    async fn filled_up(&self) {
        tokio::time::sleep(PAUSE_WHEN_FULL).await;
        while !self.is_full() {
            self.storage.usage.grown().await;
        }
    }

    async fn cycle(&self, now: SystemTime, keep_count: bool) -> Result<Cleaned, Error> {
        let started = Instant::now();
        let result = self.clean(now, keep_count).await;
        let seconds = started.elapsed().as_secs_f64();
        histogram!("mcp_image_cleaner_duration_seconds").record(seconds);
        let outcome = match &result {
            Ok(cleaned) => {
                report(cleaned, seconds);
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

    /// Each part comes to its turn, whatever became of the others; the first error is returned.
    async fn clean(&self, now: SystemTime, keep_count: bool) -> Result<Cleaned, Error> {
        let expired = self.storage.images.expire(now).await;
        let evicted = if keep_count { self.keeper.keep(&self.storage).await } else { Ok(Evicted::default()) };
        let records = self.storage.records.sweep(now).await;
        let (mut expired, evicted) = (expired?, evicted?);
        let records = records.map_err(|error| match error {
            RecordError::Storage(error) => error,
            error => Error::Unavailable(Box::new(error)),
        })?;
        expired.swept += records.swept;
        expired.failed += records.failed + evicted.failed;
        Ok(Cleaned {
            expired,
            evicted: evicted.images,
            evicted_bytes: evicted.bytes,
            removed_records: records.removed,
        })
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
    count(&Cleaned::default());
    quota::register_counters();
}

fn count(cleaned: &Cleaned) {
    let Cleaned { expired, removed_records, .. } = cleaned;
    counter!("mcp_image_cleaner_removed_images_total").increment(expired.removed);
    counter!("mcp_image_cleaner_removed_bytes_total").increment(expired.removed_bytes);
    counter!("mcp_image_cleaner_removed_records_total").increment(*removed_records);
    counter!("mcp_image_cleaner_swept_total").increment(expired.swept);
    counter!("mcp_image_cleaner_failed_images_total").increment(expired.failed);
}

fn report(cleaned: &Cleaned, seconds: f64) {
    count(cleaned);
    let Cleaned { ref expired, evicted, evicted_bytes, removed_records } = *cleaned;
    let Expired { removed, removed_bytes, swept, failed, .. } = *expired;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!("mcp_image_cleaner_last_success_timestamp_seconds").set(since_epoch.as_secs_f64());
    if evicted > 0 {
        tracing::warn!(
            evicted,
            evicted_bytes,
            "a quota was exceeded: the oldest images went before their time"
        );
    }
    if failed > 0 {
        tracing::warn!(
            removed,
            removed_bytes,
            removed_records,
            swept,
            failed,
            seconds,
            "cleaned, but not everything"
        );
    } else if removed > 0 || removed_records > 0 || swept > 0 {
        tracing::info!(removed, removed_bytes, removed_records, swept, seconds, "cleaned");
    } else {
        tracing::debug!(seconds, "nothing to clean");
    }
}

#[cfg(test)]
mod tests;
