//! A peer for the comparison of delivery: hyper with the images in memory, and nothing else.
//!
//! `bare_hyper PORT FOLDER`: the `.png` files below FOLDER at `/images/{file name}`. It answers any method with the whole
//! file and a few ready header fields, takes no limits, no trace and no metrics, and looks at nothing but the path: what
//! is left of a server when all that can be left out is. No stack on hyper can be faster.

#![expect(clippy::unwrap_used, reason = "a fixture of the benchmark: it may die of anything unexpected")]

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;

/// Bytes given to hyper at a time.
const PIECE: usize = 256 << 10;
/// As the server under test has it.
const NOT_SENT_LOW_WATER: u32 = 128 << 10;

/// Pieces of what is in memory.
struct Pieces {
    rest: Bytes,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// The files below a folder, by name.
fn images(folder: &Path) -> HashMap<String, Bytes> {
    let mut images = HashMap::new();
    let mut folders = VecDeque::from([folder.to_owned()]);
    while let Some(folder) = folders.pop_front() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push_back(path);
            } else if path.extension().is_some_and(|extension| extension == "png") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                images.insert(name, Bytes::from(std::fs::read(path).unwrap()));
            }
        }
    }
    images
}

fn answer(images: &HashMap<String, Bytes>, request: &Request<Incoming>) -> Response<Pieces> {
    let name = request.uri().path().strip_prefix("/images/").unwrap_or_default();
    let Some(image) = images.get(name) else {
        let mut response = Response::new(Pieces { rest: Bytes::new() });
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(Pieces { rest: image.clone() });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    headers.insert(header::ETAG, HeaderValue::from_static("\"0123456789abcdef\""));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600, immutable"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap().parse().unwrap();
    let images = Arc::new(images(Path::new(&arguments.next().unwrap())));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER).unwrap();
        let images = images.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&images, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}
