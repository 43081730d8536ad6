mod cached;
mod fake;
mod manage;
mod open;
mod read;
mod variant;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use layers::client_addr::{ClientAddrLayer, PeerAddr, TrustedProxies};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};

use self::fake::FakeStore;
use super::*;
use crate::{
    image::{Format, ImageId},
    storage::{self, ImageStore},
};

const BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// A service over an own store, open for listing and deleting to requests with `x-admin`.
struct Fixture {
    store: Arc<FakeStore>,
    images: Images,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Asserts that this is a problem of the given kind, whole and not to be cached.
    fn assert_problem(&self, status: u16, slug: &str) {
        assert_eq!(self.status, status, "{}", self.body.escape_ascii());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("content-length"), self.body.len().to_string());
        assert_eq!(self.json()["type"], format!("/problems/{slug}"));
        assert_eq!(self.json()["status"], status);
    }
}

/// Delivery with nothing kept in memory.
fn plain() -> Config {
    Config {
        cache_bytes: 0,
        variant_sizes: Sizes::new(vec![16, 64, 128]),
        variant_concurrency: 1,
        limits: Limits { max_bytes: 1 << 20, max_pixels: 1 << 16 },
        urls: ImageUrls::new("http://images.example"),
        cdn: false,
        cors: Cors::Nobody,
        purge: None,
    }
}

/// Delivery that keeps images of up to four mebibytes in memory.
fn caching() -> Config {
    Config { cache_bytes: 32 << 20, ..plain() }
}

impl Fixture {
    fn new() -> Self {
        Self::with(&plain())
    }

    fn with(config: &Config) -> Self {
        let store = Arc::new(FakeStore::default());
        let shared: Arc<dyn ImageStore> = Arc::clone(&store) as _;
        let delivery = Delivery::new(shared, config, None);
        let images = Images::new(delivery, |request| request.headers.contains_key("x-admin"));
        Self { store, images }
    }

    fn delivery_made(&self) -> usize {
        self.images.delivery.variants().made()
    }

    fn calls(&self) -> usize {
        self.store.calls.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn response(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let Ok(response) = self.images.clone().oneshot(request).await;
        response
    }

    /// As it is in the stack for a client of this address.
    async fn get_from(&self, address: &str, path: &str) -> Answer {
        let peer = PeerAddr((address.parse::<std::net::IpAddr>().expect("an address"), 4711).into());
        let clients = ClientAddrLayer::new(TrustedProxies::default());
        let service = clients.layer(service_fn(|request: Request<Empty<Bytes>>| async move {
            let Ok(response) = self.images.clone().oneshot(request).await;
            Ok::<_, Infallible>(response)
        }));
        let request = Request::get(path).extension(peer).body(Empty::new()).expect("a request");
        let Ok(response) = service.oneshot(request).await;
        Answer::of(response).await
    }

    async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        Answer::of(self.response(method, path, fields).await).await
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, fields).await
    }
}
