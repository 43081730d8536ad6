//! A generation as a stream of server-sent events: progress while it runs, then the result.
//!
//! The events (WHATWG HTML, section 9.2) are `progress` (`{"stage": "queued", "ahead": 3}`, `"starting"`,
//! `{"stage": "drawing", "step": 12, "total": 50, "estimated": false}`, `"storing"`), and at the end
//! `result` (`{url, image_id, metadata}`) or `error` (a problem of RFC 9457). Closing the stream
//! cancels the generation.
//!
//! The generation runs by itself, not as its events are read: who takes no byte (an HTTP/2 window
//! spent) must not keep it standing still with its place.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::Answer;
use crate::{
    generate::{Error, Generated, Progress, ProgressReceiver},
    problem::Problem,
};

/// A stream is never silent for longer, so that proxies do not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A generation that runs. Dropping this cancels it.
pub(super) struct Running {
    /// Ends with the last event: of the image nothing else is kept until that is read.
    work: AbortOnDropHandle<Bytes>,
    progress: ProgressReceiver,
}

impl Running {
    /// Starts `work` in a task of its own, within the current span.
    pub(super) fn start(
        work: impl Future<Output = Result<Generated, Error>> + Send + 'static,
        progress: ProgressReceiver,
        explain: fn(&Error) -> Problem,
    ) -> Self {
        let work = async move {
            match work.await {
                Ok(image) => event("result", &Answer::from(&image)),
                Err(error) => event("error", &explain(&error).to_json()),
            }
        };
        Self { work: AbortOnDropHandle::new(tokio::spawn(work.in_current_span())), progress }
    }

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
            ended = &mut self.work => match ended {
                Ok(last) => (last, None),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            Ok(()) = self.progress.changed() => {
                let progress = *self.progress.borrow_and_update();
                (event("progress", &Stage::from(progress)), Some(self))
            }
            () = tokio::time::sleep(KEEP_ALIVE) => (Bytes::from_static(b": working\n\n"), Some(self)),
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
    use std::pin::Pin;

    use futures_util::StreamExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::generate::progress_channel;

    fn explain(error: &Error) -> Problem {
        Problem::new(http::StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many").detail(error)
    }

    type Events = Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>;

    fn start(
        work: impl Future<Output = Result<Generated, Error>> + Send + 'static,
        progress: ProgressReceiver,
    ) -> Events {
        Box::pin(Running::start(work, progress, explain).events())
    }

    async fn next(events: &mut Events) -> Option<String> {
        let bytes = events.next().await.map(Result::unwrap);
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_nobody_reads_do_not_hold_the_generation_up() {
        let (_sender, progress) = progress_channel();
        let (ended, hears) = oneshot::channel();
        let work = async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            assert!(ended.send(()).is_ok());
            Err(Error::TimedOut(Duration::from_secs(300)))
        };
        let mut events = start(work, progress);
        hears.await.expect("it runs to its end though no event was asked for");
        let end = next(&mut events).await.expect("the end");
        assert!(end.starts_with("event: error\ndata: {"), "{end}");
        assert_eq!(next(&mut events).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_that_is_dropped_cancels_the_generation() {
        for read in [false, true] {
            let (sender, progress) = progress_channel();
            let (held, mut gone) = oneshot::channel::<()>();
            let work = async move {
                let _held = held;
                std::future::pending().await
            };
            let mut events = start(work, progress);
            if read {
                sender.send(Progress::Starting);
                assert!(next(&mut events).await.is_some());
            }
            assert_eq!(gone.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            drop(events);
            gone.await.expect_err("dropped with the stream");
        }
    }

    #[tokio::test]
    #[should_panic(expected = "on purpose")]
    async fn generation_that_panics_panics_where_it_is_read() {
        let (_sender, progress) = progress_channel();
        next(&mut start(async { panic!("on purpose") }, progress)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn events_tell_progress_keep_alive_and_the_end() {
        let (sender, progress) = progress_channel();
        let (finish, finished) = oneshot::channel();
        let mut events = start(async move { Err(finished.await.expect("sent")) }, progress);
        let mut next = async || next(&mut events).await;

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
        tokio::task::yield_now().await;
        let end = next().await.expect("the end");
        assert!(end.starts_with("event: error\ndata: {"), "{end}");
        assert!(end.contains("/problems/overloaded"), "{end}");
        assert_eq!(next().await, None);
    }
}
