//! What must be in a folder or a bucket, by the notes of those who worked in it.

use std::{
    collections::BTreeMap,
    fs::{self, FileTimes},
    path::Path,
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    image::ImageId,
    storage::{Error, RecordError, Storage},
};

use super::worker::{KIND, LIFE, Place, image_of, key, open};
use crate::{
    store::tree,
    store_conformance::{HOUR, assert_absent, assert_whole, list_all},
};

/// How an image may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Image {
    /// Its save or its delete was begun: absent, or whole.
    Either,
    /// Its save was acknowledged.
    Whole,
    /// Its delete was acknowledged, or its time is over.
    Absent,
}

/// What was noted about a place.
pub(super) struct Ledger {
    place: Place,
    images: BTreeMap<ImageId, Image>,
    /// The values that a record may have; 0 if it may be absent.
    records: BTreeMap<String, Vec<u64>>,
    pub(super) context: String,
}

impl Ledger {
    pub(super) fn new(place: Place) -> Self {
        let context = "not killed".to_owned();
        Self { place, images: BTreeMap::new(), records: BTreeMap::new(), context }
    }

    /// Takes in the notes of one worker, if it came to make any.
    pub(super) fn read(&mut self, log: &Path) {
        for line in fs::read_to_string(log).unwrap_or_default().lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["begin", "save", "kept", id] => self.set(id, Image::Either),
                ["end", "save", "kept", id] => self.set(id, Image::Whole),
                ["begin" | "end", "save", "due", id] => self.set(id, Image::Absent),
                ["begin", "delete", id] => self.set(id, Image::Either),
                ["end", "delete", id] => self.set(id, Image::Absent),
                ["begin", "record", name, value] => {
                    self.records
                        .entry(name.to_owned())
                        .or_insert_with(|| vec![0])
                        .push(value.parse().unwrap());
                }
                ["end", "record", name, value] => {
                    self.records.insert(name.to_owned(), vec![value.parse().unwrap()]);
                }
                ["begin"] | ["done"] => {}
                ref other => panic!("{other:?}"),
            }
        }
    }

    fn set(&mut self, id: &str, image: Image) {
        self.images.insert(id.parse().unwrap(), image);
    }

    /// Compares the place with what was noted, as a process that starts now finds it. What was
    /// open is settled by what is found.
    pub(super) async fn check(&mut self) {
        let storage = open(&self.place);
        for (id, expected) in &mut self.images {
            let image = image_of(*id, LIFE);
            let found = match storage.images.metadata(*id).await {
                Ok(_) => Image::Whole,
                Err(Error::NotFound) => Image::Absent,
                Err(error) => panic!("{}: {id}: {error:?}", self.context),
            };
            assert!(
                *expected == Image::Either || *expected == found,
                "{}: {id} is {found:?}, not {expected:?}",
                self.context
            );
            *expected = found;
            match found {
                Image::Whole => assert_whole(&storage.images, &image).await,
                _ => assert_absent(&storage.images, *id).await,
            }
        }
        // Nothing is served that nobody saved.
        let mut listed = list_all(&storage.images, None, 1000).await;
        listed.sort();
        assert_eq!(listed, self.whole(), "{}", self.context);
        self.check_records(&storage).await;
    }

    async fn check_records(&mut self, storage: &Storage) {
        for (name, allowed) in &mut self.records {
            let found = match storage.records.get(KIND, &key(name)).await {
                Ok(stored) => stored.record.value.as_u64().unwrap(),
                Err(RecordError::NotFound) => 0,
                Err(error) => panic!("{}: {name}: {error:?}", self.context),
            };
            assert!(allowed.contains(&found), "{}: {name} is {found}, not {allowed:?}", self.context);
            *allowed = vec![found];
        }
    }

    /// Makes all that is in a folder old, sweeps once, and compares names.
    pub(super) async fn check_folder_after_a_sweep(&mut self, folder: &Path) {
        let old = SystemTime::now() - HOUR * 2;
        for name in tree(folder) {
            let file = fs::File::open(folder.join(name)).unwrap();
            if file.metadata().unwrap().is_file() {
                file.set_times(FileTimes::new().set_modified(old)).unwrap();
            }
        }
        let expected = self.sweep(".json", SystemTime::now()).await;
        let files = tree(folder).into_iter().filter(|name| folder.join(name).is_file());
        assert_eq!(files.collect::<Vec<_>>(), expected, "{}", self.context);
    }

    /// Sweeps once, `ahead` of the time, so that all that is in a bucket is old; gives the keys that must
    /// be left, below the prefix.
    pub(super) async fn sweep_bucket(&mut self, ahead: Duration) -> Vec<String> {
        self.sweep("", SystemTime::now() + ahead).await
    }

    /// Sweeps once; gives the names of what must be left: two an image and one a record.
    async fn sweep(&mut self, record_extension: &str, now: SystemTime) -> Vec<String> {
        let storage = open(&self.place);
        storage.images.expire(now).await.unwrap();
        storage.records.sweep(now).await.unwrap();
        self.check().await;

        let mut expected = Vec::new();
        for id in self.whole() {
            expected.extend(["json", "png"].map(|extension| format!("{}/{id}.{extension}", id.bucket())));
        }
        let records = self.records.iter().filter(|(_, values)| values[..] != [0]);
        expected.extend(records.map(|(name, _)| format!("records/{}/{name}{record_extension}", KIND.name())));
        expected.sort();
        expected
    }

    fn whole(&self) -> Vec<ImageId> {
        let whole = self.images.iter().filter(|(_, image)| **image == Image::Whole);
        whole.map(|(id, _)| *id).collect()
    }
}
