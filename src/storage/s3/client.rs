//! One request and its answer, each phase bounded; and the tries of a request.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use layers::trace;
use metrics::{counter, histogram};
use reqwest::Response;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{
    S3Config, S3Credentials, S3Timeouts,
    breaker::Breaker,
    credentials::Provider,
    error::{Failure, innermost},
    request::{Operation, Request},
    sign::Signer,
    xml,
};

/// Bytes read of an answer that says no.
const MAX_REFUSAL: usize = 64 * 1024;

/// Bytes of a body handed to the connection at a time.
const UPLOAD_CHUNK: usize = 64 * 1024;

/// Idle connections are let go before usual servers close them, so that few requests meet that.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that vanished is noticed, though no byte flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The first wait's upper end; it doubles from try to try.
const BASE_WAIT: Duration = Duration::from_millis(100);

/// No wait is longer, whatever the other side asks for.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Sends requests to one bucket.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    signer: Signer,
    credentials: Provider,
    breaker: Breaker,
    timeouts: S3Timeouts,
    max_retries: u32,
}

/// A whole short answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a request failed for good.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) failure: Failure,
    /// An earlier try may have done what was asked, though its answer was lost.
    pub(super) repeated: bool,
}

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("S3_CA_FILE {path} cannot be read: {source}")]
    CaFile { path: String, source: std::io::Error },
    #[error("S3_CA_FILE {0} holds no PEM certificate")]
    NoCertificate(String),
    #[error("no HTTP client: {0}")]
    Http(String),
}

impl Client {
    pub(super) fn new(config: &S3Config) -> Result<Self, BuildError> {
        register_counters();
        Ok(Self {
            http: http_client(config)?,
            signer: Signer::new(&config.region),
            credentials: Provider::new(&config.identity),
            breaker: Breaker::default(),
            timeouts: config.timeouts,
            max_retries: config.max_retries,
        })
    }

    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(super) fn credentials(&self) -> &Provider {
        &self.credentials
    }

    pub(super) fn timeouts(&self) -> S3Timeouts {
        self.timeouts
    }

    pub(super) fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Whether the other side is left alone after failures.
    pub(super) fn is_paused(&self) -> bool {
        self.breaker.is_open()
    }

    /// Sends a request and reads the whole answer, which has at most `max_bytes`.
    pub(super) async fn fetch(&self, request: &Request, max_bytes: usize) -> Result<Answer, GivenUp> {
        let (response, body) = self.tries(request, Some(max_bytes)).await?;
        Ok(Answer { headers: response.headers().clone(), body })
    }

    /// Sends a request; the answer's body is still to be read.
    pub(super) async fn open(&self, request: &Request) -> Result<Response, GivenUp> {
        Ok(self.tries(request, None).await?.0)
    }

    /// Tries until there is an answer that says yes (whole, if it is to be read up to `max_bytes`),
    /// the tries are used up, or the failure is of a kind that no try mends.
    async fn tries(&self, request: &Request, max_bytes: Option<usize>) -> Result<(Response, Bytes), GivenUp> {
        let retries = if request.probe { 0 } else { self.max_retries };
        // A side that hangs takes all of its time with each try.
        let last_start = Instant::now() + self.timeouts.connect + self.timeouts.first_byte * 2;
        let (mut done, mut repeated, mut renewed) = (0, false, false);
        loop {
            let given_up = |failure| GivenUp { failure, repeated };
            let keys = self.credentials.keys().await.map_err(given_up)?;
            let permit = self.breaker.admit(request.probe).map_err(given_up)?;
            let failure = match self.send(request, &keys, max_bytes).await {
                Ok((response, body)) => {
                    permit.answered();
                    return Ok((response, body));
                }
                Err(failure) => failure,
            };
            if request.is_contested(&failure) {
                // Says nothing of how the other side is.
                drop(permit);
            } else if failure.is_outage() {
                permit.failed(&failure);
            } else {
                permit.answered();
            }
            if failure.is_stale_key() && !renewed && self.credentials.forget(&keys) {
                renewed = true;
                continue;
            }
            let wait = wait_before(done, failure.retry_after(), rand::random());
            if !failure.is_transient() || done >= retries || Instant::now() + wait > last_start {
                return Err(GivenUp { failure, repeated });
            }
            // Of what was sent nobody knows whether it was done.
            repeated |= !matches!(failure, Failure::Unreachable(_));
            counter!("mcp_image_s3_retries_total", "operation" => request.operation.label()).increment(1);
            tracing::debug!(%failure, ?wait, operation = request.operation.label(), "an S3 request is tried again");
            sleep(wait).await;
            done += 1;
        }
    }

    /// One try.
    async fn send(
        &self,
        request: &Request,
        keys: &S3Credentials,
        max_bytes: Option<usize>,
    ) -> Result<(Response, Bytes), Failure> {
        let started = Instant::now();
        let result = self.once(request, keys, max_bytes).await;
        let label = request.operation.label();
        let outcome = result.as_ref().map_or_else(Failure::outcome, |_| "ok");
        counter!("mcp_image_s3_requests_total", "operation" => label, "outcome" => outcome).increment(1);
        histogram!("mcp_image_s3_request_duration_seconds", "operation" => label).record(started.elapsed());
        result
    }

    async fn once(
        &self,
        request: &Request,
        keys: &S3Credentials,
        max_bytes: Option<usize>,
    ) -> Result<(Response, Bytes), Failure> {
        let mut response = self.dispatch(request, keys).await?;
        if !response.status().is_success() {
            return Err(self.refused(request, response).await);
        }
        let body = match max_bytes {
            Some(max_bytes) if request.operation != Operation::Head => {
                self.read(&mut response, max_bytes).await?
            }
            _ => Bytes::new(),
        };
        Ok((response, body))
    }

    async fn dispatch(&self, request: &Request, keys: &S3Credentials) -> Result<Response, Failure> {
        let method = request.operation.method();
        let mut headers = request.headers.clone();
        self.signer.sign(keys, &method, &request.url, &mut headers, &request.sha256, SystemTime::now())?;
        // The client sets it itself, to the same.
        headers.remove(header::HOST);
        // Not signed: what stands in between may put its own span there.
        trace::inject(&mut headers);
        let sent = Sent::default();
        let mut builder = self.http.request(method, request.url.clone()).headers(headers);
        if !request.body.is_empty() || request.operation == Operation::Put {
            builder = builder
                .header(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()))
                .body(sent.body(request.body.clone()));
        }
        let answered = std::pin::pin!(builder.send());
        sent.watch(answered, self.timeouts).await
    }

    /// What an answer says that is no success.
    async fn refused(&self, request: &Request, mut response: Response) -> Failure {
        let (status, headers) = (response.status(), response.headers().clone());
        if request.operation == Operation::Head && status == StatusCode::NOT_FOUND {
            return Failure::Absent;
        }
        let body = self.read(&mut response, MAX_REFUSAL).await.unwrap_or_default();
        let code = xml::error_code(&body);
        match (status.as_u16(), code.as_deref()) {
            // Only S3 itself can say so: a 404 of something in front of it says nothing of an object.
            (404, Some("NoSuchKey")) => Failure::Absent,
            (412, _) => Failure::Precondition,
            _ => Failure::Refused {
                status,
                code,
                region: headers.get("x-amz-bucket-region").and_then(|v| v.to_str().ok()).and_then(plain),
                retry_after: headers
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs),
            },
        }
    }

    /// A short body, whole.
    async fn read(&self, response: &mut Response, max_bytes: usize) -> Result<Bytes, Failure> {
        let after = self.timeouts.first_byte;
        let deadline = Instant::now() + after;
        let expected = response.content_length();
        let too_long = || Failure::BadAnswer(format!("it is longer than {max_bytes} bytes"));
        let mut body = BytesMut::new();
        loop {
            let chunk = timeout_at(deadline, response.chunk()).await;
            match chunk.map_err(|_| Failure::TimedOut { phase: "whole answer", after })?.map_err(broken)? {
                Some(chunk) if body.len() + chunk.len() > max_bytes => return Err(too_long()),
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        // Whoever reads to the end of a connection takes what came for the whole.
        if expected.is_some_and(|expected| expected != body.len() as u64) {
            return Err(Failure::Interrupted("the body ends early".to_owned()));
        }
        Ok(body.freeze())
    }

    /// The next chunk of a long body; `None` at its end.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        let after = self.timeouts.idle;
        let chunk = timeout(after, response.chunk()).await;
        chunk.map_err(|_| Failure::TimedOut { phase: "further byte of the body", after })?.map_err(broken)
    }
}

/// What of a body was handed to the connection, and when.
#[derive(Debug, Clone)]
struct Sent(Arc<Mutex<Instant>>);

impl Default for Sent {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Sent {
    fn body(&self, bytes: Bytes) -> reqwest::Body {
        let sent = self.clone();
        let chunks = futures_util::stream::unfold((bytes, sent), |(mut rest, sent)| async move {
            sent.touch();
            let chunk = rest.split_to(rest.len().min(UPLOAD_CHUNK));
            (!chunk.is_empty()).then_some((Ok::<_, std::convert::Infallible>(chunk), (rest, sent)))
        });
        reqwest::Body::wrap_stream(chunks)
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the head of the answer: each chunk of the body taken by the connection starts the
    /// clock anew. Connecting has a limit of its own inside it.
    async fn watch(
        &self,
        mut answered: impl Future<Output = reqwest::Result<Response>> + Unpin,
        timeouts: S3Timeouts,
    ) -> Result<Response, Failure> {
        let after = timeouts.first_byte.max(timeouts.idle);
        // Connecting may take its own time before the first byte goes out.
        let mut allowance = timeouts.connect;
        loop {
            let last = self.last();
            tokio::select! {
                biased;
                answer = &mut answered => return answer.map_err(broken),
                () = sleep_until(last + after + allowance) => {}
            }
            if self.last() == last {
                return Err(Failure::TimedOut { phase: "answer", after });
            }
            allowance = Duration::ZERO;
        }
    }
}

/// Counts from zero.
fn register_counters() {
    counter!("mcp_image_s3_resumed_reads_total").increment(0);
    for label in Operation::ALL.map(Operation::label) {
        counter!("mcp_image_s3_retries_total", "operation" => label).increment(0);
        for outcome in ["ok"].into_iter().chain(Failure::OUTCOMES) {
            counter!("mcp_image_s3_requests_total", "operation" => label, "outcome" => outcome).increment(0);
        }
    }
}

/// How long to wait before the next try: exponential backoff with full jitter, and at least what
/// the other side asks for, within reason.
fn wait_before(done: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = BASE_WAIT.saturating_mul(1_u32.checked_shl(done).unwrap_or(u32::MAX)).min(MAX_WAIT);
    doubled.mul_f64(jitter).max(retry_after.unwrap_or_default().min(MAX_WAIT))
}

fn http_client(config: &S3Config) -> Result<reqwest::Client, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        // A redirect would take the signature, and the token, to another host.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(config.timeouts.connect)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE);
    if config.endpoint_url.as_ref().is_some_and(|url| url.scheme() == "http") {
        // Loading the system's certificates takes longer than all the rest of the start.
        builder = builder.tls_built_in_root_certs(false);
    } else if let Some(path) = &config.ca_file {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|source| BuildError::CaFile { path: shown.clone(), source })?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(BuildError::NoCertificate(shown));
        }
        builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    builder.build().map_err(|error| BuildError::Http(innermost(&error)))
}

/// What a transport error means.
pub(super) fn broken(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let cause = innermost(&error);
    if error.is_connect() { Failure::Unreachable(cause) } else { Failure::Interrupted(cause) }
}

/// A short word of letters, digits and hyphens.
fn plain(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_grows_with_the_tries_and_follows_the_other_side_within_reason() {
        let millis = Duration::from_millis;
        let waits: Vec<_> = (0..7).map(|done| wait_before(done, None, 1.0)).collect();
        assert_eq!(waits[..4], [millis(100), millis(200), millis(400), millis(800)]);
        assert_eq!(waits[5..], [MAX_WAIT, MAX_WAIT]);
        assert_eq!(wait_before(3, None, 0.5), millis(400));
        assert_eq!(wait_before(0, Some(Duration::from_secs(1)), 0.0), Duration::from_secs(1));
        assert_eq!(wait_before(40, Some(Duration::from_secs(3600)), 0.0), MAX_WAIT);
    }
}
