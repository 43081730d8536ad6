use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::time::{self, Instant};

use super::*;
use crate::{
    image::{ImageId, Metadata},
    storage::{ListQuery, NewImage, Opened, Page},
};

const INTERVAL: Duration = Duration::from_secs(300);

/// Notes when it is asked to expire, and what it is told the time is.
#[derive(Default)]
struct Noted {
    cycles: Mutex<Vec<(Instant, SystemTime)>>,
    failures: AtomicUsize,
    hang: bool,
}

impl Noted {
    fn times(&self) -> Vec<Instant> {
        self.cycles.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

#[async_trait]
impl ImageStore for Noted {
    fn kind(&self) -> &'static str {
        "noted"
    }

    async fn save(&self, _: NewImage) -> Result<(), Error> {
        Err(Error::Full(None))
    }

    async fn open(&self, _: ImageId) -> Result<Opened, Error> {
        Err(Error::NotFound)
    }

    async fn metadata(&self, _: ImageId) -> Result<Metadata, Error> {
        Err(Error::NotFound)
    }

    async fn delete(&self, _: ImageId) -> Result<bool, Error> {
        Ok(false)
    }

    fn url(&self, metadata: &Metadata) -> String {
        metadata.file_name()
    }

    async fn list(&self, _: ListQuery) -> Result<Page, Error> {
        Ok(Page::default())
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        self.cycles.lock().unwrap().push((Instant::now(), now));
        if self.hang {
            std::future::pending::<()>().await;
        }
        let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Ok(_) => Err(Error::Unavailable("gone fishing".into())),
            Err(_) => Ok(Expired { removed: 2, removed_bytes: 10, swept: 1, ..Expired::default() }),
        }
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn cleaner(store: &Arc<Noted>) -> Cleaner {
    Cleaner::new(Arc::clone(store) as Arc<dyn ImageStore>, Config { interval: INTERVAL })
}

#[tokio::test(start_paused = true)]
async fn cleaner_starts_soon_and_comes_by_every_interval_with_jitter() {
    let store = Arc::new(Noted::default());
    let start = Instant::now();
    let handle = cleaner(&store).start();
    time::sleep(INTERVAL * 20).await;
    handle.stop().await;

    let times = store.times();
    assert!(times[0] - start <= FIRST_CYCLE_WITHIN);
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 17, "{pauses:?}");
    for pause in &pauses {
        // The timer is exact to the millisecond.
        assert!(*pause >= INTERVAL.mul_f64(0.9), "{pause:?}");
        assert!(*pause <= INTERVAL.mul_f64(1.1) + Duration::from_millis(2), "{pause:?}");
    }
    assert!(pauses.iter().any(|pause| *pause != pauses[0]), "all pauses are equal: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn cleaner_goes_on_after_failed_cycles() {
    let store = Arc::new(Noted { failures: AtomicUsize::new(3), ..Noted::default() });
    let handle = cleaner(&store).start();
    time::sleep(INTERVAL * 10).await;
    handle.stop().await;
    assert!(store.times().len() > 6);
    assert_eq!(store.failures.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn cleaner_stopped_or_dropped_does_not_come_again() {
    let store = Arc::new(Noted::default());
    cleaner(&store).start().stop().await;
    drop(cleaner(&store).start());
    time::sleep(INTERVAL * 3).await;
    assert_eq!(store.times().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn cleaner_stops_in_the_middle_of_a_cycle() {
    let store = Arc::new(Noted { hang: true, ..Noted::default() });
    let handle = cleaner(&store).start();
    time::sleep(FIRST_CYCLE_WITHIN).await;
    assert_eq!(store.times().len(), 1);
    handle.stop().await;
}

#[tokio::test(start_paused = true)]
async fn periodic_cycle_leaves_slack_for_other_clocks_and_a_single_one_does_not() {
    let store = Arc::new(Noted::default());
    let handle = cleaner(&store).start();
    time::sleep(FIRST_CYCLE_WITHIN).await;
    handle.stop().await;
    let before = SystemTime::now();
    cleaner(&store).run_once().await.unwrap();

    let cycles = store.cycles.lock().unwrap();
    assert!(cycles[0].1 <= before - MAX_SLACK.min(INTERVAL / 10));
    assert!(cycles[1].1 >= before);
}

#[tokio::test]
async fn single_cycle_returns_counts_and_failures() {
    let store = Arc::new(Noted { failures: AtomicUsize::new(1), ..Noted::default() });
    let cleaner = cleaner(&store);
    assert!(matches!(cleaner.run_once().await, Err(Error::Unavailable(_))));
    let counts = cleaner.run_once().await.unwrap();
    assert_eq!(counts, Expired { removed: 2, removed_bytes: 10, swept: 1, ..Expired::default() });
}
