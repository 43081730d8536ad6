use http::{HeaderValue, Response, header};
use layers::Body;
use serde::Serialize;

use super::{error::Error, query};
use crate::{
    image::{ImageId, Metadata},
    storage::ImageStore,
};

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
    #[serde(flatten)]
    metadata: &'a Metadata,
}

pub(super) async fn list(store: &dyn ImageStore, query: Option<&str>) -> Result<Response<Body>, Error> {
    let page = store.list(query::parse(query)?).await?;
    let entry = |metadata| Entry { url: store.url(metadata), metadata };
    let listing = Listing { images: page.images.iter().map(entry).collect(), next_cursor: page.next };
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
