//! Which other web pages' scripts may read images (the Fetch standard's CORS protocol).
//!
//! For images by their URL alone, and for reading: the list of images and deleting are guarded by who
//! asks, which a foreign page must not lend itself. By default no other origin is allowed; embedding
//! with `<img>` needs none of this.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::Route;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");
/// What a script may send besides what it always may, and what it may read besides that.
const SEND: HeaderValue = HeaderValue::from_static(
    "Range, If-Range, If-None-Match, If-Match, If-Modified-Since, If-Unmodified-Since, Cache-Control",
);
const READ: HeaderValue =
    HeaderValue::from_static("Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag");
/// Seconds that a browser may remember a preflight's answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

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

/// Answers for [`Cors`].
///
/// It stands in front of the check of origins: for a request that it allows, it takes the `Origin`
/// away, and says so in the answer.
#[derive(Debug, Clone)]
pub struct CorsLayer(Cors);

impl CorsLayer {
    /// Allows these origins.
    #[must_use]
    pub fn new(cors: Cors) -> Self {
        Self(cors)
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService { inner, cors: self.0.clone() }
    }
}

/// The service of [`CorsLayer`].
#[derive(Debug, Clone)]
pub struct CorsService<S> {
    inner: S,
    cors: Cors,
}

impl<S, B, R> Service<Request<B>> for CorsService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let applies = self.cors != Cors::Nobody
            && reads
            && !matches!(Route::of(request.uri().path()), Route::Collection);
        let answer = applies.then(|| {
            let headers = request.headers_mut();
            let origin = self.cors.allow(headers);
            let asks = headers.remove(header::ACCESS_CONTROL_REQUEST_METHOD).is_some();
            if origin.is_some() {
                headers.remove(header::ORIGIN);
            }
            let preflight = asks && request.method() == Method::OPTIONS;
            Answer { origin, preflight, varies: matches!(self.cors, Cors::These(_)) }
        });
        ResponseFuture { inner: self.inner.call(request), answer }
    }
}

/// What is to be said in an answer.
#[derive(Debug)]
struct Answer {
    origin: Option<HeaderValue>,
    preflight: bool,
    /// Whether another origin gets another answer.
    varies: bool,
}

impl Answer {
    fn write(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SEND);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
    }
}

pin_project! {
    /// The future of [`CorsService`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        answer: Option<Answer>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(answer)) = (&mut result, this.answer.take()) {
            answer.write(response.headers_mut());
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::image::ImageId;

    /// The answer's headers; `x-origin` tells whether an origin was seen behind the layer.
    async fn headers(cors: &Cors, method: Method, path: &str, fields: &[(&str, &str)]) -> HeaderMap {
        let service = ServiceBuilder::new().layer(CorsLayer::new(cors.clone())).service(service_fn(
            |request: Request<()>| async move {
                let mut response = Response::new(());
                if request.headers().contains_key(header::ORIGIN) {
                    response.headers_mut().insert("x-origin", HeaderValue::from_static("seen"));
                }
                Ok::<_, Infallible>(response)
            },
        ));
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
