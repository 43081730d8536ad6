//! A predictor with faults: an HTTP server on loopback whose answers are scripted.
//!
//! It stands for what a real one does only when it fails. What a real one does when all is well is
//! tested against the real KServe server (`tests/peers/kserve_model.py`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// How one request is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: HeaderMap,
    content: Content,
    delay: Duration,
    pieces: Option<(usize, Duration)>,
    end: End,
}

#[derive(Debug, Clone)]
enum Content {
    Fixed(Bytes),
    /// A PNG of the size that was asked for, its colour told by the prompt.
    Drawn,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Whole,
    /// The body again and again.
    Never,
    /// Nothing more comes, but the connection stays.
    Hang,
    /// The connection breaks.
    Reset,
}

impl Answer {
    /// A prediction as the diffusers runtimes give it: a PNG of the size that was asked for.
    pub(crate) fn drawn() -> Self {
        Self { content: Content::Drawn, ..Self::json(200, &Value::Null) }
    }

    /// JSON.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string()).header("content-type", "application/json")
    }

    /// KServe's error object.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"error": message}))
    }

    /// Any body, without a type.
    pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            content: Content::Fixed(body.into()),
            delay: Duration::ZERO,
            pieces: None,
            end: End::Whole,
        }
    }

    /// No answer; the connection stays open.
    pub(crate) fn hang() -> Self {
        Self::text(200, "").delay(Duration::from_secs(86_400))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Waits before the head.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the body in pieces of `length` bytes, waiting before each.
    pub(crate) fn drip(mut self, length: usize, pause: Duration) -> Self {
        self.pieces = Some((length, pause));
        self
    }

    /// Sends the body again and again.
    pub(crate) fn endless(mut self) -> Self {
        self.end = End::Never;
        self
    }

    /// Says nothing more after the body, as if there were more to come.
    pub(crate) fn then_hang(mut self) -> Self {
        self.end = End::Hang;
        self
    }

    /// Breaks the connection after the body, as if there were more to come.
    pub(crate) fn then_reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub(crate) body: Value,
}

impl Recorded {
    /// The first instance of a V1 prediction.
    pub(crate) fn instance(&self) -> &Value {
        &self.body["instances"][0]
    }
}

/// How many predictions came, and how they went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that came.
    pub(crate) started: usize,
    /// Answered as scripted, to the end.
    pub(crate) answered: usize,
    /// The client went away before the end of the answer.
    pub(crate) abandoned: usize,
}

/// The server. Dropping it closes its port and all connections.
pub(crate) struct FakePredictor {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    script: Mutex<VecDeque<Answer>>,
    model: Mutex<Answer>,
    requests: Mutex<Vec<Recorded>>,
    counts: watch::Sender<Counts>,
}

impl FakePredictor {
    /// Starts it. Predictions are answered from `script`, then with [`Answer::drawn`].
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ready = Answer::json(200, &json!({"name": "model", "ready": true}));
        let state = Arc::new(State {
            script: Mutex::new(script.into_iter().collect()),
            model: Mutex::new(ready),
            requests: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a `GET` (the model's readiness) is answered from now on.
    pub(crate) fn answer_probes(&self, answer: Answer) {
        *lock(&self.state.model) = answer;
    }

    /// The requests so far, probes included.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.state.requests).clone()
    }

    /// The predictions so far.
    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts.borrow()
    }

    /// Waits until the predictions stand as wanted.
    pub(crate) async fn wait_until(&self, wanted: impl FnMut(&Counts) -> bool) {
        self.state.counts.subscribe().wait_for(wanted).await.expect("the sender lives");
    }
}

impl Drop for FakePredictor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        connections.spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

type Body = UnsyncBoxBody<Bytes, Broken>;
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken as scripted")
    }
}

impl std::error::Error for Broken {}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let is_prediction = head.method == Method::POST;
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let recorded = Recorded {
        method: head.method,
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let answer = if is_prediction {
        lock(&state.script).pop_front().unwrap_or_else(Answer::drawn)
    } else {
        lock(&state.model).clone()
    };
    let content = match &answer.content {
        Content::Fixed(content) => content.clone(),
        Content::Drawn => drawn(recorded.instance()),
    };
    lock(&state.requests).push(recorded);
    let call = is_prediction.then(|| Call::start(state.counts.clone()));
    sleep(answer.delay).await;
    let mut response = Response::new(body_of(&answer, content, call));
    *response.status_mut() = answer.status.try_into().expect("a status");
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// The body as scripted. It owns the call, which so ends with it.
fn body_of(answer: &Answer, content: Bytes, call: Option<Call>) -> Body {
    let (length, pause) = answer.pieces.unwrap_or((content.len().max(1), Duration::ZERO));
    let end = answer.end;
    let pieces = stream::unfold((content.clone(), call), move |(mut rest, mut call)| {
        let content = content.clone();
        async move {
            sleep(pause).await;
            if rest.is_empty() {
                match end {
                    End::Whole => {}
                    End::Never => rest = content,
                    End::Hang => std::future::pending().await,
                    End::Reset => {
                        call.as_mut().map(Call::answered);
                        return Some((Err(Broken), (rest, call)));
                    }
                }
            }
            let piece = rest.split_to(length.min(rest.len()));
            if rest.is_empty() && end == End::Whole {
                call.as_mut().map(Call::answered);
            }
            (!piece.is_empty()).then_some((Ok(Frame::data(piece)), (rest, call)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Counts a prediction; dropped before it is answered, it was abandoned.
struct Call {
    counts: watch::Sender<Counts>,
    answered: bool,
}

impl Call {
    fn start(counts: watch::Sender<Counts>) -> Self {
        counts.send_modify(|counts| counts.started += 1);
        Self { counts, answered: false }
    }

    fn answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.counts.send_modify(|counts| counts.answered += 1);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.counts.send_modify(|counts| counts.abandoned += 1);
        }
    }
}

fn drawn(instance: &Value) -> Bytes {
    let side = |key: &str| instance[key].as_u64().and_then(|side| u32::try_from(side).ok()).unwrap_or(64);
    let mut hasher = DefaultHasher::new();
    instance["prompt"].as_str().hash(&mut hasher);
    let [red, green, blue, ..] = hasher.finish().to_be_bytes();
    let picture = image::RgbImage::from_fn(side("width"), side("height"), |x, y| {
        image::Rgb([red, green, blue].map(|part| part ^ u8::try_from((x ^ y) & 0x1f).unwrap_or_default()))
    });
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).expect("encodes");
    let b64 = base64_simd::STANDARD.encode_to_string(png.into_inner());
    let image = json!({"format": "PNG", "b64": b64});
    json!({"predictions": [{"model_name": "fake", "prompt": instance["prompt"], "image": image}]})
        .to_string()
        .into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}
