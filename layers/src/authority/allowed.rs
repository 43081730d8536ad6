//! The lists of what is allowed besides loopback names.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue, header};

use super::parse::{Host, HostPort, Origin};

/// Which authorities and origins are allowed. By default, loopback ones only.
#[derive(Debug, Clone, Default)]
pub struct AllowedAuthorities {
    lists: Arc<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    hosts: Vec<AllowedHost>,
    origins: Vec<AllowedOrigin>,
    any_origin: bool,
    null_origin: bool,
    familiar: OnceLock<HeaderValue>,
}

#[derive(Debug)]
struct AllowedHost {
    host: OwnedHost,
    port: Option<u16>,
}

#[derive(Debug)]
struct AllowedOrigin {
    scheme: String,
    host: OwnedHost,
    port: Option<u16>,
}

#[derive(Debug)]
enum OwnedHost {
    Name(String),
    Ip(IpAddr),
}

/// What an entry was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A host.
    Host,
    /// An origin.
    Origin,
}

/// One entry that is no host, or no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {}", .kind.allowed())]
pub struct InvalidEntry {
    /// What it was to be.
    pub kind: EntryKind,
    /// As given.
    pub value: String,
}

/// All entries of the two lists that are not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntries(pub Vec<InvalidEntry>);

impl AllowedAuthorities {
    /// Allows these besides loopback names.
    ///
    /// - A host is a name or an address (`[...]` for IPv6), alone (any port) or with the one port that is allowed.
    ///   With port 80 or 443, a `Host` without port is allowed too, because clients leave out the scheme's port.
    /// - An origin is `scheme://host[:port]` as browsers send it, `null`, or `*` for any but `null`.
    ///
    /// Letter case and a dot at the end of a name do not matter. Blanks around an entry are ignored.
    ///
    /// # Errors
    /// Names every entry that is neither.
    pub fn new<H, O>(hosts: H, origins: O) -> Result<Self, InvalidEntries>
    where
        H: IntoIterator<Item: AsRef<str>>,
        O: IntoIterator<Item: AsRef<str>>,
    {
        let mut lists = Lists::default();
        let mut invalid = Vec::new();
        for entry in hosts {
            let value = entry.as_ref().trim();
            match HostPort::parse(value) {
                Some(HostPort { host, port }) => lists.hosts.push(AllowedHost { host: host.into(), port }),
                None => invalid.push(InvalidEntry { kind: EntryKind::Host, value: value.to_owned() }),
            }
        }
        for entry in origins {
            match (entry.as_ref().trim(), Origin::parse(entry.as_ref().trim())) {
                ("*", _) => lists.any_origin = true,
                ("null", _) => lists.null_origin = true,
                (_, Some(origin)) => lists.origins.push(AllowedOrigin {
                    scheme: origin.scheme.to_owned(),
                    host: origin.at.host.into(),
                    port: origin.at.port,
                }),
                (value, None) => {
                    invalid.push(InvalidEntry { kind: EntryKind::Origin, value: value.to_owned() });
                }
            }
        }
        if invalid.is_empty() { Ok(Self { lists: Arc::new(lists) }) } else { Err(InvalidEntries(invalid)) }
    }

    /// The one `Origin` of a request with these headers, if it is allowed.
    pub fn allowed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        origin.to_str().is_ok_and(|text| self.allows_origin(text)).then_some(origin)
    }

    /// Whether it is, to the letter, the `Host` that was allowed first. Most requests have one and the same.
    pub(super) fn is_familiar(&self, host: &HeaderValue) -> bool {
        self.lists.familiar.get() == Some(host)
    }

    /// Takes note of a `Host` that is allowed.
    pub(super) fn remember(&self, host: &HeaderValue) {
        if self.lists.familiar.get().is_none()
            // Its bytes alone: a value that was read shares the memory of the whole head.
            && let Ok(own) = HeaderValue::from_bytes(host.as_bytes())
        {
            let _ = self.lists.familiar.set(own);
        }
    }

    pub(super) fn allows_host(&self, asked: &HostPort<'_>) -> bool {
        asked.host.is_loopback() || self.lists.hosts.iter().any(|entry| entry.allows(asked))
    }

    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        if origin == "null" {
            return self.lists.null_origin;
        }
        Origin::parse(origin).is_some_and(|origin| {
            origin.is_loopback()
                || self.lists.any_origin
                || self.lists.origins.iter().any(|entry| entry.borrow().is(&origin))
        })
    }
}

impl AllowedHost {
    fn allows(&self, asked: &HostPort<'_>) -> bool {
        let port_fits = match (self.port, asked.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (Some(allowed), asked) => asked == Some(allowed),
        };
        port_fits && self.host.borrow().is(&asked.host)
    }
}

impl AllowedOrigin {
    fn borrow(&self) -> Origin<'_> {
        Origin { scheme: &self.scheme, at: HostPort { host: self.host.borrow(), port: self.port } }
    }
}

impl OwnedHost {
    fn borrow(&self) -> Host<'_> {
        match self {
            Self::Name(name) => Host::Name(name),
            Self::Ip(ip) => Host::Ip(*ip),
        }
    }
}

impl From<Host<'_>> for OwnedHost {
    fn from(host: Host<'_>) -> Self {
        match host {
            Host::Name(name) => Self::Name(name.to_owned()),
            Host::Ip(ip) => Self::Ip(ip),
        }
    }
}

impl EntryKind {
    fn allowed(self) -> &'static str {
        match self {
            Self::Host => "a host: a name or an address (`[...]` for IPv6), with an optional port",
            Self::Origin => "an origin: `scheme://host[:port]` without path, `null`, or `*` for any",
        }
    }
}

impl fmt::Display for InvalidEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            write!(f, "{}{entry}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidEntries {}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows_host(entries: &[&str], host: &str) -> bool {
        let allowed = AllowedAuthorities::new(entries, [""; 0]).unwrap();
        allowed.allows_host(&HostPort::parse(host).unwrap())
    }

    fn allows_origin(entries: &[&str], origin: &str) -> bool {
        AllowedAuthorities::new([""; 0], entries).unwrap().allows_origin(origin)
    }

    #[test]
    fn new_with_invalid_entries_names_them_all() {
        let error =
            AllowedAuthorities::new(["a.example", "*", "https://b.example"], ["null", "c.example", " * "])
                .unwrap_err();
        let values: Vec<_> = error.0.iter().map(|entry| (entry.kind, entry.value.as_str())).collect();
        let expected = [
            (EntryKind::Host, "*"),
            (EntryKind::Host, "https://b.example"),
            (EntryKind::Origin, "c.example"),
        ];
        assert_eq!(values, expected);
        assert!(error.to_string().starts_with("`*` is not a host: "), "{error}");
    }

    #[test]
    fn host_entry_without_port_allows_any_port() {
        assert!(allows_host(&["Images.example"], "images.EXAMPLE.:8443"));
        assert!(allows_host(&["images.example."], "images.example"));
        assert!(!allows_host(&["images.example"], "x.images.example"));
        assert!(allows_host(&["192.0.2.1", "[2001:db8::1]"], "[2001:DB8:0::1]:80"));
    }

    #[test]
    fn host_entry_with_port_allows_that_port_only() {
        assert!(allows_host(&["a.example:8443"], "a.example:8443"));
        assert!(!allows_host(&["a.example:8443"], "a.example:80"));
        assert!(!allows_host(&["a.example:8443"], "a.example"));
        assert!(allows_host(&["a.example:443"], "a.example"), "the scheme's port may be left out");
    }

    #[test]
    fn origins_of_loopback_pages_are_always_allowed() {
        assert!(allows_origin(&[], "http://localhost:6274"));
        assert!(allows_origin(&[], "https://127.0.0.1"));
        assert!(allows_origin(&[], "http://[::1]:8000"));
        assert!(!allows_origin(&[], "ftp://localhost"));
        assert!(!allows_origin(&[], "http://localhost.evil.example"));
    }

    #[test]
    fn origin_null_is_allowed_only_by_name() {
        assert!(!allows_origin(&[], "null"));
        assert!(!allows_origin(&["*"], "null"));
        assert!(allows_origin(&["null"], "null"));
    }

    #[test]
    fn origin_entries_allow_exactly_themselves() {
        assert!(allows_origin(&["https://app.example"], "https://app.example"));
        assert!(!allows_origin(&["https://app.example"], "http://app.example"));
        assert!(!allows_origin(&["https://app.example"], "https://app.example:8443"));
        assert!(allows_origin(&["*"], "https://any.example"));
        assert!(!allows_origin(&["*"], "https://any.example/path"), "not an origin");
    }
}
