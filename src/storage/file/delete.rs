use std::io;

use chrono::{DateTime, Utc};

use super::{Shared, failed, folder::Folder, name::Name, read::Sidecar};
use crate::{
    image::{ImageId, Metadata},
    storage::Error,
};

/// Removes an image; `false` if there was none, or only an expired one.
///
/// What has no readable metadata is left to the cleaner: it may be a save under way.
pub(super) fn delete(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<bool, Error> {
    let Some(folder) = shared.bucket_of(id)? else { return Ok(false) };
    let failed = |error| failed("delete an image in", folder.path(), error);
    let Sidecar::Whole(metadata) = Sidecar::read(&folder, id).map_err(failed)? else {
        return Ok(false);
    };
    let removed = remove(&folder, &metadata).map_err(failed)?;
    if removed && shared.sync {
        folder.sync().map_err(failed)?;
    }
    Ok(removed && !metadata.is_expired(now))
}

/// Removes an image and then its metadata; `false` if another was faster.
///
/// In this order the id stays reserved until the image is gone, and a reader in between finds
/// metadata without an image: no such image.
pub(super) fn remove(folder: &Folder, metadata: &Metadata) -> io::Result<bool> {
    if !folder.remove(metadata.file_name())? {
        return Ok(false);
    }
    let sidecar = Name::sidecar(metadata.image_id).to_string();
    if let Err(error) = folder.remove(&sidecar) {
        // The image is gone, which is what was asked; the rest is swept as a leftover.
        let path = folder.path().join(sidecar);
        tracing::warn!(path = %path.display(), %error, "the metadata of a removed image stays until it is swept");
    }
    Ok(true)
}
