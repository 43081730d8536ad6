use std::io::{self, Read};

use chrono::{DateTime, Utc};

use super::{Shared, content::FileContent, failed, folder::Folder, name::Name};
use crate::{
    image::{Format, ImageId, Metadata},
    storage::{Error, Opened},
};

/// Metadata larger than this is not ours.
pub(super) const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// What lies beside an image.
#[derive(Debug)]
pub(super) enum Sidecar {
    /// What was saved.
    Whole(Box<Metadata>),
    /// Nothing: no such image, or a damaged one.
    Absent,
    /// Something else: a save is under way or was interrupted, or the disk lost it.
    Damaged(String),
}

impl Sidecar {
    /// Reads the metadata beside an image.
    pub(super) fn read(folder: &Folder, id: ImageId) -> io::Result<Self> {
        let Some(file) = folder.read(&Name::sidecar(id).to_string())? else {
            return Ok(Self::Absent);
        };
        let mut text = Vec::with_capacity(2048);
        file.take(MAX_SIDECAR_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_SIDECAR_BYTES {
            return Ok(Self::Damaged(format!("its metadata is larger than {MAX_SIDECAR_BYTES} bytes")));
        }
        Ok(match serde_json::from_slice::<Metadata>(&text) {
            Ok(metadata) if metadata.image_id == id => Self::Whole(Box::new(metadata)),
            Ok(metadata) => Self::Damaged(format!("its metadata is that of {}", metadata.image_id)),
            Err(error) => Self::Damaged(format!("its metadata cannot be read: {error}")),
        })
    }
}

/// Opens an image that is whole and not expired at `now`.
pub(super) fn open(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Opened, Error> {
    let (folder, metadata) = find(shared, id, now)?;
    let name = metadata.file_name();
    let path = || folder.path().join(&name);
    let file = folder.read(&name).map_err(|error| failed("open", &path(), error))?;
    let file = file.ok_or(Error::NotFound)?;
    let status = file.metadata().map_err(|error| failed("look at", &path(), error))?;
    if !status.is_file() {
        return Err(Error::NotFound);
    }
    check_length(&metadata, status.len())?;
    let content = FileContent::new(id, file, &shared.readers);
    Ok(Opened { metadata, content: Box::new(content) })
}

/// What is known about an image that is whole and not expired at `now`.
pub(super) fn metadata(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Metadata, Error> {
    let (folder, metadata) = find(shared, id, now)?;
    let name = metadata.file_name();
    let status =
        folder.status(&name).map_err(|error| failed("look at", &folder.path().join(&name), error))?;
    check_length(&metadata, status.ok_or(Error::NotFound)?.length)?;
    Ok(metadata)
}

/// What is known about an image that is there, expired or not.
pub(super) fn inspect(shared: &Shared, id: ImageId) -> Result<Metadata, Error> {
    let folder = shared.bucket_of(id)?.ok_or(Error::NotFound)?;
    let failed = |error| failed("look at an image in", folder.path(), error);
    let there = image_format(&folder, id).map_err(failed)?.ok_or(Error::NotFound)?;
    let corrupt = |reason: String| Error::Corrupt { id, reason };
    match Sidecar::read(&folder, id).map_err(failed)? {
        Sidecar::Whole(metadata) if metadata.format == there => Ok(*metadata),
        Sidecar::Whole(metadata) => {
            Err(corrupt(format!("its metadata is that of a .{} file", metadata.format.extension())))
        }
        Sidecar::Absent => Err(corrupt("its metadata is lost".to_owned())),
        Sidecar::Damaged(reason) => Err(corrupt(reason)),
    }
}

/// The format in which an image is there.
pub(super) fn image_format(folder: &Folder, id: ImageId) -> io::Result<Option<Format>> {
    for format in Format::ALL {
        if folder.status(Name::image(id, format).to_string())?.is_some() {
            return Ok(Some(format));
        }
    }
    Ok(None)
}

fn find(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<(Folder, Metadata), Error> {
    let folder = shared.bucket_of(id)?.ok_or(Error::NotFound)?;
    match Sidecar::read(&folder, id) {
        Ok(Sidecar::Whole(metadata)) if !metadata.is_expired(now) => Ok((folder, *metadata)),
        Ok(Sidecar::Whole(_) | Sidecar::Absent) => Err(Error::NotFound),
        Ok(Sidecar::Damaged(reason)) => {
            tracing::warn!(image_id = %id, reason, "not an image, or a damaged one");
            Err(Error::NotFound)
        }
        Err(error) => Err(failed("read the metadata of an image in", folder.path(), error)),
    }
}

fn check_length(metadata: &Metadata, length: u64) -> Result<(), Error> {
    if length == metadata.size_bytes {
        return Ok(());
    }
    let reason = format!("{} bytes were saved, {length} are there", metadata.size_bytes);
    Err(Error::Corrupt { id: metadata.image_id, reason })
}
