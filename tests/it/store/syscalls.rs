//! What the kernel sees of a save: needs `strace` and the right to use it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, path::Path, process::Command};

use mcp_image_server::storage::Backend;
use tempfile::TempDir;

use super::open;
use crate::{
    peers::left_out,
    store_conformance::{fresh, saved},
};

/// Set for the process that is watched: the folder to save into.
const WATCHED: &str = "STORE_TEST_WATCHED";

#[tokio::test]
async fn save_syncs_the_files_before_the_rename_and_the_folders_after() {
    if let Some(folder) = env::var_os(WATCHED) {
        let store = open(Backend::File { path: folder.into() }, true);
        saved(&store, fresh(400_000)).await;
        return;
    }
    let folder = TempDir::new().unwrap();
    let Some(trace) = watch(&folder) else { return };
    let calls = calls(&trace, &folder.path().canonicalize().unwrap());
    let expected = [
        "openat json exclusive",
        "write json",
        "openat tmp exclusive",
        "write tmp",
        "fsync tmp",
        "fsync json",
        "renameat png",
        "fsync bucket",
        "fsync group",
        "fsync base",
    ];
    assert_eq!(calls, expected, "{trace}");
}

/// Runs this very test below `strace` and returns what it saw.
fn watch(folder: &TempDir) -> Option<String> {
    let log = folder.path().join("trace");
    let output = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-s",
            "8",
            "-e",
            "trace=openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat",
        ])
        .arg("-o")
        .arg(&log)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "store::syscalls::save_syncs_the_files_before_the_rename_and_the_folders_after"])
        .env(WATCHED, folder.path().join("images"))
        .output();
    let reason = match output {
        Ok(output) if output.status.success() => return Some(std::fs::read_to_string(log).unwrap()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    left_out("strace", &reason);
    None
}

/// The calls that matter, in order and in words: what makes, fills, syncs or names a file of ours.
fn calls(trace: &str, folder: &Path) -> Vec<String> {
    let base = folder.join("images");
    let base = base.to_str().unwrap();
    let mut calls = Vec::new();
    for line in trace.lines() {
        // `<pid> call(<handle's path>, "name", ...) = result`
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        let Some((_, path)) = arguments.split_once('<') else { continue };
        let Some((path, _)) = path.split_once('>') else { continue };
        if !path.starts_with(base) || (name == "openat" && !arguments.contains("O_CREAT")) {
            continue;
        }
        let named = if name == "write" { None } else { arguments.rsplit('"').nth(1) };
        let extension = Path::new(named.unwrap_or(path)).extension().and_then(|extension| extension.to_str());
        let depth = path[base.len()..].matches('/').count();
        let what = extension.unwrap_or_else(|| ["base", "group", "bucket"][depth]);
        let exclusive = if arguments.contains("O_EXCL") { " exclusive" } else { "" };
        calls.push(format!("{name} {what}{exclusive}"));
    }
    calls
}
