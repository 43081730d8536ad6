//! One call over HTTP, and how it ends.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};
use layers::trace;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::super::{Error, Held, KserveV1Config, Memory, State};
use super::BuildError;
use super::classify::{Refusal, one_line};
use super::credentials::Credentials;
use super::instance::Key;
use super::observe;
use super::reply::{Reply, ReplyReader};
use super::retry::retry_after;
use super::transport::{READ_BUFFER, Transport};

/// A probe's time, from connecting to the answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than [`PROBE_TIMEOUT`], so that an address nobody listens at is not taken for a model
/// that draws.
const PROBE_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read of an answer that is no prediction.
const MAX_REFUSAL: usize = 64 * 1024;

/// A reply that is begun and does not go on for this long is given up: it holds room that others wait for.
const READ_STALL: Duration = Duration::from_secs(10);

/// A reply that takes longer, because its sender or the way is slow, is read on beside those whose turn it is.
const TURN: Duration = Duration::from_millis(100);

/// Calls one model.
#[derive(Debug)]
pub(super) struct Client {
    predictions: Transport,
    probes: Transport,
    predict_uri: Uri,
    model_uri: Uri,
    config: KserveV1Config,
    credentials: Credentials,
    memory: Memory,
}

/// Why a call gave no reply.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The key that the model does not know, if that is why.
    pub(super) unknown_key: Option<Key>,
}

impl Client {
    pub(super) fn new(config: KserveV1Config) -> Result<Self, BuildError> {
        Ok(Self {
            predictions: Transport::new(&config, config.connect_timeout)?,
            probes: Transport::new(&config, config.connect_timeout.min(PROBE_CONNECT_TIMEOUT))?,
            predict_uri: uri(&config.predict_url)?,
            model_uri: uri(&config.model_url)?,
            credentials: Credentials::new(config.bearer.as_ref())?,
            memory: Memory::new(config.max_image_bytes),
            config,
        })
    }

    pub(super) fn config(&self) -> &KserveV1Config {
        &self.config
    }

    /// Sends one prediction and reads its reply. Dropping the future closes the connection.
    pub(super) async fn predict(&self, body: Bytes) -> Result<(Reply, Held), Failure> {
        let mut headers = self.authorized().await;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The trace goes on in the predictor, and in what stands in front of it.
        trace::inject(&mut headers);
        let dispatched = Instant::now();
        let response = self.predictions.send(Method::POST, self.predict_uri.clone(), headers, body).await?;
        if response.status().is_success() {
            Ok(self.reply(response).await?)
        } else {
            Err(self.refused(response, dispatched).await)
        }
    }

    /// Asks whether the model is ready.
    pub(super) async fn probe(&self) -> State {
        let asked = async {
            let headers = self.authorized().await;
            match self.probes.send(Method::GET, self.model_uri.clone(), headers, Bytes::new()).await {
                Ok(response) => {
                    let status = response.status();
                    state(status, &beginning(response).await)
                }
                Err(Error::Unreachable(cause)) => unavailable(observe::innermost(&*cause)),
                Err(_) => unavailable("the connection broke before it answered"),
            }
        };
        timeout(PROBE_TIMEOUT, asked).await.unwrap_or(State::Busy)
    }

    /// Headers of a request that says who asks.
    async fn authorized(&self) -> HeaderMap {
        let authorization = self.credentials.authorization().await;
        authorization.map(|value| (AUTHORIZATION, value)).into_iter().collect()
    }

    async fn reply(&self, response: Response<Incoming>) -> Result<(Reply, Held), Error> {
        if let Some(media_type) = other_media_type(response.headers()) {
            return Err(Error::BadReply {
                reason: format!("its type is {media_type}, not application/json"),
            });
        }
        let mut body = response.into_body();
        let mut reader = ReplyReader::new(body.size_hint().exact(), self.config.max_image_bytes)?;
        let mut reading = self.memory.read(reader.most_image_bytes() + READ_BUFFER as u64).await;
        {
            let mut read = pin!(read(&mut body, &mut reader));
            match timeout(TURN, read.as_mut()).await {
                Ok(done) => done?,
                Err(_) => {
                    reading.end_turn();
                    read.await?;
                }
            }
        }
        let reply = if reader.is_slow_to_finish() {
            let finished = tokio::task::spawn_blocking(|| reader.finish()).await;
            finished.unwrap_or_else(|panic| Err(Error::BadReply { reason: panic.to_string() }))?
        } else {
            reader.finish()?
        };
        let held = reading.into_held(reply.image.len() as u64);
        Ok((reply, held))
    }

    async fn refused(&self, response: Response<Incoming>, dispatched: Instant) -> Failure {
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let body = beginning(response).await;
        let elapsed = dispatched.elapsed();
        let refusal = Refusal { status, retry_after, body: &body, model: &self.config.model_name, elapsed };
        Failure { error: refusal.classify(), unknown_key: refusal.unknown_key() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, unknown_key: None }
    }
}

fn uri(url: &url::Url) -> Result<Uri, BuildError> {
    Uri::try_from(url.as_str()).map_err(|_| BuildError::Url(url.clone()))
}

async fn read(body: &mut Incoming, reader: &mut ReplyReader) -> Result<(), Error> {
    while let Some(chunk) = next_chunk(body).await? {
        reader.push(&chunk)?;
    }
    Ok(())
}

/// The next piece of a reply; `None` at its end.
async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    loop {
        let Ok(frame) = timeout(READ_STALL, body.frame()).await else {
            let seconds = READ_STALL.as_secs();
            return Err(Error::Interrupted(format!("no byte of the reply came for {seconds} s").into()));
        };
        match frame.transpose().map_err(|error| Error::Interrupted(error.into()))?.map(Frame::into_data) {
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(_trailers)) => {}
            None => return Ok(None),
        }
    }
}

/// A media type that cannot be a prediction; one that is missing or only unusual is not held
/// against a reply.
fn other_media_type(headers: &HeaderMap) -> Option<String> {
    let media_type = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    let is_other = media_type == "text/html" || media_type.starts_with("image/");
    is_other.then(|| one_line(&media_type))
}

/// The beginning of a body; what was read before it broke is enough to tell what it says.
async fn beginning(response: Response<Incoming>) -> Vec<u8> {
    let mut body = response.into_body();
    let mut begun = Vec::new();
    while begun.len() < MAX_REFUSAL
        && let Ok(Some(chunk)) = next_chunk(&mut body).await
    {
        begun.extend_from_slice(&chunk[..chunk.len().min(MAX_REFUSAL - begun.len())]);
    }
    begun
}

/// What the answer to `GET /v1/models/<name>` says.
fn state(status: StatusCode, body: &[u8]) -> State {
    match status.as_u16() {
        200 => {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            match &body["ready"] {
                Value::Bool(false) => State::Starting,
                // Older runtimes write it in Python's way.
                Value::String(ready) if ready.eq_ignore_ascii_case("false") => State::Starting,
                Value::Bool(true) | Value::String(_) => State::Ready,
                _ => unavailable("it does not answer as a KServe V1 model does"),
            }
        }
        429 => State::Busy,
        502 | 503 => State::Starting,
        401 | 403 => unavailable(format!("it refuses the server's credentials ({status})")),
        404 => unavailable(format!("it has no such model ({status})")),
        300..=399 => unavailable(format!("it redirects, which is never followed ({status})")),
        _ => unavailable(format!("it answers {status}")),
    }
}

fn unavailable(reason: impl Into<String>) -> State {
    State::Unavailable { reason: reason.into() }
}
