//! A connection that cannot be held for nothing.
//!
//! hyper has no deadline while it detects the protocol, one only for HTTP/1 heads, and none for a
//! client that stops reading. This wrapper has all three, below the protocol:
//! - from accept to the first whole request head: `head_timeout`;
//! - between requests: `idle_timeout`; for HTTP/1, from the next head's first byte: `head_timeout`;
//! - while a response waits to be taken: `write_timeout` without a byte taken.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a connection may do nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// What the connection's service tells its socket: which requests are being served.
#[derive(Debug, Default)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    started: AtomicUsize,
    multiplexed: AtomicBool,
}

/// A request being served; over when dropped.
#[derive(Debug)]
pub(super) struct Serving(Arc<Activity>);

impl Activity {
    /// A request's head has come.
    pub(super) fn begin(self: &Arc<Self>, version: http::Version) -> Serving {
        self.multiplexed.store(version == http::Version::HTTP_2, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Release);
        Serving(self.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

/// The socket, with its deadlines.
#[derive(Debug)]
pub(super) struct Guarded<I> {
    io: I,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    /// Requests begun when the current wait for a request started.
    epoch: usize,
    /// Whether part of the awaited head has come.
    head_begun: bool,
    read: Timer,
    write: Option<Timer>,
}

impl<I> Guarded<I> {
    pub(super) fn new(io: I, activity: Arc<Activity>, deadlines: Deadlines) -> Self {
        let read = Timer::after(deadlines.head);
        Self { io, activity, deadlines, epoch: 0, head_begun: true, read, write: None }
    }

    /// Before a read: a request may have been answered since the last one.
    fn before_read(&mut self) {
        let started = self.activity.started.load(Ordering::Relaxed);
        if started != self.epoch {
            self.epoch = started;
            self.head_begun = false;
            self.read.set(self.deadlines.idle);
        }
    }

    /// After bytes were read: they may be a head's first. An idle HTTP/2 connection may also
    /// answer pings, so there only the idle deadline counts.
    fn after_read(&mut self) {
        if !self.head_begun && !self.activity.multiplexed.load(Ordering::Relaxed) {
            self.head_begun = true;
            self.read.set(self.deadlines.head);
        }
    }

    /// A read waits: is it over its deadline?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.read.poll(cx));
            if self.activity.in_flight.load(Ordering::Acquire) == 0 {
                return Poll::Ready(Err(timed_out("no whole request head in time")));
            }
            // A request is being served; its own layers watch over it. Look again later.
            self.read.set(self.deadlines.idle);
        }
    }

    fn poll_write_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timer = self.write.get_or_insert_with(|| Timer::after(self.deadlines.write));
        ready!(timer.poll(cx));
        Poll::Ready(timed_out("no byte of the response was taken in time"))
    }

    /// The outcome of a write, with the deadline applied while it waits.
    fn guard_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.write = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_write_deadline(cx).map(Err),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.before_read();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.after_read();
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_read_deadline(cx),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.guard_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.guard_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A deadline that is moved often and reached seldom: moving it costs no timer operation.
#[derive(Debug)]
struct Timer {
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn after(duration: Duration) -> Self {
        Self { deadline: Instant::now() + duration, sleep: None }
    }

    fn set(&mut self, duration: Duration) {
        self.deadline = Instant::now() + duration;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if deadline <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(30),
    };

    fn guarded(buffer: usize) -> (Guarded<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (server, client) = duplex(buffer);
        let activity = Arc::new(Activity::default());
        (Guarded::new(server, activity.clone(), DEADLINES), client, activity)
    }

    /// Seconds until the read fails.
    async fn seconds_to_timeout(io: &mut Guarded<DuplexStream>) -> u64 {
        let started = Instant::now();
        let error = io.read_u8().await.expect_err("a timeout");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_a_byte_ends_after_the_head_timeout() {
        let (mut io, _client, _) = guarded(64);
        assert_eq!(seconds_to_timeout(&mut io).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn head_that_drips_ends_after_the_head_timeout() {
        let (mut io, mut client, _) = guarded(64);
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let started = Instant::now();
        while io.read_u8().await.is_ok() {}
        assert_eq!(started.elapsed().as_secs(), 10);
        drop(io);
        drip.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn connection_between_requests_ends_after_the_idle_timeout() {
        let (mut io, _client, activity) = guarded(64);
        drop(activity.begin(http::Version::HTTP_11));
        assert_eq!(seconds_to_timeout(&mut io).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn second_head_that_stalls_ends_after_the_head_timeout() {
        let (mut io, mut client, activity) = guarded(64);
        drop(activity.begin(http::Version::HTTP_11));
        client.write_all(b"G").await.expect("written");
        assert_eq!(io.read_u8().await.expect("read"), b'G');
        assert_eq!(seconds_to_timeout(&mut io).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_serves_has_no_read_deadline() {
        let (mut io, _client, activity) = guarded(64);
        let serving = activity.begin(http::Version::HTTP_11);
        let read = tokio::time::timeout(Duration::from_secs(3_600), io.read_u8()).await;
        assert!(read.is_err(), "still waiting after an hour");
        drop(serving);
        assert!(seconds_to_timeout(&mut io).await <= 60);
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_nobody_takes_ends_after_the_write_timeout() {
        let (mut io, _client, activity) = guarded(4);
        let _serving = activity.begin(http::Version::HTTP_11);
        let started = Instant::now();
        let error = io.write_all(b"more than fits").await.expect_err("a timeout");
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_is_taken_slowly_goes_on() {
        let (mut io, mut client, activity) = guarded(1);
        let _serving = activity.begin(http::Version::HTTP_11);
        let taken = tokio::spawn(async move {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_u8().await.expect("a byte");
            }
        });
        io.write_all(b"abcdef").await.expect("written in two minutes");
        taken.await.expect("no panic");
    }
}
