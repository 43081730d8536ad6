//! A TCP connection that sends parts of files itself.
//!
//! What of a response is a [promise](layers::send_file) never comes into the memory of the process: the
//! kernel sends it from its own (`sendfile`). A slow reader of a stored image then holds nothing here.

use std::{
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use layers::send_file::{FileSender, Part, is_promise};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Bytes read at a time from a file that the kernel cannot send from.
const FALLBACK_BYTES: usize = 16 << 10;

/// The connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    files: FileSender,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, files: FileSender::default() }
    }

    /// Who promises what is sent here.
    pub(super) fn files(&self) -> FileSender {
        self.files.clone()
    }

    /// Tries until it is done or has to wait.
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || Ok(attempt(&self.stream)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Sends what comes before a promise, and tells the kernel that more follows: a head alone would be a packet of its
    /// own.
    fn poll_send_before(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        self.poll_try(cx, |stream| sendmsg(stream, bytes, &mut SendAncillaryBuffer::default(), flags))
    }

    fn poll_send_file(&self, cx: &mut Context<'_>, promise: &[u8]) -> Poll<io::Result<usize>> {
        let Some(Part { file, offset, .. }) = self.files.next(promise) else {
            return Poll::Ready(Err(io::Error::other("a part of a file is not sent in its place")));
        };
        let sent = self.poll_try(cx, |stream| {
            rustix::fs::sendfile(stream, &*file, Some(&mut { offset }), promise.len())
        });
        let sent = match ready!(sent) {
            Err(error) if cannot_send(&error) => {
                let mut bytes = [0; FALLBACK_BYTES];
                let length = promise.len().min(FALLBACK_BYTES);
                let read = file.read_at(&mut bytes[..length], offset)?;
                ready!(self.poll_try(cx, |stream| rustix::io::write(stream, &bytes[..read])))?
            }
            sent => sent?,
        };
        if sent == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")));
        }
        self.files.sent(sent);
        Poll::Ready(Ok(sent))
    }
}

/// Whether a file is on a file system from which the kernel does not send.
fn cannot_send(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if is_promise(buf) {
            self.poll_send_file(cx, buf)
        } else {
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs.iter().position(|bytes| is_promise(bytes)) {
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
            Some(0) => self.poll_send_file(cx, &bufs[0]),
            Some(before) => self.poll_send_before(cx, &bufs[..before]),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A file of 1,000 bytes, a connection, and its other end.
    async fn connected() -> (Arc<File>, Socket, TcpStream) {
        let file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..1000_u32).map(|number| number.to_le_bytes()[0]).collect();
        file.write_all_at(&bytes, 0).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        (Arc::new(file), Socket::new(stream), client)
    }

    async fn write(socket: &mut Socket, bufs: &[&[u8]]) -> io::Result<usize> {
        let slices: Vec<_> = bufs.iter().map(|bytes| IoSlice::new(bytes)).collect();
        std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_write_vectored(cx, &slices)).await
    }

    #[tokio::test]
    async fn promises_are_sent_as_the_bytes_that_they_stand_for() {
        let (file, mut socket, mut client) = connected().await;
        let files = socket.files();
        let (first, second) = (files.promise(&file, 100, 300), files.promise(&file, 5, 2));
        assert_eq!(write(&mut socket, &[b"he", b"ad", &first, b"between"]).await.expect("sent"), 4);
        assert_eq!(write(&mut socket, &[&first, b"between"]).await.expect("sent"), 300);
        assert_eq!(write(&mut socket, &[b"between"]).await.expect("sent"), 7);
        // One buffer alone is told from others, too.
        assert_eq!(socket.write(&second[..1]).await.expect("sent"), 1);
        assert_eq!(socket.write(&second[1..]).await.expect("sent"), 1);
        drop(socket);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.expect("read");
        let part: Vec<u8> = (100..400_u32).map(|number| number.to_le_bytes()[0]).collect();
        assert_eq!(read, [b"head", &part[..], b"between", &[5, 6]].concat());
    }

    #[tokio::test]
    async fn stand_in_out_of_order_is_never_sent() {
        let (file, mut socket, mut client) = connected().await;
        let files = socket.files();
        let (first, second) = (files.promise(&file, 0, 10), files.promise(&file, 20, 30));
        for wrong in [&first[1..], &second[..]] {
            let error = write(&mut socket, &[wrong]).await.expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::Other);
        }
        // Of another connection.
        let strange = FileSender::default().promise(&file, 0, 11);
        write(&mut socket, &[&strange]).await.expect_err("refused");
        drop(socket);
        assert_eq!(client.read_to_end(&mut Vec::new()).await.expect("read"), 0);
    }

    #[tokio::test]
    async fn file_that_became_shorter_is_an_error() {
        let (file, mut socket, _client) = connected().await;
        let promise = socket.files().promise(&file, 990, 20);
        assert_eq!(write(&mut socket, &[&promise]).await.expect("sent"), 10);
        let error = write(&mut socket, &[&promise[10..]]).await.expect_err("no more");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
