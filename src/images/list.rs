use chrono::{DateTime, Utc};
use http::{HeaderValue, Response, header};
use layers::Body;
use serde::Serialize;

use super::{
    Delivery,
    asked::Wanted,
    error::Error,
    listings::{LOOKED_AT_ONCE, PAGE_BYTES},
    query::{self, ListingQuery},
};
use crate::{
    image::{ImageId, Metadata},
    storage::{ImageStore, ListQuery},
};

/// Images that one request looks through at most for those it wants. A page may hold fewer then, or
/// none, and a cursor all the same.
const MOST_LOOKED_AT: usize = 10_000;
/// How wide the previews are that a listing names.
const PREVIEW_WIDTH: u32 = 320;

/// How an image is shown in a page.
#[derive(Serialize)]
struct Entry<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url: Option<String>,
    #[serde(flatten)]
    metadata: &'a Metadata,
}

/// A page as it is written: `{"images":[...],"next_cursor":...}`, newest first.
struct Page<'a> {
    delivery: &'a Delivery,
    now: DateTime<Utc>,
    /// The variant that previews are.
    preview: Option<String>,
    json: Vec<u8>,
    images: usize,
    /// The image that was written last.
    last: Option<ImageId>,
}

/// Whether a page takes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    /// It has no room for it.
    No,
}

impl<'a> Page<'a> {
    /// Characters behind the last image: `],"next_cursor":"..."}`.
    const END_BYTES: usize = 64;

    fn new(delivery: &'a Delivery) -> Self {
        let preview = delivery.sizes().at_least(PREVIEW_WIDTH);
        let json = br#"{"images":["#.to_vec();
        Self {
            delivery,
            now: Utc::now(),
            preview: preview.map(|width| Wanted::preview(width).to_string()),
            json,
            images: 0,
            last: None,
        }
    }

    /// Writes an image, if there is room for it; for the first one there is.
    fn take(&mut self, metadata: &Metadata) -> Result<Taken, Error> {
        let urls = self.delivery.urls();
        let preview = self.preview.as_deref();
        let entry = serde_json::to_vec(&Entry {
            url: urls.url(metadata, self.now),
            preview_url: preview.map(|variant| urls.variant_url(metadata, variant, self.now)),
            metadata,
        })?;
        if self.images > 0 {
            if self.json.len() + 1 + entry.len() + Self::END_BYTES > PAGE_BYTES {
                return Ok(Taken::No);
            }
            self.write(b",");
        }
        self.write(&entry);
        self.images += 1;
        self.last = Some(metadata.image_id);
        Ok(Taken::Yes)
    }

    /// The page, with the cursor of the next one; `null` on the last one.
    fn end(mut self, next: Option<ImageId>) -> Vec<u8> {
        let end = match next {
            Some(id) => format!(r#"],"next_cursor":"{id}"}}"#),
            None => r#"],"next_cursor":null}"#.to_owned(),
        };
        self.write(end.as_bytes());
        self.json
    }

    /// A `Vec` left to itself would grow to twice what a page may hold.
    fn write(&mut self, text: &[u8]) {
        let needed = self.json.len() + text.len();
        if needed > self.json.capacity() {
            self.json.reserve_exact(needed.next_power_of_two() - self.json.len());
        }
        self.json.extend_from_slice(text);
    }
}

pub(super) async fn list(delivery: &Delivery, query: Option<&str>) -> Result<Response<Body>, Error> {
    let query = query::parse(query)?;
    let room = delivery.listings().room().await?;
    let mut page = Page::new(delivery);
    let next = fill(&mut page, delivery.originals().store(), query).await?;
    let body = room.keep(page.end(next));

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    // The URLs in it are capabilities.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response.map(|_| Body::full(body)))
}

/// Looks through the store for the images that are wanted, writes them, and tells where to go on.
///
/// Ids are in the order of time, so both ends of a span of time are found without looking at what
/// lies outside of it; a model's images are picked out one by one.
async fn fill(
    page: &mut Page<'_>,
    store: &dyn ImageStore,
    query: ListingQuery,
) -> Result<Option<ImageId>, Error> {
    let ListingQuery { prefix, cursor, limit, model, created_after, created_before } = query;
    let before = created_before.map(ImageId::least_at);
    let mut cursor = [cursor, before].into_iter().flatten().min();
    let mut looked_at = 0;
    loop {
        let once = if model.is_some() { LOOKED_AT_ONCE } else { LOOKED_AT_ONCE.min(limit - page.images) };
        let found = store.list(ListQuery { prefix: prefix.clone(), cursor, limit: once }).await?;
        for (index, image) in found.images.iter().enumerate() {
            if is_over(image, created_after) {
                return Ok(None);
            }
            looked_at += 1;
            if model.as_ref().is_some_and(|model| image.generation.model != *model) {
                continue;
            }
            if page.take(image)? == Taken::No {
                return Ok(page.last);
            }
            if page.images == limit {
                let more = found.next.is_some() || index + 1 < found.images.len();
                return Ok(page.last.filter(|_| more));
            }
        }
        cursor = found.next;
        if cursor.is_none() || looked_at >= MOST_LOOKED_AT {
            return Ok(cursor);
        }
    }
}

/// Whether the image, and with it all that are older, is from before the span of time.
fn is_over(image: &Metadata, created_after: Option<DateTime<Utc>>) -> bool {
    created_after.is_some_and(|after| image.image_id.created_at() <= after)
}
