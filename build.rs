//! Tells the compiler which commit it builds, as `BUILD_COMMIT`: by `GIT_COMMIT`, by what `cargo package` recorded, or
//! by the checkout. Git itself is not needed. Where nothing tells, the variable is not set.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=GIT_COMMIT");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if let Some(commit) = given().or_else(|| packaged(&root)).or_else(|| checked_out(&root)) {
        println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    }
}

/// What a build without a checkout is told, as that of the container image.
fn given() -> Option<String> {
    env::var("GIT_COMMIT").ok().and_then(|text| commit(&text))
}

/// What `cargo package` wrote into the package.
fn packaged(root: &Path) -> Option<String> {
    let recorded = watched(&root.join(".cargo_vcs_info.json"))?;
    let (_, value) = recorded.split_once("\"sha1\"")?;
    commit(value.split('"').nth(1)?)
}

/// What is checked out here, in a clone or in a worktree.
fn checked_out(root: &Path) -> Option<String> {
    let git = git_folder(&root.join(".git"))?;
    let head = watched(&git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return commit(&head) };
    // A worktree shares its branches with the clone.
    let shared = watched(&git.join("commondir")).map_or_else(|| git.clone(), |path| git.join(path.trim()));
    if let Some(text) = watched(&shared.join(name)) {
        return commit(&text);
    }
    // The next commit on a packed branch makes a file of it.
    println!("cargo::rerun-if-changed={}", shared.join("refs/heads").display());
    let packed = watched(&shared.join("packed-refs"))?;
    let line = packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, packed)| packed == name))?;
    commit(line.split(' ').next()?)
}

/// Where a clone keeps its state; in a worktree `.git` is a file that says so.
fn git_folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let text = fs::read_to_string(path).ok()?;
    Some(path.parent()?.join(text.strip_prefix("gitdir: ")?.trim()))
}

/// A file's text, if there is such a file; the build is told of its changes.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}

/// An abbreviated or whole object name, and nothing else.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_name = (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_name.then(|| text.to_owned())
}
