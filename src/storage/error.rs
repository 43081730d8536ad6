use std::io;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image: never saved, deleted or expired.
    #[error("no such image")]
    NotFound,
    /// The id is taken.
    #[error("an image with this id exists already")]
    AlreadyExists,
    /// No room: disk, quota or memory limit.
    #[error("the storage is full")]
    Full(#[source] Option<io::Error>),
    /// The storage cannot be written: mounted read-only, or rights are missing.
    #[error("the storage is read-only")]
    ReadOnly(#[source] io::Error),
    /// The backend does not answer, or answers that it cannot now.
    #[error("the storage is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is not what was saved.
    #[error("the stored image {id} is damaged: {reason}")]
    Corrupt {
        /// The image.
        id: crate::image::ImageId,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(Some(error)),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(error),
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}
