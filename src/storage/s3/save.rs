use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Failed, Failure, Shared,
    object::{NewObject, length},
    read::MAX_SIDECAR_BYTES,
    request::{Digests, META_SHA256},
};
use crate::storage::{Error, NewImage};

/// A save that takes longer gives up before it commits. Well below the age at which the cleaner
/// takes its metadata for a leftover.
const LONGEST_SAVE: Duration = Duration::from_secs(30 * 60);

/// Bytes up to which a body is hashed in place: below, a thread hop costs more.
const INLINE_BYTES: usize = 256 * 1024;

const ACTION: &str = "save an image in";

/// Saves an image: metadata first, which reserves the id, then the image, which is the commit. What
/// is stored is verified before this returns `Ok`.
pub(super) async fn save(shared: &Shared, image: &NewImage) -> Result<(), Error> {
    let sidecar = encode_sidecar(image)?;
    let id = image.metadata.image_id;
    let _turn = shared.locks.turn(id).await;
    let save = save_name();
    let started = Instant::now();
    let failed = shared.failed(ACTION);

    let digests = Digests::of(&sidecar);
    shared
        .create(&metadata_object(&shared.keys.sidecar(id), &sidecar, &digests, &save))
        .await
        .map_err(&failed)?;
    let committed = async {
        let digests = digests_of(image.bytes.clone()).await;
        if started.elapsed() > LONGEST_SAVE {
            return Err(Failure::TimedOut { phase: "end of the save", after: LONGEST_SAVE });
        }
        let key = shared.keys.image(id, image.metadata.format);
        shared.create(&image_object(&key, image, &digests, &save)).await
    };
    match committed.await {
        Ok(()) => Ok(()),
        Err(failure) => {
            undo(shared, image, &failure).await;
            Err(failed(failure).into())
        }
    }
}

/// As [`save`], but what an earlier try left is taken over: `Ok` when exactly this image is there.
pub(super) async fn adopt(shared: &Shared, image: &NewImage) -> Result<(), Error> {
    let sidecar = encode_sidecar(image)?;
    let id = image.metadata.image_id;
    let _turn = shared.locks.turn(id).await;
    let (sidecar_key, image_key) = (shared.keys.sidecar(id), shared.keys.image(id, image.metadata.format));
    let adopted = async {
        let (save, digests) = (save_name(), digests_of(image.bytes.clone()).await);
        let sidecar_digests = Digests::of(&sidecar);
        let object = metadata_object(&sidecar_key, &sidecar, &sidecar_digests, &save);
        match shared.create(&object).await {
            // Written anew, it is no leftover for another hour.
            Err(Failure::Precondition)
                if shared.get(&sidecar_key, MAX_SIDECAR_BYTES).await?.body == sidecar =>
            {
                shared.replace(&object).await?;
            }
            created => created?,
        }
        match shared.create(&image_object(&image_key, image, &digests, &save)).await {
            Err(Failure::Precondition) => {}
            created => created?,
        }
        let stored = shared.head(&image_key).await?.ok_or(Failure::Absent)?;
        let same = length(&stored) == Some(image.metadata.size_bytes)
            && stored.get(META_SHA256).is_some_and(|sha256| sha256 == digests.sha256.as_str());
        if !same {
            return Err(Failure::Precondition);
        }
        // A sweep that began before may have taken the metadata away meanwhile.
        shared
            .head(&sidecar_key)
            .await?
            .ok_or_else(|| Failure::BadAnswer("the metadata went away".to_owned()))?;
        Ok(())
    };
    adopted.await.map_err(|failure| Failed::into(shared.failed("move an image to")(failure)))
}

/// Tells objects of one save from those of any other.
pub(super) fn save_name() -> HeaderValue {
    let mut name = *b"00000000-0000-0000-0000-000000000000";
    Uuid::now_v7().as_hyphenated().encode_lower(&mut name);
    HeaderValue::from_bytes(&name).unwrap_or(HeaderValue::from_static("0"))
}

fn metadata_object<'a>(
    key: &'a str,
    sidecar: &Bytes,
    digests: &'a Digests,
    save: &'a HeaderValue,
) -> NewObject<'a> {
    NewObject { key, body: sidecar.clone(), digests, media_type: "application/json", save }
}

fn image_object<'a>(
    key: &'a str,
    image: &NewImage,
    digests: &'a Digests,
    save: &'a HeaderValue,
) -> NewObject<'a> {
    let media_type = image.metadata.format.media_type();
    NewObject { key, body: image.bytes.clone(), digests, media_type, save }
}

fn encode_sidecar(image: &NewImage) -> Result<Bytes, Error> {
    let refused = |reason: String| Error::Corrupt { id: image.metadata.image_id, reason };
    let length = image.bytes.len() as u64;
    if length != image.metadata.size_bytes {
        let said = image.metadata.size_bytes;
        return Err(refused(format!("its metadata says {said} bytes, it has {length}")));
    }
    let sidecar = serde_json::to_vec(&image.metadata)
        .map_err(|error| refused(format!("its metadata cannot be written: {error}")))?;
    if sidecar.len() > MAX_SIDECAR_BYTES {
        return Err(refused(format!("its metadata is larger than {MAX_SIDECAR_BYTES} bytes")));
    }
    Ok(sidecar.into())
}

async fn digests_of(bytes: Bytes) -> Digests {
    if bytes.len() <= INLINE_BYTES {
        return Digests::of(&bytes);
    }
    match tokio::task::spawn_blocking(move || Digests::of(&bytes)).await {
        Ok(digests) => digests,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Removes what a failed save made, the metadata last, so that the id stays reserved to the last.
/// While S3 is away nothing is tried: the cleaner sweeps it.
async fn undo(shared: &Shared, image: &NewImage, failure: &Failure) {
    if failure.is_outage() || *failure == Failure::Precondition && shared.client.is_paused() {
        return;
    }
    let id = image.metadata.image_id;
    let mut keys = vec![shared.keys.sidecar(id)];
    // An image that was there before is not ours to remove.
    if *failure != Failure::Precondition {
        keys.insert(0, shared.keys.image(id, image.metadata.format));
    }
    for key in keys {
        if let Err(failure) = shared.remove(&key).await {
            tracing::warn!(key, %failure, "a leftover of a failed save stays until it is swept");
            return;
        }
    }
}
