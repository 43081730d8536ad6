//! Who asks: the peer of the connection, or the client that a trusted proxy names.
//!
//! The accept loop puts a [`PeerAddr`] into a request's extensions; [`ClientAddrLayer`] puts the [`ClientAddr`] in its place. A
//! forwarding header counts only when the peer is a configured proxy, and then its **rightmost address that is not
//! itself such a proxy** is the client: everything further left was written by someone unknown.
//!
//! A request without [`PeerAddr`] (in memory, or over a Unix socket) passes without a [`ClientAddr`].
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use layers::client_addr::{ClientAddr, ClientAddrLayer, PeerAddr, TrustedProxies};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let trusted = TrustedProxies::new(["10.0.0.0/8".parse()?]);
//! let service = ServiceBuilder::new().layer(ClientAddrLayer::new(trusted)).service(service_fn(
//!     |request: Request<()>| async move {
//!         Ok::<_, Infallible>(Response::new(request.extensions().get::<ClientAddr>().copied()))
//!     },
//! ));
//! let request = Request::builder()
//!     .extension(PeerAddr("10.0.0.7:4711".parse()?))
//!     .header("x-forwarded-for", "1.2.3.4, 203.0.113.9, 10.0.0.8")
//!     .body(())?;
//! let client = service.oneshot(request).await?.into_body().expect("a peer is known");
//! assert_eq!(client.ip().to_string(), "203.0.113.9");
//! # Ok(())
//! # }
//! ```

mod forwarded;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use ipnet::{IpNet, Ipv4Net};
use tower::{Layer, Service};

pub use forwarded::ForwardingHeader;

/// The other end of the connection, put into a request's extensions by the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The client of a request, in its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr {
    ip: IpAddr,
    local: bool,
}

impl ClientAddr {
    /// Its address; an IPv4 address mapped into IPv6 comes as IPv4.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// What limits count by.
    pub fn key(&self) -> ClientKey {
        ClientKey::from(self.ip)
    }

    /// Whether the client is on this machine, as far as that can be told: the peer is a loopback address, and either
    /// no forwarding header came along, or the peer is a trusted proxy and every address that it names is loopback
    /// too.
    ///
    /// A local reverse proxy that is not trusted therefore does not make the world local, provided that it sends one
    /// of the usual headers (`X-Forwarded-*`, `Forwarded`, `X-Real-IP`, `Via` and their like). One that sends none,
    /// such as a plain TCP forwarder, cannot be told from a local client.
    pub fn is_loopback(&self) -> bool {
        self.local
    }
}

/// What limits count by: an IPv4 address, or the /64 network of an IPv6 address, which one client owns as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(IpAddr);

impl From<IpAddr> for ClientKey {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 => v4,
        })
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// The networks whose forwarding headers count. Empty by default: no header counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts these networks; an IPv4 network mapped into IPv6 is taken as IPv4.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().map(canonical).collect())
    }

    /// Whether the address is in one of the networks.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

/// Puts a [`ClientAddr`] into the extensions of each request that has a [`PeerAddr`], and takes that out.
#[derive(Debug, Clone)]
pub struct ClientAddrLayer {
    trusted: TrustedProxies,
    header: ForwardingHeader,
}

impl ClientAddrLayer {
    /// Reads `X-Forwarded-For` from these proxies.
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { trusted, header: ForwardingHeader::XForwardedFor }
    }

    /// Reads another header. Exactly one is read, because a proxy that writes one passes the other through as the
    /// client made it up.
    pub fn with_header(mut self, header: ForwardingHeader) -> Self {
        self.header = header;
        self
    }
}

impl<S> Layer<S> for ClientAddrLayer {
    type Service = ResolveClientAddr<S>;

    fn layer(&self, inner: S) -> ResolveClientAddr<S> {
        ResolveClientAddr { inner, layer: self.clone() }
    }
}

/// The service of [`ClientAddrLayer`].
#[derive(Debug, Clone)]
pub struct ResolveClientAddr<S> {
    inner: S,
    layer: ClientAddrLayer,
}

impl<S, B> Service<Request<B>> for ResolveClientAddr<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(PeerAddr(peer)) = request.extensions_mut().remove() {
            let client =
                forwarded::resolve(peer.ip(), request.headers(), &self.layer.trusted, self.layer.header);
            request.extensions_mut().insert(client);
        }
        self.inner.call(request)
    }
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use tower_test::mock;

    use super::*;

    fn key(ip: &str) -> ClientKey {
        ClientKey::from(ip.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn key_of_ipv6_addresses_in_one_64_network_is_the_same() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn key_of_ipv4_is_whole_and_the_same_when_mapped() {
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn trusted_proxies_given_as_mapped_network_contain_the_ipv4_address() {
        let trusted = TrustedProxies::new(["::ffff:10.0.0.0/104".parse().unwrap()]);
        assert!(trusted.contains("10.1.2.3".parse().unwrap()));
        assert!(trusted.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!trusted.contains("11.1.2.3".parse().unwrap()));
        assert!(!trusted.contains("::1".parse().unwrap()));
    }

    #[tokio::test]
    async fn layer_with_a_peer_puts_the_client_into_the_extensions() {
        let layer = ClientAddrLayer::new(TrustedProxies::default());
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, (), _>(layer);
        assert!(service.poll_ready().is_ready());
        let peer = PeerAddr("[::ffff:192.0.2.1]:80".parse().unwrap());
        let request =
            Request::builder().extension(peer).header("x-forwarded-for", "9.9.9.9").body(()).unwrap();
        let _call = service.call(request);
        let (request, _respond) = handle.next_request().await.unwrap();
        assert!(request.extensions().get::<PeerAddr>().is_none());
        let client = request.extensions().get::<ClientAddr>().unwrap();
        assert_eq!(client.ip().to_string(), "192.0.2.1");
        assert!(!client.is_loopback());
    }

    #[tokio::test]
    async fn layer_without_a_peer_adds_nothing() {
        let layer = ClientAddrLayer::new(TrustedProxies::default());
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, (), _>(layer);
        assert!(service.poll_ready().is_ready());
        let _call = service.call(Request::builder().header("x-forwarded-for", "127.0.0.1").body(()).unwrap());
        let (request, _respond) = handle.next_request().await.unwrap();
        assert!(request.extensions().get::<ClientAddr>().is_none());
    }
}
