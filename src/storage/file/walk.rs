use std::{io, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Shared, blocking, failed,
    folder::Folder,
    name::{Bucket, Kind, Name},
};
use crate::storage::{Error, Expired, Walk, Walked};

/// Comes by every image, oldest first, bucket by bucket as it is asked to.
pub(super) fn walk(shared: &Arc<Shared>) -> Walk<'_> {
    let listing = Arc::clone(shared);
    let buckets = blocking(move || {
        let mut buckets = listing.buckets()?;
        buckets.sort_unstable();
        Ok(stream::iter(buckets).map(Ok))
    });
    let bucket = move |bucket| {
        let shared = Arc::clone(shared);
        async move { blocking(move || images(&shared, bucket)).await }
    };
    let images = |images: Vec<Walked>| stream::iter(images).map(Ok);
    stream::once(buckets).try_flatten().and_then(bucket).map_ok(images).try_flatten().boxed()
}

/// The images in a bucket, oldest first.
fn images(shared: &Shared, bucket: Bucket) -> Result<Vec<Walked>, Error> {
    let Some(folder) = shared.bucket(bucket)? else { return Ok(Vec::new()) };
    let listed = || -> io::Result<Vec<Walked>> {
        let mut images = Vec::new();
        folder.each_name(|name| {
            let Some(Name { id, kind: Kind::Image(format) }) = Name::parse(name.to_bytes()) else {
                return Ok(());
            };
            if let Some(status) = folder.status(name)? {
                images.push(Walked { image_id: id, format, size_bytes: status.length });
            }
            Ok(())
        })?;
        images.sort_unstable_by_key(|image| image.image_id);
        Ok(images)
    };
    listed().map_err(|error| failed("list", folder.path(), error))
}

/// Removes images whatever their metadata say. Nobody was promised that they stay away, so the
/// disk is not waited for.
pub(super) fn remove(shared: &Shared, images: &[Walked]) -> Result<Expired, Error> {
    let mut done = Expired::default();
    for images in images.chunk_by(|one, next| Bucket::of(one.image_id) == Bucket::of(next.image_id)) {
        let Some(folder) = shared.bucket_of(images[0].image_id)? else { continue };
        for image in images {
            match remove_one(&folder, image) {
                Ok(true) => done.note(image.image_id, image.size_bytes),
                Ok(false) => {}
                Err(error) => {
                    let path = folder.path().join(Name::image(image.image_id, image.format).to_string());
                    tracing::warn!(path = %path.display(), %error, "cannot be removed");
                    done.failed += 1;
                }
            }
        }
    }
    Ok(done)
}

/// The image first, as in any removal: what is left otherwise is no image, and is swept.
fn remove_one(folder: &Folder, image: &Walked) -> io::Result<bool> {
    let removed = folder.remove(Name::image(image.image_id, image.format).to_string())?;
    if removed {
        folder.remove(Name::sidecar(image.image_id).to_string())?;
    }
    Ok(removed)
}
