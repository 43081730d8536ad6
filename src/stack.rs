//! The stack: every request passes through here, outermost layer first.
//!
//! ```text
//! client address -> request id -> trace -> metrics -> CORS -> rescue -> panic catch
//!     -> dispatch by path
//!   /mcp                          authority -> OPTIONS -> rate -> deadline -> body idle -> body limit -> MCP
//!   /mcp/v1/tools/generate_image  authority -> OPTIONS -> rate -> deadline -> body idle -> body limit -> REST
//!   /images/...                   authority -> rate -> deadline -> body limit -> images
//!   /                             authority -> rate -> deadline -> body limit -> gallery
//!   /health..., /metrics          one host -> deadline -> health, metrics
//!   anything else                 one host -> not found
//! ```

mod cors;
mod dispatch;

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use layers::{
    Body, BoxError, IntoBodyLayer, authority::AllowedAuthorities, authority::AuthorityLayer,
    authority::NamedLayer, body_idle::BodyIdleTimeoutLayer, body_limit::BodyLimitLayer, boxed::Boxed,
    boxed::ResponseFuture, client_addr::ClientAddr, client_addr::ClientAddrLayer,
    client_addr::TrustedProxies, deadline::DeadlineLayer, http_metrics::HttpMetricsLayer,
    options::OptionsLayer, panic::CatchPanicLayer, rate_limit::Quota, rate_limit::RateLimitLayer,
    request_id::RequestIdLayer, rescue::RescueLayer, trace::Record, trace::TraceLayer,
};
use tower::{Service, ServiceBuilder, service_fn, util::option_layer};

use self::dispatch::{Dispatch, Route, Routes, nowhere, route_name, route_template};
use crate::{
    api::Api,
    gallery::Gallery,
    generate::Generator,
    health::Health,
    images::{Cors, Delivery, Images},
    mcp::{self, ImageServer},
    metrics::Exporter,
    rescue,
};

/// A request body in which no byte comes for this long has stalled.
const BODY_IDLE: Duration = Duration::from_secs(10);
/// Health and metrics answer within this, or not at all.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's deadline is so much later than its generation's, which says and counts what it was.
const BACKSTOP: Duration = Duration::from_secs(1);

/// Where MCP is.
pub const MCP_PATH: &str = "/mcp";

/// Who may ask, how much, and for how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// `Host` values allowed besides loopback names: a name, or a name and port.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values allowed besides loopback ones: `https://app.example`, port as in the origin.
    pub allowed_origins: Vec<String>,
    /// Networks (CIDR) of proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Who may list and delete images.
    pub listing: Listing,
    /// Whether there is a web page at `/`.
    pub gallery: bool,
    /// Requests to `/mcp` and REST, per client; `None`: unlimited.
    pub request_rate: Option<Rate>,
    /// Requests for images, per client; `None`: unlimited.
    pub image_rate: Option<Rate>,
    /// Bytes of a request body at most.
    pub max_request_bytes: usize,
    /// From request to response head, for all but generations.
    pub request_timeout: Duration,
    /// How long a generation may take: waiting, drawing and storing.
    pub generation_timeout: Duration,
}

/// A rate per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Cells replenished each second.
    pub per_second: std::num::NonZeroU32,
    /// Cells that may be taken at once.
    pub burst: std::num::NonZeroU32,
}

/// Who may list and delete images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Loopback peers only.
    Auto,
    /// Everyone.
    On,
    /// No one.
    Off,
}

/// A configured value that the stack cannot be built with.
#[derive(Debug, thiserror::Error)]
#[error("ALLOWED_HOSTS or ALLOWED_ORIGINS: {0}")]
pub struct Error(#[from] layers::authority::InvalidEntries);

/// What the stack dispatches to.
#[derive(Clone)]
pub struct Rooms {
    /// The MCP server.
    pub mcp: ImageServer,
    /// The pipeline behind REST.
    pub generator: Generator,
    /// What images are delivered by.
    pub delivery: Delivery,
    /// How the server stands.
    pub health: Health,
    /// What it counts.
    pub metrics: Exporter,
    /// Who takes its traces, if anyone does.
    pub recorder: Option<Arc<dyn Record>>,
}

/// The whole server as one service: every request is answered, none fails.
#[derive(Clone)]
pub struct Stack(Boxed<Infallible>);

impl Stack {
    /// The main listener's stack; `with_metrics` serves `/metrics` here too.
    ///
    /// # Errors
    /// A configured host or origin that is not one.
    pub fn new(rooms: &Rooms, config: &Config, with_metrics: bool) -> Result<Self, Error> {
        let authorities = AllowedAuthorities::new(&config.allowed_hosts, &config.allowed_origins)?;
        let requests = rate_limit("requests", config.request_rate);
        let images = rate_limit("images", config.image_rate);
        let routes = Routes {
            mcp: Some(generation_chain(
                mcp::service(rooms.mcp.clone(), config.max_request_bytes),
                &authorities,
                requests.clone(),
                config,
            )),
            api: Some(generation_chain(
                Api::new(rooms.generator.clone(), rescue::generation),
                &authorities,
                requests,
                config,
            )),
            images: Some(image_chain(
                Images::new(rooms.delivery.clone(), access(config.listing)),
                &authorities,
                images.clone(),
                config,
            )),
            gallery: config.gallery.then(|| image_chain(Gallery::new(), &authorities, images, config)),
            health: operation_chain(rooms.health.clone(), config),
            metrics: with_metrics.then(|| operation_chain(rooms.metrics.clone(), config)),
            nowhere: nowhere_chain("GET, HEAD, POST, DELETE, OPTIONS"),
        };
        let pages = Some((authorities, rooms.delivery.cors().clone()));
        Ok(Self(edge(routes, pages, rooms.recorder.clone(), config)))
    }

    /// Answers a request.
    pub fn call(&self, request: Request<Body>) -> ResponseFuture<Infallible> {
        self.0.call(request)
    }

    /// The second listener's stack: health and metrics alone.
    #[must_use]
    pub fn operations(rooms: &Rooms, config: &Config) -> Self {
        let routes = Routes {
            mcp: None,
            api: None,
            images: None,
            gallery: None,
            health: operation_chain(rooms.health.clone(), config),
            metrics: Some(operation_chain(rooms.metrics.clone(), config)),
            nowhere: nowhere_chain("GET, HEAD, OPTIONS"),
        };
        Self(edge(routes, None, None, config))
    }
}

/// What every request passes, whatever its path. `pages` are those whose scripts may ask, and those
/// whose scripts may read images.
fn edge(
    routes: Routes,
    pages: Option<(AllowedAuthorities, Cors)>,
    recorder: Option<Arc<dyn Record>>,
    config: &Config,
) -> Boxed<Infallible> {
    let service = ServiceBuilder::new()
        // One body type outside, whatever the layers below make of it.
        .layer(IntoBodyLayer)
        // Who asks: the peer, or whom a trusted proxy names. Everything below keys on it.
        .layer(ClientAddrLayer::new(TrustedProxies::new(config.trusted_proxies.clone())))
        // A name for the request, in the answer too: what a user quotes and an operator greps.
        .layer(RequestIdLayer)
        // The span that log lines hang on; one line when the response's body ends.
        .layer(trace(recorder))
        // Counts what the client saw, rescued failures included, until the body ends.
        .layer(http_metrics())
        // Tells browsers which pages may read the answer, be it an error.
        .layer(option_layer(pages.map(|(asking, reading)| cors::layer(asking, reading))))
        // Above this line nothing fails any more: causes become responses.
        .layer(RescueLayer::new(rescue::respond))
        // A panic is one request's failure, not the connection's.
        .layer(CatchPanicLayer)
        // Request bodies are counted by now; the routes know one body type.
        .layer(IntoBodyLayer)
        .service(Dispatch::new(routes));
    Boxed::new(service)
}

/// Probes and scrapes come every few seconds: they are told at `debug`, and are no traces.
fn trace(recorder: Option<Arc<dyn Record>>) -> TraceLayer {
    TraceLayer::new(route_name).with_quiet(&["health", "metrics"]).with_recorder(recorder, route_template)
}

/// Failures are counted from zero: the alerts look at how they grow.
fn http_metrics() -> HttpMetricsLayer {
    let failures = [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    [("mcp", Method::POST), ("api", Method::POST), ("images", Method::GET)]
        .iter()
        .fold(HttpMetricsLayer::new(route_name), |layer, (route, method)| {
            layer.with_counted(route, method, &failures)
        })
}

/// Who may list and delete, until there are credentials.
fn access(listing: Listing) -> impl Fn(&Parts) -> bool + Send + Sync + 'static {
    move |request| match listing {
        Listing::Auto => request.extensions.get().is_some_and(ClientAddr::is_loopback),
        Listing::On => true,
        Listing::Off => false,
    }
}

/// `/mcp` and REST: what may cost GPU time.
fn generation_chain<S>(
    inner: S,
    authorities: &AllowedAuthorities,
    rate: Option<RateLimitLayer>,
    config: &Config,
) -> Route
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let service = ServiceBuilder::new()
        // Foreign hosts (DNS rebinding) and origins (CSRF) go before the body is read.
        .layer(AuthorityLayer::new(authorities.clone()))
        // A page's preflight costs no token.
        .layer(OptionsLayer::new(HeaderValue::from_static("POST, OPTIONS")))
        // A token is taken before anything is dispatched.
        .layer(option_layer(rate))
        // The generation has the same time by itself, whatever becomes of its answer, and ends
        // first. This is for what comes before it, such as a body that drips.
        .layer(DeadlineLayer::new(config.generation_timeout.saturating_add(BACKSTOP)))
        // A body that drips holds no memory for long.
        .layer(BodyIdleTimeoutLayer::new(BODY_IDLE))
        // Nor is it ever larger than this.
        .layer(BodyLimitLayer::new(config.max_request_bytes))
        .layer(IntoBodyLayer)
        .service(inner);
    Boxed::new(service)
}

/// `/images` and the page that shows them: many cheap reads, with a limit of their own.
fn image_chain<S>(
    inner: S,
    authorities: &AllowedAuthorities,
    rate: Option<RateLimitLayer>,
    config: &Config,
) -> Route
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let service = ServiceBuilder::new()
        // A rebound page must not read images either.
        .layer(AuthorityLayer::new(authorities.clone()))
        // Guessing and scraping are slow; reading does not eat into what generations may ask.
        .layer(option_layer(rate))
        // To the head only: a download takes as long as it takes.
        .layer(DeadlineLayer::new(config.request_timeout))
        // No request here has a body worth reading.
        .layer(BodyLimitLayer::new(0))
        .layer(IntoBodyLayer)
        .service(inner);
    Boxed::new(service)
}

/// `/health` and `/metrics`: probes and scrapers come by pod address.
fn operation_chain<S>(inner: S, config: &Config) -> Route
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let service = ServiceBuilder::new()
        // Any host will do, but there has to be one.
        .layer(NamedLayer)
        .layer(DeadlineLayer::new(config.request_timeout.min(OPERATION_TIMEOUT)))
        .layer(BodyLimitLayer::new(0))
        .layer(IntoBodyLayer)
        .service(inner);
    Boxed::new(service)
}

/// What is no route's; `allow` are the methods of all routes.
fn nowhere_chain(allow: &'static str) -> Route {
    let answer = move |request: Request<Body>| ready(Ok::<_, BoxError>(nowhere(&request, allow)));
    // A request that names no host, or several, is told that first, whatever its path.
    Boxed::new(ServiceBuilder::new().layer(NamedLayer).service(service_fn(answer)))
}

fn rate_limit(limiter: &'static str, rate: Option<Rate>) -> Option<RateLimitLayer> {
    rate.map(|rate| RateLimitLayer::new(limiter, Quota::per_second(rate.per_second).with_burst(rate.burst)))
}

impl Service<Request<Body>> for Stack {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A call waits by itself until what it is for is ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Self::call(self, request)
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stack")
    }
}
