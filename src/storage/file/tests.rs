//! A save, step by step: its order, a failure at each step, a crash before each step.

use std::{cell::RefCell, time::Duration};

use tempfile::TempDir;

use super::{
    save::{Step, save},
    *,
};
use crate::image::{Format, Generation};

const ALL: [Step; 10] = [
    Step::Reserve,
    Step::WriteMetadata,
    Step::CreateImage,
    Step::WriteImage,
    Step::SyncImage,
    Step::SyncMetadata,
    Step::Commit,
    Step::SyncFolder,
    Step::SyncGroup,
    Step::SyncBase,
];

fn store(sync: bool) -> (FileStore, TempDir) {
    let folder = TempDir::new().unwrap();
    (FileStore::open(folder.path(), sync).unwrap(), folder)
}

fn image() -> NewImage {
    let now = SystemTime::now();
    let metadata = Metadata {
        image_id: ImageId::now(),
        format: Format::Jpeg,
        width: 64,
        height: 64,
        size_bytes: 10_000,
        blake3: "00".repeat(32),
        created_at: now.into(),
        expires_at: (now + Duration::from_secs(100 * 3600)).into(),
        thumbhash: None,
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
    NewImage { bytes: vec![7; 10_000].into(), metadata }
}

/// Files below a folder; buckets do not count.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn steps_of(store: &FileStore, created: SystemTime) -> Vec<Step> {
    let steps = RefCell::new(Vec::new());
    let note = |step| {
        steps.borrow_mut().push(step);
        Ok(())
    };
    let mut image = image();
    image.metadata.image_id = ImageId::at(created);
    save(&store.shared, &image, &note).unwrap();
    steps.into_inner()
}

#[test]
fn save_commits_in_order() {
    let (store, _folder) = store(true);
    let now = SystemTime::now();
    assert_eq!(steps_of(&store, now), ALL);
    // The names of the bucket and its group are durable by now.
    assert_eq!(steps_of(&store, now), ALL[..8]);
}

#[test]
fn save_into_another_bucket_makes_its_name_durable_and_that_of_its_group_once() {
    let (store, _folder) = store(true);
    // In the middle of the group, in buckets that are not over.
    let middle = (ImageId::now().created_millis() >> 24 << 24) + (3 << 23);
    let at = |bucket: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(middle + (bucket << 16));
    assert_eq!(steps_of(&store, at(0)), ALL);
    assert_eq!(steps_of(&store, at(1)), ALL[..9]);
    assert_eq!(steps_of(&store, at(1)), ALL[..8]);
    assert_eq!(steps_of(&store, at(256)), ALL);
}

#[test]
fn save_into_a_bucket_that_others_may_have_removed_and_made_relies_on_nothing() {
    let (store, _folder) = store(true);
    let old = SystemTime::now() - Duration::from_secs(3600);
    assert_eq!(steps_of(&store, old), ALL);
    assert_eq!(steps_of(&store, old), ALL);
}

#[test]
fn save_without_sync_waits_for_no_disk() {
    let (store, _folder) = store(false);
    let expected = [Step::Reserve, Step::WriteMetadata, Step::CreateImage, Step::WriteImage, Step::Commit];
    assert_eq!(steps_of(&store, SystemTime::now()), expected);
}

#[tokio::test]
async fn save_that_fails_at_any_step_leaves_nothing_and_works_again() {
    for failing in ALL {
        let (store, folder) = store(true);
        let image = image();
        let id = image.metadata.image_id;
        let fail = |step| {
            let full = io::Error::from(ErrorKind::StorageFull);
            if step == failing { Err(full) } else { Ok(()) }
        };
        let result = save(&store.shared, &image, &fail);
        assert!(matches!(result, Err(Error::Full(Some(_)))), "{failing:?}: {result:?}");
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new(), "{failing:?}");
        assert!(matches!(store.open(id).await, Err(Error::NotFound)), "{failing:?}");
        store.save(image).await.unwrap();
        store.open(id).await.unwrap();
    }
}

#[tokio::test]
async fn save_that_panics_leaves_nothing() {
    let (store, folder) = store(true);
    let shared = Arc::clone(&store.shared);
    let panicking = |step| if step == Step::Commit { panic!("in the middle") } else { Ok(()) };
    let result = blocking(move || save(&shared, &image(), &panicking)).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn crash_before_any_step_leaves_the_image_absent_or_whole() {
    for crashing in ALL {
        let (store, folder) = store(true);
        let crashed = TempDir::new().unwrap();
        let image = image();
        let copy = |step| {
            if step == crashing { copy_tree(folder.path(), crashed.path()) } else { Ok(()) }
        };
        save(&store.shared, &image, &copy).unwrap();

        let id = image.metadata.image_id;
        let after = FileStore::open(crashed.path(), true).unwrap();
        let now = SystemTime::now();
        if [Step::SyncFolder, Step::SyncGroup, Step::SyncBase].contains(&crashing) {
            assert_eq!(after.metadata(id).await.unwrap(), image.metadata);
            after.open(id).await.unwrap();
        } else {
            assert!(matches!(after.open(id).await, Err(Error::NotFound)), "{crashing:?}");
            assert!(matches!(after.metadata(id).await, Err(Error::NotFound)), "{crashing:?}");
            assert!(
                after
                    .list(ListQuery { prefix: None, cursor: None, limit: 9 })
                    .await
                    .unwrap()
                    .images
                    .is_empty()
            );
            // And what is there goes.
            after.expire(now + Duration::from_secs(2 * 3600)).await.unwrap();
            assert_eq!(files(crashed.path()), Vec::<PathBuf>::new(), "{crashing:?}");
        }
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        if path.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn bucket_removed_before_the_reservation_is_made_again() {
    let (store, folder) = store(true);
    let image = image();
    let bucket = folder.path().join(image.metadata.image_id.bucket());
    let removals = RefCell::new(3);
    let remove = |step| {
        if step == Step::Reserve && *removals.borrow() > 0 {
            *removals.borrow_mut() -= 1;
            fs::remove_dir(&bucket)?;
        }
        Ok(())
    };
    save(&store.shared, &image, &remove).unwrap();
    assert_eq!(*removals.borrow(), 0);
    store.open(image.metadata.image_id).await.unwrap();
}

#[test]
fn bucket_removed_for_ever_is_an_error() {
    let (store, folder) = store(true);
    let image = image();
    let bucket = folder.path().join(image.metadata.image_id.bucket());
    let remove = |step| if step == Step::Reserve { fs::remove_dir(&bucket) } else { Ok(()) };
    let result = save(&store.shared, &image, &remove);
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn metadata_beyond_its_bound_is_refused() {
    let (store, folder) = store(true);
    let mut image = image();
    image.metadata.generation.prompt = "x".repeat(1 << 20);
    let result = store.save(image).await;
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}
