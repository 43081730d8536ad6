use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};

use super::{Failure, Shared, read};
use crate::{
    image::ImageId,
    storage::{Error, Redirect},
};

/// A signed URL lives no longer, so that one that leaks is soon worth nothing.
const LONGEST: i64 = 300;

/// A signed URL of an image, which ends with the image.
pub(super) async fn redirect(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Redirect, Error> {
    let metadata = read::metadata(shared, id, now).await?;
    // Signatures count whole seconds from the second in which they are made.
    let left = metadata.expires_at.timestamp() - now.timestamp();
    let seconds =
        u32::try_from(left.min(LONGEST)).ok().filter(|seconds| *seconds > 0).ok_or(Error::NotFound)?;
    let overrides = [
        ("response-content-type", metadata.format.media_type().to_owned()),
        ("response-content-disposition", format!("inline; filename=\"{}\"", metadata.file_name())),
        ("response-cache-control", format!("public, max-age={left}, immutable")),
    ];
    let overrides: HashMap<_, _> = overrides.map(|(name, value)| (name.to_owned(), value)).into();
    let signed = async {
        let keys = shared.client.credentials().keys().await?;
        let url =
            shared.public.object(&shared.keys.image(id, metadata.format), &[]).ok_or(Failure::Signing)?;
        shared.client.signer().presign(&keys, &url, overrides, seconds, SystemTime::from(now))
    };
    let url = signed.await.map_err(shared.failed("sign a URL for an image in"))?;
    Ok(Redirect { metadata, url, life: Duration::from_secs(u64::from(seconds)) })
}
