//! HTTP/2 frames by hand (RFC 9113): for a client that no library would be.

use tokio::{io::AsyncReadExt, net::TcpStream};

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a client says first: the preface and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(0x4, 0, 0, &[])].concat()
}

/// What a client says first that lets each response have so many bytes at first.
pub(crate) fn preface_with_window(bytes: u32) -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0x0, 0x4];
    let settings = [&INITIAL_WINDOW_SIZE[..], &bytes.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(0x4, 0, 0, &settings)].concat()
}

/// A whole request on a stream: a POST of JSON.
pub(crate) fn post(stream: u32, path: &str, body: &str) -> Vec<u8> {
    post_accepting(stream, path, "*/*", body)
}

/// The same, with what is wanted for an answer.
pub(crate) fn post_accepting(stream: u32, path: &str, accept: &str, body: &str) -> Vec<u8> {
    // Of the static table: `:method: POST`, `:scheme: http`.
    let fields = fields(&[0x83, 0x86], path, accept);
    [frame(0x1, END_HEADERS, stream, &fields), frame(0x0, END_STREAM, stream, body.as_bytes())].concat()
}

/// A whole request on a stream: a GET.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    // Of the static table: `:method: GET`, `:scheme: http`.
    frame(0x1, END_HEADERS | END_STREAM, stream, &fields(&[0x82, 0x86], path, "*/*"))
}

/// Lets a stream, or with 0 the connection, have so many bytes more.
pub(crate) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(0x8, 0, stream, &bytes.to_be_bytes())
}

/// A frame that the server sent.
#[derive(Debug)]
pub(crate) struct Frame {
    kind: u8,
    flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The next frame.
    pub(crate) async fn read(stream: &mut TcpStream) -> std::io::Result<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        Ok(Self { kind, flags, stream: u32::from_be_bytes(id), payload })
    }

    pub(crate) fn is_data(&self) -> bool {
        self.kind == 0x0
    }

    pub(crate) fn is_headers(&self) -> bool {
        self.kind == 0x1
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.kind == 0x3
    }

    /// Whether it is the stream's last.
    pub(crate) fn ends_stream(&self) -> bool {
        (self.is_data() || self.is_headers()) && self.flags & END_STREAM != 0
    }

    /// What a client has to say to it: settings and pings are acknowledged.
    pub(crate) fn acknowledgement(&self) -> Option<Vec<u8>> {
        const ACK: u8 = 0x1;
        match self.kind {
            0x4 if self.flags & ACK == 0 => Some(frame(0x4, ACK, 0, &[])),
            0x6 if self.flags & ACK == 0 => Some(frame(0x6, ACK, 0, &self.payload)),
            _ => None,
        }
    }
}

/// Takes a request back.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 0x8;
    frame(0x3, 0, stream, &CANCEL.to_be_bytes())
}

/// Fields of a request, after those that are numbers of the static table. The others are literals,
/// not indexed, whose names are in it.
fn fields(indexed: &[u8], path: &str, accept: &str) -> Vec<u8> {
    let mut fields = indexed.to_vec();
    for (name, value) in [
        (&[0x04][..], path),
        (&[0x01], "localhost"),
        (&[0x0f, 0x10], "application/json"),
        (&[0x0f, 0x04], accept),
    ] {
        fields.extend_from_slice(name);
        fields.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("a short value"));
        fields.extend_from_slice(value.as_bytes());
    }
    fields
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
