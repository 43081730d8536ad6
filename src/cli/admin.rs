use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::{
    admin::{self, ImagesCommand, Output},
    config::Config,
    storage::{self, Backend, Storage},
};

/// What `images` does.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImagesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ImagesCommand,
    /// Print JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `migrate` does.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct MigrateArgs {
    /// The backend to copy to.
    #[arg(long, value_enum)]
    pub to: Destination,
    /// The folder to copy to, with `--to file`.
    #[arg(long, value_name = "FOLDER")]
    pub path: Option<PathBuf>,
    /// Print JSON, one value a line.
    #[arg(long)]
    pub json: bool,
}

/// A backend that outlives this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Destination {
    /// A folder.
    File,
    /// A bucket.
    S3,
}

/// Why a command cannot begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to work on.
    #[error("{0}")]
    Refused(&'static str),
    /// A storage cannot be opened.
    #[error("{0}")]
    Open(#[from] crate::app::Error),
    /// The command failed.
    #[error("{0}")]
    Failed(#[from] admin::Error),
}

/// `images`: looks at the configured storage, deletes from it or verifies it.
///
/// # Errors
/// When the storage fails, when an image that was named is not there, and when one is damaged.
pub async fn run_images(config: &storage::Config, args: ImagesArgs) -> Result<(), Error> {
    let storage = open(config)?;
    Ok(admin::images(storage.images, args.command, &mut Output::standard(args.json)).await?)
}

/// `migrate`: copies the configured storage into another.
///
/// # Errors
/// When a storage fails, and when images could not be copied.
pub async fn run_migrate(config: &Config, args: MigrateArgs) -> Result<(), Error> {
    let from = open(&config.storage)?;
    let backend = destination(&config.storage.backend, args.to, args.path)?;
    let to = crate::app::open_storage(&storage::Config { backend, ..config.storage.clone() })?;
    admin::migrate(&from, &to, &mut Output::standard(args.json)).await?;
    Ok(())
}

fn open(config: &storage::Config) -> Result<Storage, Error> {
    match config.backend {
        Backend::Memory { .. } => Err(Error::Refused(
            "STORAGE_BACKEND=memory keeps images in the server's memory, which no other process reaches: \
             use the server's own list and delete (GET and DELETE below /images/)",
        )),
        Backend::File { .. } => Ok(crate::app::open_storage(config)?),
    }
}

/// Where to copy to: never to where the images are.
fn destination(from: &Backend, to: Destination, path: Option<PathBuf>) -> Result<Backend, Error> {
    match (to, path) {
        (Destination::File, None) => Err(Error::Refused("--to file needs --path, the folder to copy to")),
        (Destination::File, Some(path)) => match from {
            Backend::File { path: source } if is_same(source, &path) => {
                Err(Error::Refused("--path is the folder that the images are in"))
            }
            _ => Ok(Backend::File { path }),
        },
        (Destination::S3, Some(_)) => Err(Error::Refused("--path is for --to file; the bucket is S3_BUCKET")),
        // The one place that keeps `s3` out of this build.
        (Destination::S3, None) => Err(Error::Refused("this build has no s3 backend yet")),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destination_is_never_the_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Backend::File { path: folder.path().to_owned() };
        let same = folder.path().join("../").join(folder.path().file_name().expect("a name"));
        assert!(destination(&source, Destination::File, Some(same)).is_err());
        assert!(destination(&source, Destination::File, None).is_err());
        let other = folder.path().join("other");
        let found = destination(&source, Destination::File, Some(other.clone())).expect("a destination");
        assert!(matches!(found, Backend::File { path } if path == other));
    }
}
