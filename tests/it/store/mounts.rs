//! Disks that are full or read-only, as small file systems in memory: needs the right to mount.

use std::{fs, time::SystemTime};

use mcp_image_server::storage::{
    Backend, Config, Error, Record, RecordError, RecordKey, RecordKind, Storage,
};

use super::{
    folder::{file_of, tree},
    open,
};
use crate::mount::Mount;
use crate::store_conformance::{HOUR, Store, assert_absent, assert_whole, fresh, image, list_all, saved};

fn store(mount: &Mount, sync: bool) -> Store {
    open(Backend::File { path: mount.path() }, sync)
}

#[tokio::test]
async fn disk_full_is_typed_leaves_nothing_and_recovers() {
    let Some(mount) = Mount::new("size=1m") else { return };
    for sync in [true, false] {
        let store = store(&mount, sync);
        let first = saved(&store, fresh(400_000)).await;
        let before = tree(&mount.path());

        let too_large = fresh(900_000);
        let result = store.save(too_large.clone()).await;
        assert!(matches!(result, Err(Error::Full(Some(_)))), "{result:?}");
        assert_eq!(tree(&mount.path()), before);
        assert_absent(&store, too_large.metadata.image_id).await;
        assert_whole(&store, &first).await;

        assert!(store.delete(first.metadata.image_id).await.unwrap());
        let fits = saved(&store, too_large).await;
        assert_whole(&store, &fits).await;
        assert!(store.delete(fits.metadata.image_id).await.unwrap());
    }
}

#[tokio::test]
async fn disk_without_inodes_is_full_and_leaves_nothing() {
    let Some(mount) = Mount::new("size=4m,nr_inodes=8") else { return };
    let store = store(&mount, true);
    let mut kept = Vec::new();
    let error = loop {
        let before = tree(&mount.path());
        let image = fresh(1000);
        match store.save(image.clone()).await {
            Ok(()) => kept.push(image),
            Err(error) => {
                assert_eq!(tree(&mount.path()), before);
                break error;
            }
        }
        assert!(kept.len() < 8, "{:?}", tree(&mount.path()));
    };
    assert!(matches!(error, Error::Full(Some(_))), "{error:?}");
    assert!(!kept.is_empty());
    for image in &kept {
        assert_whole(&store, image).await;
    }
}

#[tokio::test]
async fn full_disk_fails_the_check_until_there_is_room() {
    let Some(mount) = Mount::new("size=64k") else { return };
    let store = store(&mount, true);
    store.check().await.unwrap();
    let filler = mount.path().join("filler");
    fs::write(&filler, vec![0; 64 << 10]).unwrap();
    let result = store.check().await;
    assert!(matches!(result, Err(Error::Full(Some(_)))), "{result:?}");
    assert_eq!(tree(&mount.path()), ["filler"]);
    fs::remove_file(filler).unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn read_only_disk_is_typed_and_reads_go_on() {
    let Some(mount) = Mount::new("size=4m") else { return };
    let store = store(&mount, true);
    let alive = saved(&store, fresh(10_000)).await;
    let due = saved(&store, image(10_000, HOUR * 5, HOUR)).await;
    let before = tree(&mount.path());
    mount.remount("ro");

    for result in [
        store.save(fresh(10)).await,
        store.save(image(10, HOUR * 9, HOUR * 10)).await,
        store.check().await,
        store.delete(alive.metadata.image_id).await.map(drop),
    ] {
        assert!(matches!(result, Err(Error::ReadOnly(_))), "{result:?}");
    }
    let expired = store.expire(SystemTime::now()).await.unwrap();
    assert_eq!((expired.removed, expired.failed), (0, 1));
    assert_whole(&store, &alive).await;
    assert_eq!(list_all(&store, None, 10).await, [alive.metadata.image_id]);
    assert_eq!(tree(&mount.path()), before);

    // A store that starts on it serves what is there.
    let other = open(Backend::File { path: mount.path() }, true);
    assert_whole(&other, &alive).await;

    mount.remount("rw");
    assert_eq!(store.expire(SystemTime::now()).await.unwrap().removed, 1);
    assert!(!file_of(&mount.path(), due.metadata.image_id, "png").exists());
    saved(&store, fresh(10)).await;
    store.check().await.unwrap();
}

#[tokio::test]
async fn disk_that_fills_up_under_many_saves_keeps_every_acknowledged_image() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let store = store(&mount, true);
    let images: Vec<_> = (0..40).map(|_| fresh(60_000)).collect();
    let saves = images.iter().map(|image| store.save(image.clone()));
    let results = futures_util::future::join_all(saves).await;
    let mut kept = 0;
    for (image, result) in images.iter().zip(results) {
        match result {
            Ok(()) => {
                assert_whole(&store, image).await;
                kept += 1;
            }
            Err(Error::Full(_)) => assert_absent(&store, image.metadata.image_id).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(kept > 0 && kept < images.len(), "{kept}");
    // Two files an image, a group and a bucket (two of each if their time ran out).
    let folders = tree(&mount.path()).len() - 2 * kept;
    assert!((2..=4).contains(&folders), "{:?}", tree(&mount.path()));
    // A group is 4.7 hours, and stays for another.
    let later = SystemTime::now() + HOUR * 6;
    assert_eq!(store.expire(later).await.unwrap().removed, kept as u64);
    assert_eq!(tree(&mount.path()), Vec::<String>::new());
}

#[tokio::test]
async fn records_on_a_disk_that_is_full_or_read_only_are_typed_and_recover() {
    let Some(mount) = Mount::new("size=256k") else { return };
    let config = Config { backend: Backend::File { path: mount.path() }, sync: true };
    let records = Storage::open(&config).unwrap().records;
    let (kind, key) = (RecordKind::Jobs, |text: &str| text.parse::<RecordKey>().unwrap());
    let record =
        |value: String| Record { value: value.into(), expires_at: (SystemTime::now() + HOUR).into() };
    let first = records.create(kind, &key("first"), record("small".to_owned())).await.unwrap();
    let before = tree(&mount.path());

    let large = || record("x".repeat(250_000));
    fs::write(mount.path().join("filler"), vec![0; 64 << 10]).unwrap();
    let full = [
        records.create(kind, &key("large"), large()).await,
        records.replace(kind, &key("first"), large(), &first).await,
    ];
    for result in full {
        assert!(matches!(result, Err(RecordError::Storage(Error::Full(Some(_))))), "{result:?}");
    }
    fs::remove_file(mount.path().join("filler")).unwrap();
    assert_eq!(tree(&mount.path()), before);
    assert_eq!(records.get(kind, &key("first")).await.unwrap().version, first);

    mount.remount("ro");
    let read_only = [
        records.create(kind, &key("other"), large()).await.map(drop),
        records.replace(kind, &key("first"), record(String::new()), &first).await.map(drop),
        records.delete(kind, &key("first")).await.map(drop),
    ];
    for result in read_only {
        assert!(matches!(result, Err(RecordError::Storage(Error::ReadOnly(_)))), "{result:?}");
    }
    assert_eq!(records.get(kind, &key("first")).await.unwrap().version, first);

    mount.remount("rw");
    records.replace(kind, &key("first"), record("again".to_owned()), &first).await.unwrap();
    assert!(records.delete(kind, &key("first")).await.unwrap());
}
