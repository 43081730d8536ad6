use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use tokio::time::{self, Instant};

use super::*;
use crate::{
    image::{Format, Generation, ImageId, Metadata},
    storage::{self, ImageStore, ListQuery, MemoryRecords, NewImage, Opened, Page, Usage},
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
    let storage = Storage {
        images: Arc::clone(store) as Arc<dyn ImageStore>,
        records: Arc::new(MemoryRecords::default()),
        usage: Arc::new(Usage::default()),
    };
    Cleaner::new(storage, Config { interval: INTERVAL, quota: Quota::default() })
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

/// A store in memory with so many images of 100 bytes, an hour old and with days to live.
async fn filled(images: u64) -> (Storage, Vec<ImageId>) {
    let config = storage::Config { backend: storage::Backend::Memory { max_bytes: 1 << 20 }, sync: false };
    let storage = Storage::open(&config).unwrap();
    let ids = save_some(&storage, images).await;
    (storage, ids)
}

/// Saves so many images, a second apart, and returns them oldest first.
pub(super) async fn save_some(storage: &Storage, images: u64) -> Vec<ImageId> {
    let mut ids = Vec::new();
    for i in 0..images {
        ids.push(save(storage, Duration::from_secs(3600 - i)).await);
    }
    ids
}

async fn save(storage: &Storage, age: Duration) -> ImageId {
    let created = SystemTime::now() - age;
    let metadata = Metadata {
        image_id: ImageId::at(created),
        format: Format::Png,
        width: 1,
        height: 1,
        size_bytes: 100,
        blake3: String::new(),
        thumbhash: None,
        created_at: created.into(),
        expires_at: (created + INTERVAL * 1000).into(),
        generation: Generation {
            prompt: "a lighthouse".to_owned(),
            negative_prompt: None,
            num_inference_steps: 1,
            guidance_scale: 7.5,
            seed: None,
            model: "test".to_owned(),
            predictor: "embedded".to_owned(),
            generation_seconds: 0.5,
        },
    };
    let id = metadata.image_id;
    storage.images.save(NewImage { bytes: vec![0; 100].into(), metadata }).await.unwrap();
    id
}

async fn stored(storage: &Storage) -> Vec<ImageId> {
    storage.images.walk().map_ok(|walked| walked.image_id).try_collect().await.unwrap()
}

fn with_quota(storage: &Storage, images: Option<u64>, bytes: Option<u64>) -> Cleaner {
    Cleaner::new(storage.clone(), Config { interval: INTERVAL, quota: Quota { images, bytes } })
}

#[tokio::test]
async fn quota_exceeded_evicts_the_oldest_and_a_margin() {
    for (images, bytes, left) in [
        (Some(100), None, 95),
        (None, Some(10_000), 95),
        (Some(60), Some(10_000), 57),
        (Some(110), Some(8000), 76),
        (Some(7), None, 7),
        (Some(120), Some(12_000), 120),
        (None, Some(50), 0),
    ] {
        let (storage, ids) = filled(120).await;
        let cleaned = with_quota(&storage, images, bytes).run_once().await.unwrap();
        assert_eq!(cleaned.evicted, 120 - left, "{images:?} {bytes:?}");
        assert_eq!(cleaned.evicted_bytes, (120 - left) * 100);
        assert_eq!(stored(&storage).await, ids[120 - usize::try_from(left).unwrap()..]);
        assert_eq!(storage.usage.get(), storage::Stored { images: left, bytes: left * 100 });
    }
}

#[tokio::test]
async fn cleaners_at_once_evict_no_more_than_one_would() {
    let (storage, ids) = filled(200).await;
    let cleaners: Vec<_> = (0..4).map(|_| with_quota(&storage, Some(100), None)).collect();
    let cleaned = futures_util::future::join_all(cleaners.iter().map(Cleaner::run_once)).await;
    assert_eq!(cleaned.iter().map(|cleaned| cleaned.as_ref().unwrap().evicted).sum::<u64>(), 105);
    assert_eq!(stored(&storage).await, ids[105..]);
}

#[tokio::test(start_paused = true)]
async fn quota_exceeded_by_a_save_brings_the_cleaner_early() {
    let (storage, ids) = filled(10).await;
    let handle = with_quota(&storage, Some(10), None).start();
    time::sleep(FIRST_CYCLE_WITHIN).await;
    assert_eq!(stored(&storage).await, ids);
    let newest = save(&storage, Duration::ZERO).await;
    time::sleep(PAUSE_WHEN_FULL * 2).await;
    assert_eq!(stored(&storage).await, [&ids[1..], &[newest]].concat());
    handle.stop().await;
}

#[tokio::test]
async fn records_expired_are_removed_and_counted() {
    let (storage, _) = filled(0).await;
    for (key, life) in [("due", 0), ("live", 3600)] {
        let expires_at = (SystemTime::now() + Duration::from_secs(life)).into();
        let record = storage::Record { value: 1.into(), expires_at };
        storage.records.create(storage::RecordKind::Jobs, &key.parse().unwrap(), record).await.unwrap();
    }
    let cleaned = with_quota(&storage, None, None).run_once().await.unwrap();
    assert_eq!(cleaned, Cleaned { removed_records: 1, ..Cleaned::default() });
}

#[test]
fn eviction_and_what_is_stored_are_measured() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let (storage, _) = filled(120).await;
            with_quota(&storage, Some(110), Some(8000)).run_once().await.unwrap();
            save(&storage, Duration::ZERO).await;
        });
    });
    let metrics = recorder.handle().render();
    for expected in [
        "mcp_image_cleaner_evicted_images_total{reason=\"images\"} 15",
        "mcp_image_cleaner_evicted_images_total{reason=\"bytes\"} 29",
        "mcp_image_cleaner_evicted_bytes_total{reason=\"bytes\"} 2900",
        "mcp_image_stored_images 77",
        "mcp_image_stored_bytes 7700",
    ] {
        assert!(metrics.lines().any(|line| line == expected), "{expected} is not in\n{metrics}");
    }
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
    assert_eq!(counts.expired, Expired { removed: 2, removed_bytes: 10, swept: 1, ..Expired::default() });
}
