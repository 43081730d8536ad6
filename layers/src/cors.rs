//! What scripts of other origins may ask and read (the Fetch standard's CORS protocol).
//!
//! The layer only speaks; it neither refuses nor answers. It stands outside of what answers errors, so that a page can
//! read those too, and what is behind it refuses foreign origins ([`authority`](crate::authority)) and answers
//! `OPTIONS` ([`options`](crate::options)).
//!
//! ```
//! use http::{HeaderValue, Request, Response, header, request::Parts};
//! use layers::cors::{CorsLayer, Rules, Verdict};
//! use layers::{Body, BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! static RULES: Rules = Rules {
//!     methods: HeaderValue::from_static("GET"),
//!     send: HeaderValue::from_static("Range"),
//!     read: HeaderValue::from_static("ETag"),
//! };
//!
//! fn judge(request: &mut Parts) -> Option<Verdict> {
//!     let origin = request.headers.get(header::ORIGIN).filter(|origin| *origin == "https://app.example");
//!     Some(Verdict { origin: origin.cloned(), varies: true, rules: &RULES })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(CorsLayer::new(judge))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
//! let response = service.oneshot(Request::builder().header("origin", "https://app.example").body(())?).await?;
//! assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
//! assert_eq!(response.headers()["vary"], "Origin");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use tower::{Layer, Service};

/// Seconds that a browser may remember a preflight's answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// What scripts may do where their origin is allowed.
#[derive(Debug)]
pub struct Rules {
    /// The methods they may use.
    pub methods: HeaderValue,
    /// The header fields they may send, besides those that any page may.
    pub send: HeaderValue,
    /// The header fields they may read, besides those that any page may.
    pub read: HeaderValue,
}

/// What is to be said in the answer to one request.
#[derive(Debug)]
pub struct Verdict {
    /// The `Access-Control-Allow-Origin`; `None` for one that is not allowed, or is none.
    pub origin: Option<HeaderValue>,
    /// Whether another origin gets another answer.
    pub varies: bool,
    /// What scripts of the origin may do.
    pub rules: &'static Rules,
}

/// Tells browsers which scripts may read the answers.
#[derive(Clone)]
pub struct CorsLayer<J> {
    judge: J,
}

impl<J> CorsLayer<J>
where
    J: Fn(&mut Parts) -> Option<Verdict>,
{
    /// Says what `judge` thinks of a request's head, and nothing where it thinks nothing. It may change the head:
    /// take away an `Origin` that is not to be looked at again.
    pub fn new(judge: J) -> Self {
        Self { judge }
    }
}

impl<J> fmt::Debug for CorsLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorsLayer").finish_non_exhaustive()
    }
}

impl<S, J: Clone> Layer<S> for CorsLayer<J> {
    type Service = Cors<S, J>;

    fn layer(&self, inner: S) -> Cors<S, J> {
        Cors { inner, judge: self.judge.clone() }
    }
}

/// The service of [`CorsLayer`].
#[derive(Clone)]
pub struct Cors<S, J> {
    inner: S,
    judge: J,
}

impl<S: fmt::Debug, J> fmt::Debug for Cors<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cors").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, J, B, ResB> Service<Request<B>> for Cors<S, J>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    J: Fn(&mut Parts) -> Option<Verdict>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let preflight = parts.method == Method::OPTIONS
            && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let verdict = (self.judge)(&mut parts);
        ResponseFuture { inner: self.inner.call(Request::from_parts(parts, body)), verdict, preflight }
    }
}

impl Verdict {
    fn write(self, preflight: bool, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.rules.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.rules.send.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.rules.read.clone());
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Cors`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        verdict: Option<Verdict>,
        preflight: bool,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = Result<Response<ResB>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(verdict) = this.verdict.take() {
            verdict.write(*this.preflight, response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;

    static RULES: Rules = Rules {
        methods: HeaderValue::from_static("POST"),
        send: HeaderValue::from_static("Content-Type"),
        read: HeaderValue::from_static("Retry-After"),
    };

    /// Allows one origin, and takes it away; knows nothing of other paths than `/`.
    fn judge(request: &mut Parts) -> Option<Verdict> {
        if request.uri.path() != "/" {
            return None;
        }
        let origin = request.headers.remove(header::ORIGIN).filter(|origin| *origin == "https://app.example");
        Some(Verdict { origin, varies: true, rules: &RULES })
    }

    async fn headers(method: Method, path: &str, origin: &str, preflight: bool) -> HeaderMap {
        let service = ServiceBuilder::new().layer(CorsLayer::new(judge)).service(service_fn(
            |request: Request<()>| async move {
                let seen = request.headers().contains_key(header::ORIGIN).to_string();
                Ok::<_, Infallible>(
                    Response::builder().header("x-seen", seen).header("vary", "Accept").body(()).unwrap(),
                )
            },
        ));
        let mut request = Request::builder().method(method).uri(path).header("origin", origin);
        if preflight {
            request = request.header("access-control-request-method", "POST");
        }
        let Ok(response) = service.oneshot(request.body(()).unwrap()).await;
        response.into_parts().0.headers
    }

    fn varies(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(header::VARY).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn answer_to_an_allowed_origin_can_be_read() {
        for (method, preflight) in [(Method::POST, false), (Method::OPTIONS, false), (Method::POST, true)] {
            let headers = headers(method, "/", "https://app.example", preflight).await;
            assert_eq!(headers["access-control-allow-origin"], "https://app.example");
            assert_eq!(headers["access-control-expose-headers"], "Retry-After");
            assert!(!headers.contains_key("access-control-allow-methods"));
            assert_eq!(varies(&headers), ["Accept", "Origin"]);
            assert_eq!(headers["x-seen"], "false", "the judge's change is seen behind");
        }
    }

    #[tokio::test]
    async fn preflight_hears_what_may_be_sent() {
        let headers = headers(Method::OPTIONS, "/", "https://app.example", true).await;
        assert_eq!(headers["access-control-allow-methods"], "POST");
        assert_eq!(headers["access-control-allow-headers"], "Content-Type");
        assert_eq!(headers["access-control-max-age"], "7200");
        assert!(!headers.contains_key("access-control-expose-headers"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }

    #[tokio::test]
    async fn other_origins_and_paths_hear_nothing() {
        let foreign = headers(Method::OPTIONS, "/", "https://evil.example", true).await;
        assert_eq!((varies(&foreign), foreign.len()), (vec!["Accept", "Origin"], 3));
        let elsewhere = headers(Method::OPTIONS, "/x", "https://app.example", true).await;
        assert_eq!((varies(&elsewhere), elsewhere.len()), (vec!["Accept"], 2));
        assert_eq!(elsewhere["x-seen"], "true");
    }
}
