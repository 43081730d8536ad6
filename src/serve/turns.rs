//! Turns: how much of its response a connection writes before the others are served.
//!
//! A socket that takes all that it is given never makes its task wait, so a large image went out in one piece, and who
//! asked for a small one meanwhile waited for all of it. Nor was it fair among large ones: TCP gives room to who took
//! much, so that some were given whole images in the turn in which others got a few packets.
//!
//! So a connection writes a turn, and then lets the others have theirs. A turn ends when it is used up, when the socket
//! makes it wait, or with the next request. All whose responses wait, for their turn or for their client, share a round,
//! which is short enough not to be noticed: the fewer they are, the longer their turns, and one alone is hardly
//! interrupted.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that all who wait write in a round: one to two milliseconds of a core.
const ROUND: usize = 4 << 20;
/// Bytes of a turn at least, however many wait: a chunk of a file. With fewer, calls to the kernel and cold memory cost
/// a third of the throughput of 256 downloads.
const SHORTEST: usize = 256 << 10;
/// Bytes of a response's first turn at least: most images are out after it.
const FIRST: usize = 512 << 10;
/// Bytes that a turn may be longer, rather than leave so few for a call to the kernel of their own.
const SLACK: usize = 16 << 10;
/// Pieces of memory that one write takes. hyper has two: a head, and a piece of a body.
const PIECES: usize = 8;

/// The connections among which turns go round; counts those of which a response waits to be taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<AtomicUsize>);

/// What a connection's task and its socket know of its turn. Only that task uses it.
#[derive(Debug)]
struct Turn {
    turns: Turns,
    /// Bytes that may still be written.
    left: AtomicUsize,
    /// The turn is over, and the next poll's is asked for.
    over: AtomicBool,
    /// Part of a response waits to be taken.
    waits: AtomicBool,
}

impl Turns {
    /// Lets a connection take turns: `connect` makes its future from its socket, which only this future may use.
    pub(super) fn take<I, F: Future>(&self, io: I, connect: impl FnOnce(TurnTaking<I>) -> F) -> InTurns<F> {
        let turn = Arc::new(Turn::new(self.clone()));
        InTurns { connection: connect(TurnTaking { io, turn: turn.clone() }), turn }
    }

    /// Bytes of a turn among those who wait now.
    fn length(&self) -> usize {
        (ROUND / self.0.load(Relaxed).max(1)).max(SHORTEST)
    }
}

impl Turn {
    fn new(turns: Turns) -> Self {
        Self {
            turns,
            left: AtomicUsize::new(FIRST),
            over: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        }
    }

    /// Before each poll. What had to wait has a turn; HTTP/2, which hands out a large response in many polls, goes on
    /// with the one that it has.
    fn begin(&self) {
        if self.waits.load(Relaxed) {
            self.left.store(self.turns.length(), Relaxed);
        }
        self.over.store(false, Relaxed);
    }

    /// Something came from the client. Where no response waits it is a request.
    fn read(&self) {
        if !self.waits.load(Relaxed) {
            self.left.store(self.turns.length().max(FIRST), Relaxed);
        }
    }

    /// Bytes that may be written. Where none are left it is the others' turn: all who are ready, and those of whom
    /// the kernel has news, come before the next one.
    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.left.load(Relaxed) {
            0 => {
                // hyper asks more than once in a poll.
                if !self.over.load(Relaxed) {
                    self.over.store(true, Relaxed);
                    self.set_waits(true);
                    ready!(pin!(tokio::task::yield_now()).poll(cx));
                }
                Poll::Pending
            }
            left => Poll::Ready(left),
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.left.store(self.left.load(Relaxed).saturating_sub(*bytes), Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.set_waits(true),
        }
    }

    fn set_waits(&self, waits: bool) {
        if self.waits.load(Relaxed) != waits {
            self.waits.store(waits, Relaxed);
            let Turns(waiting) = &self.turns;
            if waits {
                waiting.fetch_add(1, Relaxed)
            } else {
                waiting.fetch_sub(1, Relaxed)
            };
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.set_waits(false);
    }
}

pin_project! {
    /// A connection that takes turns.
    pub(super) struct InTurns<F> {
        #[pin]
        connection: F,
        turn: Arc<Turn>,
    }
}

impl<F: Future> Future for InTurns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.turn.begin();
        this.connection.poll(cx)
    }
}

/// A socket on which turns are taken.
#[derive(Debug)]
pub(super) struct TurnTaking<I> {
    io: I,
    turn: Arc<Turn>,
}

impl<I: AsyncRead + Unpin> AsyncRead for TurnTaking<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.turn.read();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for TurnTaking<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.poll_left(cx));
        let fits = buf.len() <= left + SLACK;
        let buf = if fits { buf } else { &buf[..left] };
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.turn.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.poll_left(cx));
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let fits = bufs.iter().map(|buf| buf.len()).sum::<usize>() <= left + SLACK;
        let bufs = if fits { bufs } else { first_bytes(bufs, left, &mut pieces) };
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.turn.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes when it has written all that it was given.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn.set_waits(false);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The first `limit` bytes of `bufs`, or as many of them as find a place in `pieces`.
fn first_bytes<'p, 'b>(
    bufs: &'b [IoSlice<'_>],
    mut limit: usize,
    pieces: &'p mut [IoSlice<'b>; PIECES],
) -> &'p [IoSlice<'b>] {
    let mut count = 0;
    for (piece, buf) in pieces.iter_mut().zip(bufs) {
        let bytes = &buf[..buf.len().min(limit)];
        limit -= bytes.len();
        *piece = IoSlice::new(bytes);
        count += 1;
    }
    &pieces[..count]
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes all that it is given, at once; says how much each time.
    struct Greedy(Arc<std::sync::Mutex<Vec<usize>>>);

    impl AsyncWrite for Greedy {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().expect("no panic").push(buf.len());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A connection that writes a response of so many bytes, and the sizes of its writes.
    fn response(
        turns: &Turns,
        bytes: usize,
    ) -> (impl Future<Output = ()> + Send + use<>, Arc<std::sync::Mutex<Vec<usize>>>) {
        let writes = Arc::default();
        let connection = turns.take(Greedy(Arc::clone(&writes)), move |mut io| async move {
            io.write_all(&vec![0; bytes]).await.expect("written");
            io.flush().await.expect("flushed");
        });
        (connection, writes)
    }

    fn waiting(turns: &Turns) -> usize {
        turns.0.load(Relaxed)
    }

    #[tokio::test]
    async fn others_are_served_before_a_large_response_is_out() {
        let turns = Turns::default();
        let (large, writes) = response(&turns, 2 * ROUND);
        let other = {
            let writes = writes.clone();
            async move { writes.lock().expect("no panic").clone() }
        };
        let (large, other) = (tokio::spawn(large), tokio::spawn(other));
        assert_eq!(other.await.expect("no panic"), [FIRST]);
        large.await.expect("no panic");
        assert_eq!(*writes.lock().expect("no panic"), [FIRST, ROUND, ROUND - FIRST]);
        assert_eq!(waiting(&turns), 0);
    }

    #[tokio::test]
    async fn those_who_wait_share_a_round() {
        let turns = Turns::default();
        let (mut connections, writes): (Vec<_>, Vec<_>) =
            (0..16).map(|_| response(&turns, 2 * ROUND)).unzip();
        let connections: Vec<_> = connections.drain(..).map(tokio::spawn).collect();
        for connection in connections {
            connection.await.expect("no panic");
        }
        let turns_of_all = writes.iter().map(|writes| writes.lock().expect("no panic")[..2].to_vec());
        assert_eq!(turns_of_all.collect::<Vec<_>>(), vec![[FIRST, ROUND / 16]; 16]);
        assert_eq!(waiting(&turns), 0);
    }

    #[test]
    fn turn_has_a_least_length() {
        assert_eq!(Turns(Arc::new(AtomicUsize::new(1000))).length(), SHORTEST);
    }

    #[test]
    fn turn_goes_on_until_it_is_used_up_or_a_request_comes() {
        let turn = Turn::new(Turns(Arc::new(AtomicUsize::new(1000))));
        let left = |turn: &Turn| turn.left.load(Relaxed);
        turn.begin();
        turn.wrote(&Poll::Ready(Ok(1000)));
        turn.begin();
        assert_eq!(left(&turn), FIRST - 1000, "HTTP/2: the next piece of a response");
        turn.read();
        assert_eq!(left(&turn), FIRST, "the next request");
        turn.wrote(&Poll::Pending);
        turn.read();
        turn.begin();
        assert_eq!(left(&turn), SHORTEST, "no request renews the turn of a response that waits");
    }

    #[tokio::test]
    async fn turn_that_is_over_stays_so_until_the_next_poll() {
        let (turns, mut polls) = (Turns::default(), 0);
        let connection = turns.take(Greedy(Arc::default()), |mut io| {
            std::future::poll_fn(move |cx| {
                polls += 1;
                let bytes = vec![0; ROUND];
                let written: Vec<_> = (0..3).map(|_| Pin::new(&mut io).poll_write(cx, &bytes)).collect();
                let turn = if polls == 1 { FIRST } else { ROUND };
                let [Poll::Ready(Ok(first)), Poll::Pending, Poll::Pending] = written[..] else {
                    panic!("{written:?}");
                };
                assert_eq!(first, turn);
                if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
            })
        });
        connection.await;
    }

    #[tokio::test]
    async fn little_is_not_left_for_a_turn_of_its_own() {
        for (bytes, expected) in
            [(FIRST + SLACK, vec![FIRST + SLACK]), (FIRST + SLACK + 1, vec![FIRST, SLACK + 1])]
        {
            let (connection, writes) = response(&Turns::default(), bytes);
            connection.await;
            assert_eq!(*writes.lock().expect("no panic"), expected);
        }
    }

    #[tokio::test]
    async fn client_that_reads_slowly_waits_until_it_is_gone() {
        let turns = Turns::default();
        let (socket, client) = tokio::io::duplex(1000);
        let connection = turns.take(socket, |mut io| async move { io.write_all(&[0; 2000]).await });
        let connection = tokio::spawn(connection);
        tokio::task::yield_now().await;
        assert_eq!(waiting(&turns), 1);
        drop(client);
        connection.await.expect("no panic").expect_err("nobody reads");
        assert_eq!(waiting(&turns), 0);
    }

    #[test]
    fn head_and_the_body_that_fits_go_out_together() {
        let bufs = [&b"head"[..], b"", b"body", b"more"].map(IoSlice::new);
        let all = [
            (1, "h"),
            (4, "head"),
            (6, "headbo"),
            (8, "headbody"),
            (12, "headbodymore"),
            (99, "headbodymore"),
        ];
        for (limit, expected) in all {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let pieces = first_bytes(&bufs, limit, &mut pieces);
            let bytes: Vec<_> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            assert_eq!(bytes, expected.as_bytes(), "{limit}");
        }
        let many = [IoSlice::new(b"x"); PIECES + 1];
        assert_eq!(first_bytes(&many, 99, &mut [IoSlice::new(&[]); PIECES]).len(), PIECES);
    }
}
