//! The decision over one request head.

use http::header::{HOST, ORIGIN};
use http::uri::Uri;
use http::{HeaderMap, Version};

use super::AllowedAuthorities;
use super::parse::HostPort;
use crate::{BadHost, BoxError, HostRefused, OriginRefused, fields::only, fields::values};

/// Fails with [`BadHost`], [`HostRefused`] or [`OriginRefused`].
pub(super) fn check(
    allowed: &AllowedAuthorities,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), BoxError> {
    // A target that names an authority of its own has to agree with the field.
    let host = only(headers, HOST).filter(|_| uri.authority().is_none());
    if !host.is_some_and(|host| allowed.is_familiar(host)) {
        let (authority, asked) = authority(version, uri, headers)?;
        if !allowed.allows_host(&asked) {
            return Err(HostRefused { host: authority.into() }.into());
        }
        if let Some(host) = host {
            allowed.remember(host);
        }
    }
    check_origin(allowed, headers)
}

/// Whether there is one authority at all; HTTP/1.0 may do without (RFC 9112, section 3.2).
pub(super) fn is_named(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), BadHost> {
    match authority(version, uri, headers) {
        Err(BadHost::Missing) if version < Version::HTTP_11 => Ok(()),
        named => named.map(drop),
    }
}

/// The one authority of a request: as written, and read.
fn authority<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<(&'a str, HostPort<'a>), BadHost> {
    let mut hosts = values(headers, HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadHost::Several);
    }
    let host = host.map(|value| value.to_str().map_err(|_| BadHost::Invalid)).transpose()?;
    let target = uri.authority().map(http::uri::Authority::as_str);
    let parse = |written| HostPort::parse(written).ok_or(BadHost::Invalid);
    match (host, target) {
        (None, None) => Err(BadHost::Missing),
        // HTTP/1.1 wants a Host even beside an absolute target (RFC 9112, section 3.2).
        (None, Some(_)) if version < Version::HTTP_2 => Err(BadHost::Missing),
        (Some(one), None) | (None, Some(one)) => Ok((one, parse(one)?)),
        (Some(host), Some(target)) => {
            let (asked, targeted) = (parse(host)?, parse(target)?);
            if asked.is(&targeted) { Ok((host, asked)) } else { Err(BadHost::Disagrees) }
        }
    }
}

fn check_origin(allowed: &AllowedAuthorities, headers: &HeaderMap) -> Result<(), BoxError> {
    let mut origins = values(headers, ORIGIN);
    let Some(origin) = origins.next() else { return Ok(()) };
    if allowed.allowed_origin(headers).is_some() {
        return Ok(());
    }
    let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
    Err(OriginRefused { origin: origin.map(Into::into) }.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::find_cause;

    fn run(
        version: Version,
        uri: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), BoxError> {
        run_by(&allowed(), version, uri, headers)
    }

    fn allowed() -> AllowedAuthorities {
        AllowedAuthorities::new(["a.example"], ["https://app.example"]).unwrap()
    }

    fn run_by(
        allowed: &AllowedAuthorities,
        version: Version,
        uri: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), BoxError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(allowed, version, &Uri::from_static(uri), &map)
    }

    fn bad_host(version: Version, uri: &'static str, headers: &[(&'static str, &'static str)]) -> BadHost {
        let error = run(version, uri, headers).unwrap_err();
        *find_cause::<BadHost>(&*error).unwrap_or_else(|| panic!("not a BadHost: {error}"))
    }

    const H1: Version = Version::HTTP_11;
    const H2: Version = Version::HTTP_2;

    #[test]
    fn host_allowed_passes() {
        assert!(run(H1, "/x", &[("host", "a.example:8000")]).is_ok());
        assert!(run(H1, "/x", &[("host", "127.9.9.9")]).is_ok());
        assert!(run(H2, "http://a.example/x", &[]).is_ok());
        assert!(run(H2, "http://a.example/x", &[("host", "A.example.")]).is_ok());
        assert!(run(H1, "http://a.example/x", &[("host", "a.example")]).is_ok());
    }

    #[test]
    fn host_missing_several_or_invalid_is_a_bad_host() {
        assert_eq!(bad_host(H1, "/x", &[]), BadHost::Missing);
        assert_eq!(bad_host(H1, "http://a.example/x", &[]), BadHost::Missing);
        assert_eq!(bad_host(H2, "/x", &[]), BadHost::Missing);
        assert_eq!(bad_host(H1, "/x", &[("host", "a.example"), ("host", "a.example")]), BadHost::Several);
        assert_eq!(bad_host(H1, "/x", &[("host", "")]), BadHost::Invalid);
        assert_eq!(bad_host(H1, "/x", &[("host", "evil@localhost")]), BadHost::Invalid);
        assert_eq!(bad_host(H1, "/x", &[("host", "l\u{f6}calhost")]), BadHost::Invalid);
        assert_eq!(bad_host(H2, "http://evil@localhost/x", &[]), BadHost::Invalid);
        assert_eq!(bad_host(H1, "http://evil@localhost/x", &[("host", "localhost")]), BadHost::Invalid);
    }

    #[test]
    fn host_that_was_allowed_first_is_remembered_and_vouches_for_nothing_else() {
        let allowed = allowed();
        let ask = |uri, headers: &[_]| run_by(&allowed, H1, uri, headers).is_ok();
        let (known, evil) = (("host", "a.example:1"), ("host", "evil.example"));
        assert!(!ask("/x", &[evil]));
        assert!(ask("/x", &[known]) && ask("/x", &[known]) && ask("/x", &[("host", "localhost")]));
        assert!(allowed.is_familiar(&HeaderValue::from_static(known.1)));
        assert!(!ask("/x", &[evil]) && !ask("/x", &[known, known]) && !ask("/x", &[]));
        assert!(!ask("http://evil.example/x", &[known]));
        assert!(!ask("/x", &[known, ("origin", "https://evil.example")]));
    }

    #[test]
    fn host_that_differs_from_the_target_is_a_bad_host() {
        assert_eq!(bad_host(H1, "http://evil.example/x", &[("host", "localhost")]), BadHost::Disagrees);
        assert_eq!(bad_host(H2, "http://localhost/x", &[("host", "evil.example")]), BadHost::Disagrees);
        assert_eq!(bad_host(H1, "http://localhost:1/x", &[("host", "localhost:2")]), BadHost::Disagrees);
    }

    #[test]
    fn host_of_any_name_is_named_and_http_1_0_may_have_none() {
        const H1_0: Version = Version::HTTP_10;
        let named = |version, uri, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            is_named(version, &Uri::from_static(uri), &headers)
        };
        for (version, uri, hosts) in [
            (H1, "/x", &["evil.example"][..]),
            (H1, "*", &["10.0.0.7:8000"]),
            (H2, "http://evil.example/x", &[]),
            (H1_0, "/x", &[]),
            (H1_0, "/x", &["evil.example"]),
        ] {
            assert_eq!(named(version, uri, hosts), Ok(()), "{version:?} {uri} {hosts:?}");
        }
        for (version, hosts, cause) in [
            (H1, &[][..], BadHost::Missing),
            (H2, &[], BadHost::Missing),
            (H1, &["a.example", "a.example"], BadHost::Several),
            (H1_0, &["a.example", "b.example"], BadHost::Several),
            (H1, &["a b"], BadHost::Invalid),
            (H1_0, &[""], BadHost::Invalid),
        ] {
            assert_eq!(named(version, "/x", hosts), Err(cause), "{version:?} {hosts:?}");
        }
    }

    #[test]
    fn host_not_allowed_is_refused() {
        for (version, uri, headers) in [
            (H1, "/x", &[("host", "evil.example")][..]),
            (H1, "http://evil.example/x", &[("host", "evil.example")][..]),
            (H2, "http://evil.example/x", &[][..]),
        ] {
            let error = run(version, uri, headers).unwrap_err();
            assert_eq!(&*find_cause::<HostRefused>(&*error).unwrap().host, "evil.example");
        }
    }

    #[test]
    fn origin_allowed_passes_and_others_are_refused() {
        let origin = |values: &[&'static str]| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(values.iter().map(|value| ("origin", *value)));
            run(H1, "/x", &headers)
                .map_err(|error| find_cause::<OriginRefused>(&*error).cloned().unwrap().origin)
        };
        assert_eq!(origin(&["https://app.example"]), Ok(()));
        assert_eq!(origin(&["http://localhost:3000"]), Ok(()));
        assert_eq!(origin(&["https://evil.example"]), Err(Some("https://evil.example".into())));
        assert_eq!(origin(&["null"]), Err(Some("null".into())));
        assert_eq!(origin(&[""]), Err(Some("".into())));
        assert_eq!(origin(&["https://app.example", "https://app.example"]), Err(None));
        assert_eq!(origin(&["https://\u{e4}.example"]), Err(None));
    }
}
