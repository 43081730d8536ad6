use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::{
    admin::{self, ImagesCommand, Output},
    config::Config,
    storage::{self, Backend, S3Config, Storage},
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
pub async fn run_images(config: &Config, args: ImagesArgs) -> Result<(), Error> {
    let storage = open(&config.storage)?;
    let mut output = Output::standard(args.json);
    Ok(admin::images(storage.images, &config.images.urls, args.command, &mut output).await?)
}

/// `migrate`: copies the configured storage into another.
///
/// # Errors
/// When a storage fails, and when images could not be copied.
pub async fn run_migrate(config: &Config, args: MigrateArgs) -> Result<(), Error> {
    let from = open(&config.storage)?;
    let backend = destination(config, args.to, args.path)?;
    let kind = backend.kind();
    let to = crate::app::open_storage(&storage::Config { backend, ..config.storage.clone() })?;
    let unusable = |source| crate::app::Error::Storage { backend: kind, source };
    to.images.start().await.map_err(unusable)?;
    admin::migrate(&from, &to, &mut Output::standard(args.json)).await?;
    Ok(())
}

fn open(config: &storage::Config) -> Result<Storage, Error> {
    match config.backend {
        Backend::Memory { .. } => Err(Error::Refused(
            "STORAGE_BACKEND=memory keeps images in the server's memory, which no other process reaches: \
             use the server's own list and delete (GET and DELETE below /images/)",
        )),
        Backend::File { .. } | Backend::S3(_) => Ok(crate::app::open_storage(config)?),
    }
}

/// Where to copy to: never to where the images are.
fn destination(config: &Config, to: Destination, path: Option<PathBuf>) -> Result<Backend, Error> {
    match (to, path, &config.storage.backend) {
        (Destination::File, None, _) => Err(Error::Refused("--to file needs --path, the folder to copy to")),
        (Destination::File, Some(path), Backend::File { path: source }) if is_same(source, &path) => {
            Err(Error::Refused("--path is the folder that the images are in"))
        }
        (Destination::File, Some(path), _) => Ok(Backend::File { path }),
        (Destination::S3, Some(_), _) => {
            Err(Error::Refused("--path is for --to file; the bucket is named by S3_BUCKET"))
        }
        (Destination::S3, None, Backend::S3(_)) => {
            Err(Error::Refused("the images are in the bucket already"))
        }
        (Destination::S3, None, _) => match &config.s3 {
            // What is not in the bucket is not copied.
            Some(s3) => Ok(Backend::S3(Box::new(S3Config { fallback: None, ..s3.clone() }))),
            None => Err(Error::Refused("--to s3 needs S3_BUCKET, and what else the bucket takes")),
        },
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
    use crate::config::Source;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::load(Source::environment(pairs.iter().copied())).expect("a configuration").config
    }

    #[test]
    fn destination_is_never_the_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = config(&[("STORAGE_PATH", folder.path().to_str().expect("UTF-8"))]);
        let same = folder.path().join("../").join(folder.path().file_name().expect("a name"));
        assert!(destination(&source, Destination::File, Some(same)).is_err());
        assert!(destination(&source, Destination::File, None).is_err());
        assert!(destination(&source, Destination::S3, None).is_err());
        let other = folder.path().join("other");
        let found = destination(&source, Destination::File, Some(other.clone())).expect("a destination");
        assert!(matches!(found, Backend::File { path } if path == other));
    }

    #[test]
    fn destination_bucket_is_the_configured_one_without_its_fallback() {
        let bucket = ("S3_BUCKET", "images");
        let found = destination(&config(&[bucket]), Destination::S3, None).expect("a destination");
        assert!(matches!(found, Backend::S3(s3) if s3.bucket == "images" && s3.fallback.is_none()));
        let source = config(&[bucket, ("STORAGE_BACKEND", "s3"), ("STORAGE_FALLBACK", "file")]);
        assert!(destination(&source, Destination::S3, None).is_err());
        assert!(destination(&source, Destination::File, Some("x".into())).is_ok());
    }
}
