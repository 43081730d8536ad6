//! From a peer and its forwarding headers to the client.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::{ClientAddr, TrustedProxies};

/// The header in which a trusted proxy names its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses, the latest hop last.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): elements with `for=`, the latest hop last.
    Forwarded,
}

impl ForwardingHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
        }
    }

    /// The address that one list element names; `None` for anything that is not an address.
    fn address(self, element: &str) -> Option<IpAddr> {
        let node = match self {
            Self::XForwardedFor => element,
            Self::Forwarded => forwarded_for(element)?,
        };
        parse_node(node).map(|ip| ip.to_canonical())
    }
}

/// The client: the peer, or the rightmost address in `header` that is not a trusted proxy.
pub(super) fn resolve(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    header: ForwardingHeader,
) -> ClientAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return ClientAddr { ip: peer, local: peer.is_loopback() && !headers.keys().any(is_forwarding) };
    }
    let mut hops = 0_usize;
    let mut all_loopback = peer.is_loopback();
    let mut ip = peer;
    for element in elements_from_the_right(headers, &header.name()) {
        let Some(hop) = element.and_then(|element| header.address(element)) else {
            // Whoever wrote this is not understood, and so is everything further left.
            all_loopback = false;
            break;
        };
        hops += 1;
        ip = hop;
        all_loopback &= hop.is_loopback();
        if !trusted.contains(hop) {
            break;
        }
    }
    let told = hops > 0 || !headers.keys().any(is_forwarding);
    ClientAddr { ip, local: all_loopback && told }
}

/// The elements of a list header, all of its lines joined, from the right; `None` for a line that is no text.
fn elements_from_the_right<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().rev().flat_map(|line: &'a HeaderValue| {
        let text = line.to_str().ok();
        // An unreadable line gives one unreadable element; empty elements count as absent (RFC 9110, section 5.6.1).
        let unreadable = text.is_none().then_some(None);
        let elements =
            text.unwrap_or_default().rsplit(',').map(str::trim).filter(|element| !element.is_empty());
        elements.map(Some).chain(unreadable)
    })
}

/// The value of `for` in one element of `Forwarded`, without quotes. A comma inside of quotes is not understood, which
/// is safe: no address has one.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_node(node: &str) -> Option<IpAddr> {
    if let Ok(ip) = node.parse::<IpAddr>() {
        return Some(ip);
    }
    if let Some(inside) = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse().ok().map(IpAddr::V6);
    }
    node.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// Whether a header of this name says that a proxy stands between the client and the peer.
fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded")
        || name.starts_with("x-envoy-")
        || matches!(
            name,
            "forwarded"
                | "via"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-forwarded-for"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "fastly-client-ip"
                | "fly-client-ip"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_as(kind: ForwardingHeader, peer: &str, lines: &[(&'static str, &str)]) -> (String, bool) {
        let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let client = resolve(peer.parse().unwrap(), &headers, &trusted, kind);
        (client.ip().to_string(), client.is_loopback())
    }

    fn ip(peer: &str, forwarded_for: &[&str]) -> String {
        let lines: Vec<_> = forwarded_for.iter().map(|value| ("x-forwarded-for", *value)).collect();
        resolve_as(ForwardingHeader::XForwardedFor, peer, &lines).0
    }

    #[test]
    fn peer_that_is_not_trusted_keeps_its_own_address() {
        assert_eq!(ip("203.0.113.5", &["1.2.3.4"]), "203.0.113.5");
    }

    #[test]
    fn trusted_peer_names_the_rightmost_untrusted_address() {
        assert_eq!(ip("10.0.0.1", &["1.1.1.1, 2.2.2.2"]), "2.2.2.2");
        assert_eq!(ip("10.0.0.1", &["1.1.1.1, 2.2.2.2,10.0.0.9"]), "2.2.2.2");
        assert_eq!(ip("10.0.0.1", &["1.1.1.1", "2.2.2.2", "10.0.0.9"]), "2.2.2.2", "lines are joined");
        assert_eq!(ip("::ffff:10.0.0.1", &["::ffff:2.2.2.2"]), "2.2.2.2", "mapped addresses are IPv4");
    }

    #[test]
    fn trusted_peer_without_a_header_is_the_client() {
        assert_eq!(ip("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(ip("10.0.0.1", &["", " , "]), "10.0.0.1");
    }

    #[test]
    fn chain_of_trusted_addresses_ends_at_its_left() {
        assert_eq!(ip("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn garbage_stops_the_walk_at_the_last_trusted_hop() {
        assert_eq!(ip("10.0.0.1", &["2.2.2.2, unknown"]), "10.0.0.1");
        assert_eq!(ip("10.0.0.1", &["2.2.2.2, x y, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(ip("10.0.0.1", &["2.2.2.2", "\u{e9}", "10.0.0.2"]), "10.0.0.2");
        assert_eq!(ip("10.0.0.1", &["2.2.2.2, 010.0.0.1"]), "10.0.0.1", "no octal");
    }

    #[test]
    fn addresses_with_ports_and_brackets_are_understood() {
        assert_eq!(ip("10.0.0.1", &["2.2.2.2:4711"]), "2.2.2.2");
        assert_eq!(ip("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(ip("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(ip("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(ip("10.0.0.1", &["[2.2.2.2]"]), "10.0.0.1", "brackets are for IPv6");
    }

    #[test]
    fn rfc_7239_header_is_read_when_chosen_and_only_then() {
        let lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", r#"for=9.9.9.9, For="[2001:db8::1]:80";proto=http"#),
        ];
        assert_eq!(resolve_as(ForwardingHeader::Forwarded, "10.0.0.1", &lines).0, "2001:db8::1");
        assert_eq!(resolve_as(ForwardingHeader::XForwardedFor, "10.0.0.1", &lines).0, "1.1.1.1");
        for garbage in
            ["for=_hidden", "for=unknown", "by=1.1.1.1", "for=\"1.1.1.1", "for=1.1.1.1;for=2.2.2.2"]
        {
            let lines = [("forwarded", garbage)];
            assert_eq!(
                resolve_as(ForwardingHeader::Forwarded, "10.0.0.1", &lines).0,
                "10.0.0.1",
                "{garbage}"
            );
        }
    }

    fn local(peer: &str, lines: &[(&'static str, &str)]) -> bool {
        resolve_as(ForwardingHeader::XForwardedFor, peer, lines).1
    }

    #[test]
    fn loopback_peer_without_headers_is_local() {
        assert!(local("127.0.0.1", &[]));
        assert!(local("::1", &[]));
        assert!(local("::ffff:127.0.0.1", &[]));
        assert!(!local("192.0.2.1", &[]));
    }

    #[test]
    fn loopback_peer_that_is_not_trusted_and_forwards_is_not_local() {
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-real-ip", "via"] {
            assert!(!local("::1", &[(name, "127.0.0.1")]), "{name}");
        }
    }

    #[test]
    fn trusted_local_proxy_makes_only_local_clients_local() {
        assert!(local("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")]));
        assert!(!local("127.0.0.1", &[("x-forwarded-for", "203.0.113.9")]));
        assert!(!local("127.0.0.1", &[("x-forwarded-for", "127.0.0.1, garbage")]));
        assert!(!local("127.0.0.1", &[("x-forwarded-for", "garbage, 127.0.0.1")]));
        assert!(!local("127.0.0.1", &[("x-real-ip", "127.0.0.1")]), "it does not say who");
        assert!(!local("127.0.0.1", &[("x-forwarded-for", ",")]), "it does not say who");
    }

    #[test]
    fn trusted_remote_proxy_cannot_name_a_local_client() {
        assert!(!local("10.0.0.1", &[("x-forwarded-for", "127.0.0.1")]));
        assert!(!local("127.0.0.1", &[("x-forwarded-for", "127.0.0.1, 10.0.0.2")]));
    }
}
