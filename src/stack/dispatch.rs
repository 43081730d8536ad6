//! From a path to its route, without a framework.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use layers::{
    Body, BoxError,
    boxed::{Boxed, ResponseFuture},
};
use tower::Service;

use super::MCP_PATH;
use crate::{api, problem::Problem};

/// One route's chain, boxed at its door: it may fail with a typed cause, which the rescue answers.
pub(super) type Route = Boxed<BoxError>;

/// The routes that a listener serves.
pub(super) struct Routes {
    pub(super) mcp: Option<Route>,
    pub(super) api: Option<Route>,
    pub(super) images: Option<Route>,
    pub(super) gallery: Option<Route>,
    pub(super) health: Route,
    pub(super) metrics: Option<Route>,
    /// For everything else, and for what is not served.
    pub(super) nowhere: Route,
}

/// Where a request goes; also the fixed set of route names in metrics and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Mcp,
    Api,
    Images,
    Gallery,
    Health,
    Metrics,
    Nowhere,
}

impl Target {
    pub(super) fn of(path: &str) -> Self {
        match path {
            MCP_PATH => Self::Mcp,
            api::GENERATE_IMAGE => Self::Api,
            "/metrics" => Self::Metrics,
            "/health" => Self::Health,
            "/images" => Self::Images,
            "/" => Self::Gallery,
            _ if path.starts_with("/images/") => Self::Images,
            _ if path.starts_with("/health/") => Self::Health,
            _ => Self::Nowhere,
        }
    }
}

/// The route's name for metrics and spans.
pub(super) fn route_name(target: &Uri) -> &'static str {
    match Target::of(target.path()) {
        Target::Mcp => "mcp",
        Target::Api => "api",
        Target::Images => "images",
        Target::Gallery => "gallery",
        Target::Health => "health",
        Target::Metrics => "metrics",
        Target::Nowhere => "none",
    }
}

/// The route as a path, its variable part replaced by a name; empty for what is no route.
pub(super) fn route_template(target: &Uri) -> &'static str {
    match Target::of(target.path()) {
        Target::Mcp => MCP_PATH,
        Target::Api => api::GENERATE_IMAGE,
        Target::Images if matches!(target.path(), "/images" | "/images/") => "/images/",
        Target::Images => "/images/{id}",
        Target::Gallery => "/",
        Target::Health => "/health",
        Target::Metrics => "/metrics",
        Target::Nowhere => "",
    }
}

/// The service that dispatches.
#[derive(Clone)]
pub(super) struct Dispatch {
    routes: Arc<Routes>,
}

impl Dispatch {
    pub(super) fn new(routes: Routes) -> Self {
        Self { routes: Arc::new(routes) }
    }

    fn route(&self, path: &str) -> &Route {
        let routes = &*self.routes;
        let route = match Target::of(path) {
            Target::Mcp => routes.mcp.as_ref(),
            Target::Api => routes.api.as_ref(),
            Target::Images => routes.images.as_ref(),
            Target::Gallery => routes.gallery.as_ref(),
            Target::Health => Some(&routes.health),
            Target::Metrics => routes.metrics.as_ref(),
            Target::Nowhere => None,
        };
        route.unwrap_or(&routes.nowhere)
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // A route waits until it is ready when it is known which one it is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.route(request.uri().path()).call(request)
    }
}

/// Answers what is no route's: nothing is there. But `*` is the server as a whole, whose methods are `allow`
/// (RFC 9110, section 9.3.7).
pub(super) fn nowhere(request: &Request<Body>, allow: &'static str) -> Response<Body> {
    if request.method() != Method::OPTIONS || request.uri().path() != "*" {
        return Problem::not_found().into_response();
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_to_their_routes_and_no_others() {
        for (path, target) in [
            ("/mcp", Target::Mcp),
            ("/mcp/v1/tools/generate_image", Target::Api),
            ("/", Target::Gallery),
            ("/images", Target::Images),
            ("/images/", Target::Images),
            ("/images/x.png", Target::Images),
            ("/health", Target::Health),
            ("/health/ready", Target::Health),
            ("/metrics", Target::Metrics),
            ("/mcp/", Target::Nowhere),
            ("/MCP", Target::Nowhere),
            ("/imagesx", Target::Nowhere),
            ("/healthz", Target::Nowhere),
            ("//mcp", Target::Nowhere),
            ("/images/../mcp", Target::Images),
            ("", Target::Nowhere),
            ("*", Target::Nowhere),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }
}
