//! HTTP/2 streams that cannot be held for nothing.
//!
//! A peer that keeps a stream's window shut, but reads the socket and answers pings, makes no write
//! wait: the deadline of [`Guarded`](super::io::Guarded) does not see it, and neither hyper nor h2
//! has one. So each stream's [`Progress`] counts the bytes that were handed out and not yet taken
//! for the socket, wherever hyper and h2 keep them. A stream of which none is taken in time is
//! dropped, and with it reset, while its connection goes on: a proxy's other clients are on it too.
//! A body that has nothing to hand out waits for the server, not for the client: it has no deadline.

use std::{
    future::Future,
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::rt::Executor;
use layers::send_file::is_promise;
use tokio::time::Instant;
use tracing::debug;

tokio::task_local! {
    /// The progress of the stream whose task this is; HTTP/1 has no tasks of its own.
    static STREAM: Arc<Progress>;
}

/// Runs the streams of HTTP/2 connections, each only as long as its peer takes what it is given.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) write_timeout: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let progress = Arc::new(Progress::new());
        let stream = STREAM.scope(progress.clone(), stream);
        let write_timeout = self.write_timeout;
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stream => {}
                () = progress.stalled(write_timeout) => {
                    debug!("stream reset: no byte of the response was taken in time");
                }
            }
        });
    }
}

/// What of a response the peer has yet to take.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Bytes handed out and not taken.
    outstanding: usize,
    /// When bytes were last taken, or handed out where there were none.
    since: Instant,
    /// The body, where it waits until all is taken.
    body: Option<Waker>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { outstanding: 0, since: Instant::now(), body: None }))
    }

    /// That of the stream whose task this is; `None` on HTTP/1.
    pub(super) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// Whether there is nothing left to take.
    pub(super) fn is_clear(&self) -> bool {
        self.state().outstanding == 0
    }

    /// Waits until there is nothing left to take.
    pub(super) fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.outstanding == 0 {
            return Poll::Ready(());
        }
        state.body = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Returns when bytes wait and none of them was taken for `limit`.
    async fn stalled(&self, limit: Duration) {
        loop {
            let deadline = {
                let state = self.state();
                let since = if state.outstanding == 0 { Instant::now() } else { state.since };
                since + limit
            };
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn hand_out(&self, bytes: usize) {
        let mut state = self.state();
        if state.outstanding == 0 {
            state.since = Instant::now();
        }
        state.outstanding += bytes;
    }

    fn take(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.outstanding -= bytes;
        state.since = Instant::now();
        let waker = if state.outstanding == 0 { state.body.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a response that tell when they are taken: written to the socket, or dropped.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    progress: Option<Arc<Progress>>,
}

impl Piece {
    pub(super) fn new(bytes: Bytes, progress: Option<Arc<Progress>>) -> Self {
        if let Some(progress) = &progress {
            progress.hand_out(bytes.len());
        }
        Self { bytes, progress }
    }

    fn taken(&self, bytes: usize) {
        if let Some(progress) = &self.progress {
            progress.take(bytes);
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    /// Of a promise there are no bytes that could be copied: who would copy them sends none, rather than wrong ones.
    fn chunk(&self) -> &[u8] {
        if is_promise(&self.bytes) { &[] } else { self.bytes.chunk() }
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(dst)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.taken(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        assert!(!is_promise(&self.bytes), "a promise is sent as it is");
        let bytes = self.bytes.copy_to_bytes(length);
        self.taken(length);
        bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.taken(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use tokio::time::{advance, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn piece(length: usize, progress: &Arc<Progress>) -> Piece {
        Piece::new(vec![0; length].into(), Some(progress.clone()))
    }

    #[tokio::test(start_paused = true)]
    async fn stream_of_which_nothing_is_taken_stalls_after_the_limit() {
        let progress = Arc::new(Progress::new());
        sleep(LIMIT * 3 / 2).await;
        let _first = piece(8, &progress);
        let started = Instant::now();
        let mut stalled = pin!(progress.stalled(LIMIT));
        assert!(poll!(&mut stalled).is_pending());
        advance(LIMIT / 2).await;
        // More to take is no progress.
        let _second = piece(8, &progress);
        stalled.await;
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_that_is_taken_slowly_does_not_stall_until_it_stops() {
        let progress = Arc::new(Progress::new());
        let mut piece = piece(8, &progress);
        let mut stalled = pin!(progress.stalled(LIMIT));
        for _ in 0..4 {
            assert!(poll!(&mut stalled).is_pending());
            sleep(LIMIT * 3 / 4).await;
            piece.advance(1);
        }
        let stopped = Instant::now();
        stalled.await;
        assert_eq!(stopped.elapsed(), LIMIT);
    }

    #[test]
    fn promise_is_written_as_it_is_and_never_copied() {
        let file = Arc::new(std::fs::File::open("Cargo.toml").expect("there"));
        let promise = layers::send_file::FileSender::default().promise(&file, 0, 8);
        let mut piece = Piece::new(promise, None);
        let mut slices = [IoSlice::new(&[])];
        assert_eq!(piece.chunks_vectored(&mut slices), 1);
        assert!(is_promise(&slices[0]) && slices[0].len() == 8);
        assert_eq!((piece.remaining(), piece.chunk().len()), (8, 0));
        piece.advance(5);
        assert_eq!((piece.remaining(), piece.chunk().len()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn stream_that_has_nothing_to_take_never_stalls() {
        let progress = Arc::new(Progress::new());
        drop(piece(8, &progress));
        piece(8, &progress).copy_to_bytes(8);
        assert!(progress.is_clear());
        assert!(tokio::time::timeout(LIMIT * 100, progress.stalled(LIMIT)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_waits_until_all_is_taken_is_woken() {
        let progress = Arc::new(Progress::new());
        let mut piece = piece(8, &progress);
        let started = Instant::now();
        let cleared = async {
            std::future::poll_fn(|cx| progress.poll_clear(cx)).await;
            started.elapsed()
        };
        let taken = async {
            piece.advance(7);
            sleep(LIMIT).await;
            piece.advance(1);
        };
        assert_eq!(tokio::join!(cleared, taken).0, LIMIT);
    }
}
