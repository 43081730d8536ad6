//! Which other web pages' scripts may read images (the Fetch standard's CORS protocol).
//!
//! For images by their URL alone, and for reading: the list of images and deleting are guarded by who
//! asks, which a foreign page must not lend itself. By default no other origin is allowed; embedding
//! with `<img>` needs none of this.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use layers::cors::{Rules, Verdict};

use super::Route;

static READING: Rules = Rules {
    methods: HeaderValue::from_static("GET, HEAD"),
    send: HeaderValue::from_static(
        "Range, If-Range, If-None-Match, If-Match, If-Modified-Since, If-Unmodified-Since, Cache-Control",
    ),
    read: HeaderValue::from_static(
        "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, RateLimit, RateLimit-Policy, \
         Retry-After, X-Request-Id",
    ),
};

/// The origins whose scripts may read images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// None but the server's own.
    #[default]
    Nobody,
    /// Every one.
    Everyone,
    /// These, as browsers send them: `https://app.example`.
    These(Arc<[String]>),
}

impl Cors {
    /// What the answer to a request under `/images` is to say; nothing if no page may be meant.
    ///
    /// It takes the `Origin` of a request that it allows away, so that the check of origins, which
    /// knows other ones, lets it pass.
    pub fn judge(&self, request: &mut Parts) -> Option<Verdict> {
        if *self == Self::Nobody {
            return None;
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !reads || Route::of(request.uri.path()) == Route::Collection {
            return None;
        }
        let origin = self.allow(&request.headers);
        if origin.is_some() {
            request.headers.remove(header::ORIGIN);
        }
        Some(Verdict { origin, varies: matches!(self, Self::These(_)), rules: &READING })
    }

    /// The `Access-Control-Allow-Origin` for a request with these headers, if its origin is allowed.
    fn allow(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (origin, None) = (origins.next()?, origins.next()) else { return None };
        match self {
            Self::Nobody => None,
            Self::Everyone => Some(HeaderValue::from_static("*")),
            Self::These(list) => {
                list.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use layers::cors::CorsLayer;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::image::ImageId;

    /// The answer's headers; `x-origin` tells whether an origin was seen behind the layer.
    async fn headers(cors: &Cors, method: Method, path: &str, fields: &[(&str, &str)]) -> HeaderMap {
        let cors = cors.clone();
        let service = ServiceBuilder::new()
            .layer(CorsLayer::new(move |request: &mut Parts| cors.judge(request)))
            .service(service_fn(|request: Request<()>| async move {
                let mut response = Response::new(());
                if request.headers().contains_key(header::ORIGIN) {
                    response.headers_mut().insert("x-origin", HeaderValue::from_static("seen"));
                }
                Ok::<_, Infallible>(response)
            }));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let Ok(response) = service.oneshot(request.body(()).expect("a request")).await;
        response.into_parts().0.headers
    }

    fn these() -> Cors {
        Cors::These(["https://app.example".to_owned()].into())
    }

    const ALLOWED: (&str, &str) = ("origin", "https://app.example");
    const FOREIGN: (&str, &str) = ("origin", "https://evil.example");

    #[tokio::test]
    async fn read_by_an_allowed_origin_says_so() {
        let path = format!("/images/{}", ImageId::now());
        for (cors, expected) in [(these(), "https://app.example"), (Cors::Everyone, "*")] {
            for method in [Method::GET, Method::HEAD] {
                let headers = headers(&cors, method, &path, &[ALLOWED]).await;
                assert_eq!(headers["access-control-allow-origin"], expected);
                assert!(headers.contains_key("access-control-expose-headers"));
                assert!(!headers.contains_key("x-origin"), "it does not meet the check of origins");
                assert!(!headers.contains_key("access-control-allow-credentials"));
                assert_eq!(headers.contains_key("vary"), cors != Cors::Everyone);
            }
        }
    }

    #[tokio::test]
    async fn preflight_names_what_may_be_sent() {
        let path = format!("/images/{}.png", ImageId::now());
        let fields =
            [ALLOWED, ("access-control-request-method", "GET"), ("access-control-request-headers", "range")];
        let headers = headers(&these(), Method::OPTIONS, &path, &fields).await;
        assert_eq!(headers["access-control-allow-origin"], "https://app.example");
        assert_eq!(headers["access-control-allow-methods"], "GET, HEAD");
        assert_eq!(headers["access-control-max-age"], "7200");
        assert_eq!(headers["vary"], "Origin");
    }

    #[tokio::test]
    async fn others_go_on_to_the_check_of_origins() {
        let path = format!("/images/{}", ImageId::now());
        for (cors, method, path, fields) in [
            (Cors::Nobody, Method::GET, path.as_str(), &[ALLOWED][..]),
            (these(), Method::GET, &path, &[FOREIGN]),
            (these(), Method::GET, &path, &[("origin", "null")]),
            (these(), Method::GET, &path, &[ALLOWED, ALLOWED]),
            (these(), Method::GET, &path, &[("origin", "https://app.example.evil.example")]),
            (these(), Method::DELETE, &path, &[ALLOWED]),
            (Cors::Everyone, Method::DELETE, &path, &[FOREIGN]),
            (Cors::Everyone, Method::GET, "/images/", &[FOREIGN]),
            (Cors::Everyone, Method::GET, "/images", &[FOREIGN]),
            (Cors::Everyone, Method::OPTIONS, "/images/", &[FOREIGN]),
        ] {
            let headers = headers(&cors, method, path, fields).await;
            assert_eq!(headers["x-origin"], "seen", "{path} {fields:?}");
            assert!(!headers.contains_key("access-control-allow-origin"));
        }
    }

    #[tokio::test]
    async fn request_without_an_origin_still_varies_by_it() {
        let path = format!("/images/{}", ImageId::now());
        assert_eq!(headers(&these(), Method::GET, &path, &[]).await["vary"], "Origin");
        assert!(!headers(&Cors::Everyone, Method::GET, &path, &[]).await.contains_key("vary"));
    }
}
