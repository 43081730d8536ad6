use chrono::{DateTime, Utc};
use http::{HeaderMap, header};

use super::{Failure, Shared, content::S3Content, object::length, request::Operation};
use crate::{
    image::{ImageId, Metadata},
    storage::{Error, Opened},
};

/// Metadata larger than this is not ours.
pub(super) const MAX_SIDECAR_BYTES: usize = 1 << 20;

const ACTION: &str = "read an image in";

/// What lies beside an image.
#[derive(Debug)]
pub(super) enum Sidecar {
    /// What was saved.
    Whole(Box<Metadata>),
    /// Nothing: no such image, or a damaged one.
    Absent,
    /// Something else.
    Damaged(String),
}

impl Sidecar {
    /// Reads the metadata beside an image.
    pub(super) async fn read(shared: &Shared, id: ImageId) -> Result<Self, Failure> {
        let answer = match shared.get(&shared.keys.sidecar(id), MAX_SIDECAR_BYTES).await {
            Ok(answer) => answer,
            Err(Failure::Absent) => return Ok(Self::Absent),
            Err(failure) => return Err(failure),
        };
        Ok(match serde_json::from_slice::<Metadata>(&answer.body) {
            Ok(metadata) if metadata.image_id == id => Self::Whole(Box::new(metadata)),
            Ok(metadata) => Self::Damaged(format!("its metadata is that of {}", metadata.image_id)),
            // Something in front of S3 may answer for it; what that says is no metadata of ours.
            Err(_) if !says_json(&answer.headers) => {
                return Err(Failure::BadAnswer("metadata that is not JSON".to_owned()));
            }
            Err(error) => Self::Damaged(format!("its metadata cannot be read: {error}")),
        })
    }
}

/// Opens an image that is whole and not expired at `now`. Its bytes are under way from here on, so
/// that they stay readable when it is deleted.
pub(super) async fn open(
    shared: &std::sync::Arc<Shared>,
    id: ImageId,
    now: DateTime<Utc>,
) -> Result<Opened, Error> {
    let metadata = find(shared, id, now).await?;
    let failed = shared.failed(ACTION);
    let key = shared.keys.image(id, metadata.format);
    let request = shared.request(Operation::Get, &key).map_err(&failed)?;
    let response = shared.client.open(&request).await.map_err(|error| failed(error.failure))?;
    judge(&metadata, response.headers(), response.status() == http::StatusCode::OK)
        .map_err(|judged| judged.into_error(&metadata, &failed))?;
    let content = S3Content::new(std::sync::Arc::clone(shared), &metadata, key, response);
    Ok(Opened { metadata, content: Box::new(content) })
}

/// What is known about an image that is whole and not expired at `now`.
pub(super) async fn metadata(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Metadata, Error> {
    let metadata = find(shared, id, now).await?;
    let failed = shared.failed(ACTION);
    let headers = shared.head(&shared.keys.image(id, metadata.format)).await.map_err(&failed)?;
    let headers = headers.ok_or(Error::NotFound)?;
    judge(&metadata, &headers, true).map_err(|judged| judged.into_error(&metadata, &failed))?;
    Ok(metadata)
}

async fn find(shared: &Shared, id: ImageId, now: DateTime<Utc>) -> Result<Metadata, Error> {
    match Sidecar::read(shared, id).await.map_err(shared.failed(ACTION))? {
        Sidecar::Whole(metadata) if !metadata.is_expired(now) => Ok(*metadata),
        Sidecar::Whole(_) | Sidecar::Absent => Err(Error::NotFound),
        Sidecar::Damaged(reason) => {
            tracing::warn!(image_id = %id, reason, "not an image, or a damaged one");
            Err(Error::NotFound)
        }
    }
}

/// What is wrong with the head of an answer that should be an image.
enum Judged {
    Length(u64),
    Other(&'static str),
}

impl Judged {
    fn into_error(self, metadata: &Metadata, failed: impl Fn(Failure) -> super::Failed) -> Error {
        match self {
            Self::Length(there) => {
                let reason = format!("{} bytes were saved, {there} are there", metadata.size_bytes);
                Error::Corrupt { id: metadata.image_id, reason }
            }
            Self::Other(what) => failed(Failure::BadAnswer(what.to_owned())).into(),
        }
    }
}

/// Whether the head is that of the image: anything else, such as an error's document, is never
/// taken for it.
fn judge(metadata: &Metadata, headers: &HeaderMap, whole: bool) -> Result<(), Judged> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !whole || !essence.eq_ignore_ascii_case(metadata.format.media_type()) {
        return Err(Judged::Other("it is not the image that was asked for"));
    }
    if headers.contains_key(header::CONTENT_ENCODING) && headers[header::CONTENT_ENCODING] != "identity" {
        return Err(Judged::Other("it has an encoding that nobody asked for"));
    }
    match length(headers) {
        Some(there) if there == metadata.size_bytes => Ok(()),
        Some(there) => Err(Judged::Length(there)),
        None => Err(Judged::Other("it does not tell its length")),
    }
}

pub(super) fn says_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}
