//! The one table: what went wrong, and what the client reads.
//!
//! Layers and services fail with typed causes; here a cause becomes a status, a body and headers:
//! problem details (RFC 9457), or a JSON-RPC error under `/mcp`. What the client reads says what
//! to do; what only the operator should know goes to the log.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use layers::{
    BadHost, Body, BodyStalled, BodyTooLarge, BoxError, Elapsed, HostRefused, OriginRefused, Panicked,
    RateLimited, find_cause, rescue::RescueContext,
};
use tracing::{error, warn};

use crate::{api::BadRequest, generate, mcp, predictor, problem::Problem, stack, storage};

/// Turns a failure of the stack into the response that the client gets.
#[must_use]
pub fn respond(error: BoxError, context: &RescueContext) -> Response<Body> {
    let error = &error;
    let problem = problem(error);
    log(error, &problem);
    let mut response = if context.path() == stack::MCP_PATH {
        mcp::error_response(problem.status(), problem.summary())
    } else {
        problem.into_response()
    };
    add_headers(error, &mut response);
    response
}

/// The table.
fn problem(error: &BoxError) -> Problem {
    use StatusCode as S;
    let root = error.as_ref();
    if let Some(cause) = find_cause::<generate::Error>(root) {
        return generation(cause);
    }
    if let Some(cause) = find_cause::<BadRequest>(root) {
        // A body over the limit breaks off too; that is the better answer.
        if find_cause::<BodyTooLarge>(root).is_none() && find_cause::<BodyStalled>(root).is_none() {
            return Problem::new(cause.status(), "bad-request", "Bad request").detail(cause);
        }
    }
    if let Some(cause) = find_cause::<RateLimited>(root) {
        return Problem::new(S::TOO_MANY_REQUESTS, "rate-limited", "Too many requests").detail(cause);
    }
    if let Some(cause) = find_cause::<BodyTooLarge>(root) {
        return Problem::new(S::PAYLOAD_TOO_LARGE, "body-too-large", "The request body is too large")
            .detail(cause);
    }
    if let Some(cause) = find_cause::<BodyStalled>(root) {
        return Problem::new(S::REQUEST_TIMEOUT, "body-stalled", "The request body stopped coming")
            .detail(cause);
    }
    if let Some(cause) = find_cause::<BadHost>(root) {
        return Problem::new(S::BAD_REQUEST, "bad-host", "Bad Host header").detail(cause);
    }
    if let Some(cause) = find_cause::<HostRefused>(root) {
        return Problem::new(S::FORBIDDEN, "host-refused", "Host not allowed").detail(cause);
    }
    if let Some(cause) = find_cause::<OriginRefused>(root) {
        return Problem::new(S::FORBIDDEN, "origin-refused", "Origin not allowed").detail(cause);
    }
    if let Some(cause) = find_cause::<Elapsed>(root) {
        return Problem::new(S::GATEWAY_TIMEOUT, "timed-out", "No answer in time").detail(cause);
    }
    Problem::new(S::INTERNAL_SERVER_ERROR, "internal", "Internal error")
        .detail("the server failed; its log has the details under this request's id")
}

/// A failed generation's row.
#[must_use]
pub fn generation(error: &generate::Error) -> Problem {
    use StatusCode as S;
    use generate::Error as E;
    let (status, slug, title) = match error {
        E::Invalid(invalid) => {
            return Problem::new(S::UNPROCESSABLE_ENTITY, "invalid-arguments", "Invalid arguments")
                .detail(error)
                .with("errors", &invalid.0);
        }
        E::Overloaded { .. } | E::WaitedTooLong { .. } => {
            (S::SERVICE_UNAVAILABLE, "overloaded", "Too many generations")
        }
        E::TimedOut(_) => (S::GATEWAY_TIMEOUT, "timed-out", "No answer in time"),
        E::BadImage(_) => (S::BAD_GATEWAY, "bad-image", "The model's answer was refused"),
        E::Predictor(cause) => predictor_row(cause),
        E::Storage(storage::Error::Full(_)) => {
            (S::INSUFFICIENT_STORAGE, "storage-full", "The storage is full")
        }
        E::Storage(storage::Error::ReadOnly(_) | storage::Error::Unavailable(_)) => {
            (S::SERVICE_UNAVAILABLE, "storage-unavailable", "The storage is unavailable")
        }
        E::Storage(_) => (S::INTERNAL_SERVER_ERROR, "storage", "The image could not be stored"),
    };
    Problem::new(status, slug, title).detail(error)
}

fn predictor_row(error: &predictor::Error) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    use predictor::Error as E;
    match error {
        E::Rejected { .. } => (S::UNPROCESSABLE_ENTITY, "model-rejected", "The model refused the request"),
        E::OutOfMemory => (S::UNPROCESSABLE_ENTITY, "model-out-of-memory", "The model ran out of memory"),
        E::NotReady { .. } => (S::SERVICE_UNAVAILABLE, "model-starting", "The model is starting"),
        E::Busy { .. } => (S::SERVICE_UNAVAILABLE, "model-busy", "The model is busy"),
        E::Unreachable(_) => (S::BAD_GATEWAY, "model-unreachable", "The model cannot be reached"),
        E::TimedOut(_) => (S::GATEWAY_TIMEOUT, "model-timed-out", "The model did not answer in time"),
        E::NoSuchModel { .. } => (S::BAD_GATEWAY, "no-such-model", "The model does not exist"),
        E::Unauthorized | E::Failed { .. } | E::TooLarge { .. } | E::BadReply { .. } | E::Interrupted(_) => {
            (S::BAD_GATEWAY, "model-failed", "The model failed")
        }
    }
}

/// When to come again, for those who are told to.
fn retry_after(error: &BoxError) -> Option<Duration> {
    use predictor::Error as P;
    match find_cause::<generate::Error>(error.as_ref())? {
        generate::Error::Overloaded { retry_after, .. }
        | generate::Error::WaitedTooLong { retry_after, .. } => Some(*retry_after),
        generate::Error::Predictor(P::NotReady { retry_after } | P::Busy { retry_after }) => {
            Some(retry_after.unwrap_or(Duration::from_secs(30)))
        }
        generate::Error::Storage(storage::Error::ReadOnly(_) | storage::Error::Unavailable(_)) => {
            Some(Duration::from_secs(30))
        }
        _ => None,
    }
}

fn add_headers(error: &BoxError, response: &mut Response<Body>) {
    if let Some(cause) = find_cause::<RateLimited>(error.as_ref()) {
        cause.write_headers(response.headers_mut());
    }
    if let Some(wait) = retry_after(error) {
        let seconds = wait.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if find_cause::<BodyStalled>(error.as_ref()).is_some()
        || find_cause::<BodyTooLarge>(error.as_ref()).is_some()
    {
        // The rest of the body is not read, so the connection cannot be used again.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Refusals are counted in metrics and logged per request; here only what an operator must see.
fn log(cause: &BoxError, problem: &Problem) {
    if find_cause::<Panicked>(cause.as_ref()).is_some() {
        error!(%cause, "a request panicked");
    } else if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
        error!(%cause, details = ?cause, "a request failed");
    } else if find_cause::<Elapsed>(cause.as_ref()).is_some() {
        warn!(%cause, "a request was not answered in time");
    }
}
