//! What is killed: saves, deletes and cleans, and notes each step.

use std::{
    env,
    fs::{File, OpenOptions},
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use mcp_image_server::{
    image::ImageId,
    storage::{Backend, Config, NewImage, Record, RecordKey, RecordKind, S3Config, Storage},
};

use crate::{
    client::content_hash,
    s3_faults::patient,
    store_conformance::{HOUR, image},
};

/// Set for the process that is to be killed: the folder to work in.
pub(super) const FOLDER: &str = "KILL_TEST_FOLDER";

/// Or the address of a bucket that is a fake.
pub(super) const FAKE: &str = "KILL_TEST_FAKE";

/// Or that of a proxy in front of the real gateway, and the prefix to work below.
pub(super) const GATEWAY: &str = "KILL_TEST_GATEWAY";
pub(super) const PREFIX: &str = "KILL_TEST_PREFIX";

/// And the file for notes.
pub(super) const LOG: &str = "KILL_TEST_LOG";

/// The kind of the records.
pub(super) const KIND: RecordKind = RecordKind::Jobs;

/// The life of what is to be there at the end.
pub(super) const LIFE: Duration = Duration::from_secs(100 * 3600);

/// Where the worker works.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket(Box<S3Config>),
}

impl Place {
    /// Where this process is told to work.
    fn told() -> Option<Self> {
        if let Some(folder) = env::var_os(FOLDER) {
            return Some(Self::Folder(folder.into()));
        }
        let address = |name| env::var(name).ok().map(|address| address.parse::<SocketAddr>().unwrap());
        let s3 = match (address(FAKE), address(GATEWAY)) {
            (Some(fake), _) => patient(fake),
            (None, Some(proxy)) => behind(proxy, env::var(PREFIX).unwrap()),
            (None, None) => return None,
        };
        Some(Self::Bucket(Box::new(s3)))
    }
}

/// The bucket of the real gateway behind a proxy.
pub(super) fn behind(proxy: SocketAddr, prefix: String) -> S3Config {
    let real = crate::s3::peer().expect("the gateway's address");
    S3Config { endpoint_url: Some(format!("http://{proxy}").parse().unwrap()), prefix, ..real }
}

/// Opens a store as the server does, waiting for the disk.
pub(super) fn open(place: &Place) -> Storage {
    let backend = match place {
        Place::Folder(path) => Backend::File { path: path.clone() },
        Place::Bucket(s3) => Backend::S3(s3.clone()),
    };
    let config = Config { backend, sync: true };
    Storage::open(&config).unwrap()
}

/// The image with this id: its bytes follow from it.
pub(super) fn image_of(id: ImageId, life: Duration) -> NewImage {
    let length = 1 + usize::try_from(id.created_millis() % 30_000).unwrap();
    let mut image = image(length, Duration::ZERO, HOUR);
    let seed = id.to_string();
    image.bytes = seed.bytes().cycle().take(length).collect::<Vec<_>>().into();
    image.metadata.image_id = id;
    image.metadata.created_at = id.created_at();
    image.metadata.expires_at = id.created_at() + life;
    image.metadata.blake3 = content_hash(&image.bytes);
    image
}

/// Notes that survive the process. They are written by a call that nothing is killed at.
struct Notes {
    file: File,
    length: u64,
}

impl Notes {
    fn note(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.file.write_all_at(line.as_bytes(), self.length).unwrap();
        self.length += line.len() as u64;
    }
}

#[test]
fn worker_runs_where_it_is_told() {
    let (Some(place), Some(log)) = (Place::told(), env::var_os(LOG)) else { return };
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(log).unwrap();
    let mut notes = Notes { file, length: 0 };
    notes.note("begin");
    if matches!(place, Place::Bucket(_)) {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    // One thread for all that blocks: strace counts by thread.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(work(&open(&place), &mut notes));
    notes.note("done");
}

async fn work(storage: &Storage, notes: &mut Notes) {
    let store = &storage.images;
    let now = SystemTime::now();
    let mut ids = Vec::new();
    for (age, life, what) in [
        (HOUR * 5, HOUR, "due"),
        (HOUR * 3, LIFE, "kept"),
        (HOUR * 5, HOUR, "due"),
        (HOUR * 4, LIFE, "kept"),
        (HOUR * 3, LIFE, "kept"),
    ] {
        let id = ImageId::at(now - age);
        notes.note(&format!("begin save {what} {id}"));
        store.save(image_of(id, life)).await.unwrap();
        notes.note(&format!("end save {what} {id}"));
        ids.push(id);
    }
    let deleted = ids[1];
    notes.note(&format!("begin delete {deleted}"));
    assert!(store.delete(deleted).await.unwrap());
    notes.note(&format!("end delete {deleted}"));

    let id = uuid::Uuid::now_v7().simple();
    let [kept, gone, due] = ["kept", "gone", "due"].map(|what| format!("{what}-{id}"));
    let mut version = create(storage, notes, &kept).await;
    for value in [2, 3] {
        notes.note(&format!("begin record {kept} {value}"));
        version = storage.records.replace(KIND, &key(&kept), record(value, LIFE), &version).await.unwrap();
        notes.note(&format!("end record {kept} {value}"));
    }
    create(storage, notes, &gone).await;
    notes.note(&format!("begin record {gone} 0"));
    assert!(storage.records.delete(KIND, &key(&gone)).await.unwrap());
    notes.note(&format!("end record {gone} 0"));
    // Not noted: it is absent from the beginning.
    storage.records.create(KIND, &key(&due), record(1, Duration::ZERO)).await.unwrap();

    store.expire(now).await.unwrap();
    storage.records.sweep(SystemTime::now()).await.unwrap();
}

async fn create(
    storage: &Storage,
    notes: &mut Notes,
    name: &str,
) -> mcp_image_server::storage::RecordVersion {
    notes.note(&format!("begin record {name} 1"));
    let version = storage.records.create(KIND, &key(name), record(1, LIFE)).await.unwrap();
    notes.note(&format!("end record {name} 1"));
    version
}

pub(super) fn key(name: &str) -> RecordKey {
    name.parse().unwrap()
}

fn record(value: u64, life: Duration) -> Record {
    Record { value: value.into(), expires_at: (SystemTime::now() + life).into() }
}
