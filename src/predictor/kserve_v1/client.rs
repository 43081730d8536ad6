//! One call over HTTP, and how it ends.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use layers::trace;
use reqwest::{RequestBuilder, Response, redirect};
use serde_json::Value;
use tokio::time::{Instant, error::Elapsed, timeout};

use super::super::{Error, Held, KserveV1Config, Memory, State};
use super::BuildError;
use super::classify::{Refusal, one_line};
use super::credentials::Credentials;
use super::instance::Key;
use super::observe;
use super::reply::{Reply, ReplyReader};
use super::retry::retry_after;

/// A probe's time, from connecting to the answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than [`PROBE_TIMEOUT`], so that an address nobody listens at is not taken for a model
/// that draws.
const PROBE_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read of an answer that is no prediction.
const MAX_REFUSAL: usize = 64 * 1024;

/// Python servers close idle connections after 5 s. A request that meets the closing would look
/// broken after dispatch and could not be sent again, so connections are let go first.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A reply that is begun and does not go on for this long is given up: it holds room that others wait for.
const READ_STALL: Duration = Duration::from_secs(10);

/// Connections kept for later calls at most. Each keeps the buffer that it read its last reply into, and fills it with
/// the next reply before there is room for that; a new one begins with a small buffer.
const POOL_IDLE: usize = 32;

/// A peer that vanished while it draws is noticed, though no byte flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What a connection reads into at most, besides the image: hyper's own limit, rounded up.
const READ_BUFFER: u64 = 420 * 1024;

/// Calls one model.
#[derive(Debug)]
pub(super) struct Client {
    predictions: reqwest::Client,
    probes: reqwest::Client,
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
            predictions: http_client(&config, config.connect_timeout)?,
            probes: http_client(&config, config.connect_timeout.min(PROBE_CONNECT_TIMEOUT))?,
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
        let request = self.predictions.post(self.config.predict_url.clone());
        // The trace goes on in the predictor, and in what stands in front of it.
        let mut headers = HeaderMap::new();
        trace::inject(&mut headers);
        let request = request.header(CONTENT_TYPE, "application/json").headers(headers);
        let request = self.authorized(request.body(body)).await;
        let dispatched = Instant::now();
        let response = request.send().await.map_err(broken)?;
        if response.status().is_success() {
            Ok(self.reply(response).await?)
        } else {
            Err(self.refused(response, dispatched).await)
        }
    }

    /// Asks whether the model is ready.
    pub(super) async fn probe(&self) -> State {
        let asked = async {
            let request = self.authorized(self.probes.get(self.config.model_url.clone())).await;
            match request.send().await {
                Ok(response) => {
                    let status = response.status();
                    state(status, &beginning(response).await)
                }
                Err(error) => unavailable(match broken(error) {
                    Error::Unreachable(cause) => observe::innermost(&*cause),
                    _ => "the connection broke before it answered".to_owned(),
                }),
            }
        };
        timeout(PROBE_TIMEOUT, asked).await.unwrap_or(State::Busy)
    }

    async fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials.authorization().await {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn reply(&self, mut response: Response) -> Result<(Reply, Held), Error> {
        if let Some(media_type) = other_media_type(response.headers()) {
            return Err(Error::BadReply {
                reason: format!("its type is {media_type}, not application/json"),
            });
        }
        let mut reader = ReplyReader::new(response.content_length(), self.config.max_image_bytes)?;
        let reading = self.memory.read(reader.most_image_bytes() + READ_BUFFER).await;
        while let Some(chunk) =
            timeout(READ_STALL, response.chunk()).await.map_err(stalled)?.map_err(broken)?
        {
            reader.push(&chunk)?;
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

    async fn refused(&self, response: Response, dispatched: Instant) -> Failure {
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

fn http_client(config: &KserveV1Config, connect_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    let mut headers: HeaderMap = config.headers.iter().cloned().collect();
    for value in headers.values_mut() {
        value.set_sensitive(true);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // The predictor is called at the configured address and nowhere else, whatever proxies the
        // environment names.
        .no_proxy()
        .referer(false)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_IDLE)
        .tcp_keepalive(TCP_KEEPALIVE);
    if let Some(host) = &config.host {
        headers.insert(HOST, host.clone());
        // HTTP/2 names the host by `:authority`, which follows the URL.
        builder = builder.http1_only();
    }
    if config.predict_url.scheme() == "https" {
        for certificate in certificates(config)? {
            builder = builder.add_root_certificate(certificate);
        }
    } else {
        // Loading the system's certificates takes longer than all the rest of the start.
        builder = builder.tls_built_in_root_certs(false);
    }
    builder.default_headers(headers).build().map_err(BuildError::Client)
}

fn certificates(config: &KserveV1Config) -> Result<Vec<reqwest::Certificate>, BuildError> {
    let Some(path) = &config.ca_file else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|source| BuildError::CaFile { path: path.clone(), source })?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(BuildError::CaFileContent(path.clone()));
    }
    Ok(certificates)
}

/// What a transport error means: only one from before dispatch says that nothing was computed.
fn broken(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_connect() { Error::Unreachable(error.into()) } else { Error::Interrupted(error.into()) }
}

fn stalled(_: Elapsed) -> Error {
    Error::Interrupted(format!("no byte of the reply came for {} s", READ_STALL.as_secs()).into())
}

/// A media type that cannot be a prediction; one that is missing or only unusual is not held
/// against a reply.
fn other_media_type(headers: &HeaderMap) -> Option<String> {
    let media_type = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    let is_other = media_type == "text/html" || media_type.starts_with("image/");
    is_other.then(|| one_line(&media_type))
}

/// The beginning of a body; what was read before it broke is enough to tell what it says.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_REFUSAL
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_REFUSAL - body.len())]);
    }
    body
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
