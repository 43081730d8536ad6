//! The stores of records, by their conformance suite.

use std::{path::Path, sync::Arc};

use mcp_image_server::storage::{Backend, Config, Storage};
use tempfile::TempDir;

use crate::record_conformance::{Records, records_conform};

/// Builds a store as the server does.
fn open(backend: Backend, sync: bool) -> Records {
    let config = Config { backend, public_base_url: "http://images.example".to_owned(), sync };
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

mod replicas;
