//! HTTP delivery of stored images: reading, listing and deleting them under `/images`.
//!
//! An image's URL is a capability: whoever has it may read the image, so reading asks for nothing
//! else, and an id that is malformed, absent or expired gets one and the same 404. Where URLs are
//! signed, so does an id without a valid signature. Listing and deleting are for those whom the
//! policy given to [`Images::new`] lets in.
//!
//! # Memory
//!
//! What this room holds, whatever clients do:
//! - bytes of images and variants, kept or being sent: at most `cache_bytes`, and 16 MiB at least;
//! - metadata: at most a sixteenth of `cache_bytes`, and that of the images held open;
//! - open files: 128 at most;
//! - pages of the list, being made or being sent: at most [`LISTINGS_MEMORY`];
//! - work on variants: `variant_concurrency` times the largest image, decoded (16 bytes a pixel).
//!
//! What is streamed from the store comes in chunks that the store accounts for.

mod asked;
mod cache;
mod conditional;
mod cors;
mod deliver;
mod delivery;
mod disposition;
mod entity_tag;
mod error;
mod fields;
mod flights;
mod list;
mod listings;
mod negotiate;
mod open_images;
mod original;
mod originals;
mod purge;
mod query;
mod range;
mod redirect;
mod route;
mod variants;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chrono::Utc;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use layers::Body;

pub use self::{
    asked::{Asked, Sizes, Wanted},
    conditional::{Validators, Verdict, evaluate, range_applies},
    cors::Cors,
    delivery::Delivery,
    entity_tag::{Comparison, EntityTag, field_matches},
    listings::LISTINGS_MEMORY,
    purge::{Config as PurgeConfig, Purger, PurgerHandle},
    query::{FieldError, InvalidQuery, ListingQuery, parse as parse_query},
    range::{RangeSpec, Unsatisfiable},
    route::Route,
};
use self::{deliver::Grant, error::Error};
use crate::image::{ImageUrls, Limits};

/// How images are delivered.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of images and variants that may be in memory; 0 keeps none.
    pub cache_bytes: u64,
    /// The widths and heights that variants may have.
    pub variant_sizes: Sizes,
    /// Variants that are made at a time.
    pub variant_concurrency: usize,
    /// Originals beyond this are not decoded.
    pub limits: Limits,
    /// Where clients get images.
    pub urls: ImageUrls,
    /// Whether a CDN is in front, which wants to know about tags and lifetimes.
    pub cdn: bool,
    /// Which origins' scripts may read images.
    pub cors: Cors,
    /// Whom to tell of images that are gone.
    pub purge: Option<PurgeConfig>,
}

/// In a request's extensions: it was let in by a credential, so its answer is private.
#[derive(Debug, Clone, Copy)]
pub struct Credentialed;

/// The service under `/images`. It answers every request itself; cloning it is cheap.
#[derive(Clone)]
pub struct Images {
    delivery: Delivery,
    may_manage: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

impl Images {
    /// Answers with what `delivery` has; whoever `may_manage` lets in may list and delete.
    pub fn new(delivery: Delivery, may_manage: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self { delivery, may_manage: Arc::new(may_manage) }
    }

    async fn respond(&self, request: &Parts) -> Response<Body> {
        let response = match Route::of(request.uri.path()) {
            Route::Collection => self.collection(request).await,
            Route::Image { id, format } => self.image(request, Some((id, format))).await,
            Route::Unknown => self.image(request, None).await,
        };
        let response = response.unwrap_or_else(|error| error.into_problem().into_response());
        if request.method == Method::HEAD { response.map(|_| Body::empty()) } else { response }
    }

    async fn collection(&self, request: &Parts) -> Result<Response<Body>, Error> {
        const ALLOW: &str = "GET, HEAD, OPTIONS";
        match request.method {
            Method::GET | Method::HEAD => {
                self.check_access(request)?;
                Box::pin(list::list(&self.delivery, request.uri.query())).await
            }
            Method::OPTIONS => Ok(options(ALLOW)),
            _ => Err(Error::MethodNotAllowed { allow: ALLOW }),
        }
    }

    /// `target` is `None` for a path that can be no image's: it is treated as an absent image, so
    /// that nothing tells the two apart.
    async fn image(&self, request: &Parts, target: Option<deliver::Target>) -> Result<Response<Body>, Error> {
        const ALLOW: &str = "GET, HEAD, DELETE, OPTIONS";
        match request.method {
            Method::GET | Method::HEAD => {
                let asked = Asked::parse(request.uri.query(), self.delivery.sizes());
                let (asked, grant) = self.admit(request, asked)?;
                deliver::read(&self.delivery, request, target.ok_or(Error::NotFound)?, &asked, grant).await
            }
            Method::DELETE => {
                self.check_access(request)?;
                deliver::delete(&self.delivery, request, target.ok_or(Error::NotFound)?).await
            }
            Method::OPTIONS => Ok(options(ALLOW)),
            _ => Err(Error::MethodNotAllowed { allow: ALLOW }),
        }
    }

    /// Whether the request may read what it names. Where URLs are signed, one without a valid
    /// signature hears nothing else, not even that its query is wrong.
    fn admit(&self, request: &Parts, asked: Result<Asked, InvalidQuery>) -> Result<(Asked, Grant), Error> {
        let private = request.extensions.get::<Credentialed>().is_some();
        if !self.delivery.urls().is_signed() {
            return Ok((asked?, Grant { private, until: None }));
        }
        let asked = asked.map_err(|_| Error::NotFound)?;
        let variant = asked.variant.map(|wanted| wanted.to_string()).unwrap_or_default();
        let signature = asked.signature().ok_or(Error::NotFound)?;
        let path = request.uri.path();
        let verified = self.delivery.urls().verify(path, &variant, signature, Utc::now());
        let until = verified.map_err(|_| Error::NotFound)?;
        Ok((asked, Grant { private: true, until: Some(until) }))
    }

    fn check_access(&self, request: &Parts) -> Result<(), Error> {
        if (self.may_manage)(request) { Ok(()) } else { Err(Error::Forbidden) }
    }
}

impl<ReqBody> tower::Service<Request<ReqBody>> for Images {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let images = self.clone();
        let (request, _) = request.into_parts();
        Box::pin(async move { Ok(images.respond(&request).await) })
    }
}

fn options(allow: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

#[cfg(test)]
mod tests;
