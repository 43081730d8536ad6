//! Which web pages' scripts may ask what, by route.
//!
//! Pages whose origin the check of origins lets in may generate, over MCP and REST: browsers ask
//! before they send JSON, and hand over no answer that does not allow it. Images have a list of
//! their own. Nobody else hears anything, and the check refuses them.

use http::{HeaderValue, request::Parts};
use layers::{
    authority::AllowedAuthorities,
    cors::{CorsLayer, Rules, Verdict},
};

use super::dispatch::Target;
use crate::images::Cors;

/// What pages may do at `/mcp` and REST.
static GENERATION: Rules = Rules {
    methods: HeaderValue::from_static("POST"),
    send: HeaderValue::from_static(
        "Accept, Authorization, Content-Type, Last-Event-ID, MCP-Protocol-Version, MCP-Session-Id, Mcp-Method, \
         Mcp-Name, traceparent, tracestate, X-Request-Id",
    ),
    read: HeaderValue::from_static(
        "MCP-Session-Id, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id",
    ),
};

/// The layer for these origins, and for those that may read `images`.
pub(super) fn layer(
    authorities: AllowedAuthorities,
    images: Cors,
) -> CorsLayer<impl Fn(&mut Parts) -> Option<Verdict> + Clone + Send + Sync + 'static> {
    CorsLayer::new(move |request: &mut Parts| match Target::of(request.uri.path()) {
        Target::Mcp | Target::Api => Some(Verdict {
            origin: authorities.allowed_origin(&request.headers).cloned(),
            varies: true,
            rules: &GENERATION,
        }),
        Target::Images => images.judge(request),
        Target::Gallery | Target::Health | Target::Metrics | Target::Nowhere => None,
    })
}
