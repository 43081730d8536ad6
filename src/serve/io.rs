//! A connection that cannot be held for nothing.
//!
//! hyper has no deadline while it detects the protocol, one only for HTTP/1 heads, and none for a
//! client that stops reading. This wrapper has all three, below the protocol:
//! - from accept to the first whole request head: `head_timeout`;
//! - from a response's end: `idle_timeout`; for HTTP/1, from the next head's first byte: `head_timeout`;
//! - while a response waits to be taken: `write_timeout` without a byte taken. HTTP/2 can also hold
//!   a response above the socket; [`stream`](super::stream) watches that.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
#[derive(Debug)]
pub(super) struct Activity(Mutex<Served>);

#[derive(Debug, Clone, Copy)]
struct Served {
    in_flight: usize,
    multiplexed: bool,
    /// Requests that began or ended.
    changes: usize,
    /// When the last of them ended.
    ended: Instant,
}

/// A request being served; over when dropped.
#[derive(Debug)]
pub(super) struct Serving(Arc<Activity>);

impl Activity {
    /// Of a connection on which nothing was served yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Served { in_flight: 0, multiplexed: false, changes: 0, ended: Instant::now() }))
    }

    /// A request's head has come.
    pub(super) fn begin(self: &Arc<Self>, version: http::Version) -> Serving {
        let mut served = self.lock();
        served.multiplexed = version == http::Version::HTTP_2;
        served.in_flight += 1;
        served.changes += 1;
        drop(served);
        Serving(self.clone())
    }

    fn served(&self) -> Served {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Served> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut served = self.0.lock();
        served.in_flight -= 1;
        served.changes += 1;
        served.ended = Instant::now();
    }
}

/// The socket, with its deadlines.
#[derive(Debug)]
pub(super) struct Guarded<I> {
    io: I,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    /// The changes of the activity that were seen.
    epoch: usize,
    /// Whether part of the awaited head has come.
    head_begun: bool,
    /// Whether it came just now, and its time begins with the next wait: most heads come whole, and need no clock.
    head_waits: bool,
    /// When the socket last took a byte that had to wait.
    written: Option<Instant>,
    read: Timer,
    write: Option<Timer>,
}

impl<I> Guarded<I> {
    pub(super) fn new(io: I, activity: Arc<Activity>, deadlines: Deadlines) -> Self {
        let read = Timer::after(deadlines.head);
        Self {
            io,
            activity,
            deadlines,
            epoch: 0,
            head_begun: true,
            head_waits: false,
            written: None,
            read,
            write: None,
        }
    }

    /// Before a read: a request may have come or been answered since the last one.
    fn before_read(&mut self) {
        let served = self.activity.served();
        if served.changes != self.epoch {
            self.epoch = served.changes;
            self.head_begun = false;
            self.head_waits = false;
            self.read.set_at(served.ended + self.deadlines.idle);
        }
    }

    /// After bytes were read: they may be a head's first. While a request is served they are its
    /// body's. An idle HTTP/2 connection may also answer pings, so there only the idle deadline
    /// counts.
    fn after_read(&mut self) {
        let served = self.activity.served();
        if !self.head_begun && served.in_flight == 0 && !served.multiplexed {
            self.head_begun = true;
            self.head_waits = true;
        }
    }

    /// A read waits: is it over its deadline?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.head_waits) {
            self.read.set(self.deadlines.head);
        }
        loop {
            ready!(self.read.poll(cx));
            let served = self.activity.served();
            if served.in_flight > 0 || self.write.is_some() {
                // A request is being served, or its answer taken: others watch over that. Look again
                // later.
                self.read.set(self.deadlines.idle);
                continue;
            }
            // An answer ends when its last byte is taken. (On HTTP/2 that may have been a ping.)
            let idle_since = self.written.filter(|_| !self.head_begun && !served.multiplexed);
            match idle_since.map(|written| written + self.deadlines.idle) {
                Some(deadline) if deadline > Instant::now() => self.read.set_at(deadline),
                _ => return Poll::Ready(Err(timed_out("no whole request head in time"))),
            }
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
                // What is taken at once is taken when its request ends, which has been noted.
                if self.write.take().is_some() {
                    self.written = Some(Instant::now());
                }
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
        self.set_at(Instant::now() + duration);
    }

    fn set_at(&mut self, deadline: Instant) {
        self.deadline = deadline;
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
        let activity = Arc::new(Activity::new());
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
        assert_eq!(seconds_to_timeout(&mut io).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_comes_after_its_head_is_no_next_head() {
        let (mut io, mut client, activity) = guarded(64);
        let serving = activity.begin(http::Version::HTTP_11);
        client.write_all(b"{").await.expect("written");
        assert_eq!(io.read_u8().await.expect("read"), b'{');
        drop(serving);
        assert_eq!(seconds_to_timeout(&mut io).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_counts_from_the_end_of_the_answer() {
        let (mut io, _client, activity) = guarded(64);
        let serving = activity.begin(http::Version::HTTP_11);
        let served = tokio::spawn(async move {
            tokio::time::sleep(DEADLINES.idle * 9 / 10).await;
            drop(serving);
        });
        // The read waits all along.
        assert_eq!(seconds_to_timeout(&mut io).await, 54 + 60);
        served.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn head_that_begins_after_the_answer_has_the_head_timeout() {
        let (mut io, mut client, activity) = guarded(64);
        let serving = activity.begin(http::Version::HTTP_11);
        let client = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(serving);
            tokio::time::sleep(Duration::from_secs(5)).await;
            client.write_all(b"G").await.expect("written");
            client
        });
        assert_eq!(io.read_u8().await.expect("read"), b'G');
        assert_eq!(seconds_to_timeout(&mut io).await, 10);
        client.await.expect("no panic");
    }

    /// The body may be gone while its last piece, which may be all of it, is on its way.
    #[tokio::test(start_paused = true)]
    async fn answer_that_is_taken_slowly_is_not_idle_until_it_is_taken() {
        let (io, mut client, activity) = guarded(1);
        drop(activity.begin(http::Version::HTTP_11));
        let (mut read, mut write) = tokio::io::split(io);
        let taken = async {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_u8().await.expect("a byte");
            }
        };
        let started = Instant::now();
        let (error, written, ()) = tokio::join!(read.read_u8(), write.write_all(b"abcdef"), taken);
        written.expect("written in two minutes");
        assert_eq!(error.expect_err("a timeout").kind(), io::ErrorKind::TimedOut);
        // The last byte found its place when the one before was taken.
        assert_eq!(started.elapsed().as_secs(), 100 + 60);
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
