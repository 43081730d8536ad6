use chrono::{DateTime, Utc};
use http::{HeaderValue, Response, header};
use layers::Body;
use serde::Serialize;

use super::{
    Delivery,
    asked::Wanted,
    error::Error,
    query::{self, ListingQuery},
};
use crate::{
    image::{ImageId, Metadata},
    storage::{ImageStore, ListQuery},
};

/// Images that one request looks through at most for those it wants. A page may hold fewer then, or
/// none, and a cursor all the same.
const MOST_LOOKED_AT: usize = 10_000;
/// Images that are asked of the store at once when only some of them may be wanted.
const LOOKED_AT_ONCE: usize = 500;
/// How wide the previews are that a listing names.
const PREVIEW_WIDTH: u32 = 320;

/// A page of images, newest first.
#[derive(Serialize)]
struct Listing<'a> {
    images: Vec<Entry<'a>>,
    /// What `cursor` has to be for the next page; `null` on the last one.
    next_cursor: Option<ImageId>,
}

#[derive(Serialize)]
struct Entry<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url: Option<String>,
    #[serde(flatten)]
    metadata: &'a Metadata,
}

/// The images that were found, newest first, and where to go on.
#[derive(Debug, Default)]
struct Found {
    images: Vec<Metadata>,
    next: Option<ImageId>,
}

pub(super) async fn list(delivery: &Delivery, query: Option<&str>) -> Result<Response<Body>, Error> {
    let found = find(delivery.originals().store(), query::parse(query)?).await?;
    let now = Utc::now();
    let preview = delivery.sizes().at_least(PREVIEW_WIDTH).map(|width| Wanted::preview(width).to_string());
    let entry = |metadata| Entry {
        url: delivery.urls().url(metadata, now),
        preview_url: preview.as_deref().map(|variant| delivery.urls().variant_url(metadata, variant, now)),
        metadata,
    };
    let listing = Listing { images: found.images.iter().map(entry).collect(), next_cursor: found.next };
    let body = serde_json::to_vec(&listing)?;

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    // The URLs in it are capabilities.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response.map(|_| Body::full(body)))
}

/// Looks through the store for the images that are wanted.
///
/// Ids are in the order of time, so both ends of a span of time are found without looking at what
/// lies outside of it; a model's images are picked out one by one.
async fn find(store: &dyn ImageStore, query: ListingQuery) -> Result<Found, Error> {
    let ListingQuery { prefix, cursor, limit, model, created_after, created_before } = query;
    let before = created_before.map(ImageId::least_at);
    let mut cursor = [cursor, before].into_iter().flatten().min();
    let mut found = Found::default();
    let mut looked_at = 0;
    let once = if model.is_some() { limit.max(LOOKED_AT_ONCE) } else { limit };
    loop {
        let page = store.list(ListQuery { prefix: prefix.clone(), cursor, limit: once }).await?;
        for (index, image) in page.images.iter().enumerate() {
            if is_over(image, created_after) {
                return Ok(found);
            }
            looked_at += 1;
            let wanted = model.as_ref().is_none_or(|model| image.generation.model == *model);
            if !wanted {
                continue;
            }
            found.images.push(image.clone());
            let more = page.next.is_some() || index + 1 < page.images.len();
            if found.images.len() == limit {
                found.next = more.then_some(image.image_id);
                return Ok(found);
            }
        }
        cursor = page.next;
        if cursor.is_none() || looked_at >= MOST_LOOKED_AT {
            found.next = cursor;
            return Ok(found);
        }
    }
}

/// Whether the image, and with it all that are older, is from before the span of time.
fn is_over(image: &Metadata, created_after: Option<DateTime<Utc>>) -> bool {
    created_after.is_some_and(|after| image.image_id.created_at() <= after)
}
