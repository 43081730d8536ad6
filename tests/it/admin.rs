//! The commands `images`, `migrate` and `clean`: the binary, on folders.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    image::ImageId,
    storage::{self, Backend, Config, NewImage, Record, RecordKind, Storage},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::content_hash,
    fake_s3::FakeS3,
    process,
    store_conformance::{HOUR, Store, assert_whole, image, list_all},
};

/// What a command did.
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// Standard output as JSON, a value a line.
    fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", self.out)))
            .collect()
    }
}

/// A folder with images in it, as the binary finds it.
struct Folder {
    path: PathBuf,
    storage: Storage,
    _guard: TempDir,
}

impl Folder {
    fn new() -> Self {
        let guard = TempDir::new().unwrap();
        let path = guard.path().join("images");
        Self { storage: open(&path), path, _guard: guard }
    }

    fn store(&self) -> &Store {
        &self.storage.images
    }

    async fn save(&self, prompt: &str, age: Duration, life: Duration) -> NewImage {
        let mut image = image(5000, age, life);
        image.metadata.blake3 = content_hash(&image.bytes);
        image.metadata.generation.prompt = prompt.to_owned();
        self.store().save(image.clone()).await.unwrap();
        image
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let output =
            process::command(variables).args(arguments).env("STORAGE_PATH", &self.path).output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn file(&self, id: ImageId, extension: &str) -> PathBuf {
        self.path.join(id.bucket()).join(format!("{id}.{extension}"))
    }
}

fn open(path: &Path) -> Storage {
    let backend = Backend::File { path: path.to_owned() };
    Storage::open(&Config { backend, sync: false }).unwrap()
}

fn id_of(image: &NewImage) -> String {
    image.metadata.image_id.to_string()
}

#[tokio::test]
async fn images_list_shows_a_table_newest_first_without_control_characters() {
    let folder = Folder::new();
    let older = folder.save("a lighthouse at dusk", HOUR, HOUR * 30).await;
    let newer = folder.save("雪の灯台\u{1b}[2J\nnext", Duration::ZERO, HOUR).await;
    folder.save("over", HOUR * 3, HOUR).await;

    let done = folder.run(&["images", "list"]);
    let lines: Vec<_> = done.out.lines().collect();
    assert_eq!((done.code, lines.len()), (0, 3), "{}", done.out);
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("PROMPT"), "{}", done.out);
    assert!(
        lines[1].starts_with(&id_of(&newer)) && lines[1].ends_with("雪の灯台\\u{1b}[2J\\nnext"),
        "{}",
        done.out
    );
    assert!(lines[2].starts_with(&id_of(&older)) && lines[2].contains("512x384"), "{}", done.out);
    assert!(lines[2].contains("4.8 KiB"), "{}", done.out);
    assert!(!done.out.contains('\u{1b}'));
}

#[tokio::test]
async fn images_list_pages_and_filters() {
    let folder = Folder::new();
    let mut ids = Vec::new();
    for i in 0..5_u32 {
        ids.push(id_of(&folder.save("a lighthouse", HOUR * i, HOUR * 30).await));
    }
    let listed = |arguments: &[&str]| -> Vec<String> {
        let done = folder.run(&[&["images", "list", "--json"], arguments].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        done.json().iter().map(|image| image["image_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), ids);
    assert_eq!(listed(&["--limit", "2"]), ids[..2]);
    assert_eq!(listed(&["--limit", "2", "--cursor", &ids[1]]), ids[2..4]);
    assert_eq!(listed(&["--prefix", &ids[3][..8]]), ids[3..4]);
    assert_eq!(listed(&["--prefix", "zzz"]), Vec::<String>::new());
    let page = folder.run(&["images", "list", "--limit", "2"]);
    assert_eq!(page.out.lines().last(), Some(&*format!("There are more: --cursor {}", ids[1])));
    assert_eq!(folder.run(&["images", "list", "--limit", "0"]).code, 2);
}

#[tokio::test]
async fn images_show_tells_all_that_is_known() {
    let folder = Folder::new();
    let image = folder.save("a lighthouse", HOUR, HOUR * 30).await;
    let id = id_of(&image);
    let shown =
        folder.run_with(&["images", "show", &id, "--json"], &[("PUBLIC_BASE_URL", "https://x.example")]);
    let mut expected = json!(image.metadata);
    expected["url"] = format!("https://x.example/images/{id}.png").into();
    assert_eq!(shown.json(), [expected]);
    let keys = [("IMAGE_URL_SIGNING_KEYS", "one:a-secret-of-at-least-32-characters-1")];
    let signed = folder.run_with(&["images", "show", &id, "--json"], &keys).json();
    let url = signed[0]["url"].as_str().expect("a URL");
    assert!(url.contains("sig="), "a URL that a client may use: {url}");
    let shown = folder.run(&["images", "show", &id]);
    for text in [&id, &image.metadata.blake3, "a lighthouse", "stable-diffusion", "4.8 KiB (5000 bytes)"] {
        assert!(shown.out.contains(text), "{text} in {}", shown.out);
    }
    let absent = folder.run(&["images", "show", &ImageId::now().to_string()]);
    assert_eq!((absent.code, &*absent.out), (1, ""));
    assert!(absent.err.contains("1 of 1 images are not there"), "{}", absent.err);
}

#[tokio::test]
async fn images_delete_removes_those_named_and_tells_of_those_not_there() {
    let folder = Folder::new();
    let gone = id_of(&folder.save("gone", HOUR, HOUR * 30).await);
    let kept = folder.save("kept", HOUR, HOUR * 30).await;
    let absent = ImageId::now().to_string();
    let done = folder.run(&["images", "delete", &gone, &absent, "--json"]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.json(),
        [json!({"image_id": gone, "deleted": true}), json!({"image_id": absent, "deleted": false})]
    );
    assert_eq!(list_all(folder.store(), None, 10).await, [kept.metadata.image_id]);
    let done = folder.run(&["images", "delete", &id_of(&kept)]);
    assert_eq!((done.code, done.out.trim()), (0, &*format!("{}  deleted", id_of(&kept))));
}

#[tokio::test]
async fn images_verify_finds_what_is_damaged_and_nothing_else() {
    let folder = Folder::new();
    let mut images = Vec::new();
    for i in 0..6_u32 {
        images.push(folder.save("a lighthouse", HOUR * i, HOUR * 30).await);
    }
    let expired = folder.save("over", HOUR * 50, HOUR).await;
    let all_well = folder.run(&["images", "verify"]);
    assert_eq!(all_well.code, 0, "{}", all_well.err);
    assert_eq!(
        all_well.out,
        "7 images: 6 whole (29.2 KiB), 0 damaged, 1 expired, 0 not there, 0 could not be read\n"
    );
    assert!(!all_well.err.contains('\u{1b}') && !all_well.err.contains('\r'), "no bar: {}", all_well.err);

    let [flipped, cut, lost] = [0, 1, 2].map(|i| images[i].metadata.image_id);
    let mut bytes = fs::read(folder.file(flipped, "png")).unwrap();
    bytes[4321] ^= 1;
    fs::write(folder.file(flipped, "png"), &bytes).unwrap();
    fs::write(folder.file(cut, "png"), &bytes[..4999]).unwrap();
    fs::remove_file(folder.file(lost, "json")).unwrap();

    let done = folder.run(&["images", "verify", "--json"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("of 7 images 3 are damaged and 0 could not be read"), "{}", done.err);
    let lines = done.json();
    assert_eq!(lines.len(), 8);
    for (id, status, reason) in [
        (flipped, "damaged", "BLAKE3"),
        (cut, "damaged", "5000 bytes were saved, 4999 are there"),
        (lost, "damaged", "its metadata is lost"),
        (images[3].metadata.image_id, "whole", ""),
        (expired.metadata.image_id, "expired", ""),
    ] {
        let line = lines.iter().find(|line| line["image_id"] == id.to_string()).unwrap();
        assert_eq!(line["status"], status);
        assert!(line["reason"].as_str().unwrap_or_default().contains(reason), "{line}");
    }
    assert_eq!(
        lines[7]["summary"],
        json!({
            "whole": 3, "bytes": 15_000, "damaged": 3, "expired": 1, "absent": 0, "failed": 0
        })
    );

    let named = folder.run(&["images", "verify", &id_of(&images[3]), &id_of(&images[4])]);
    assert_eq!((named.code, named.out.lines().count()), (0, 3), "{}", named.out);
    let absent = folder.run(&["images", "verify", &ImageId::now().to_string()]);
    assert_eq!(absent.code, 1);
    assert!(absent.err.contains("1 of 1 images are not there"), "{}", absent.err);
}

#[tokio::test]
async fn commands_on_the_memory_backend_say_why_not() {
    let folder = Folder::new();
    let memory = [("STORAGE_BACKEND", "memory")];
    for arguments in [&["images", "list"][..], &["migrate", "--to", "file", "--path", "x"]] {
        let done = folder.run_with(arguments, &memory);
        assert_eq!(done.code, 1);
        assert!(done.err.contains("STORAGE_BACKEND=memory"), "{}", done.err);
    }
}

#[tokio::test]
async fn migrate_copies_images_and_records_with_all_that_is_known() {
    let folder = Folder::new();
    let target = folder.path.with_file_name("target");
    let target_text = target.to_str().unwrap();
    let mut images = Vec::new();
    for i in 0..30_u32 {
        images.push(folder.save("雪の灯台 \u{0}", HOUR * i, HOUR * 300).await);
    }
    folder.save("over", HOUR * 50, HOUR).await;
    let (kind, key) = (RecordKind::Jobs, "job-1".parse().unwrap());
    let record = Record { value: json!({"state": "done"}), expires_at: (SystemTime::now() + HOUR).into() };
    folder.storage.records.create(kind, &key, record.clone()).await.unwrap();

    let migrate = ["migrate", "--to", "file", "--path", target_text];
    let done = folder.run(&migrate);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(
        done.out,
        "copied 30 images (146.4 KiB) and 1 records; 0 images were there already, 1 expired, 0 failed\n"
    );
    let copy = open(&target);
    for image in &images {
        assert_whole(&copy.images, image).await;
        assert_whole(folder.store(), image).await;
    }
    assert_eq!(list_all(&copy.images, None, 100).await.len(), 30);
    assert_eq!(copy.records.get(kind, &key).await.unwrap().record, record);

    // Interrupted: some are missing, and more came meanwhile.
    for image in &images[..10] {
        assert!(copy.images.delete(image.metadata.image_id).await.unwrap());
    }
    let new = folder.save("new", Duration::ZERO, HOUR).await;
    let again = folder.run(&[&migrate[..], &["--json"]].concat());
    assert_eq!(
        again.json(),
        [json!({"summary": {
            "copied": 11, "copied_bytes": 55_000, "present": 20, "expired": 1, "failed": 0, "records": 0
        }})]
    );
    assert_whole(&copy.images, &new).await;
    assert_whole(&copy.images, &images[0]).await;
}

#[tokio::test]
async fn migrate_leaves_damaged_images_behind_and_says_so() {
    let folder = Folder::new();
    let target = folder.path.with_file_name("target");
    let damaged = folder.save("damaged", HOUR, HOUR * 30).await;
    let lost = folder.save("lost", HOUR, HOUR * 30).await;
    let taken = folder.save("taken", HOUR, HOUR * 30).await;
    let whole = folder.save("whole", HOUR, HOUR * 30).await;
    fs::write(folder.file(damaged.metadata.image_id, "png"), vec![7; 5000]).unwrap();
    fs::remove_file(folder.file(lost.metadata.image_id, "json")).unwrap();
    let copy = open(&target);
    let mut other = taken.clone();
    other.metadata.generation.prompt = "another".to_owned();
    copy.images.save(other.clone()).await.unwrap();

    let done = folder.run(&["migrate", "--to", "file", "--path", target.to_str().unwrap(), "--json"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("3 images could not be copied"), "{}", done.err);
    let lines = done.json();
    for (image, reason) in
        [(&damaged, "BLAKE3"), (&lost, "metadata is lost"), (&taken, "another image with this id")]
    {
        let line = lines.iter().find(|line| line["image_id"] == id_of(image)).unwrap();
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
    }
    assert_whole(&copy.images, &whole).await;
    assert_whole(&copy.images, &other).await;
    for image in [&damaged, &lost] {
        let absent = copy.images.metadata(image.metadata.image_id).await;
        assert!(matches!(absent, Err(storage::Error::NotFound)), "{absent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_to_a_bucket_and_back_keeps_every_image() {
    let folder = Folder::new();
    let back = folder.path.with_file_name("back");
    let s3 = FakeS3::start().await;
    let endpoint = format!("http://{}", s3.addr);
    let mut variables = vec![
        ("S3_BUCKET", "images"),
        ("S3_ENDPOINT_URL", &*endpoint),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
    ];
    let mut images = Vec::new();
    for i in 0..12_u32 {
        images.push(folder.save("雪の灯台", HOUR * i, HOUR * 300).await);
    }
    let there = folder.run_with(&["migrate", "--to", "s3"], &variables);
    assert_eq!(there.code, 0, "{}", there.err);
    assert!(there.out.starts_with("copied 12 images (58.5 KiB)"), "{}", there.out);
    assert_eq!(s3.keys().iter().filter(|key| key.ends_with(".png")).count(), 12);
    let again = folder.run_with(&["migrate", "--to", "s3"], &variables);
    assert!(
        again.out.starts_with("copied 0 images") && again.out.contains("12 images were there"),
        "{}",
        again.out
    );

    variables.push(("STORAGE_BACKEND", "s3"));
    let done = folder.run_with(&["migrate", "--to", "file", "--path", back.to_str().unwrap()], &variables);
    assert_eq!(done.code, 0, "{}", done.err);
    let copy = open(&back);
    for image in &images {
        assert_whole(&copy.images, image).await;
    }
    let listed = folder.run_with(&["images", "list", "--json"], &variables);
    assert_eq!(listed.json().len(), 12);
    let verified = folder.run_with(&["images", "verify"], &variables);
    assert!(verified.out.starts_with("12 images: 12 whole"), "{}", verified.out);
    let no_bucket = folder.run(&["migrate", "--to", "s3"]);
    assert_eq!(no_bucket.code, 1);
    assert!(no_bucket.err.contains("S3_BUCKET"), "{}", no_bucket.err);
}

#[tokio::test]
async fn migrate_into_the_same_folder_is_refused() {
    let folder = Folder::new();
    let image = folder.save("a lighthouse", HOUR, HOUR * 30).await;
    for path in [folder.path.clone(), folder.path.join("../images")] {
        let done = folder.run(&["migrate", "--to", "file", "--path", path.to_str().unwrap()]);
        assert_eq!(done.code, 1);
        assert!(done.err.contains("--path"), "{}", done.err);
    }
    assert_whole(folder.store(), &image).await;
}

#[tokio::test]
async fn clean_once_keeps_to_the_quota() {
    let folder = Folder::new();
    let mut images = Vec::new();
    for i in 0..6_u32 {
        images.push(folder.save("a lighthouse", HOUR * i, HOUR * 30).await);
    }
    folder.save("over", HOUR * 50, HOUR).await;
    let done = folder.run_with(&["clean", "--json"], &[("STORAGE_MAX_IMAGES", "4")]);
    assert_eq!(
        done.json(),
        [json!({
            "removed": 1, "removed_bytes": 5000, "swept": 0, "failed": 0,
            "evicted": 2, "evicted_bytes": 10_000, "removed_records": 0
        })]
    );
    let kept: Vec<_> = images[..4].iter().map(|image| image.metadata.image_id).collect();
    assert_eq!(list_all(folder.store(), None, 10).await, kept);
    let refused = folder.run_with(&["clean"], &[("STORAGE_MAX_IMAGES", "0")]);
    assert_eq!(refused.code, 78);
    assert!(refused.err.contains("STORAGE_MAX_IMAGES is `0`"), "{}", refused.err);
}
