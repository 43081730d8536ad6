//! Several servers clean one folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use chrono::Utc;
use futures_util::StreamExt as _;
use mcp_image_server::{
    cleaner::{self, Cleaner, Quota},
    image::ImageId,
    storage::{Backend, Config, Error, NewImage, Storage},
};
use tempfile::TempDir;

use crate::{
    process::Process,
    store_conformance::{HOUR, image, walk_all},
};

const IMAGES: u64 = 10_000;
const TTL: Duration = Duration::from_secs(1);

fn open(folder: &Path) -> Storage {
    let backend = Backend::File { path: folder.to_owned() };
    let config = Config { backend, sync: false };
    Storage::open(&config).unwrap()
}

/// Saves an image that was made `TTL` before it expires.
async fn save(storage: &Storage, length: usize, expiry: SystemTime) -> NewImage {
    let mut image = image(length, Duration::ZERO, TTL);
    let created = expiry - TTL;
    image.metadata.image_id = ImageId::at(created);
    image.metadata.created_at = created.into();
    image.metadata.expires_at = expiry.into();
    storage.images.save(image.clone()).await.unwrap();
    image
}

/// A server in a process of its own, on this folder.
async fn serve(folder: &Path) -> Process {
    let folder = folder.to_str().unwrap();
    Process::start(&[("STORAGE_PATH", folder), ("IMAGE_TTL", "1"), ("IMAGE_CLEANUP_INTERVAL", "1")]).await
}

async fn metrics(server: &Process) -> String {
    reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap()
}

/// The sum of a metric over its labels.
async fn metric(server: &Process, name: &str) -> u64 {
    let text = metrics(server).await;
    let samples =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_folder_remove_each_image_once_and_none_early() {
    let folder = TempDir::new().unwrap();
    let storage = open(folder.path());
    // Made as if a second before their expiry, which comes one after the other from now on.
    let first_expiry = SystemTime::now() + Duration::from_secs(4);
    let mut images = Vec::new();
    for i in 1..IMAGES {
        images.push(save(&storage, 100, first_expiry + Duration::from_micros(i * 300)).await.metadata);
    }
    let servers = [serve(folder.path()).await, serve(folder.path()).await];

    // A download that is open when its image goes.
    let large = save(&storage, 24 << 20, SystemTime::now() + Duration::from_secs(8)).await;
    let url = servers[0].url(&format!("/images/{}.png", large.metadata.image_id));
    let mut download = reqwest::get(url).await.unwrap().error_for_status().unwrap().bytes_stream();
    let mut downloaded = download.next().await.unwrap().unwrap().to_vec();
    images.push(large.metadata.clone());

    let watching = tokio::spawn({
        let storage = storage.clone();
        let images: Vec<_> = images.iter().map(|image| (image.image_id, image.expires_at)).collect();
        let last_expiry = large.metadata.expires_at;
        async move {
            let mut looks = 0_u32;
            while Utc::now() < last_expiry {
                for (id, expires_at) in images.iter().skip(looks as usize % 97).step_by(97) {
                    match storage.images.metadata(*id).await {
                        Ok(_) => {}
                        Err(Error::NotFound) => assert!(Utc::now() >= *expires_at, "{id} went early"),
                        Err(error) => panic!("{error:?}"),
                    }
                }
                looks += 1;
            }
            looks
        }
    });

    let mut removed = [0; 2];
    while removed.iter().sum::<u64>() < IMAGES {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (removed, server) in removed.iter_mut().zip(&servers) {
            *removed = metric(server, "mcp_image_cleaner_removed_images_total").await;
        }
        assert!(SystemTime::now() < first_expiry + HOUR / 12, "{removed:?} of {IMAGES} went");
    }
    assert_eq!(removed.iter().sum::<u64>(), IMAGES, "{removed:?}");
    assert!(watching.await.unwrap() > 0);
    assert_eq!(walk_all(&storage.images).await, []);
    for server in &servers {
        assert_eq!(metric(server, "mcp_image_cleaner_failed_images_total").await, 0);
        assert!(metric(server, "mcp_image_cleaner_runs_total").await > 0);
        let text = metrics(server).await;
        assert!(text.contains("mcp_image_cleaner_runs_total{outcome=\"error\"} 0"), "{text}");
        let log = server.log();
        assert!(!log.iter().any(|line| line.contains("\"ERROR\"")), "{log:#?}");
    }

    while let Some(chunk) = download.next().await {
        downloaded.extend_from_slice(&chunk.unwrap());
    }
    assert!(downloaded == large.bytes, "{} bytes came", downloaded.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_with_a_quota_evict_no_more_than_one_would() {
    const STORED: u64 = 600;
    for _ in 0..5 {
        let folder = TempDir::new().unwrap();
        let storage = open(folder.path());
        let mut ids = Vec::new();
        for i in 0..STORED {
            let image = image(100, HOUR * 9 - Duration::from_secs(i * 20), HOUR * 100);
            ids.push(image.metadata.image_id);
            storage.images.save(image).await.unwrap();
        }
        let cleaners = (0..4).map(|_| {
            let quota = Quota { images: Some(200), bytes: None };
            let cleaner = Cleaner::new(open(folder.path()), cleaner::Config { interval: HOUR, quota });
            tokio::spawn(async move { cleaner.run_once().await.unwrap() })
        });
        let cleaned = futures_util::future::join_all(cleaners).await;
        let evicted: Vec<_> = cleaned.into_iter().map(|cleaned| cleaned.unwrap().evicted).collect();
        // A twentieth below the quota, to the image.
        assert_eq!(evicted.iter().sum::<u64>(), STORED - 190, "{evicted:?}");
        let left: Vec<_> = walk_all(&storage.images).await.iter().map(|image| image.image_id).collect();
        assert_eq!(left, ids[ids.len() - 190..]);
    }
}
