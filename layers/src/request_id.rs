//! An id for each request, in its extensions and in the response's `X-Request-Id`.
//!
//! A caller's `X-Request-Id` is kept if it is one header of 1 to 128 letters, digits and `-_.:/+=@~`; otherwise the id
//! is a new UUIDv7. To have the id in answers to errors too, this layer stands outside of
//! [`RescueLayer`](crate::rescue::RescueLayer).
//!
//! ```
//! use http::{Request, Response};
//! use layers::BoxError;
//! use layers::request_id::{RequestId, RequestIdLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new().layer(RequestIdLayer).service(service_fn(|request: Request<()>| async move {
//!     let id = request.extensions().get::<RequestId>().expect("put in by the layer");
//!     Ok::<_, BoxError>(Response::new(id.as_str().to_owned()))
//! }));
//! let response = service.oneshot(Request::builder().header("x-request-id", "build-17").body(())?).await?;
//! assert_eq!(response.headers()["x-request-id"], "build-17");
//! assert_eq!(response.body(), "build-17");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::{fields::only, random};

/// The header, of requests and of answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_LEN: usize = 128;

/// The id of a request: safe to log and to send on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new UUIDv7.
    pub fn generate() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut random_bytes = [0; 10];
        random_bytes[..8].copy_from_slice(&random::bits().to_be_bytes());
        random_bytes[8..].copy_from_slice(&random::bits().to_be_bytes()[..2]);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random_bytes).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        // Owned as it is, its copies for the log and the answer allocate nothing more.
        let text = Bytes::from_owner(text);
        Self(HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as the value of a header.
    pub fn as_header_value(&self) -> &HeaderValue {
        &self.0
    }

    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        only(headers, X_REQUEST_ID).filter(|value| is_safe(value.as_bytes())).cloned().map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives each request a [`RequestId`].
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestIdLayer;

impl<S> Layer<S> for RequestIdLayer {
    type Service = SetRequestId<S>;

    fn layer(&self, inner: S) -> SetRequestId<S> {
        SetRequestId { inner }
    }
}

/// The service of [`RequestIdLayer`].
#[derive(Debug, Clone, Copy)]
pub struct SetRequestId<S> {
    inner: S,
}

impl<S, B, ResB> Service<Request<B>> for SetRequestId<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = RequestId::from_headers(request.headers()).unwrap_or_else(RequestId::generate);
        let header = id.0.clone();
        request.extensions_mut().insert(id);
        ResponseFuture { inner: self.inner.call(request), header: Some(header) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`SetRequestId`].
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        header: Option<HeaderValue>,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(header)) = (&mut result, this.header.take()) {
            response.headers_mut().insert(X_REQUEST_ID, header);
        }
        Poll::Ready(result)
    }
}

fn is_safe(id: &[u8]) -> bool {
    (1..=MAX_LEN).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(b))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tower_test::mock;

    use super::*;

    fn from_headers(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        RequestId::from_headers(&headers).map(|id| id.to_string())
    }

    #[test]
    fn incoming_id_is_kept_only_if_it_is_one_and_sane() {
        assert_eq!(from_headers(&["a-Z_0.9:/+=@~"]).as_deref(), Some("a-Z_0.9:/+=@~"));
        assert!(from_headers(&["x".repeat(128).as_str()]).is_some());
        for bad in ["", "a b", "a\"b", "a\\b", "a\tb", "{}", "\u{e9}", "x".repeat(129).as_str()] {
            assert_eq!(from_headers(&[bad]), None, "{bad:?}");
        }
        assert_eq!(from_headers(&["a", "a"]), None);
        assert_eq!(from_headers(&[]), None);
    }

    #[test]
    fn generated_ids_are_distinct_version_7_uuids() {
        let ids: HashSet<String> = (0..10_000).map(|_| RequestId::generate().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        }
    }

    #[tokio::test]
    async fn response_carries_the_id_that_the_request_got() {
        let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<()>, _>(RequestIdLayer);
        assert!(service.poll_ready().is_ready());
        let call = tokio::spawn(
            service.call(Request::builder().header("x-request-id", "not sane").body(()).unwrap()),
        );
        let (request, respond) = handle.next_request().await.unwrap();
        let id = request.extensions().get::<RequestId>().unwrap().clone();
        assert_eq!(id.as_str().len(), 36);
        respond.send_response(Response::builder().header("x-request-id", "theirs").body(()).unwrap());
        let response = call.await.unwrap().unwrap();
        assert_eq!(
            response.headers().get_all("x-request-id").iter().collect::<Vec<_>>(),
            [id.as_header_value()]
        );
    }
}
