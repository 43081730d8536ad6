use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use s3::serde_types::{DeleteObjectsRequest, ObjectIdentifier};

use super::{
    Failed, Failure, Shared,
    client::GivenUp,
    read::Sidecar,
    request::{Digests, Operation, Request},
    xml,
};
use crate::{
    image::ImageId,
    storage::{Error, Expired, Walked},
};

/// Deletions that a batch may hold (a rule of S3).
pub(super) const BATCH: usize = 1000;

/// The answer to a batch names at most what was in it.
const MAX_BATCH_ANSWER: usize = 4 << 20;

/// Single deletions at once, where batches are not to be had.
const AT_ONCE: usize = 16;

/// Removes an image; `false` if there was none, or only one that has expired at `now`.
///
/// What has no readable metadata is left to the cleaner: it may be a save under way.
pub(super) async fn delete(shared: &Shared, id: ImageId, now: Option<DateTime<Utc>>) -> Result<bool, Error> {
    let _turn = shared.locks.turn(id).await;
    let deleted = async {
        let Sidecar::Whole(metadata) = Sidecar::read(shared, id).await? else { return Ok(false) };
        let key = shared.keys.image(id, metadata.format);
        if shared.head(&key).await?.is_none() {
            return Ok(false);
        }
        // In this order the id stays reserved until the image is gone.
        shared.remove(&key).await?;
        if let Err(failure) = shared.remove(&shared.keys.sidecar(id)).await {
            // The image is gone, which is what was asked; the rest is swept as a leftover.
            tracing::warn!(image_id = %id, %failure, "the metadata of a removed image stays until it is swept");
        }
        Ok(now.is_none_or(|now| !metadata.is_expired(now)))
    };
    deleted.await.map_err(|failure: Failure| Failed::into(shared.failed("delete an image in")(failure)))
}

/// Removes images, at most [`BATCH`]: first the images, then their metadata, so that ids stay reserved
/// until the images are gone. Metadata that stays is a leftover for a later cycle.
pub(super) async fn remove_images(
    shared: &Shared,
    images: &[Walked],
    done: &mut Expired,
) -> Result<(), Failure> {
    let key = |image: &Walked| shared.keys.image(image.image_id, image.format);
    let stay = remove_many(shared, &images.iter().map(key).collect::<Vec<_>>()).await?;
    let (gone, stayed): (Vec<&Walked>, Vec<&Walked>) =
        images.iter().partition(|image| !stay.contains(&key(image)));
    for image in &gone {
        done.note(image.image_id, image.size_bytes);
    }
    done.failed += stayed.len() as u64;
    let sidecars: Vec<_> = gone.iter().map(|image| shared.keys.sidecar(image.image_id)).collect();
    remove_many(shared, &sidecars).await?;
    Ok(())
}

/// Removes objects, which need not be there; at most [`BATCH`]. Gives those that stay.
pub(super) async fn remove_many(shared: &Shared, keys: &[String]) -> Result<Vec<String>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let objects = keys.iter().map(ObjectIdentifier::new).collect();
    let body = Bytes::from(DeleteObjectsRequest { objects, quiet: true }.to_string());
    let url = shared.endpoint.bucket(&[("delete", "")]).ok_or(Failure::Signing)?;
    let digests = Digests::of(&body);
    let request = Request::new(Operation::DeleteMany, url).with_body(body, &digests, "application/xml");
    let answer = match shared.client.fetch(&request, MAX_BATCH_ANSWER).await {
        Ok(answer) => answer,
        // Not every provider has batches.
        Err(GivenUp {
            failure:
                Failure::Refused { status: StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, .. },
            ..
        }) => {
            return Ok(remove_each(shared, keys).await);
        }
        Err(given_up) => return Err(given_up.failure),
    };
    let stay = xml::not_deleted(&answer.body)?;
    if let Some((key, code)) = stay.first() {
        tracing::warn!(key, code, count = stay.len(), "objects cannot be deleted");
    }
    Ok(stay.into_iter().filter(|(_, code)| code != "NoSuchKey").map(|(key, _)| key).collect())
}

async fn remove_each(shared: &Shared, keys: &[String]) -> Vec<String> {
    let removals = stream::iter(keys.to_vec()).map(|key| async move {
        match shared.remove(&key).await {
            Ok(()) => None,
            Err(failure) => {
                tracing::warn!(key, %failure, "an object cannot be deleted");
                Some(key)
            }
        }
    });
    removals.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}
