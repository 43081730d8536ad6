//! HTTP delivery of stored images: reading, listing and deleting them under `/images`.
//!
//! An image's URL is a capability: whoever has it may read the image, so reading asks for nothing
//! else, and an id that is malformed, absent or expired gets one and the same 404. Listing and
//! deleting are for those whom the policy given to [`Images::new`] lets in.

mod conditional;
mod deliver;
mod entity_tag;
mod error;
mod list;
mod query;
mod range;
mod redirect;
mod route;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use layers::Body;

use self::error::Error;
pub use self::{
    conditional::{Validators, Verdict, evaluate, range_applies},
    entity_tag::{Comparison, EntityTag, field_matches},
    query::{FieldError, InvalidQuery, parse as parse_query},
    range::{RangeSpec, Unsatisfiable},
    route::Route,
};
use crate::storage::ImageStore;

/// The service under `/images`. It answers every request itself; cloning it is cheap.
#[derive(Clone)]
pub struct Images {
    store: Arc<dyn ImageStore>,
    may_manage: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

impl Images {
    /// Delivers what is in `store`; whoever `may_manage` lets in may list and delete.
    pub fn new(
        store: Arc<dyn ImageStore>,
        may_manage: impl Fn(&Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { store, may_manage: Arc::new(may_manage) }
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
                list::list(&*self.store, request.uri.query()).await
            }
            Method::OPTIONS => Ok(options(ALLOW)),
            _ => Err(Error::MethodNotAllowed { allow: ALLOW }),
        }
    }

    /// `target` is `None` for a path that can be no image's: it is treated as an absent image, so
    /// that nothing tells the two apart.
    async fn image(&self, request: &Parts, target: Option<deliver::Target>) -> Result<Response<Body>, Error> {
        const ALLOW: &str = "GET, HEAD, DELETE, OPTIONS";
        let target = target.ok_or(Error::NotFound);
        match request.method {
            Method::GET => deliver::get(&*self.store, request, target?).await,
            Method::HEAD => deliver::head(&*self.store, request, target?).await,
            Method::DELETE => {
                self.check_access(request)?;
                deliver::delete(&*self.store, request, target?).await
            }
            Method::OPTIONS => Ok(options(ALLOW)),
            _ => Err(Error::MethodNotAllowed { allow: ALLOW }),
        }
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
