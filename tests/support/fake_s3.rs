//! An S3 server in memory that fails on demand: at a request, in an answer's head, in its body.
//!
//! It knows what the store asks for and no more, and checks no signature: the real gateway does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    process::Child,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// An answer with this status, this body and no effect.
    Answer(u16, &'static str),
    /// No answer ever.
    Hang,
    /// The connection is closed before the request has an effect.
    Close,
    /// The request has its effect, and then the connection is closed.
    CloseAfterwards,
    /// So many bytes of the body, then the connection is reset.
    Reset(usize),
    /// So many bytes of the body, and a head that says that this is all.
    Short(usize),
    /// So many bytes of the body, then silence.
    Stall(usize),
    /// The body byte by byte, with so much time between them.
    Drip(Duration),
    /// A bit of the body flips on the way.
    Flip,
    /// The body without a length in the head.
    NoLength,
    /// The entity tag of something else.
    OtherTag,
    /// A head that sends the client to this address.
    Redirect(SocketAddr),
    /// Zeros without an end.
    Endless,
    /// A listing that has more, for ever, and advances.
    EndlessList,
    /// A listing that gives the same page again and again.
    Circle,
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    headers: HeaderMap,
    modified: SystemTime,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Requests whose line contains the text meet the fault, so many times.
    faults: Vec<(&'static str, Fault, usize)>,
    log: Vec<String>,
    traceparents: Vec<Option<String>>,
    ignores_conditions: bool,
    bare_tags: bool,
    creates_what_is_to_be_replaced: bool,
    /// Whom to kill at which request, and whether that has its effect before.
    victim: Option<(Arc<Mutex<Child>>, usize, bool)>,
    /// The server that requests go on to, if they do.
    upstream: Option<String>,
    page: usize,
    /// What its clock, and that of the server behind it, seems to be ahead.
    ahead: Duration,
    /// All but the first so many requests meet a closed connection.
    dies_after: Option<usize>,
    sent: usize,
}

/// A server; it ends when this is dropped.
pub(crate) struct FakeS3 {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeS3 {
    /// A proxy in front of a real server: faults are its own, all else is passed on.
    pub(crate) async fn in_front_of(upstream: &url::Url) -> Self {
        let proxy = Self::start().await;
        proxy.state().upstream = Some(upstream.as_str().trim_end_matches('/').to_owned());
        proxy
    }

    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { page: 1000, ..State::default() }));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A connection that is dropped is reset, not ended.
                stream.set_zero_linger().unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(|request| respond(Arc::clone(&state), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { addr, state, serving }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next `times` requests whose line (`PUT /bucket/key?query`) contains `text` meet `fault`.
    pub(crate) fn fail(&self, text: &'static str, fault: Fault, times: usize) {
        self.state().faults.push((text, fault, times));
    }

    /// No fault any more.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.dies_after = None;
    }

    /// Is as if it were gone after so many further requests.
    pub(crate) fn die_after(&self, requests: usize) {
        let mut state = self.state();
        state.dies_after = Some(state.log.len() + requests);
    }

    /// Overwrites what `If-None-Match: *` should keep.
    pub(crate) fn ignore_conditions(&self) {
        self.state().ignores_conditions = true;
    }

    /// Takes entity tags in conditions without their quotes, and not with them.
    pub(crate) fn take_bare_tags(&self) {
        self.state().bare_tags = true;
    }

    /// Honours `If-Match` where something is, and creates where nothing is.
    pub(crate) fn create_what_is_to_be_replaced(&self) {
        self.state().creates_what_is_to_be_replaced = true;
    }

    /// Kills a process when its request number `at` (from now, the first is 0) has come, or, with
    /// `afterwards`, when that has had its effect; no answer is given.
    pub(crate) fn kill_at(&self, process: Arc<Mutex<Child>>, at: usize, afterwards: bool) {
        let mut state = self.state();
        state.victim = Some((process, state.log.len() + at, afterwards));
    }

    /// Dates its answers so much too late: as if all objects were that much older.
    pub(crate) fn set_ahead(&self, ahead: Duration) {
        self.state().ahead = ahead;
    }

    /// Gives so many keys on a page.
    pub(crate) fn set_page(&self, keys: usize) {
        self.state().page = keys;
    }

    /// The request lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// The `traceparent` of each request so far.
    pub(crate) fn traceparents(&self) -> Vec<Option<String>> {
        self.state().traceparents.clone()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state().log.len()
    }

    /// The keys there are.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Bytes of endless bodies that were handed to connections.
    pub(crate) fn sent(&self) -> usize {
        self.state().sent
    }

    /// Puts an object.
    pub(crate) fn insert(&self, key: &str, body: &'static [u8]) {
        let headers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"x\""))]);
        let object = Object { body: Bytes::from_static(body), headers, modified: SystemTime::now() };
        self.state().objects.insert(key.to_owned(), object);
    }

    /// Puts an object of JSON.
    pub(crate) fn insert_json(&self, key: &str, body: &'static [u8]) {
        self.insert(key, body);
        let json = HeaderValue::from_static("application/json");
        self.state().objects.get_mut(key).unwrap().headers.insert(header::CONTENT_TYPE, json);
    }

    /// Removes the object whose key ends so.
    pub(crate) fn remove(&self, end: &str) {
        self.state().objects.retain(|key, _| !key.ends_with(end));
    }

    /// As if everything had been written at this time.
    pub(crate) fn set_modified(&self, modified: SystemTime) {
        self.state().objects.values_mut().for_each(|object| object.modified = modified);
    }

    /// Puts something else in place of the object whose key ends so.
    pub(crate) fn overwrite(&self, end: &str, body: &'static [u8]) {
        for (key, object) in &mut self.state().objects {
            if key.ends_with(end) {
                object.body = Bytes::from_static(body);
            }
        }
    }
}

async fn respond(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let closed = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let line = format!("{} {}", request.method(), request.uri());
    let (fault, dead, number) = {
        let mut state = state.lock().unwrap();
        let number = state.log.len();
        let dead = state.dies_after.is_some_and(|requests| state.log.len() >= requests);
        let range = request.headers().get(header::RANGE).map(|range| format!(" {}", range.to_str().unwrap()));
        state.log.push(line.clone() + &range.unwrap_or_default());
        let trace = request.headers().get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
        state.traceparents.push(trace);
        let fault = state.faults.iter_mut().find(|(text, _, times)| *times > 0 && line.contains(text));
        (fault.map(|(_, fault, times)| (*times -= 1, fault.clone()).1), dead, number)
    };
    if dead {
        return Err(closed());
    }
    match &fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Close) => return Err(closed()),
        Some(Fault::Answer(status, body)) => {
            request.into_body().collect().await.map_err(std::io::Error::other)?;
            return Ok(answer(*status, body.as_bytes().into()));
        }
        Some(Fault::Redirect(addr)) => {
            let mut response = answer(307, Bytes::new());
            let location = HeaderValue::try_from(format!("http://{addr}/stolen")).unwrap();
            response.headers_mut().insert(header::LOCATION, location);
            return Ok(response);
        }
        Some(Fault::Endless) => {
            let zeros = stream::repeat_with(move || {
                state.lock().unwrap().sent += 65536;
                Ok(Frame::data(Bytes::from_static(&[b' '; 65536])))
            });
            return Ok(Response::new(StreamBody::new(zeros).boxed_unsync()));
        }
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    if killed(&state, number, false) {
        return Err(closed());
    }
    let (upstream, ahead) = {
        let state = state.lock().unwrap();
        (state.upstream.clone(), state.ahead)
    };
    let (mut response, bytes) = match upstream {
        Some(upstream) if !matches!(fault, Some(Fault::EndlessList | Fault::Circle)) => {
            forward(&upstream, &parts, body).await
        }
        _ => serve(&mut state.lock().unwrap(), &parts, body, fault.as_ref()),
    };
    if killed(&state, number, true) {
        return Err(closed());
    }
    if !ahead.is_zero() {
        let date = httpdate::fmt_http_date(SystemTime::now() + ahead);
        response.headers_mut().insert(header::DATE, HeaderValue::try_from(date).unwrap());
    }
    if let Some(Fault::CloseAfterwards) = fault {
        return Err(closed());
    }
    if let Some(Fault::OtherTag) = fault {
        let tag = HeaderValue::from_static("\"00000000000000000000000000000000\"");
        response.headers_mut().insert(header::ETAG, tag);
    }
    if let Some(Fault::Short(length)) = fault {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    let has_body = parts.method != Method::HEAD;
    Ok(response.map(|()| if has_body { broken(bytes, fault) } else { empty() }))
}

/// Kills the victim if it is to die at this request.
fn killed(state: &Mutex<State>, number: usize, afterwards: bool) -> bool {
    let mut state = state.lock().unwrap();
    let is_it = |victim: &mut (_, usize, bool)| (victim.1, victim.2) == (number, afterwards);
    let Some((process, ..)) = state.victim.take_if(is_it) else { return false };
    // One that has ended by now, and left a request behind, is not killed.
    process.lock().unwrap().kill().unwrap();
    true
}

/// Has a real server answer. It gets the head as it was signed.
async fn forward(upstream: &str, request: &http::request::Parts, body: Bytes) -> (Response<()>, Bytes) {
    let client = reqwest::Client::builder().no_proxy().http1_only();
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("{upstream}{}", request.uri);
    let asked = client.request(request.method.clone(), url).headers(request.headers.clone()).body(body);
    let answer = asked.send().await.unwrap();
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    response.headers_mut().remove(header::CONNECTION);
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    let body = answer.bytes().await.unwrap();
    if request.method != Method::HEAD {
        response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    }
    (response, body)
}

/// A body, with what goes wrong in it. The head tells the whole length.
fn broken(bytes: Bytes, fault: Option<Fault>) -> Body {
    let reset = || stream::iter([Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
    let data = |bytes| stream::iter([Ok(Frame::data(bytes))]);
    match fault {
        Some(Fault::Reset(length)) => {
            StreamBody::new(data(bytes.slice(..length)).chain(reset())).boxed_unsync()
        }
        Some(Fault::Stall(length)) => {
            StreamBody::new(data(bytes.slice(..length)).chain(stream::pending())).boxed_unsync()
        }
        Some(Fault::Drip(pause)) => {
            let drops = stream::unfold(bytes, move |mut rest| async move {
                tokio::time::sleep(pause).await;
                let drop = rest.split_to(rest.len().min(1));
                (!drop.is_empty()).then_some((Ok(Frame::data(drop)), rest))
            });
            StreamBody::new(drops).boxed_unsync()
        }
        Some(Fault::Short(length)) => StreamBody::new(data(bytes.slice(..length))).boxed_unsync(),
        Some(Fault::Flip) => {
            let mut flipped = bytes.to_vec();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            StreamBody::new(data(flipped.into())).boxed_unsync()
        }
        _ => StreamBody::new(data(bytes)).boxed_unsync(),
    }
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn answer(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(broken(body, None));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn error(status: StatusCode, code: &str) -> (Response<()>, Bytes) {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    (response, body.into())
}

fn serve(
    state: &mut State,
    request: &http::request::Parts,
    body: Bytes,
    fault: Option<&Fault>,
) -> (Response<()>, Bytes) {
    assert!(request.headers[header::AUTHORIZATION].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 "));
    let uri = url::Url::parse(&format!("http://x{}", request.uri)).unwrap();
    let path = percent_decoded(uri.path());
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    let query: BTreeMap<String, String> = uri.query_pairs().into_owned().collect();
    let mut response = Response::new(());
    match (&request.method, key.as_str()) {
        (&Method::GET, "") => (response, list(state, &query, fault).into()),
        (&Method::POST, "") => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                state.objects.remove(key);
            }
            (response, Bytes::from_static(b"<DeleteResult></DeleteResult>"))
        }
        (&Method::PUT, _) => {
            let condition = request.headers.contains_key(header::IF_NONE_MATCH);
            if condition && !state.ignores_conditions && state.objects.contains_key(&key) {
                return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
            }
            let wanted = request.headers.get(header::IF_MATCH).filter(|_| !state.ignores_conditions);
            if let Some(wanted) = wanted {
                let there = state.objects.get(&key).map(|object| object.headers[header::ETAG].clone());
                let is_same = there.as_ref().is_some_and(|there| {
                    let (there, wanted) = (there.to_str().unwrap(), wanted.to_str().unwrap());
                    if state.bare_tags { there.trim_matches('"') == wanted } else { there == wanted }
                });
                match (there, is_same) {
                    (_, true) => {}
                    (None, _) if state.creates_what_is_to_be_replaced => {}
                    (None, _) if !state.bare_tags => return error(StatusCode::NOT_FOUND, "NoSuchKey"),
                    _ => return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
                }
            }
            let is_kept = |name: &str| name == "content-type" || name.starts_with("x-amz-meta-");
            let kept = request.headers.iter().filter(|(name, _)| is_kept(name.as_str()));
            let mut kept: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
            let tag = format!("\"{:x}\"", md5::compute(&body));
            kept.insert(header::ETAG, HeaderValue::try_from(tag).unwrap());
            response.headers_mut().insert(header::ETAG, kept[header::ETAG].clone());
            state.objects.insert(key, Object { body, headers: kept, modified: SystemTime::now() });
            (response, Bytes::new())
        }
        (&Method::DELETE, _) => {
            state.objects.remove(&key);
            *response.status_mut() = StatusCode::NO_CONTENT;
            (response, Bytes::new())
        }
        (&Method::GET | &Method::HEAD, _) => match state.objects.get(&key) {
            Some(object) => get(object, request, matches!(fault, Some(Fault::NoLength))),
            None => error(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

fn get(object: &Object, request: &http::request::Parts, no_length: bool) -> (Response<()>, Bytes) {
    let mut response = Response::new(());
    *response.headers_mut() = object.headers.clone();
    let modified = httpdate::fmt_http_date(object.modified);
    response.headers_mut().insert(header::LAST_MODIFIED, HeaderValue::try_from(modified).unwrap());
    if request.headers.get(header::IF_MATCH).is_some_and(|tag| tag != object.headers[header::ETAG]) {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    let mut body = object.body.clone();
    if let Some(range) = request.headers.get(header::RANGE) {
        let (start, end) = range.to_str().unwrap()["bytes=".len()..].split_once('-').unwrap();
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        let content_range = format!("bytes {start}-{end}/{}", body.len());
        response.headers_mut().insert(header::CONTENT_RANGE, HeaderValue::try_from(content_range).unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        body = body.slice(start..=end);
    }
    if !no_length {
        response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    }
    (response, body)
}

fn list(state: &State, query: &BTreeMap<String, String>, fault: Option<&Fault>) -> String {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("start-after").map_or("", String::as_str);
    let page = state.page.min(query["max-keys"].parse().unwrap());
    let keys: Vec<_> =
        state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after).collect();
    let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name>");
    let mut object = |key: &str, modified: SystemTime, found: Option<&Object>| {
        let modified = chrono::DateTime::<chrono::Utc>::from(modified)
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><Size>{}</Size>",
            found.map_or(1, |found| found.body.len())
        )
        .unwrap();
        if let Some(tag) = found.and_then(|found| found.headers[header::ETAG].to_str().ok()) {
            write!(text, "<ETag>{}</ETag>", tag.replace('"', "&quot;")).unwrap();
        }
        text.push_str("</Contents>");
    };
    let truncated = match fault {
        Some(Fault::EndlessList) => {
            // Advances by one letter each time, and never leaves the first stretch of time.
            object(&format!("{}!", if after.is_empty() { prefix } else { after }), SystemTime::now(), None);
            true
        }
        Some(Fault::Circle) => {
            object(&format!("{prefix}0000000/x"), SystemTime::now(), None);
            true
        }
        _ => {
            keys.iter().take(page).for_each(|(key, found)| object(key, found.modified, Some(found)));
            keys.len() > page
        }
    };
    write!(text, "<IsTruncated>{truncated}</IsTruncated></ListBucketResult>").unwrap();
    text
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
