//! A generation as a stream of server-sent events: progress while it runs, then the result.
//!
//! The events (WHATWG HTML, section 9.2) are `progress` (`{"stage": "queued", "ahead": 3}`, `"starting"`,
//! `{"stage": "drawing", "step": 12, "total": 50, "estimated": false}`, `"storing"`), and at the end
//! `result` (`{url, image_id, metadata}`) or `error` (a problem of RFC 9457). Closing the stream
//! cancels the generation.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream};
use serde::Serialize;

use super::Answer;
use crate::{
    generate::{Error, Generated, Progress, ProgressReceiver},
    problem::Problem,
};

/// A stream is never silent for longer, so that proxies do not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A generation that runs as its events are read.
pub(super) struct Running {
    pub(super) work: BoxFuture<'static, Result<Generated, Error>>,
    pub(super) progress: ProgressReceiver,
    pub(super) explain: fn(&Error) -> Problem,
}

impl Running {
    /// The events, until the generation has ended.
    pub(super) fn events(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        stream::unfold(Some(self), |running| async move {
            let (event, rest) = running?.next().await;
            Some((Ok(event), rest))
        })
    }

    async fn next(mut self) -> (Bytes, Option<Self>) {
        tokio::select! {
            // The end first: progress that came with it is old news.
            biased;
            ended = &mut self.work => (self.ending(&ended), None),
            Ok(()) = self.progress.changed() => {
                let progress = *self.progress.borrow_and_update();
                (event("progress", &Stage::from(progress)), Some(self))
            }
            () = tokio::time::sleep(KEEP_ALIVE) => (Bytes::from_static(b": working\n\n"), Some(self)),
        }
    }

    fn ending(&self, ended: &Result<Generated, Error>) -> Bytes {
        match ended {
            Ok(image) => event("result", &Answer::from(image)),
            Err(error) => event("error", &(self.explain)(error).to_json()),
        }
    }
}

/// A stage of a generation, as its event tells it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
enum Stage {
    Queued { ahead: usize },
    Starting,
    Drawing { step: f64, total: u32, estimated: bool },
    Storing,
}

impl From<Progress> for Stage {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Queued { ahead } => Self::Queued { ahead },
            Progress::Starting => Self::Starting,
            Progress::Drawing { step, total, estimated } => Self::Drawing { step, total, estimated },
            Progress::Storing => Self::Storing,
        }
    }
}

/// One event. JSON as serde writes it has no line breaks, so one `data` line is enough.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::generate::progress_channel;

    fn explain(error: &Error) -> Problem {
        Problem::new(http::StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many").detail(error)
    }

    #[tokio::test(start_paused = true)]
    async fn events_tell_progress_keep_alive_and_the_end() {
        let (sender, progress) = progress_channel();
        let (finish, finished) = tokio::sync::oneshot::channel();
        let work = async move { Err(finished.await.expect("sent")) }.boxed();
        let mut events = Box::pin(Running { work, progress, explain }.events());
        let mut next = async || {
            let bytes = events.next().await.map(Result::unwrap);
            bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
        };

        sender.send(Progress::Drawing { step: 1.0, total: 2, estimated: false });
        assert_eq!(
            next().await.as_deref(),
            Some(
                "event: progress\ndata: {\"stage\":\"drawing\",\"step\":1.0,\"total\":2,\"estimated\":false}\n\n"
            )
        );
        assert_eq!(next().await.as_deref(), Some(": working\n\n"), "after ten quiet seconds");
        sender.send(Progress::Storing);
        let error = Error::Overloaded { waiting: 3, retry_after: Duration::from_secs(10) };
        assert!(finish.send(error).is_ok());
        let end = next().await.expect("the end");
        assert!(end.starts_with("event: error\ndata: {"), "{end}");
        assert!(end.contains("/problems/overloaded"), "{end}");
        assert_eq!(next().await, None);
    }
}
