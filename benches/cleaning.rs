//! Does the cost of a cleaning cycle, of a listing and of a save stay what it should be?
//!
//!     cargo bench --bench cleaning
//!
//! Prints a table of medians and these ratios:
//! - a cycle with 1,000 images due among 1,000,000 stored, to one among 10,000;
//! - a listing of the newest 100, and of 100 from the middle, likewise;
//! - a save of 400 kB, to a plain write, fsync, rename, fsync: into a bucket that is there, and into one that
//!   is not, as where images come seldom.
//!
//! `BENCH_IMAGES` is the larger number; `BENCH_OVER` is over how long they are spread, where that is not to
//! be `a month`, `a day` and `an hour` in turn; `BENCH_FOLDER` is where to work: by default a folder for
//! temporary files, which must be on a disk for the saves to mean anything. It takes two files an image and
//! some minutes.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use mcp_image_server::{
    image::{Format, Generation, ImageId, Metadata},
    storage::{self, Backend, Config, ImageStore, ListQuery, NewImage},
};
use tempfile::TempDir;

const SMALL: u64 = 10_000;
const DUE: u64 = 1000;
const RUNS: usize = 5;
const SAVES: usize = 101;
const SAVED_BYTES: usize = 400_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

type Store = Arc<dyn ImageStore>;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let large: u64 = env::var("BENCH_IMAGES").map_or(1_000_000, |number| number.parse().unwrap());
    let folder = env::var("BENCH_FOLDER").map_or_else(|_| TempDir::new(), TempDir::new_in).unwrap();
    runtime.block_on(async {
        // First: some file systems look past what was removed in the last minutes, and a save makes two
        // files where a plain write makes one.
        saves(folder.path()).await;
        println!(
            "images      over       cleaning 1,000  cleaning none   newest 100      middle 100      count all"
        );
        let over = env::var("BENCH_OVER").ok();
        for (span, name) in [(DAY * 30, "a month"), (DAY, "a day"), (DAY / 24, "an hour")] {
            if over.as_ref().is_some_and(|over| over != name) {
                continue;
            }
            let few = cycles(folder.path(), SMALL, span, name).await;
            let many = cycles(folder.path(), large, span, name).await;
            let ratio = |few: Duration, many: Duration| many.as_secs_f64() / few.as_secs_f64();
            println!(
                "ratio       {name:<10} {:<15.2} {:<15.2} {:<15.2} {:<15.2}",
                ratio(few.cleaning, many.cleaning),
                ratio(few.idle, many.idle),
                ratio(few.newest, many.newest),
                ratio(few.middle, many.middle),
            );
        }
    });
}

struct Medians {
    cleaning: Duration,
    idle: Duration,
    newest: Duration,
    middle: Duration,
}

/// Times cycles, listings and a count on `images` spread over `span` up to now.
async fn cycles(folder: &Path, images: u64, span: Duration, name: &str) -> Medians {
    let base = folder.join("images");
    let now = SystemTime::now();
    let ids: Vec<_> = (0..images)
        .map(|i| {
            ImageId::at(now - span + Duration::from_secs_f64(span.as_secs_f64() * i as f64 / images as f64))
        })
        .collect();
    thread::scope(|scope| {
        for part in ids[usize::try_from(DUE).unwrap()..].chunks(ids.len().div_ceil(2)) {
            scope.spawn(|| fill(&base, part, now + DAY));
        }
    });
    let [mut cleaning, mut idle, mut newest, mut middle] = [const { Vec::new() }; 4];
    let cursor = ids[ids.len() / 2];
    for _ in 0..RUNS {
        fill(&base, &ids[..usize::try_from(DUE).unwrap()], now);
        // As a process that has just started.
        let store = open(&base, false);
        let started = Instant::now();
        let expired = store.expire(SystemTime::now()).await.unwrap();
        cleaning.push(started.elapsed());
        assert_eq!((expired.removed, expired.failed), (DUE, 0));
        let started = Instant::now();
        store.expire(SystemTime::now()).await.unwrap();
        idle.push(started.elapsed());
        for (cursor, times) in [(None, &mut newest), (Some(cursor), &mut middle)] {
            let started = Instant::now();
            let page = store.list(ListQuery { prefix: None, cursor, limit: 100 }).await.unwrap();
            times.push(started.elapsed());
            assert_eq!(page.images.len(), 100);
        }
    }
    let started = Instant::now();
    let counted = futures_util::StreamExt::count(open(&base, false).walk()).await as u64;
    let counting = started.elapsed();
    assert_eq!(counted, images - DUE);
    fs::remove_dir_all(&base).unwrap();
    let [cleaning, idle, newest, middle] = [cleaning, idle, newest, middle].map(median);
    println!(
        "{images:<11} {name:<10} {cleaning:<15.2?} {idle:<15.2?} {newest:<15.2?} {middle:<15.2?} {counting:.2?}"
    );
    Medians { cleaning, idle, newest, middle }
}

/// Writes images as the store lays them out, without waiting for the disk.
fn fill(base: &Path, ids: &[ImageId], expiry: SystemTime) {
    let image = image(ids[0], 100, expiry);
    for id in ids {
        let bucket = base.join(id.bucket());
        let metadata = Metadata { image_id: *id, ..image.metadata.clone() };
        let sidecar = serde_json::to_vec(&metadata).unwrap();
        let path = bucket.join(format!("{id}.json"));
        if fs::write(&path, &sidecar).is_err() {
            fs::create_dir_all(&bucket).unwrap();
            fs::write(&path, &sidecar).unwrap();
        }
        fs::write(bucket.join(format!("{id}.png")), &image.bytes).unwrap();
    }
}

/// Times saves, and what a save cannot do without, in turn.
async fn saves(folder: &Path) {
    let base = folder.join("saves");
    let store = open(&base, true);
    let plain = folder.join("plain");
    fs::create_dir_all(&plain).unwrap();
    let [mut stored, mut apart, mut plainly] = [const { Vec::new() }; 3];
    for i in 0..SAVES {
        let now = SystemTime::now();
        let long_ago = now - DAY - Duration::from_secs(66) * u32::try_from(i).unwrap();
        for (created, times) in [(now, &mut stored), (long_ago, &mut apart)] {
            let image = image(ImageId::at(created), SAVED_BYTES, now + DAY);
            let started = Instant::now();
            store.save(image).await.unwrap();
            times.push(started.elapsed());
        }
        let (name, bytes) = (ImageId::now(), vec![7; SAVED_BYTES]);
        let folder = plain.clone();
        let started = Instant::now();
        tokio::task::spawn_blocking(move || {
            let temporary = folder.join("temporary");
            let mut file = fs::File::create_new(&temporary).unwrap();
            file.write_all(&bytes).unwrap();
            file.sync_all().unwrap();
            fs::rename(temporary, folder.join(format!("{name}.png"))).unwrap();
            fs::File::open(folder).unwrap().sync_all().unwrap();
        })
        .await
        .unwrap();
        plainly.push(started.elapsed());
    }
    let [stored, apart, plainly] = [stored, apart, plainly].map(median);
    println!(
        "save of {SAVED_BYTES} bytes {stored:.2?}, into a new bucket {apart:.2?}; write, fsync, rename, fsync {plainly:.2?}"
    );
    let ratio = |save: Duration| save.as_secs_f64() / plainly.as_secs_f64();
    println!("ratio {:.2}, into a new bucket {:.2}", ratio(stored), ratio(apart));
}

fn open(folder: &Path, sync: bool) -> Store {
    let backend = Backend::File { path: folder.to_owned() };
    storage::open(&Config { backend, sync }).unwrap()
}

fn image(image_id: ImageId, length: usize, expiry: SystemTime) -> NewImage {
    let metadata = Metadata {
        image_id,
        format: Format::Png,
        width: 512,
        height: 512,
        size_bytes: length as u64,
        blake3: "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8".to_owned(),
        thumbhash: None,
        created_at: image_id.created_at(),
        expires_at: expiry.into(),
        generation: Generation {
            prompt: "a lighthouse at dusk, oil on canvas".to_owned(),
            negative_prompt: None,
            num_inference_steps: 50,
            guidance_scale: 7.5,
            seed: Some(7),
            model: "stable-diffusion".to_owned(),
            predictor: "kserve-v1".to_owned(),
            generation_seconds: 4.25,
        },
    };
    NewImage { bytes: vec![7; length].into(), metadata }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
