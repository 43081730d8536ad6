use std::{io, sync::PoisonError};

use bytes::Bytes;
use http::{HeaderValue, header};

use super::{
    Failed, Failure, Shared,
    client::{Answer, GivenUp},
    object::{Conditional, Replacing},
    request::{Digests, Operation, Request},
};
use crate::storage::Error;

const PROBE: &[u8] = b"a probe of mcp-image-server";
const MAX_ANSWER: usize = 64 * 1024;

/// Checks the bucket at the start. That it is away, waiting mends; all else is an error.
pub(super) async fn start(shared: &Shared) -> Result<(), Error> {
    match probe(shared, true).await {
        Ok(()) => Ok(()),
        Err(Problem::Failed(failure)) if failure.is_outage() => {
            let failed = shared.failed("check")(failure);
            tracing::warn!(%failed, "S3 is away at the start; images are kept again when it is back");
            Ok(())
        }
        Err(problem) => Err(problem.into_error(shared)),
    }
}

/// Writes, reads and deletes a small object.
pub(super) async fn check(shared: &Shared) -> Result<(), Error> {
    probe(shared, false).await.map_err(|problem| problem.into_error(shared))
}

/// Why a bucket cannot be used.
enum Problem {
    Failed(Failure),
    /// These rights are missing.
    Denied(Vec<&'static str>),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The credentials lack rights.
#[derive(Debug, thiserror::Error)]
#[error(
    "the credentials may not do all that is needed in bucket `{bucket}` at {host} below `{prefix}`; missing: {missing}"
)]
struct Denied {
    bucket: String,
    host: String,
    prefix: String,
    missing: String,
}

impl Problem {
    fn into_error(self, shared: &Shared) -> Error {
        let missing = match self {
            Self::Failed(failure) => {
                return Failed::into(shared.failed("write, read and delete an object in")(failure));
            }
            Self::Denied(missing) => missing.join(", "),
        };
        let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != missing {
            tracing::error!(missing, bucket = shared.bucket, "the S3 credentials lack rights");
            told.clone_from(&missing);
        }
        let denied = Denied {
            bucket: shared.bucket.clone(),
            host: shared.endpoint.host().to_owned(),
            prefix: shared.keys.prefix().to_owned(),
            missing,
        };
        Error::ReadOnly(io::Error::new(io::ErrorKind::PermissionDenied, denied))
    }
}

/// Goes through all that the store does, so that rights that are missing are told together.
async fn probe(shared: &Shared, whole: bool) -> Result<(), Problem> {
    let key = shared.keys.probe();
    let request = |operation| shared.request(operation, &key).map(Request::into_probe);
    let mut missing = Vec::new();
    let mut note = |right: &'static str, failure: Failure| {
        if failure.is_denied() {
            missing.push(right);
            Ok(())
        } else {
            Err(failure)
        }
    };

    let digests = Digests::of(PROBE);
    let put = request(Operation::Put)?.with_body(Bytes::from_static(PROBE), &digests, "text/plain");
    let written = match shared.client.fetch(&put, MAX_ANSWER).await {
        Ok(answer) => Some(answer),
        Err(GivenUp { failure, .. }) => {
            note("s3:PutObject", failure)?;
            None
        }
    };
    match shared.client.fetch(&request(Operation::Get)?, PROBE.len()).await {
        Ok(answer) if answer.body == PROBE => {}
        Ok(_) => return Err(Failure::BadAnswer("it is not what was written".to_owned()).into()),
        Err(GivenUp { failure: Failure::Absent, .. }) if written.is_none() => {}
        Err(GivenUp { failure, .. }) => note("s3:GetObject", failure)?,
    }
    let conditional = written.is_some() && shared.conditional() == Conditional::Unknown;
    let found =
        if conditional { Some(shared.client.fetch(&only_if_absent(&put), MAX_ANSWER).await) } else { None };
    let mut answers = Vec::new();
    if let Some(written) = &written
        && shared.replacing() == Replacing::Unknown
    {
        match replacing(shared, &put, written, &mut answers).await {
            Ok(found) => shared.set_replacing(found),
            // Images do without it; the next check asks again.
            Err(failure) => tracing::debug!(%failure, "whether S3 honours `If-Match` is not known yet"),
        }
    }
    if whole {
        let prefix = shared.keys.prefix();
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", prefix)];
        let url = shared.endpoint.bucket(&query).ok_or(Failure::Signing)?;
        let list = Request::new(Operation::List, url).into_probe();
        if let Err(GivenUp { failure, .. }) = shared.client.fetch(&list, MAX_ANSWER).await {
            note("s3:ListBucket", failure)?;
        }
    }
    let deleted = match shared.client.fetch(&request(Operation::Delete)?, MAX_ANSWER).await {
        Ok(answer) => Some(answer),
        // One that is not there is gone.
        Err(GivenUp { failure: Failure::Absent, .. }) => None,
        Err(GivenUp { failure, .. }) => {
            note("s3:DeleteObject", failure)?;
            None
        }
    };
    let again = found.as_ref().and_then(|found| found.as_ref().ok());
    for answer in written.iter().chain(again).chain(&answers).chain(&deleted) {
        remove_version(shared, &key, answer).await;
    }
    match found {
        None => {}
        Some(Ok(_)) => shared.set_conditional(Conditional::Ignored),
        Some(Err(GivenUp { failure: Failure::Precondition, .. })) => {
            shared.set_conditional(Conditional::Honoured);
        }
        Some(Err(GivenUp { failure: Failure::Refused { status, .. }, .. })) if status.as_u16() == 501 => {
            shared.set_conditional(Conditional::Ignored);
        }
        Some(Err(GivenUp { failure, .. })) => return Err(failure.into()),
    }
    if missing.is_empty() {
        shared.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        return Ok(());
    }
    Err(Problem::Denied(missing))
}

/// Finds out how a replacement has to be asked for: one of nothing and one of something else must be
/// refused, and one of what is there must not.
async fn replacing(
    shared: &Shared,
    put: &Request,
    written: &Answer,
    answers: &mut Vec<Answer>,
) -> Result<Replacing, Failure> {
    let Some(tag) = written.headers.get(header::ETAG) else { return Ok(Replacing::Ignored) };
    let other = HeaderValue::from_static("\"00000000000000000000000000000000\"");
    let absent = shared.keys.probe();
    let nothing = Request { url: shared.request(Operation::Put, &absent)?.url, ..put.clone() };
    for (put, way, tag, expected) in [
        // MinIO, up to the summer of 2025, creates what is to be replaced.
        (&nothing, Replacing::Quoted, &other, false),
        (put, Replacing::Quoted, &other, false),
        (put, Replacing::Quoted, tag, true),
        (put, Replacing::Bare, tag, true),
    ] {
        let Some(tag) = way.tag(tag) else { continue };
        let request = put.clone().with_header(header::IF_MATCH, tag);
        match shared.client.fetch(&request, MAX_ANSWER).await {
            Ok(answer) => {
                if request.url == nothing.url {
                    shared.remove(&absent).await?;
                    remove_version(shared, &absent, &answer).await;
                } else {
                    answers.push(answer);
                }
                return Ok(if expected { way } else { Replacing::Ignored });
            }
            Err(GivenUp { failure: Failure::Precondition | Failure::Absent, .. }) => {}
            Err(GivenUp { failure, .. }) if failure.is_outage() => return Err(failure),
            // It may be written without a condition, and with one it may not.
            Err(GivenUp { failure: Failure::Refused { .. }, .. }) => return Ok(Replacing::Ignored),
            Err(given_up) => return Err(given_up.failure),
        }
    }
    Ok(Replacing::Ignored)
}

fn only_if_absent(put: &Request) -> Request {
    put.clone().with_header(header::IF_NONE_MATCH, HeaderValue::from_static("*"))
}

/// In a bucket that keeps versions a probe would stay for ever, and the mark of its deletion too;
/// without the right for it, they do.
async fn remove_version(shared: &Shared, key: &str, answer: &Answer) {
    let version = answer.headers.get("x-amz-version-id").and_then(|value| value.to_str().ok());
    let Some(version) = version.filter(|version| *version != "null") else { return };
    if let Some(url) = shared.endpoint.object(key, &[("versionId", version)]) {
        let request = Request::new(Operation::Delete, url).into_probe();
        if let Err(GivenUp { failure, .. }) = shared.client.fetch(&request, MAX_ANSWER).await {
            tracing::debug!(%failure, "the version of a probe stays");
        }
    }
}
