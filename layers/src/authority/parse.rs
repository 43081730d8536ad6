//! `host [":" port]` and serialised origins, strictly and without allocation (RFC 3986, section 3.2.2; RFC 6454,
//! section 6.2).

use std::net::{IpAddr, Ipv4Addr};

/// A host with an optional port, borrowed from a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostPort<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
}

/// A host; names without a trailing dot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Host<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

/// `scheme "://" host [":" port]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    pub(super) at: HostPort<'a>,
}

impl<'a> HostPort<'a> {
    /// `None` for anything else, user information and percent encodings included.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        // Only an IP literal has colons of its own, and it ends with its bracket.
        let (host, port) = match text.bytes().rposition(|byte| byte == b':') {
            Some(colon) if !text.ends_with(']') => (&text[..colon], Some(port(&text[colon + 1..])?)),
            _ => (text, None),
        };
        Some(Self { host: Host::parse(host)?, port })
    }

    /// The same host, and the same port as written.
    pub(super) fn is(&self, other: &HostPort<'_>) -> bool {
        self.host.is(&other.host) && self.port == other.port
    }
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(literal) = text.strip_prefix('[') {
            let ip: std::net::Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let last = last_label(name)?;
        // A name that ends in a number is an address, or an attempt at one: `127.1`, `0x7f000001`.
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|b| b.is_ascii_digit())
            || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return name.parse::<Ipv4Addr>().ok().map(|ip| Self::Ip(ip.into()));
        }
        Some(Self::Name(name))
    }

    pub(super) fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Ip(a), Host::Ip(b)) => a == b,
            _ => false,
        }
    }

    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

/// Which bytes a label may have.
const IN_LABEL: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        allowed[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        byte += 1;
    }
    allowed
};

/// The last label of a name whose labels are all valid, of 63 bytes at most, and 253 together. Each request's `Host` comes
/// through here: it is looked at once.
fn last_label(name: &str) -> Option<&str> {
    let mut begin = 0;
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'.' {
            if !(1..=63).contains(&(at - begin)) {
                return None;
            }
            begin = at + 1;
        } else if !IN_LABEL[usize::from(byte)] {
            return None;
        }
    }
    let last = &name[begin..];
    ((1..=63).contains(&last.len()) && name.len() <= 253).then_some(last)
}

impl<'a> Origin<'a> {
    /// `None` for anything else: `null`, a path, several origins.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, at) = text.split_once("://")?;
        let mut bytes = scheme.bytes();
        let valid = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !valid {
            return None;
        }
        Some(Self { scheme, at: HostPort::parse(at)? })
    }

    /// Whether a page on this very machine may be behind it.
    pub(super) fn is_loopback(&self) -> bool {
        default_port(self.scheme).is_some() && self.at.host.is_loopback()
    }

    /// The port as written, or the scheme's.
    pub(super) fn port(&self) -> Option<u16> {
        self.at.port.or_else(|| default_port(self.scheme))
    }

    pub(super) fn is(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.at.host.is(&other.at.host)
            && self.port() == other.port()
    }
}

fn port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a plus sign, a port does not.
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_with_and_without_port_parses() {
        let is = |a: &str, b: &str| HostPort::parse(a).unwrap().is(&HostPort::parse(b).unwrap());
        assert!(is("Images.Example.:8000", "images.example:8000"));
        assert!(is("[::1]:80", "[0:0:0:0:0:0:0:1]:80"));
        assert!(is("[::ffff:127.0.0.1]", "127.0.0.1"));
        assert!(!is("a.example", "a.example:80"));
        assert!(!is("a.example", "b.example"));
    }

    #[test]
    fn host_of_another_form_does_not_parse() {
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            "a b",
            "evil@localhost",
            "localhost@evil",
            "localhost:",
            "localhost:+80",
            "localhost:000080",
            "localhost:65536",
            "localhost:80:80",
            "localhost/",
            "localhost?",
            "localhost#",
            "loc%61lhost",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1%25lo]",
            "[127.0.0.1]",
            "127.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.01",
            "localhost,localhost",
            "l\u{f6}calhost",
            "*",
        ] {
            let parsed = HostPort::parse(text);
            assert!(parsed.is_none(), "{text:?} gave {parsed:?}");
        }
    }

    #[test]
    fn loopback_hosts_are_told_from_lookalikes() {
        for text in ["localhost", "LOCALHOST.", "127.0.0.1", "127.255.0.9", "[::1]"] {
            assert!(HostPort::parse(text).unwrap().host.is_loopback(), "{text}");
        }
        for text in ["localhost.example", "a.localhost", "128.0.0.1", "0.0.0.0", "[::]", "127.0.0.1.example"]
        {
            assert!(!HostPort::parse(text).unwrap().host.is_loopback(), "{text}");
        }
    }

    #[test]
    fn origin_with_default_port_is_the_same_written_out() {
        let is = |a: &str, b: &str| Origin::parse(a).unwrap().is(&Origin::parse(b).unwrap());
        assert!(is("https://a.example", "HTTPS://A.example:443"));
        assert!(is("http://a.example:80", "http://a.example"));
        assert!(!is("http://a.example", "https://a.example"));
        assert!(!is("https://a.example:8443", "https://a.example"));
        assert!(is("chrome-extension://abc", "chrome-extension://abc"));
    }

    #[test]
    fn origin_of_another_form_does_not_parse() {
        for text in [
            "null",
            "",
            "localhost",
            "://localhost",
            "http:/localhost",
            "http://",
            "http://a.example/",
            "http://u@localhost",
            "http://a.example http://b.example",
            "1http://a.example",
            "ht tp://a.example",
        ] {
            assert!(Origin::parse(text).is_none(), "{text:?}");
        }
    }
}
