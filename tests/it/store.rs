//! The stores: all of them by the conformance suite, the file store by what only folders do.

use mcp_image_server::storage::{self, Backend, Config};
use tempfile::TempDir;

use crate::store_conformance::{Store, conforms, conforms_to_upkeep};

mod folder;
mod mounts;
mod syscalls;

pub(crate) use folder::tree;

/// Builds a store as the server does.
fn open(backend: Backend, sync: bool) -> Store {
    let config = Config { backend, sync };
    storage::open(&config).expect("a store")
}

fn in_folder(sync: bool) -> (Store, TempDir) {
    let folder = TempDir::new().expect("a folder");
    (open(Backend::File { path: folder.path().join("images") }, sync), folder)
}

conforms!(file, in_folder(true));
conforms!(file_without_sync, in_folder(false));
conforms!(memory, (open(Backend::Memory { max_bytes: 1 << 30 }, false), ()));
conforms_to_upkeep!(file_upkeep, in_folder(true));
conforms_to_upkeep!(memory_upkeep, (open(Backend::Memory { max_bytes: 1 << 30 }, false), ()));
