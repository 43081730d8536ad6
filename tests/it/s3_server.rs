//! The whole server and its commands on a bucket of the real gateway (see [`crate::s3::peer`]).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use mcp_image_server::storage::{
    Backend, Config, NewImage, Record, RecordKey, RecordKind, S3Config, S3Timeouts, Storage,
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    client::{Era, content_hash, until, within},
    fake_s3::{FakeS3, Fault},
    process::{self, Process},
    s3::{peer, variables},
    store_conformance::{HOUR, assert_whole, image, list_all},
};

const MIB: u64 = 1 << 20;

/// A process that serves more than it should hold at once stays below this.
const MOST_MEMORY: u64 = 64 * MIB;

macro_rules! peer {
    () => {
        match peer() {
            Some(peer) => peer,
            None => return,
        }
    };
}

async fn serve(s3: &S3Config, more: &[(&str, &str)]) -> Process {
    let mut all = variables(s3);
    all.extend([("S3_RESPONSE_TIMEOUT", "1".to_owned()), ("S3_IDLE_TIMEOUT", "1".to_owned())]);
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Process::start(&[&all, more].concat()).await
}

async fn run(s3: &S3Config, arguments: &[&str], more: &[(&str, &str)]) -> (String, Option<i32>) {
    let all = variables(s3);
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = process::run(arguments, &[&all, more].concat()).await;
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (text, output.status.code())
}

/// A store as the server opens it.
fn open(backend: Backend) -> Storage {
    Storage::open(&Config { backend, sync: false }).unwrap()
}

fn bucket(s3: &S3Config) -> Storage {
    open(Backend::S3(Box::new(s3.clone())))
}

/// An image whose hash is told rightly.
fn hashed(length: usize, age: Duration, life: Duration) -> NewImage {
    let mut image = image(length, age, life);
    image.metadata.blake3 = content_hash(&image.bytes);
    image
}

#[tokio::test]
async fn tool_call_over_mcp_gives_an_image_that_is_served_from_the_bucket() {
    let s3 = peer!();
    let server = serve(&s3, &[]).await;
    for era in Era::BOTH {
        let arguments = json!({"prompt": "a lighthouse at dusk", "width": 512, "height": 512, "seed": 7});
        let result = server.client().tool_result(era, &arguments).await;
        assert_eq!(result["isError"], false, "{result}");
        let bytes = server.client().fetch_whole(&result["structuredContent"]).await;
        assert!(bytes.starts_with(b"\x89PNG"));
        let id = result["structuredContent"]["image_id"].as_str().unwrap();
        // It is in the bucket, and on no disk.
        let there = bucket(&s3).images.open(id.parse().unwrap()).await.unwrap();
        let length = there.metadata.size_bytes;
        assert!(there.content.read(0..length).await.unwrap() == bytes);
        assert!(!server.images().exists());
    }
}

/// Asks for an image behind a proxy; the answer, or what became of the body.
async fn ask(server: &Process, image: &NewImage) -> Result<u16, String> {
    let url = server.url(&format!("/images/{}", image.metadata.file_name()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(url).send().await.map_err(|error| error.to_string())?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    assert!(status != 200 || body == image.bytes, "a wrong image, as if it were right");
    assert!(status != 503 || headers.contains_key("retry-after"));
    Ok(status)
}

#[tokio::test]
async fn faults_in_front_of_the_gateway_are_typed_and_bounded_in_time_and_memory() {
    let real = peer!();
    let proxy = FakeS3::in_front_of(real.endpoint_url.as_ref().unwrap()).await;
    let endpoint_url = Some(format!("http://{}", proxy.addr).parse().unwrap());
    let second = Duration::from_secs(1);
    let timeouts = S3Timeouts { connect: second, first_byte: second, idle: second };
    let behind = S3Config { endpoint_url, max_retries: 0, timeouts, ..real.clone() };
    let server = serve(&behind, &[("S3_MAX_RETRIES", "0"), ("IMAGE_CLEANUP_INTERVAL", "3600")]).await;
    let thief = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow_down = "<Error><Code>SlowDown</Code></Error>";
    let store = bucket(&real);

    // Reading what is streamed, not kept: a 503 that says when to come back, or the body is cut off.
    for (fault, typed) in [
        (Fault::Answer(500, ""), Some(503)),
        (Fault::Answer(503, slow_down), Some(503)),
        (Fault::Hang, Some(503)),
        (Fault::Drip(second / 2), None),
        (Fault::Reset(50_000), None),
        (Fault::Short(50_000), Some(500)),
        (Fault::Redirect(thief.local_addr().unwrap()), Some(503)),
        (Fault::Flip, None),
        (Fault::Endless, Some(503)),
    ] {
        let image = hashed(6_000_000, Duration::ZERO, HOUR);
        store.images.save(image.clone()).await.unwrap();
        proxy.fail(".png", fault.clone(), 1);
        let asked = within(ask(&server, &image)).await;
        match (&asked, typed) {
            (Ok(status), Some(typed)) => assert_eq!(*status, typed, "{fault:?}"),
            // The head was under way, or it was not yet.
            (Err(_) | Ok(503), None) => {}
            _ => panic!("{fault:?}: {asked:?}"),
        }
        // The fault was that of one request.
        until(async || ask(&server, &image).await == Ok(200)).await;
    }

    // Saving: refused, and nothing is there that was not acknowledged.
    let generate = async || {
        let arguments = json!({"prompt": "a lighthouse", "width": 256, "height": 256});
        server.client().generate(&arguments).await
    };
    for fault in [
        Fault::Answer(500, ""),
        Fault::Answer(503, slow_down),
        Fault::Hang,
        Fault::Close,
        Fault::Redirect(thief.local_addr().unwrap()),
        Fault::OtherTag,
    ] {
        let before = list_all(&store.images, None, 1000).await;
        // The first request of a save, and not one of a probe that comes by.
        proxy.fail(".json", fault.clone(), 1);
        let refused = generate().await;
        assert_eq!(refused.status, 503, "{fault:?}: {}", refused.text());
        assert_eq!(list_all(&store.images, None, 1000).await, before, "{fault:?}");
        until(async || generate().await.status == 200).await;
    }

    // Listing.
    let list = async || server.client().get("/images").await.status;
    for fault in [Fault::EndlessList, Fault::Circle, Fault::Endless, Fault::Hang] {
        proxy.fail("list-type=2", fault.clone(), usize::MAX);
        assert_eq!(within(list()).await, 503, "{fault:?}");
        proxy.heal();
        until(async || list().await == 200).await;
    }

    let visited = tokio::time::timeout(Duration::from_millis(50), thief.accept()).await;
    assert!(visited.is_err(), "a redirect was followed");
    let peak = server.peak_memory();
    eprintln!("figure: a peak of {:.1} MiB while S3 fails in all ways", peak as f64 / MIB as f64);
    assert!(peak < MOST_MEMORY, "{} MiB", peak / MIB);
}

#[tokio::test]
async fn commands_look_at_delete_from_and_verify_a_bucket() {
    let s3 = peer!();
    let store = bucket(&s3);
    let images: Vec<_> = (0..5_u32).map(|i| hashed(5000, HOUR * i, HOUR * 30)).collect();
    for image in &images {
        store.images.save(image.clone()).await.unwrap();
    }
    let over = hashed(5000, HOUR * 50, HOUR);
    store.images.save(over.clone()).await.unwrap();
    let id = images[1].metadata.image_id.to_string();
    let (listed, code) = run(&s3, &["images", "list", "--json"], &[]).await;
    assert_eq!((listed.lines().count(), code), (5, Some(0)), "{listed}");
    let (shown, _) = run(&s3, &["images", "show", &id], &[]).await;
    assert!(shown.contains(&id) && shown.contains(&images[1].metadata.blake3), "{shown}");
    let (verified, code) = run(&s3, &["images", "verify"], &[]).await;
    assert!(verified.contains("5 whole") && code == Some(0), "{verified}");
    let (_, code) = run(&s3, &["images", "delete", &id], &[]).await;
    assert_eq!(code, Some(0));
    let (again, code) = run(&s3, &["images", "delete", &id], &[]).await;
    assert_eq!(code, Some(1), "{again}");

    // Four are left, of which two may be; the one that is over goes first.
    let (cleaned, _) = run(&s3, &["clean", "--json"], &[("STORAGE_MAX_IMAGES", "2")]).await;
    let cleaned: serde_json::Value = serde_json::from_str(cleaned.lines().next().unwrap()).unwrap();
    assert_eq!((&cleaned["removed"], &cleaned["evicted"]), (&json!(1), &json!(2)), "{cleaned}");
    assert_eq!((&cleaned["evicted_bytes"], &cleaned["failed"]), (&json!(10_000), &json!(0)), "{cleaned}");
    let newest: Vec<_> = [0, 2].map(|i: usize| images[i].metadata.image_id).to_vec();
    assert_eq!(list_all(&store.images, None, 10).await, newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_to_a_bucket_and_back_keeps_images_and_records() {
    let s3 = peer!();
    let folders = TempDir::new().unwrap();
    let path = |name: &str| folders.path().join(name);
    let source = open(Backend::File { path: path("from") });
    let mut images = Vec::new();
    for i in 0..12_u32 {
        let image = hashed(20_000, HOUR * i, HOUR * 300);
        source.images.save(image.clone()).await.unwrap();
        images.push(image);
    }
    let key: RecordKey = "a-job".parse().unwrap();
    let record = Record { value: json!({"state": "done"}), expires_at: (SystemTime::now() + HOUR).into() };
    source.records.create(RecordKind::Jobs, &key, record.clone()).await.unwrap();

    let from = path("from");
    let file = [("STORAGE_BACKEND", "file"), ("STORAGE_PATH", from.to_str().unwrap())];
    let (done, code) = run(&s3, &["migrate", "--to", "s3"], &file).await;
    assert!(done.contains("copied 12 images") && done.contains("1 records") && code == Some(0), "{done}");
    let (again, code) = run(&s3, &["migrate", "--to", "s3"], &file).await;
    assert!(again.contains("copied 0 images") && again.contains("12 images were there"), "{again}");
    assert_eq!(code, Some(0));
    let there = bucket(&s3);
    assert_eq!(there.records.get(RecordKind::Jobs, &key).await.unwrap().record, record);

    let back = path("back");
    let (done, code) = run(&s3, &["migrate", "--to", "file", "--path", back.to_str().unwrap()], &[]).await;
    assert!(done.contains("copied 12 images") && code == Some(0), "{done}");
    let back = open(Backend::File { path: back });
    for image in &images {
        assert_whole(&there.images, image).await;
        assert_whole(&back.images, image).await;
    }
    assert_eq!(back.records.get(RecordKind::Jobs, &key).await.unwrap().record, record);
}

/// Whether this is the nightly run (`tests/nightly.sh`): what takes long is for it.
fn is_nightly() -> bool {
    std::env::var_os("NIGHTLY").is_some()
}

/// Saves a gigabyte as if it were an image, and reads it through the server.
#[tokio::test]
async fn gigabyte_through_the_server_takes_little_memory() {
    if !is_nightly() {
        return;
    }
    let s3 = peer!();
    let image = hashed(1 << 30, Duration::ZERO, HOUR);
    let patient = S3Timeouts { first_byte: Duration::from_secs(300), ..S3Timeouts::default() };
    bucket(&S3Config { timeouts: patient, ..s3.clone() }).images.save(image.clone()).await.unwrap();
    let server = serve(&s3, &[]).await;
    let url = server.url(&format!("/images/{}", image.metadata.file_name()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let started = Instant::now();
    let mut chunks = http.get(url).send().await.unwrap().error_for_status().unwrap().bytes_stream();
    let (mut hash, mut length) = (blake3::Hasher::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        hash.update(&chunk);
        length += chunk.len();
    }
    assert_eq!(length, 1 << 30);
    assert_eq!(*hash.finalize().to_hex(), *image.metadata.blake3);
    let peak = server.peak_memory();
    eprintln!(
        "figure: 1 GiB in {:.1?} with a peak of {:.1} MiB",
        started.elapsed(),
        peak as f64 / MIB as f64
    );
    assert!(peak < MOST_MEMORY, "{} MiB", peak / MIB);
}

/// With the timeouts that the server has by default, and S3 that takes connections and says nothing,
/// or that refuses them.
#[tokio::test]
async fn first_save_of_an_outage_is_acknowledged_in_the_fallback_folder_within_twenty_seconds() {
    if !is_nightly() {
        return;
    }
    for fault in [Fault::Hang, Fault::Close] {
        let fake = FakeS3::start().await;
        let folder = TempDir::new().unwrap();
        let all = variables(&crate::s3_faults::config(&fake));
        let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let more = [("STORAGE_FALLBACK", "file"), ("STORAGE_PATH", folder.path().to_str().unwrap())];
        let server = Process::start(&[&all[..], &more].concat()).await;
        let arguments = json!({"prompt": "a lighthouse", "width": 64, "height": 64});
        assert_eq!(server.client().generate(&arguments).await.status, 200);
        fake.fail("/images", fault.clone(), usize::MAX);
        let mut times = Vec::new();
        for _ in 0..3 {
            let started = Instant::now();
            let saved = server.client().generate(&arguments).await;
            times.push(started.elapsed());
            assert_eq!(saved.status, 200, "{}", saved.text());
            assert_eq!(server.client().get(saved.json()["url"].as_str().unwrap()).await.status, 200);
        }
        eprintln!("figure: saves in an outage ({fault:?}) take {times:.1?}");
        assert!(times[0] < Duration::from_secs(20), "{times:?}");
    }
}
