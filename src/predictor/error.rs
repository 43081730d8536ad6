use std::time::Duration;

/// Why a predictor gave no image. `Display` is fit for a caller: it says what to check, and holds
/// no credential and no address; details are in `source()` for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error(
        "the image model cannot be reached; ask the operator to check the predictor's address and whether it runs"
    )]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The model is loading, or scaled to zero and starting.
    #[error("the image model is starting; try again in a minute")]
    NotReady {
        /// When to try again, if the predictor said so.
        retry_after: Option<Duration>,
    },
    /// It answers 429 or is otherwise busy.
    #[error("the image model is busy; try again later")]
    Busy {
        /// When to try again, if the predictor said so.
        retry_after: Option<Duration>,
    },
    /// No such model.
    #[error(
        "the image model {model:?} does not exist on the predictor; ask the operator to check KSERVE_MODEL_NAME"
    )]
    NoSuchModel {
        /// The name that was asked for.
        model: String,
    },
    /// The predictor refuses the credentials.
    #[error("the image model refused the server's credentials; ask the operator to check them")]
    Unauthorized,
    /// The model refuses a parameter: the caller can change it.
    #[error("the image model refused the request: {message}")]
    Rejected {
        /// The parameter, where it could be told.
        parameter: Option<String>,
        /// The model's words, cut to a line.
        message: String,
    },
    /// The accelerator has no memory left for this request.
    #[error("the image model ran out of memory; ask for a smaller width and height")]
    OutOfMemory,
    /// The prediction failed on its side.
    #[error("the image model failed: {message}")]
    Failed {
        /// The model's words, cut to a line.
        message: String,
    },
    /// It did not answer in time.
    #[error("the image model did not answer within {} s; ask for fewer steps or a smaller image, or ask the operator to raise KSERVE_TIMEOUT and the timeouts of gateways before the model", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Its reply is over the limit.
    #[error(
        "the image model's reply is larger than the {max_bytes} bytes allowed; ask the operator to check MAX_IMAGE_SIZE"
    )]
    TooLarge {
        /// The limit, in bytes of the decoded image.
        max_bytes: u64,
    },
    /// Its reply is not what the protocol says.
    #[error("the image model answered something that is not a prediction: {reason}")]
    BadReply {
        /// What is wrong with it.
        reason: String,
    },
    /// The connection broke after the request was sent; it is not repeated, for it may have cost GPU time.
    #[error("the connection to the image model broke before its answer was whole; try again")]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Every [`kind`](Self::kind).
    pub const KINDS: [&str; 12] = [
        "unreachable",
        "not_ready",
        "busy",
        "no_such_model",
        "unauthorized",
        "rejected",
        "out_of_memory",
        "failed",
        "timed_out",
        "too_large",
        "bad_reply",
        "interrupted",
    ];

    /// A short fixed word for metrics and logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::NotReady { .. } => "not_ready",
            Self::Busy { .. } => "busy",
            Self::NoSuchModel { .. } => "no_such_model",
            Self::Unauthorized => "unauthorized",
            Self::Rejected { .. } => "rejected",
            Self::OutOfMemory => "out_of_memory",
            Self::Failed { .. } => "failed",
            Self::TimedOut(_) => "timed_out",
            Self::TooLarge { .. } => "too_large",
            Self::BadReply { .. } => "bad_reply",
            Self::Interrupted(_) => "interrupted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_all_named() {
        let text = String::new;
        let errors = [
            Error::Unreachable("".into()),
            Error::NotReady { retry_after: None },
            Error::Busy { retry_after: None },
            Error::NoSuchModel { model: text() },
            Error::Unauthorized,
            Error::Rejected { parameter: None, message: text() },
            Error::OutOfMemory,
            Error::Failed { message: text() },
            Error::TimedOut(Duration::ZERO),
            Error::TooLarge { max_bytes: 0 },
            Error::BadReply { reason: text() },
            Error::Interrupted("".into()),
        ];
        assert_eq!(errors.each_ref().map(Error::kind), Error::KINDS);
    }
}
