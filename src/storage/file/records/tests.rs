//! What a crash or a stranger leaves beside records.

use std::{fs::FileTimes, path::Path};

use tempfile::TempDir;

use super::*;
use crate::storage::file::FileStore;

const KIND: RecordKind = RecordKind::Jobs;
const HOUR: Duration = Duration::from_secs(3600);

fn records() -> (FileRecords, PathBuf, TempDir) {
    let folder = TempDir::new().unwrap();
    let store = FileStore::open(folder.path(), true).unwrap();
    (store.records(), folder.path().join("records/jobs"), folder)
}

fn key(text: &str) -> RecordKey {
    text.parse().unwrap()
}

fn record(life: Duration) -> Record {
    Record { value: "state".into(), expires_at: (SystemTime::now() + life).into() }
}

fn age_all(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::now() - 2 * HOUR)).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn record_lies_in_a_file_of_its_kind() {
    let (records, folder, _guard) = records();
    records.create(KIND, &key("a"), record(HOUR)).await.unwrap();
    assert_eq!(names(&folder), ["a.json"]);
    let text: Value = serde_json::from_slice(&fs::read(folder.join("a.json")).unwrap()).unwrap();
    assert_eq!(text["value"], "state");
}

#[tokio::test]
async fn creation_that_was_interrupted_is_absent_and_its_key_is_free() {
    for left in ["", "{\"version\":\"0198", "[]"] {
        let (records, folder, _guard) = records();
        records.create(KIND, &key("other"), record(HOUR)).await.unwrap();
        fs::write(folder.join("a.json"), left).unwrap();
        assert!(matches!(records.get(KIND, &key("a")).await, Err(RecordError::NotFound)));
        assert!(!records.delete(KIND, &key("a")).await.unwrap());
        records.create(KIND, &key("a"), record(HOUR)).await.unwrap();
        assert_eq!(records.get(KIND, &key("a")).await.unwrap().record.value, "state");
        assert_eq!(names(&folder), ["a.json", "other.json"]);
    }
}

#[tokio::test]
async fn creation_under_way_is_waited_for() {
    let (records, folder, _guard) = records();
    records.create(KIND, &key("other"), record(HOUR)).await.unwrap();
    // Another process has made the file, holds its lock, and has not written yet.
    let opened = Folder::open(&folder).unwrap();
    let file = opened.create_new("a.json").unwrap();
    let mut locked = Locked::made(&opened, "a.json", file).unwrap().unwrap();
    let second = tokio::spawn({
        let records = records.clone();
        async move { records.create(KIND, &key("a"), record(HOUR)).await }
    });
    assert!(matches!(records.get(KIND, &key("a")).await, Err(RecordError::NotFound)));
    let (version, text) = Envelope::seal(record(HOUR)).unwrap();
    locked.file.write_all(&text).unwrap();
    drop(locked);
    assert!(matches!(second.await.unwrap(), Err(RecordError::AlreadyExists)));
    assert_eq!(records.get(KIND, &key("a")).await.unwrap().version, version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_given_more_time_under_the_sweep_stays() {
    let (records, folder, _guard) = records();
    records.create(KIND, &key("a"), record(HOUR)).await.unwrap();
    let opened = Folder::open(&folder).unwrap();
    let locked = Locked::open(&opened, "a.json").unwrap().unwrap();
    let sweep = tokio::spawn({
        let records = records.clone();
        async move { records.sweep(SystemTime::now() + 2 * HOUR).await }
    });
    // The sweep has seen a record that is due, or is about to; it waits for the lock either way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!sweep.is_finished());
    let kept = Kept { shared: &records.shared, kind: KIND };
    kept.put(&opened, &key("a"), &Envelope::seal(record(3 * HOUR)).unwrap().1).unwrap();
    drop(locked);
    assert_eq!(sweep.await.unwrap().unwrap(), SweptRecords::default());
    records.get(KIND, &key("a")).await.unwrap();
}

#[tokio::test]
async fn leftovers_are_swept_after_an_hour_and_strangers_stay() {
    let (records, folder, _guard) = records();
    records.create(KIND, &key("live"), record(HOUR)).await.unwrap();
    fs::write(folder.join("half.json"), "{").unwrap();
    fs::write(folder.join("live.0123456789abcdef0123456789abcdef.tmp"), "{").unwrap();
    fs::write(folder.join("Notes.json"), "mine").unwrap();
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap(), SweptRecords::default());
    age_all(&folder);
    let swept = records.sweep(SystemTime::now()).await.unwrap();
    assert_eq!(swept, SweptRecords { swept: 2, ..SweptRecords::default() });
    assert_eq!(names(&folder), ["Notes.json", "live.json"]);
}

#[tokio::test]
async fn folders_removed_are_made_again() {
    let (records, folder, guard) = records();
    records.create(KIND, &key("a"), record(HOUR)).await.unwrap();
    fs::remove_dir_all(guard.path()).unwrap();
    assert!(matches!(records.get(KIND, &key("a")).await, Err(RecordError::NotFound)));
    assert_eq!(records.sweep(SystemTime::now()).await.unwrap(), SweptRecords::default());
    records.create(KIND, &key("a"), record(HOUR)).await.unwrap();
    assert_eq!(names(&folder), ["a.json"]);
}

#[tokio::test]
async fn links_are_not_followed() {
    let (records, folder, guard) = records();
    records.create(KIND, &key("other"), record(HOUR)).await.unwrap();
    let outside = guard.path().join("outside.json");
    fs::copy(folder.join("other.json"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("a.json")).unwrap();
    assert!(matches!(records.get(KIND, &key("a")).await, Err(RecordError::NotFound)));
    assert!(!records.delete(KIND, &key("a")).await.unwrap());
    assert!(matches!(
        records.create(KIND, &key("a"), record(HOUR)).await,
        Err(RecordError::Storage(Error::Unavailable(_)))
    ));
    assert!(outside.exists());
}
