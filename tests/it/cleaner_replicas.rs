//! Several servers clean one folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
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

use crate::store_conformance::{HOUR, image, walk_all};

const IMAGES: u64 = 10_000;
const TTL: Duration = Duration::from_secs(1);

fn open(folder: &Path) -> Storage {
    let backend = Backend::File { path: folder.to_owned() };
    let config = Config { backend, public_base_url: "http://images.example".to_owned(), sync: false };
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

/// A server in a process of its own; ended when dropped.
struct Server {
    process: Child,
    base: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mcp-image-server"))
            .env_clear()
            .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_LEVEL", "WARN"), ("SHUTDOWN_DELAY", "0")])
            .envs([("IMAGE_TTL", "1"), ("IMAGE_CLEANUP_INTERVAL", "1")])
            .env("STORAGE_PATH", folder)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = banner.find_map(|line| {
            let line = line.unwrap();
            let url = &line[line.find("http://localhost:")?..];
            let port: String =
                url["http://localhost:".len()..].chars().take_while(char::is_ascii_digit).collect();
            Some(format!("http://127.0.0.1:{port}"))
        });
        Self { process, base: base.expect("the banner names the port") }
    }

    /// The sum of a metric over its labels.
    async fn metric(&self, name: &str) -> u64 {
        let text = reqwest::get(format!("{}/metrics", self.base)).await.unwrap().text().await.unwrap();
        let samples = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
    let servers = [Server::start(folder.path()), Server::start(folder.path())];

    // A download that is open when its image goes.
    let large = save(&storage, 24 << 20, SystemTime::now() + Duration::from_secs(8)).await;
    let url = format!("{}/images/{}.png", servers[0].base, large.metadata.image_id);
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
            *removed = server.metric("mcp_image_cleaner_removed_images_total").await;
        }
        assert!(SystemTime::now() < first_expiry + HOUR / 12, "{removed:?} of {IMAGES} went");
    }
    assert_eq!(removed.iter().sum::<u64>(), IMAGES, "{removed:?}");
    assert!(watching.await.unwrap() > 0);
    assert_eq!(walk_all(&storage.images).await, []);
    for server in &servers {
        assert_eq!(server.metric("mcp_image_cleaner_failed_images_total").await, 0);
        let runs = server.metric("mcp_image_cleaner_runs_total").await;
        assert!(runs > 0);
        let text = reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
        assert!(!text.contains("mcp_image_cleaner_runs_total{outcome=\"error\"}"), "{text}");
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
