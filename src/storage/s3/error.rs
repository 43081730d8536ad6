use std::{error::Error as StdError, io, time::Duration};

use http::StatusCode;

use crate::storage::Error;

/// Why a request did not do what it was to do. Its text never holds a URL, a header or a body of the
/// other side: those may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    #[error("it cannot be reached ({0})")]
    Unreachable(String),
    /// The connection broke after something was sent.
    #[error("the connection broke ({0})")]
    Interrupted(String),
    /// A phase took too long.
    #[error("no {phase} within {} s", after.as_secs_f64())]
    TimedOut {
        /// What was waited for.
        phase: &'static str,
        /// How long.
        after: Duration,
    },
    /// The object is not there.
    #[error("no such object")]
    Absent,
    /// A condition on the object does not hold: it is there already, or it is another one.
    #[error("the object is there, or is another one")]
    Precondition,
    /// An answer that says no.
    #[error("it answers {status}{}", told(code.as_deref(), *status, region.as_deref()))]
    Refused {
        /// The status.
        status: StatusCode,
        /// The code in the body, if it is one.
        code: Option<String>,
        /// Where the bucket is, if the answer says so.
        region: Option<String>,
        /// When to come back, if the answer says so.
        retry_after: Option<Duration>,
    },
    /// An answer that is none of S3, or does not fit the request.
    #[error("its answer is wrong: {0}")]
    BadAnswer(String),
    /// It failed so often that it is left alone for a while.
    #[error("it failed {failures} times in a row and is left alone for another {} s", wait.as_secs_f64().ceil())]
    Paused {
        /// How often it failed.
        failures: u32,
        /// How long it is still left alone.
        wait: Duration,
    },
    /// There are no keys to sign with.
    #[error("there are no credentials: {0}")]
    Credentials(String),
    /// The request cannot be signed.
    #[error("the request cannot be signed")]
    Signing,
}

impl Failure {
    /// Whether the backend is away or overloaded, so that waiting mends it.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Interrupted(_) | Self::TimedOut { .. } | Self::Paused { .. } => true,
            Self::Refused { status, code, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
                    || matches!(code.as_deref(), Some("RequestTimeout" | "SlowDown"))
            }
            _ => false,
        }
    }

    /// Whether the same request may do better in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Paused { .. } => false,
            Self::Refused { code: Some(code), .. }
                if matches!(code.as_str(), "ConditionalRequestConflict" | "OperationAborted") =>
            {
                true
            }
            Self::BadAnswer(_) => true,
            failure => failure.is_outage(),
        }
    }

    /// Whether the keys are at fault, so that others may do better.
    pub(super) fn is_stale_key(&self) -> bool {
        const CODES: [&str; 4] =
            ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"];
        matches!(self, Self::Refused { code: Some(code), .. } if CODES.contains(&code.as_str()))
    }

    /// Whether the right to do it is missing.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::FORBIDDEN, code, .. }
            if code.as_deref().is_none_or(|code| matches!(code, "AccessDenied" | "AllAccessDisabled")))
    }

    /// When the other side wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Every [`outcome`](Self::outcome).
    pub(super) const OUTCOMES: [&str; 11] = [
        "unreachable",
        "interrupted",
        "timed_out",
        "absent",
        "precondition",
        "unavailable",
        "refused",
        "bad_answer",
        "paused",
        "no_credentials",
        "unsigned",
    ];

    /// How it is counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Interrupted(_) => "interrupted",
            Self::TimedOut { .. } => "timed_out",
            Self::Absent => "absent",
            Self::Precondition => "precondition",
            Self::Refused { .. } if self.is_outage() => "unavailable",
            Self::Refused { .. } => "refused",
            Self::BadAnswer(_) => "bad_answer",
            Self::Paused { .. } => "paused",
            Self::Credentials(_) => "no_credentials",
            Self::Signing => "unsigned",
        }
    }
}

/// The code, and what to check about it.
fn told(code: Option<&str>, status: StatusCode, region: Option<&str>) -> String {
    let hint = match (code.unwrap_or_default(), status.as_u16()) {
        ("NoSuchBucket", _) => "check S3_BUCKET and S3_ENDPOINT_URL",
        ("InvalidAccessKeyId", _) => "check AWS_ACCESS_KEY_ID",
        ("SignatureDoesNotMatch", _) => "check AWS_SECRET_ACCESS_KEY, AWS_REGION and S3_PATH_STYLE",
        ("RequestTimeTooSkewed", _) => "check this machine's clock",
        ("ExpiredToken" | "InvalidToken", _) => {
            "check AWS_SESSION_TOKEN, or where the temporary keys come from"
        }
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, 301 | 302 | 307 | 308) => {
            let region = region.map(|region| format!(" (the bucket says it is in `{region}`)"));
            return format!(
                "{}: redirects are never followed; check AWS_REGION and S3_ENDPOINT_URL{}",
                code.map(|code| format!(" {code}")).unwrap_or_default(),
                region.unwrap_or_default()
            );
        }
        (_, 403) => "check the rights of the credentials on the bucket and on S3_PREFIX",
        (_, 404 | 405) => "check S3_ENDPOINT_URL, S3_BUCKET and S3_PATH_STYLE",
        _ => "",
    };
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    if hint.is_empty() { code } else { format!("{code}; {hint}") }
}

/// A failure, with what was tried and where.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} bucket `{bucket}` at {host}: {failure}")]
pub(super) struct Failed {
    /// What was tried, up to the bucket: `save an image in`.
    pub(super) action: &'static str,
    pub(super) bucket: String,
    pub(super) host: String,
    pub(super) failure: Failure,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match &failed.failure {
            Failure::Absent => Self::NotFound,
            Failure::Precondition => Self::AlreadyExists,
            Failure::Refused { status, code, .. }
                if *status == StatusCode::INSUFFICIENT_STORAGE
                    || matches!(code.as_deref(), Some("QuotaExceeded" | "XMinioStorageFull")) =>
            {
                Self::Full(Some(io::Error::new(io::ErrorKind::StorageFull, failed)))
            }
            _ => Self::Unavailable(Box::new(failed)),
        }
    }
}

/// The cause at the bottom of a chain, in one short line: it says most, and holds no URL.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let line = error.to_string();
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>) -> Failure {
        Failure::Refused {
            status: StatusCode::from_u16(status).expect("a status"),
            code: code.map(str::to_owned),
            region: None,
            retry_after: None,
        }
    }

    #[test]
    fn failure_names_bucket_host_and_what_to_check() {
        let failed = Failed {
            action: "save an image in",
            bucket: "images".to_owned(),
            host: "s3.example:9000".to_owned(),
            failure: refused(403, Some("SignatureDoesNotMatch")),
        };
        assert_eq!(
            failed.to_string(),
            "cannot save an image in bucket `images` at s3.example:9000: it answers 403 Forbidden \
             SignatureDoesNotMatch; check AWS_SECRET_ACCESS_KEY, AWS_REGION and S3_PATH_STYLE"
        );
    }

    #[test]
    fn redirect_tells_the_region_of_the_bucket() {
        let failure = Failure::Refused {
            status: StatusCode::MOVED_PERMANENTLY,
            code: Some("PermanentRedirect".to_owned()),
            region: Some("eu-west-1".to_owned()),
            retry_after: None,
        };
        assert!(failure.to_string().contains("`eu-west-1`") && failure.to_string().contains("AWS_REGION"));
        assert!(!failure.is_transient() && !failure.is_outage());
    }

    #[test]
    fn failure_that_waiting_mends_is_an_outage() {
        for failure in [
            refused(503, Some("SlowDown")),
            refused(500, None),
            refused(400, Some("RequestTimeout")),
            Failure::Unreachable(String::new()),
            Failure::TimedOut { phase: "answer", after: Duration::from_secs(1) },
        ] {
            assert!(failure.is_outage() && failure.is_transient(), "{failure}");
        }
        for failure in
            [refused(403, Some("AccessDenied")), refused(404, Some("NoSuchBucket")), Failure::Absent]
        {
            assert!(!failure.is_outage() && !failure.is_transient(), "{failure}");
        }
    }

    #[test]
    fn failed_becomes_the_error_of_its_kind() {
        let error = |failure| {
            let (bucket, host) = ("images".to_owned(), "s3.example".to_owned());
            Error::from(Failed { action: "save an image in", bucket, host, failure })
        };
        assert!(matches!(error(Failure::Absent), Error::NotFound));
        assert!(matches!(error(Failure::Precondition), Error::AlreadyExists));
        assert!(matches!(error(refused(403, Some("QuotaExceeded"))), Error::Full(Some(_))));
        assert!(matches!(error(refused(503, None)), Error::Unavailable(_)));
        assert!(matches!(error(refused(404, Some("NoSuchBucket"))), Error::Unavailable(_)));
    }
}
