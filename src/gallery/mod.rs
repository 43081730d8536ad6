//! The web page at `/`: what was made lately, and a form to make more.
//!
//! One page without a build step and without external assets. It uses the public REST API alone.
//! Its content security policy allows exactly its own style and script, by their hashes.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use layers::Body;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = concat!(include_str!("thumbhash.js"), include_str!("script.js"));

/// Answers `GET /` with the page.
#[derive(Debug, Clone)]
pub struct Gallery {
    page: Bytes,
    policy: HeaderValue,
}

impl Gallery {
    /// The page, put together once.
    #[must_use]
    pub fn new() -> Self {
        let page = PAGE.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source_hash(STYLE),
            source_hash(SCRIPT)
        );
        // Hashes in base64 and fixed text are always a valid field value.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { page: page.into(), policy }
    }

    fn answer(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.page.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl Default for Gallery {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> tower::Service<Request<B>> for Gallery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(match *request.method() {
            Method::GET | Method::HEAD => self.answer(),
            _ => Problem::method_not_allowed("GET, HEAD").into_response(),
        }))
    }
}

/// An inline source's hash, as a content security policy names it (CSP Level 3, section 2.3.1).
fn source_hash(source: &str) -> String {
    format!("sha256-{}", base64_simd::STANDARD.encode_to_string(Sha256::digest(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_holds_style_and_script_and_the_policy_their_hashes() {
        let gallery = Gallery::new();
        let page = std::str::from_utf8(&gallery.page).expect("UTF-8");
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        assert!(!page.contains("/*STYLE*/") && !page.contains("/*SCRIPT*/"));
        let policy = gallery.policy.to_str().expect("ASCII");
        assert!(policy.contains(&source_hash(STYLE)) && policy.contains(&source_hash(SCRIPT)), "{policy}");
    }

    #[test]
    fn page_has_nothing_that_the_policy_forbids() {
        for forbidden in ["style=\"", "onclick=", "onload=", "src=\"http", "href=\"http"] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert!(!SCRIPT.contains("innerHTML"), "text goes in as text");
        assert!(!SCRIPT.contains("</script"), "the script would end there");
    }
}
