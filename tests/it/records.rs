//! The stores of records, by their conformance suite.

use std::{path::Path, sync::Arc};

use mcp_image_server::storage::{Backend, Config, S3Config, Storage};
use tempfile::TempDir;

use crate::{
    fake_s3::FakeS3,
    record_conformance::{Records, records_conform},
    s3::peer,
    s3_faults,
};

macro_rules! peer {
    () => {
        match peer() {
            Some(peer) => peer,
            None => return,
        }
    };
}

/// Builds a store as the server does.
fn open(backend: Backend, sync: bool) -> Records {
    let config = Config { backend, sync };
    Storage::open(&config).expect("a store").records
}

fn in_folder(sync: bool) -> (Records, TempDir) {
    let folder = TempDir::new().expect("a folder");
    (open_folder(folder.path(), sync), folder)
}

fn open_folder(folder: &Path, sync: bool) -> Records {
    open(Backend::File { path: folder.join("images") }, sync)
}

records_conform!(file, in_folder(true));
records_conform!(file_without_sync, in_folder(false));
records_conform!(memory, (open(Backend::Memory { max_bytes: 1 << 30 }, false), ()));
records_conform!(file_of_two_replicas, {
    let folder = TempDir::new().expect("a folder");
    let replicas = [open_folder(folder.path(), false), open_folder(folder.path(), false)];
    (Arc::new(replicas::InTurn::new(replicas)) as Records, folder)
});

records_conform!(s3, bucket(|_| {}).await);
records_conform!(s3_with_small_pages, bucket(|server| server.set_page(7)).await);
records_conform!(s3_that_takes_bare_tags, bucket(FakeS3::take_bare_tags).await);
records_conform!(s3_that_creates_what_is_to_be_replaced, bucket(FakeS3::create_what_is_to_be_replaced).await);
records_conform!(s3_that_overwrites, bucket(FakeS3::ignore_conditions).await);
records_conform!(s3_of_two_replicas, {
    let server = FakeS3::start().await;
    let s3 = s3_faults::patient(server.addr);
    (Arc::new(replicas::InTurn::new([in_bucket(s3.clone()), in_bucket(s3)])) as Records, server)
});
records_conform!(ceph, (in_bucket(peer!()), ()));
records_conform!(ceph_with_versions, {
    let s3 = peer!();
    (in_bucket(S3Config { bucket: format!("{}-versioned", s3.bucket), ..s3 }), ())
});
records_conform!(ceph_of_two_replicas, {
    let s3 = peer!();
    (Arc::new(replicas::InTurn::new([in_bucket(s3.clone()), in_bucket(s3)])) as Records, ())
});

fn in_bucket(s3: S3Config) -> Records {
    open(Backend::S3(Box::new(s3)), false)
}

async fn bucket(set: impl FnOnce(&FakeS3)) -> (Records, FakeS3) {
    let server = FakeS3::start().await;
    set(&server);
    (in_bucket(s3_faults::patient(server.addr)), server)
}

mod bucket;
mod replicas;
