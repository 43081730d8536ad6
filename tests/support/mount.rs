//! Small file systems in memory, to be filled up and made read-only.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::peers::left_out;

/// A file system of its own in memory; gone when dropped.
pub(crate) struct Mount {
    folder: TempDir,
}

impl Mount {
    /// Mounts one; `None` where that is not permitted, which is an error where all tests must run.
    pub(crate) fn new(options: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let mounted = mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder.path());
        if let Err(reason) = mounted {
            left_out("the right to mount", &reason);
            return None;
        }
        Some(Self { folder })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Changes its options.
    pub(crate) fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], self.folder.path()).expect("remounted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(folder).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
