//! What the edge reads of a request's head: authority, origin, client address, request id, trace.
//!
//! The first line is a version and a target, the second the peer's address, the others are fields:
//!
//! ```text
//! 1.1 /mcp
//! 10.0.0.7
//! host: localhost:8000
//! x-forwarded-for: 203.0.113.9
//! ```
//!
//! Invariants: a host or origin that is let in is, as a browser reads URLs, a loopback one or a listed
//! one; a client address is the peer's or one that a trusted proxy named, and what is further left
//! than that does not change it; a request id is the client's own and safe, or new; a trace goes on
//! exactly when `traceparent` is right to the letter.
#![no_main]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use layers::{
    authority::{AllowedAuthorities, AuthorityLayer},
    client_addr::{ClientAddr, ClientAddrLayer, PeerAddr, TrustedProxies},
    request_id::{RequestId, RequestIdLayer},
    trace::TraceContext,
};
use libfuzzer_sys::fuzz_target;
use support::script::{field, split_once};
use tower::{Layer, Service, service_fn, util::ServiceFn};
use url::{Host, Url};

static ALLOWED: LazyLock<AllowedAuthorities> = LazyLock::new(|| {
    let hosts = ["images.example", "api.example:8443", "[2001:db8::5]"];
    AllowedAuthorities::new(hosts, ["https://app.example", "http://dev.example:3000"]).expect("valid")
});
static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let networks = ["10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32"];
    TrustedProxies::new(networks.map(|network| network.parse().expect("a network")))
});

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = split_once(input, b"\n") else { return };
    let (peer, fields) = split_once(rest, b"\n").unwrap_or((rest, b""));
    let Some((version, target)) = split_once(first, b" ") else { return };
    let version = if version == b"2" { Version::HTTP_2 } else { Version::HTTP_11 };
    let Ok(target) = Uri::try_from(target) else { return };
    let peer = std::str::from_utf8(peer).ok().and_then(|peer| peer.parse().ok());
    let peer = peer.unwrap_or(IpAddr::from([203, 0, 113, 1]));
    let mut headers = HeaderMap::new();
    fields.split(|&byte| byte == b'\n').for_each(|line| field(line, &mut headers));

    authority(version, &target, &headers);
    client(peer, &headers);
    request_id(&headers);
    trace(&headers);
});

/// Sends a head through a layer, and tells what came out behind it.
fn behind<L, S, T>(layer: L, request: Request<()>, look: fn(Request<()>) -> T) -> Option<T>
where
    T: 'static,
    L: Layer<Inner<T>, Service = S>,
    S: Service<Request<()>, Response = Response<T>>,
{
    let inner: Look<T> = Box::new(move |request| ready(Ok(Response::new(look(request)))));
    let answer = now(layer.layer(service_fn(inner)).call(request));
    answer.ok().map(Response::into_body)
}

type Look<T> = Box<dyn FnMut(Request<()>) -> Ready<Result<Response<T>, Infallible>>>;
type Inner<T> = ServiceFn<Look<T>>;

/// The output of a future that has nothing to wait for.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("nothing here waits"),
    }
}

fn head(headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    request
}

fn authority(version: Version, target: &Uri, headers: &HeaderMap) {
    let mut request = head(headers);
    (*request.version_mut(), *request.uri_mut()) = (version, target.clone());
    if behind(AuthorityLayer::new(ALLOWED.clone()), request, drop).is_none() {
        return;
    }
    let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
    assert!(hosts.len() <= 1, "one host: {headers:?}");
    let named = [hosts.first().and_then(|host| host.to_str().ok()), target.authority().map(|it| it.as_str())];
    assert!(named.iter().any(Option::is_some));
    for host in named.into_iter().flatten() {
        let url = Url::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{error}: {host}"));
        assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/", "{host}");
        let listed = match url.host().expect("a host") {
            Host::Domain(name) => match name.trim_end_matches('.') {
                "images.example" => true,
                "api.example" => url.port() == Some(8443),
                _ => false,
            },
            Host::Ipv6(ip) => ip == "2001:db8::5".parse::<std::net::Ipv6Addr>().expect("an address"),
            Host::Ipv4(_) => false,
        };
        assert!(listed || is_loopback(&url), "{host} is let in");
    }
    let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().collect();
    assert!(origins.len() <= 1, "one origin: {headers:?}");
    if let Some(origin) = origins.first().map(|origin| origin.to_str().expect("a readable origin")) {
        let url = Url::parse(origin).unwrap_or_else(|error| panic!("{error}: {origin}"));
        assert!(
            matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.username().is_empty(),
            "{origin}"
        );
        let host = url.host_str().expect("a host").trim_end_matches('.');
        let listed = matches!(
            (url.scheme(), host, url.port_or_known_default()),
            ("https", "app.example", Some(443)) | ("http", "dev.example", Some(3000))
        );
        assert!(listed || is_loopback(&url), "{origin} is let in");
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host().expect("a host") {
        Host::Domain(name) => name.trim_end_matches('.') == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.to_canonical().is_loopback(),
    }
}

fn client_of(peer: IpAddr, headers: &HeaderMap) -> ClientAddr {
    let mut request = head(headers);
    request.extensions_mut().insert(PeerAddr(SocketAddr::from((peer, 1))));
    let seen = behind(ClientAddrLayer::new(TRUSTED.clone()), request, |request| {
        request.extensions().get::<ClientAddr>().copied()
    });
    seen.flatten().expect("a client")
}

fn client(peer: IpAddr, headers: &HeaderMap) {
    let peer = peer.to_canonical();
    let client = client_of(peer, headers);
    if client.is_loopback() {
        assert!(peer.is_loopback() && client.ip().is_loopback());
    }
    if !TRUSTED.contains(peer) {
        assert_eq!(client.ip(), peer, "whom nobody trusts speaks for itself alone");
    }
    if let Some(expected) = named_client(peer, headers) {
        assert_eq!(client.ip(), expected, "{peer} {headers:?}");
    }
    // A client can write what it likes, but only to the left of what the proxies add.
    if !TRUSTED.contains(client.ip()) {
        let mut forged = HeaderMap::new();
        forged.append("x-forwarded-for", HeaderValue::from_static("127.0.0.1, 6.6.6.6, \"junk"));
        for (name, value) in headers {
            forged.append(name, value.clone());
        }
        assert_eq!(client_of(peer, &forged).ip(), client.ip(), "forged: {headers:?}");
    }
}

/// The client by a plain reading of `X-Forwarded-For`; `None` where an element is no bare address.
fn named_client(peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().map(|line| line.to_str());
    let text = lines.collect::<Result<Vec<_>, _>>().ok()?.join(",");
    let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
    let hops = elements.map(str::parse).collect::<Result<Vec<IpAddr>, _>>().ok()?;
    let path = hops.iter().rev().map(IpAddr::to_canonical);
    let mut seen = peer;
    for hop in path {
        if !TRUSTED.contains(seen) {
            break;
        }
        seen = hop;
    }
    Some(seen)
}

fn request_id(headers: &HeaderMap) {
    let seen =
        behind(RequestIdLayer, head(headers), |request| request.extensions().get::<RequestId>().cloned());
    let id = seen.flatten().expect("an id").as_str().to_owned();
    let given: Vec<_> = headers.get_all("x-request-id").iter().collect();
    let is_safe = |id: &[u8]| {
        (1..=128).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte))
    };
    match given[..] {
        [one] if is_safe(one.as_bytes()) => assert_eq!(id.as_bytes(), one.as_bytes()),
        _ => assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{id}"),
    }
}

fn trace(headers: &HeaderMap) {
    let parents: Vec<_> = headers.get_all("traceparent").iter().map(|value| value.as_bytes()).collect();
    let context = TraceContext::from_headers(headers);
    let valid = matches!(parents[..], [one] if is_traceparent(one));
    assert_eq!(context.is_some(), valid, "{parents:?}");
    let Some(context) = context else { return };
    let ours = context.traceparent();
    assert!(is_traceparent(ours.as_bytes()) && ours.starts_with("00-"));
    assert_eq!(&ours.as_bytes()[3..35], &parents[0][3..35], "the trace goes on");
    let mut injected = HeaderMap::new();
    context.inject(&mut injected);
    let again = TraceContext::from_headers(&injected).expect("what is passed on is right");
    assert_eq!(again.trace_id(), context.trace_id());
}

/// Trace Context, section 3.2.2.
fn is_traceparent(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut parts = text.splitn(5, '-');
    let mut hex = |length: usize| {
        let part = parts.next().unwrap_or_default();
        let good = part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (good, part)
    };
    let ((version_ok, version), (trace_ok, trace), (parent_ok, parent), (flags_ok, _)) =
        (hex(2), hex(32), hex(16), hex(2));
    let nonzero = |digits: &str| digits.bytes().any(|digit| digit != b'0');
    let ends = parts.next().is_none() || version != "00";
    version_ok
        && version != "ff"
        && trace_ok
        && nonzero(trace)
        && parent_ok
        && nonzero(parent)
        && flags_ok
        && ends
}
