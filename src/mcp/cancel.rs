//! `notifications/cancelled` for clients of the revisions that have it.
//!
//! Such a client keeps its response stream open and posts a notification that names the request's
//! id. Ids are a client's own, so they only mean something together with who it is: `initialize`
//! answers with a random `Mcp-Session-Id`, which the client repeats. Nothing is kept for it, and no
//! request is refused for the lack of it: only calls in flight are remembered, here, until they
//! end. A notification that reaches another replica is lost; closing the stream cancels everywhere.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use layers::{Body, BoxError};
use rmcp::model::RequestId;
use tokio::sync::oneshot;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Longer names and ids are not remembered, to bound what a client can make the server keep.
const MAX_BYTES: usize = 128;

/// The calls in flight that a notification can cancel. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Cancellations(Arc<Mutex<HashMap<Key, oneshot::Sender<()>>>>);

type Key = (HeaderValue, RequestId);

/// A call in flight. It is forgotten when this is dropped.
pub(super) struct InFlight {
    calls: Cancellations,
    key: Key,
    cancelled: oneshot::Receiver<()>,
}

impl Cancellations {
    /// Names a new client in the response to its `initialize`.
    pub(super) fn name_client(headers: &mut HeaderMap) {
        let name = format!("{:032x}", rand::random::<u128>());
        if let Ok(name) = HeaderValue::from_str(&name) {
            headers.insert(SESSION, name);
        }
    }

    /// Remembers a call until what is returned is dropped; `None` if the client has no name, or has
    /// a call of this id in flight already.
    pub(super) fn remember(&self, headers: &HeaderMap, id: Option<&RequestId>) -> Option<InFlight> {
        let key = key(headers, id?)?;
        let (sender, cancelled) = oneshot::channel();
        match self.lock().entry(key.clone()) {
            Entry::Vacant(vacant) => vacant.insert(sender),
            Entry::Occupied(_) => return None,
        };
        Some(InFlight { calls: self.clone(), key, cancelled })
    }

    /// Cancels the client's call of this id, if it is in flight.
    pub(super) fn cancel(&self, headers: &HeaderMap, id: &RequestId) {
        let Some(key) = key(headers, id) else { return };
        // The entry stays until the call is gone, so that its id is not taken anew before.
        if let Some(sender) = self.lock().get_mut(&key) {
            let (spent, _) = oneshot::channel();
            let _ = std::mem::replace(sender, spent).send(());
        }
    }

    // A poisoned lock holds a map that is whole: nothing in here leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// Runs the call; when it is cancelled the call is dropped, as when its client goes away, and
    /// the response ends without an answer (as the revisions from 2025 ask for).
    pub(super) async fn run<E>(
        mut self,
        call: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        tokio::select! {
            biased;
            Ok(()) = &mut self.cancelled => Ok(unanswered()),
            response = call => Ok(response?.map(|body| {
                Body::new(CancellableBody { inner: Some(body), call: Some(self) })
            })),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.key);
    }
}

/// A body that ends when its call is cancelled.
struct CancellableBody {
    inner: Option<Body>,
    call: Option<InFlight>,
}

impl http_body::Body for CancellableBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(call) = &mut this.call
            && let Poll::Ready(Ok(())) = Pin::new(&mut call.cancelled).poll(cx)
        {
            this.inner = None;
            this.call = None;
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(None) = polled {
            this.call = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

fn key(headers: &HeaderMap, id: &RequestId) -> Option<Key> {
    let client = headers.get(SESSION)?;
    let id_bytes = match id {
        RequestId::Number(_) => 8,
        RequestId::String(text) => text.len(),
    };
    (client.len() <= MAX_BYTES && id_bytes <= MAX_BYTES).then(|| (client.clone(), id.clone()))
}

fn unanswered() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
