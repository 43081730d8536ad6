use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use layers::{Body, BoxError, boxed, client_addr::PeerAddr, send_file::FileSender};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Config,
    io::{Activity, Deadlines, Guarded, Serving},
    stream::{Piece, Progress, Streams},
    turns::Turns,
};
use crate::stack::Stack;

/// Bytes of an HTTP/1 request head at most, as on HTTP/2. A body is asked for more only while less than this waits to be
/// written, so a slow reader of a stored image holds one chunk and not four.
const HTTP1_BUFFER: usize = 16 * 1024;
/// Bytes of an HTTP/2 request's headers at most.
const HTTP2_HEADER_LIST: u32 = 16 * 1024;
/// Requests in flight on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;
/// Bytes buffered for one HTTP/2 stream's response.
const HTTP2_SEND_BUFFER: usize = 256 * 1024;
/// How often a quiet HTTP/2 peer is asked whether it is still there, and how long it may think.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Serves one connection, HTTP/1 or HTTP/2 as its first bytes say, until it ends or the server
/// drains. Any byte stream will do: a socket, or a pipe in a test or fuzz target.
///
/// # Errors
/// The connection's own: a peer that vanished, broke the protocol or was too slow.
pub fn serve_connection<I>(
    io: I,
    peer: SocketAddr,
    stack: Stack,
    config: &Config,
    watcher: Watcher,
) -> impl Future<Output = Result<(), BoxError>> + Send + use<I>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve(io, None, &Turns::default(), peer, stack, config, watcher)
}

/// Serves a connection which takes turns with others and, where there are `files`, sends parts of files itself.
pub(super) fn serve<I>(
    io: I,
    files: Option<FileSender>,
    turns: &Turns,
    peer: SocketAddr,
    stack: Stack,
    config: &Config,
    watcher: Watcher,
) -> impl Future<Output = Result<(), BoxError>> + Send + use<I>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let deadlines =
        Deadlines { head: config.head_timeout, idle: config.idle_timeout, write: config.write_timeout };
    let activity = Arc::new(Activity::new());
    let protocol = protocol(Streams { write_timeout: config.write_timeout });
    turns.take(io, |io| {
        // Above the turns, so that who waits for one is not idle.
        let io = TokioIo::new(Guarded::new(io, activity.clone(), deadlines));
        let service = ConnectionService { stack, peer: PeerAddr(peer), files, activity };
        watcher.watch(protocol.serve_connection(io, service).into_owned())
    })
}

/// How HTTP is spoken. The deadlines are in [`Guarded`], below the protocol, because hyper's own
/// do not cover the detection of the protocol nor the time between requests; and in [`Streams`],
/// because below HTTP/2 a stream that stalls cannot be seen.
fn protocol(streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        // A request has 100 headers at most, hyper's own limit: set here, the same number would cost an
        // allocation a request.
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HTTP2_HEADER_LIST)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1);
    builder
}

/// The stack as hyper calls it: knows the peer, tells the socket what is being served.
struct ConnectionService {
    stack: Stack,
    peer: PeerAddr,
    files: Option<FileSender>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ServedBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let serving = self.activity.begin(request.version());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        // On HTTP/2 bytes of streams are mixed, and copied.
        if let Some(files) = self.files.as_ref().filter(|_| request.version() < Version::HTTP_2) {
            request.extensions_mut().insert(files.clone());
        }
        ResponseFuture { inner: self.stack.call(request), serving: Some(serving) }
    }
}

pin_project! {
    struct ResponseFuture {
        #[pin]
        inner: boxed::ResponseFuture<Infallible>,
        serving: Option<Serving>,
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ServedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(cx).map_ok(|response| {
            let serving = this.serving.take();
            response.map(|inner| ServedBody {
                inner,
                progress: Progress::current(),
                ended: false,
                trailers: None,
                _serving: serving,
            })
        })
    }
}

pin_project! {
    /// A response's body: the request is being served until it is gone.
    ///
    /// On HTTP/2 it does not end before the peer has taken all of it: a stream that has ended is out
    /// of its task's hands, and what h2 still keeps of it could not be taken back.
    struct ServedBody {
        #[pin]
        inner: Body,
        progress: Option<Arc<Progress>>,
        ended: bool,
        trailers: Option<HeaderMap>,
        _serving: Option<Serving>,
    }
}

impl http_body::Body for ServedBody {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        let this = self.project();
        if !*this.ended {
            let frame = ready!(this.inner.poll_frame(cx)?).map(Frame::into_data);
            match frame {
                Some(Ok(bytes)) => {
                    let piece = Piece::new(bytes, this.progress.clone());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(frame)) => *this.trailers = frame.into_trailers().ok(),
                None => {}
            }
            *this.ended = true;
        }
        if let Some(progress) = this.progress {
            ready!(progress.poll_clear(cx));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let clear = self.progress.as_deref().is_none_or(Progress::is_clear);
        self.trailers.is_none() && clear && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
