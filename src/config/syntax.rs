//! Texts with rules of their own: hosts, URLs, headers. Pure.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderName, HeaderValue};
use url::Url;

use super::{reader::Refused, variable::split_headers};

/// An address or a host name, as one listens on it; brackets of an IPv6 address are cut.
pub(super) fn host(text: &str) -> Result<String, Refused> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_name = || bare == text && is_host_name(bare);
    if bare.parse::<IpAddr>().is_ok() || is_name() { Ok(bare.to_owned()) } else { Err(None) }
}

/// A name, or a name and port, as a `Host` header gives it; lower case.
pub(super) fn authority(text: &str) -> Result<String, Refused> {
    let lower = text.to_ascii_lowercase();
    let refused = || Some(format!("`{}` is neither", super::variable::one_line(text, 80)));
    let (name, rest) = match lower.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(refused)?;
            address.parse::<Ipv6Addr>().map_err(|_| refused())?;
            ("", rest)
        }
        None => lower.split_at(lower.find(':').unwrap_or(lower.len())),
    };
    if !lower.starts_with('[') && !is_host_name(name) {
        return Err(refused());
    }
    match rest.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(lower),
        None if rest.is_empty() => Ok(lower),
        _ => Err(refused()),
    }
}

/// An origin as browsers send it: scheme, host and port, default ports left out.
pub(super) fn origin(text: &str) -> Result<String, Refused> {
    let refused = || Some(format!("`{}` is none", super::variable::one_line(text, 80)));
    let url = web_url(text).map_err(|_| refused())?;
    if url.path() != "/" || text.ends_with("//") {
        return Err(refused());
    }
    Ok(url.origin().ascii_serialization())
}

/// An `http` or `https` URL with a host and without credentials, query and fragment.
pub(super) fn web_url(text: &str) -> Result<Url, Refused> {
    let url = Url::parse(text).map_err(|error| Some(error.to_string()))?;
    let refusal = if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        "it does not begin with http:// or https:// and a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "user and password do not belong here"
    } else if url.query().is_some() || url.fragment().is_some() {
        "`?` and `#` do not belong here"
    } else {
        return Ok(url);
    };
    Err(Some(refusal.to_owned()))
}

/// What URLs in answers start with; the trailing slash is cut.
pub(super) fn base_url(text: &str) -> Result<String, Refused> {
    let url = web_url(text)?;
    let unspecified = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_unspecified(),
        Some(url::Host::Ipv6(address)) => address.is_unspecified(),
        _ => false,
    };
    if unspecified {
        return Err(Some("no client can reach that address; name one that clients can".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// `Name: value` headers; the values are marked sensitive.
pub(super) fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    split_headers(text).map(header).collect()
}

/// A bearer token (RFC 6750): visible ASCII without spaces.
pub(super) fn token(text: &str) -> Result<String, Refused> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

/// Names that the HTTP client or another variable looks after.
const RESERVED_HEADERS: [(&str, &str); 8] = [
    ("host", "use KSERVE_HOST_HEADER"),
    ("content-length", "the server sets it"),
    ("content-type", "the server sets it"),
    ("accept-encoding", "the server sets it"),
    ("connection", "the server sets it"),
    ("te", "the server sets it"),
    ("transfer-encoding", "the server sets it"),
    ("upgrade", "the server sets it"),
];

fn header(text: &str) -> Result<(HeaderName, HeaderValue), Refused> {
    // The part without `:` may be a secret that lost its name, so it is not repeated.
    let (name, value) = text.split_once(':').ok_or(Some("a header without `:`".to_owned()))?;
    let name = name.trim();
    let named = |what: &str| Some(format!("`{}`: {what}", super::variable::one_line(name, 64)));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| named("not a header name"))?;
    if let Some((_, why)) = RESERVED_HEADERS.iter().find(|(reserved, _)| parsed == *reserved) {
        return Err(named(why));
    }
    let mut value =
        HeaderValue::from_str(value.trim()).map_err(|_| named("its value has control characters"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_an_address_or_a_name() {
        for (text, expected) in [
            ("0.0.0.0", Some("0.0.0.0")),
            ("::", Some("::")),
            ("[::1]", Some("::1")),
            ("localhost", Some("localhost")),
            ("pod-1.ns.svc", Some("pod-1.ns.svc")),
            ("localhost:80", None),
            ("[localhost]", None),
            ("http://x", None),
            ("-x", None),
            ("a..b", None),
            ("a b", None),
        ] {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn authority_is_a_name_with_or_without_port() {
        for (text, expected) in [
            ("Images.Example", Some("images.example")),
            ("images.example:8443", Some("images.example:8443")),
            ("10.0.0.1:80", Some("10.0.0.1:80")),
            ("[::1]", Some("[::1]")),
            ("[::1]:80", Some("[::1]:80")),
            ("images.example:", None),
            ("images.example:0", None),
            ("images.example:99999", None),
            ("images.example:+80", None),
            ("https://images.example", None),
            ("images.example/x", None),
            ("evil@localhost", None),
            ("[::1", None),
            ("[::1]x", None),
            ("*", None),
        ] {
            assert_eq!(authority(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn origin_is_normalised_as_browsers_send_it() {
        for (text, expected) in [
            ("https://App.Example", Some("https://app.example")),
            ("https://app.example:443/", Some("https://app.example")),
            ("http://app.example:8080", Some("http://app.example:8080")),
            ("https://app.example/x", None),
            ("https://app.example/?q", None),
            ("https://me@app.example", None),
            ("app.example", None),
            ("null", None),
            ("*", None),
            ("file:///x", None),
        ] {
            assert_eq!(origin(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn base_url_loses_its_trailing_slash() {
        for (text, expected) in [
            ("http://localhost:8000", Some("http://localhost:8000")),
            ("https://images.example/a/b/", Some("https://images.example/a/b")),
            ("http://0.0.0.0:8000", None),
            ("http://[::]:8000", None),
            ("https://images.example/?a=b", None),
            ("https://images.example/#a", None),
            ("https://me:pw@images.example", None),
            ("ftp://images.example", None),
            ("images.example", None),
            ("http://", None),
        ] {
            assert_eq!(base_url(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn headers_are_split_and_sensitive() {
        let parsed = headers("X-Route: blue; X-Empty:").expect("valid");
        assert_eq!(parsed.len(), 2);
        assert_eq!((parsed[0].0.as_str(), parsed[0].1.as_bytes()), ("x-route", &b"blue"[..]));
        assert!(parsed.iter().all(|(_, value)| value.is_sensitive()));
        assert_eq!(headers("Cookie: a=b; c=d\nX-A: 1").expect("valid").len(), 2);
        for text in ["hunter2", "X Y: 1", "Host: x", "content-length: 1", "X: a\u{7}b"] {
            let detail = headers(text).expect_err("refused").expect("a detail");
            assert!(!detail.contains("hunter2"), "{detail}");
        }
    }
}
