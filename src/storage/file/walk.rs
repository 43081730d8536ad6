use std::{collections::VecDeque, io, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Shared, blocking, failed,
    folder::Folder,
    name::{Bucket, Kind, Name},
};
use crate::storage::{Error, Expired, Walk, Walked};

/// Buckets are looked through until so many images are found, before these are handed on: where
/// images are few, buckets are many.
const AT_ONCE: usize = 1024;

/// Comes by every image, oldest first, some buckets at a time as it is asked to.
pub(super) fn walk(shared: &Arc<Shared>) -> Walk<'_> {
    let listing = Arc::clone(shared);
    let groups = blocking(move || Ok(stream::iter(listing.groups()?).map(Ok)));
    let images = move |group| {
        let listing = Arc::clone(shared);
        async move {
            let buckets = VecDeque::from(blocking(move || listing.buckets(group)).await?);
            Ok::<_, Error>(stream::try_unfold(buckets, move |rest| {
                let shared = Arc::clone(shared);
                blocking(move || first(&shared, rest))
            }))
        }
    };
    let each = |images: Vec<Walked>| stream::iter(images).map(Ok::<_, Error>);
    let groups = stream::once(groups).try_flatten();
    groups.and_then(images).try_flatten().map_ok(each).try_flatten().boxed()
}

/// Images, and the buckets that are still to be looked through.
type Found = (Vec<Walked>, VecDeque<Bucket>);

/// The images of the first of these buckets; `None` if there are no more.
fn first(shared: &Shared, mut rest: VecDeque<Bucket>) -> Result<Option<Found>, Error> {
    let mut found = Vec::new();
    while found.len() < AT_ONCE {
        let Some(bucket) = rest.pop_front() else { break };
        found.extend(images(shared, bucket)?);
    }
    Ok((!found.is_empty()).then_some((found, rest)))
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
