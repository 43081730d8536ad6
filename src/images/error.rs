use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use super::{query::InvalidQuery, variants};
use crate::{image::VariantError, problem::Problem, storage};

/// When a client should ask again while the store is unavailable.
const RETRY_AFTER_SECONDS: u16 = 5;
/// When a client should ask again while too much is being made, or sent.
const BUSY_SECONDS: u16 = 1;

/// Why a request is not answered with what it asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no such image")]
    NotFound,
    #[error("not for this client")]
    Forbidden,
    #[error("method not allowed; allowed: {allow}")]
    MethodNotAllowed { allow: &'static str },
    #[error("a precondition failed")]
    PreconditionFailed,
    #[error("the range begins after the end, at {length} bytes")]
    Unsatisfiable { length: u64 },
    #[error(transparent)]
    InvalidQuery(#[from] InvalidQuery),
    #[error(transparent)]
    Storage(Arc<storage::Error>),
    #[error(transparent)]
    Variant(Arc<VariantError>),
    #[error("too many variants are waiting to be made")]
    Busy,
    #[error("too many pages of the list are being read")]
    ListingsBusy,
    #[error("there is no room in memory for a variant")]
    NoRoom,
    #[error("the work on a variant broke off")]
    Lost,
    #[error("the answer cannot be put in JSON")]
    Json(#[from] serde_json::Error),
}

impl From<Arc<storage::Error>> for Error {
    fn from(error: Arc<storage::Error>) -> Self {
        match *error {
            storage::Error::NotFound => Self::NotFound,
            _ => Self::Storage(error),
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Arc::new(error).into()
    }
}

impl From<variants::Error> for Error {
    fn from(error: variants::Error) -> Self {
        match error {
            variants::Error::Storage(error) => error.into(),
            variants::Error::Variant(error) => Self::Variant(error),
            variants::Error::Busy => Self::Busy,
            variants::Error::NoRoom => Self::NoRoom,
            variants::Error::Lost => Self::Lost,
        }
    }
}

impl Error {
    /// What the client reads. It hears nothing of a store's own words; the log does.
    pub(super) fn into_problem(self) -> Problem {
        match self {
            Self::NotFound => Problem::not_found()
                .detail("there is no such image: it never was, it was deleted, or its time is over"),
            Self::Forbidden => Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden")
                .detail("listing and deleting images is not open to this client; see IMAGE_LISTING"),
            Self::MethodNotAllowed { allow } => Problem::method_not_allowed(allow),
            Self::PreconditionFailed => {
                Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed")
                    .detail("the image is not the one that the request's conditions describe")
            }
            Self::Unsatisfiable { length } => {
                let problem = Problem::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "range-not-satisfiable",
                    "Range not satisfiable",
                )
                .detail(format_args!("the image has {length} bytes"))
                .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                match HeaderValue::try_from(format!("bytes */{length}")) {
                    Ok(range) => problem.header(header::CONTENT_RANGE, range),
                    Err(_) => problem,
                }
            }
            Self::InvalidQuery(invalid) => {
                Problem::new(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query")
                    .detail(&invalid)
                    .field_errors(&invalid.0)
            }
            Self::Storage(error) => storage_problem(&error),
            Self::Variant(error) => {
                tracing::warn!(
                    error = &*error as &(dyn std::error::Error + 'static),
                    "no variant of an image"
                );
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "variant-impossible", "Variant impossible")
                    .detail(format_args!("no variant can be made of this image: {error}"))
            }
            Self::ListingsBusy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "listings-busy", "Busy")
                .detail("too many long pages of the list are being read; try again, or with a lower limit")
                .header(header::RETRY_AFTER, BUSY_SECONDS),
            Self::Busy => busy("too many image variants are waiting to be made; try again"),
            Self::NoRoom => busy(
                "all memory for image variants is taken by those that are being sent (IMAGE_CACHE_BYTES); \
                 try again",
            ),
            Self::Lost => {
                tracing::error!("the work on a variant broke off");
                internal()
            }
            Self::Json(error) => {
                tracing::error!(%error, "an answer cannot be put in JSON");
                internal()
            }
        }
    }
}

fn busy(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "variants-busy", "Busy")
        .detail(detail)
        .header(header::RETRY_AFTER, BUSY_SECONDS)
}

fn storage_problem(error: &storage::Error) -> Problem {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match error {
        storage::Error::Corrupt { id, reason } => {
            tracing::error!(image_id = %id, reason, "a stored image is damaged");
            internal()
        }
        storage::Error::Full(_) => {
            tracing::error!(%error, cause, "the image store is full");
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "storage-full", "Storage full")
                .detail("the image store has no room")
        }
        storage::Error::Unavailable(_) | storage::Error::ReadOnly(_) => {
            tracing::error!(%error, cause, "the image store cannot do what was asked");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage-unavailable", "Storage unavailable")
                .detail("the image store cannot do this now; try again")
                .header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
        }
        storage::Error::NotFound | storage::Error::AlreadyExists => {
            tracing::error!(%error, "the image store gave an answer that does not fit");
            internal()
        }
    }
}

fn internal() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
        .detail("the server cannot answer this; its log says why")
}
