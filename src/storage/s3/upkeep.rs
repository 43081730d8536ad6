//! What quotas and operators need: all images, whatever their expiry.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Failure, Shared,
    delete::{BATCH, remove_images},
    key::Kind,
    object::length,
    read::Sidecar,
};
use crate::{
    image::{Format, ImageId, Metadata},
    storage::{Error, Expired, Walk, Walked},
};

/// Every image by its key and its length, oldest first: a request for each page of keys, and none
/// for a single image.
pub(super) fn walk(shared: &Shared) -> Walk<'_> {
    let pages = stream::try_unfold(Some(String::new()), move |after| async move {
        let Some(after) = after else { return Ok::<_, Error>(None) };
        let failed = shared.failed("list the images in");
        let (images, next) = page(shared, &after).await.map_err(failed)?;
        Ok(Some((stream::iter(images.into_iter().map(Ok)), next)))
    });
    pages.try_flatten().boxed()
}

/// Removes images in batches, whatever their expiry.
///
/// S3 does not say whether something was there to delete. So a listing says it before, and one
/// removal or cleaning cycle follows the other: within this process each image counts once.
pub(super) async fn remove(shared: &Shared, images: &[Walked]) -> Result<Expired, Error> {
    let mut done = Expired::default();
    let _alone = shared.sweep_from.lock().await;
    let removed = async {
        let there = those_there(shared, images).await?;
        let there: Vec<_> =
            images.iter().copied().filter(|image| there.contains(&(image.image_id, image.format))).collect();
        for batch in there.chunks(BATCH) {
            remove_images(shared, batch, &mut done).await?;
        }
        Ok(())
    };
    removed.await.map_err(|failure: Failure| Error::from(shared.failed("delete images in")(failure)))?;
    Ok(done)
}

/// What is known about an image, whether it is expired or not.
pub(super) async fn inspect(shared: &Shared, id: ImageId) -> Result<Metadata, Error> {
    let failed = shared.failed("look at an image in");
    let reason = match Sidecar::read(shared, id).await.map_err(&failed)? {
        Sidecar::Whole(metadata) => {
            let image = shared.head(&shared.keys.image(id, metadata.format)).await.map_err(&failed)?;
            return match image.as_ref().map(length) {
                // Reserved, and never saved.
                None => Err(Error::NotFound),
                Some(Some(there)) if there != metadata.size_bytes => {
                    let reason = format!("{} bytes were saved, {there} are there", metadata.size_bytes);
                    Err(Error::Corrupt { id, reason })
                }
                Some(_) => Ok(*metadata),
            };
        }
        Sidecar::Absent => "its metadata is lost".to_owned(),
        Sidecar::Damaged(reason) => reason,
    };
    for format in Format::ALL {
        if shared.head(&shared.keys.image(id, format)).await.map_err(&failed)?.is_some() {
            return Err(Error::Corrupt { id, reason });
        }
    }
    Err(Error::NotFound)
}

/// The images among the keys behind `after`: one page of S3. And where the next page begins.
async fn page(shared: &Shared, after: &str) -> Result<(Vec<Walked>, Option<String>), Failure> {
    let listed = shared.keys_after(after).await?;
    let images = listed.objects.iter().filter_map(|object| match shared.keys.parse(&object.key)? {
        (image_id, Kind::Image(format)) => Some(Walked { image_id, format, size_bytes: object.size }),
        (_, Kind::Sidecar) => None,
    });
    let last = listed.objects.last().map(|object| object.key.clone());
    let next = last.filter(|last| listed.truncated && !shared.keys.is_behind_images(last));
    Ok((images.collect(), next))
}

/// Which of these images are there. They are looked for from the oldest to the newest of them.
async fn those_there(shared: &Shared, images: &[Walked]) -> Result<HashSet<(ImageId, Format)>, Failure> {
    let mut there = HashSet::new();
    let ids = || images.iter().map(|image| image.image_id);
    let (Some(oldest), Some(newest)) = (ids().min(), ids().max()) else { return Ok(there) };
    let end = shared.keys.at(newest.created_millis() + 1);
    let mut next = Some(shared.keys.at(oldest.created_millis()));
    while let Some(after) = next.filter(|after| *after < end) {
        let (found, behind) = page(shared, &after).await?;
        there.extend(found.iter().map(|image| (image.image_id, image.format)));
        next = behind;
    }
    Ok(there)
}
