//! What only a folder does: leftovers of crashes, damage, strangers' files, links.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, FileTimes, OpenOptions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    image::ImageId,
    storage::{Backend, Config, Error, Expired, ListQuery, NewImage},
};
use tempfile::TempDir;

use super::{in_folder, open};
use crate::store_conformance::{
    HOUR, Store, assert_absent, assert_whole, fresh, image, list_all, read, saved, walk_all,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The path of a file of `id`, by the documented layout.
pub(super) fn file_of(base: &Path, id: ImageId, extension: &str) -> PathBuf {
    base.join(id.bucket()).join(format!("{id}.{extension}"))
}

/// What is in a folder with this image alone.
fn names_of(id: ImageId) -> [String; 4] {
    let bucket = id.bucket();
    let group = bucket[..6].to_owned();
    [group, bucket.clone(), format!("{bucket}/{id}.json"), format!("{bucket}/{id}.png")]
}

/// Every file and folder below a folder, without it, sorted.
pub(crate) fn tree(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, base: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                walk(&path, base, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn store() -> (Store, PathBuf, TempDir) {
    let (store, folder) = in_folder(true);
    (store, folder.path().join("images"), folder)
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn set_modified(path: &Path, time: SystemTime) {
    OpenOptions::new().read(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn id_of(image: &NewImage) -> ImageId {
    image.metadata.image_id
}

#[tokio::test]
async fn save_lays_files_out_by_bucket() {
    let (store, base, _folder) = store();
    let image = saved(&store, fresh(100)).await;
    let id = id_of(&image);
    assert_eq!(tree(&base), names_of(id));
    assert_eq!(names_of(id)[1], format!("{}/{}", &id.to_string()[..6], &id.to_string()[6..8]));
    let sidecar: serde_json::Value =
        serde_json::from_slice(&fs::read(file_of(&base, id, "json")).unwrap()).unwrap();
    assert_eq!(sidecar["prompt"], "a lighthouse at dusk");
    assert_eq!(sidecar["image_id"], id.to_string());
}

#[tokio::test]
async fn base_folder_made_by_the_store_is_for_its_user_alone() {
    let (_store, base, _folder) = store();
    assert_eq!(fs::metadata(&base).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn base_folder_that_cannot_be_made_is_named_with_a_hint() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let path = folder.path().join("file/images");
    let config = Config { backend: Backend::File { path: path.clone() }, sync: true };
    let Err(error) = mcp_image_server::storage::open(&config) else { panic!("a store in a file") };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("STORAGE_PATH"), "{message}");
    assert!(message.contains("Not a directory"), "{message}");
}

#[tokio::test]
async fn base_folder_removed_is_an_empty_store_that_starts_anew() {
    let (store, base, _folder) = store();
    let lost = saved(&store, fresh(100)).await;
    fs::remove_dir_all(&base).unwrap();
    assert_absent(&store, id_of(&lost)).await;
    assert_eq!(list_all(&store, None, 10).await, []);
    assert_eq!(store.expire(SystemTime::now()).await.unwrap(), Expired::default());
    store.check().await.unwrap();
    let image = saved(&store, fresh(100)).await;
    assert_whole(&store, &image).await;
}

#[tokio::test]
async fn images_are_found_again_by_another_process() {
    let (store, base, _folder) = store();
    let image = saved(&store, fresh(100)).await;
    let other = open(Backend::File { path: base }, true);
    assert_whole(&other, &image).await;
    assert!(other.delete(id_of(&image)).await.unwrap());
    assert_absent(&store, id_of(&image)).await;
}

#[tokio::test]
async fn leftovers_of_a_crash_are_not_images_and_are_swept_after_an_hour() {
    let (store, base, _folder) = store();
    let [half_written, uncommitted, half_sidecar] =
        [(); 3].map(|()| image(100, HOUR + MINUTE * 30, HOUR * 100));
    for image in [&half_written, &uncommitted, &half_sidecar] {
        let sidecar = serde_json::to_vec(&image.metadata).unwrap();
        write(&file_of(&base, id_of(image), "json"), &sidecar);
    }
    write(&file_of(&base, id_of(&half_written), "tmp"), &half_written.bytes[..50]);
    write(&file_of(&base, id_of(&half_sidecar), "json"), b"{\"image_id\":");
    write(&base.join(".probe-0123456789abcdef0123456789abcdef"), b"");

    for image in [&half_written, &uncommitted, &half_sidecar] {
        assert_absent(&store, id_of(image)).await;
        assert!(!store.delete(id_of(image)).await.unwrap());
    }
    assert_eq!(list_all(&store, None, 10).await, []);

    let now = SystemTime::now();
    let young = store.expire(now + MINUTE * 59).await.unwrap();
    assert_eq!(young, Expired::default(), "{:?}", tree(&base));
    let old = store.expire(now + MINUTE * 61).await.unwrap();
    assert_eq!(old, Expired { swept: 5, ..Expired::default() });
    // Their folders, as soon as nobody may save into one.
    assert!(tree(&base).iter().all(|name| base.join(name).is_dir()), "{:?}", tree(&base));
    store.expire(now + HOUR * 7).await.unwrap();
    assert_eq!(tree(&base), Vec::<String>::new());
}

#[tokio::test]
async fn leftovers_behind_a_long_lived_image_are_swept_too() {
    let (store, base, _folder) = store();
    let long_lived = saved(&store, image(100, DAY, DAY * 365)).await;
    let mut leftovers = Vec::new();
    for i in 0..600 {
        // One in each bucket, over half a day.
        let age = HOUR * 2 + Duration::from_secs(66) * i;
        let path = file_of(&base, ImageId::at(SystemTime::now() - age), "tmp");
        write(&path, b"half an im");
        set_modified(&path, SystemTime::now() - age);
        leftovers.push(path);
    }
    let fresh_leftover = file_of(&base, ImageId::now(), "tmp");
    write(&fresh_leftover, b"under way");

    let mut cycles = 0;
    while leftovers.iter().any(|path| path.exists()) {
        let expired = store.expire(SystemTime::now()).await.unwrap();
        assert!(expired.swept <= 256, "the work of a cycle is bounded");
        cycles += 1;
        assert!(cycles <= 4, "{:?}", tree(&base));
    }
    assert!(cycles >= 3);
    assert!(fresh_leftover.exists());
    assert_whole(&store, &long_lived).await;
}

#[tokio::test]
async fn image_cut_short_is_corrupt_and_neighbours_are_not() {
    let (store, base, _folder) = store();
    let image = saved(&store, fresh(1000)).await;
    let neighbour = saved(&store, fresh(1000)).await;
    let path = file_of(&base, id_of(&image), "png");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(999).unwrap();

    let opened = store.open(id_of(&image)).await;
    assert!(matches!(&opened, Err(Error::Corrupt { id, .. }) if *id == id_of(&image)), "{opened:?}");
    let metadata = store.metadata(id_of(&image)).await;
    assert!(matches!(metadata, Err(Error::Corrupt { .. })), "{metadata:?}");
    assert_whole(&store, &neighbour).await;
    assert!(store.delete(id_of(&image)).await.unwrap());
    assert_absent(&store, id_of(&image)).await;
}

#[tokio::test]
async fn image_cut_short_under_a_reader_ends_the_stream_with_an_error() {
    let (store, base, _folder) = store();
    let image = saved(&store, fresh(1_000_000)).await;
    let opened = store.open(id_of(&image)).await.unwrap();
    let path = file_of(&base, id_of(&image), "png");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(500_000).unwrap();
    let result = read(opened, 0..1_000_000).await;
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
}

#[tokio::test]
async fn image_with_lost_metadata_is_absent_and_goes_after_a_day() {
    let (store, base, _folder) = store();
    let lost = saved(&store, image(100, HOUR * 2, HOUR * 3)).await;
    let garbled = saved(&store, image(100, HOUR * 2, HOUR * 3)).await;
    let foreign = saved(&store, image(100, HOUR * 2, HOUR * 3)).await;
    let alive = saved(&store, image(100, HOUR, DAY * 30)).await;
    fs::remove_file(file_of(&base, id_of(&lost), "json")).unwrap();
    fs::write(file_of(&base, id_of(&garbled), "json"), [0; 100]).unwrap();
    fs::copy(file_of(&base, id_of(&alive), "json"), file_of(&base, id_of(&foreign), "json")).unwrap();

    for image in [&lost, &garbled, &foreign] {
        assert_absent(&store, id_of(image)).await;
    }
    assert_eq!(list_all(&store, None, 10).await, [id_of(&alive)]);
    // It is not overwritten either.
    let taken = store.save(lost.clone()).await;
    assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
    assert!(!file_of(&base, id_of(&lost), "json").exists());

    let now = SystemTime::now();
    assert_eq!(store.expire(now + HOUR * 23).await.unwrap(), Expired::default());
    let first = store.expire(now + HOUR * 25).await.unwrap();
    let second = store.expire(now + HOUR * 25).await.unwrap();
    assert_eq!((first.swept, second.swept, first.removed + second.removed), (3, 2, 0));
    assert_whole(&store, &alive).await;
    assert_eq!(tree(&base), names_of(id_of(&alive)));
}

#[tokio::test]
async fn damaged_images_are_walked_by_and_inspection_tells_what_is_wrong() {
    let (store, base, _folder) = store();
    let images: Vec<_> = (0..4).map(|_| fresh(100)).collect();
    for image in &images {
        saved(&store, image.clone()).await;
    }
    let [lost, garbled, foreign, whole] = [0, 1, 2, 3].map(|i| id_of(&images[i]));
    fs::remove_file(file_of(&base, lost, "json")).unwrap();
    fs::write(file_of(&base, garbled, "json"), "{").unwrap();
    fs::copy(file_of(&base, whole, "json"), file_of(&base, foreign, "json")).unwrap();
    let uncommitted = image(100, HOUR, HOUR * 100);
    let sidecar = serde_json::to_vec(&uncommitted.metadata).unwrap();
    write(&file_of(&base, id_of(&uncommitted), "json"), &sidecar);

    let mut walked: Vec<_> = walk_all(&store).await.iter().map(|walked| walked.image_id).collect();
    let mut expected = vec![lost, garbled, foreign, whole];
    walked.sort();
    expected.sort();
    assert_eq!(walked, expected);
    for (id, reason) in [(lost, "is lost"), (garbled, "cannot be read"), (foreign, &whole.to_string())] {
        let inspected = store.inspect(id).await;
        assert!(
            matches!(&inspected, Err(Error::Corrupt { reason: told, .. }) if told.contains(reason)),
            "{inspected:?}"
        );
    }
    assert!(matches!(store.inspect(id_of(&uncommitted)).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let (store, base, _folder) = store();
    let image = saved(&store, image(100, DAY, HOUR)).await;
    let bucket = base.join(id_of(&image).bucket());
    let id = id_of(&image);
    let others = [
        base.join("notes.txt"),
        base.join(".probe-mine"),
        base.join("lost+found/a"),
        base.join("000000/notes.json"),
        base.join("000000/00/notes.json"),
        base.join("000000/00x/readme"),
        base.join("000000x/00/readme"),
        bucket.join("notes.json"),
        bucket.join(format!("{id}.png.bak")),
        bucket.join(format!("{id}.PNG")),
        bucket.join(format!("{}.png", id.to_string().to_uppercase())),
        bucket.join(format!("{id}.d/{id}.png")),
    ];
    for path in &others {
        write(path, b"not ours");
        set_modified(path, SystemTime::UNIX_EPOCH);
    }
    let expired = store.expire(SystemTime::now() + DAY * 10).await.unwrap();
    assert_eq!(expired, Expired { removed: 1, removed_bytes: 100, ids: vec![id], ..Expired::default() });
    for path in &others {
        assert!(path.exists(), "{}", path.display());
    }
    assert!(!file_of(&base, id, "png").exists());
    assert_eq!(list_all(&store, None, 10).await, []);
}

#[tokio::test]
async fn links_are_not_followed() {
    let (store, base, folder) = store();
    let outside = folder.path().join("outside");
    let image = fresh(100);
    let id = id_of(&image);
    let sidecar = serde_json::to_vec(&image.metadata).unwrap();
    write(&outside.join(format!("{id}.json")), &sidecar);
    write(&outside.join(format!("{id}.png")), &image.bytes);

    // A bucket that is a link, and a group that is one.
    let (group, name) = (base.join(&id.bucket()[..6]), &id.bucket()[7..]);
    let group_outside = folder.path().join("group");
    fs::create_dir(&group_outside).unwrap();
    symlink(&outside, group_outside.join(name)).unwrap();
    for is_group in [false, true] {
        if is_group {
            fs::remove_file(group.join(name)).unwrap();
            fs::remove_dir(&group).unwrap();
            symlink(&group_outside, &group).unwrap();
        } else {
            fs::create_dir(&group).unwrap();
            symlink(&outside, group.join(name)).unwrap();
        }
        assert_absent(&store, id).await;
        assert!(!store.delete(id).await.unwrap());
        assert_eq!(list_all(&store, None, 10).await, []);
        assert_eq!(store.expire(SystemTime::now() + DAY * 10).await.unwrap(), Expired::default());
        let mut into = image.clone();
        into.metadata.image_id = id;
        assert!(matches!(store.save(into).await, Err(Error::Unavailable(_))));
        assert_eq!(tree(&outside), [format!("{id}.json"), format!("{id}.png")]);
    }

    // An image that is a link, and metadata that is one.
    fs::remove_file(group).unwrap();
    write(&file_of(&base, id, "json"), &sidecar);
    symlink(outside.join(format!("{id}.png")), file_of(&base, id, "png")).unwrap();
    assert!(store.open(id).await.is_err());
    fs::remove_file(file_of(&base, id, "json")).unwrap();
    symlink(outside.join(format!("{id}.json")), file_of(&base, id, "json")).unwrap();
    assert_absent(&store, id).await;
}

#[tokio::test]
async fn pipe_in_place_of_an_image_does_not_hold_the_reader() {
    let (store, base, _folder) = store();
    let mut image = fresh(1);
    image.metadata.size_bytes = 0;
    write(&file_of(&base, id_of(&image), "json"), &serde_json::to_vec(&image.metadata).unwrap());
    let path = file_of(&base, id_of(&image), "png");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(matches!(store.open(id_of(&image)).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn empty_buckets_go_and_the_current_one_stays() {
    let (store, base, _folder) = store();
    // A group is 4.7 hours, and stays for another: wherever in theirs these are, it is over.
    for age in [DAY, HOUR * 12, HOUR * 6] {
        saved(&store, image(100, age, HOUR)).await;
    }
    let current = saved(&store, fresh(100)).await;
    assert!(store.delete(id_of(&current)).await.unwrap());
    store.expire(SystemTime::now()).await.unwrap();
    assert_eq!(tree(&base), &names_of(id_of(&current))[..2]);
}

#[tokio::test]
async fn empty_bucket_stays_for_an_hour_after_its_time_and_a_group_as_long_after_its_own() {
    let (store, base, _folder) = store();
    // In the first bucket of a group.
    let start = ImageId::now().created_millis() >> 24 << 24;
    let created = SystemTime::UNIX_EPOCH + Duration::from_millis(start);
    let mut image = fresh(100);
    image.metadata.image_id = ImageId::at(created);
    saved(&store, image.clone()).await;
    assert!(store.delete(id_of(&image)).await.unwrap());
    let folders = &names_of(id_of(&image))[..2];
    for (age, left) in [
        (MINUTE * 61, folders),
        (MINUTE * 62, &folders[..1]),
        (MINUTE * 339, &folders[..1]),
        (MINUTE * 340, &[]),
    ] {
        store.expire(created + age).await.unwrap();
        assert_eq!(tree(&base), left, "{age:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn saves_into_buckets_that_are_being_removed_are_not_lost() {
    let (store, _base, _folder) = store();
    let cleaner = tokio::spawn({
        let store = store.clone();
        async move {
            loop {
                store.expire(SystemTime::now()).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    // Old buckets, empty again after each round.
    for round in 0..100 {
        let images: Vec<_> = (0..4).map(|_| image(100, DAY + HOUR * round, DAY * 365)).collect();
        for image in &images {
            saved(&store, image.clone()).await;
        }
        for image in &images {
            assert_whole(&store, image).await;
            assert!(store.delete(id_of(image)).await.unwrap());
        }
    }
    cleaner.abort();
}

#[tokio::test]
async fn save_dropped_in_the_middle_is_absent_or_whole() {
    let (store, base, _folder) = store();
    let images: Vec<_> = (0..32).map(|_| fresh(300_000)).collect();
    for image in &images {
        // Polled once and dropped: the job is on its way, and nobody waits for it.
        let _ = futures_util::poll!(store.save(image.clone()));
    }
    // The jobs run to their end, one way or the other: a store on the same folder sees it.
    for image in &images {
        while !file_of(&base, id_of(image), "png").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_whole(&store, image).await;
    }
    assert!(tree(&base).iter().all(|name| !name.ends_with(".tmp")));
}

#[tokio::test]
async fn listing_does_not_read_buckets_it_does_not_need() {
    let (store, base, _folder) = store();
    let old = saved(&store, image(100, HOUR * 5, DAY)).await;
    let new = saved(&store, fresh(100)).await;
    // A sidecar that cannot be read makes itself felt when it is.
    let sidecar = file_of(&base, id_of(&old), "json");
    fs::remove_file(&sidecar).unwrap();
    fs::create_dir(&sidecar).unwrap();
    let page = |query: ListQuery| store.list(query);
    assert!(page(ListQuery { prefix: None, cursor: None, limit: 2 }).await.is_err());
    let first = page(ListQuery { prefix: None, cursor: None, limit: 1 }).await.unwrap();
    assert_eq!(first.next, Some(id_of(&new)));
    let prefix = Some(id_of(&new).to_string()[..8].to_owned());
    let of_bucket = page(ListQuery { prefix, cursor: None, limit: 100 }).await.unwrap();
    assert_eq!(of_bucket.images.len(), 1);
}
