//! HTTP/2 frames by hand (RFC 9113): for a client that no library would be.

/// What a client says first: the preface and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    preface_with(&[])
}

/// The preface of a client that takes so many bytes of each answer, and no more.
pub(crate) fn preface_with_window(bytes: u32) -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: u16 = 0x4;
    preface_with(&[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &bytes.to_be_bytes()].concat())
}

fn preface_with(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(0x4, 0, 0, settings)].concat()
}

/// A whole request on a stream: a POST of JSON.
pub(crate) fn post(stream: u32, path: &str, body: &str) -> Vec<u8> {
    post_accepting(stream, path, "*/*", body)
}

/// The same, with what is wanted for an answer.
pub(crate) fn post_accepting(stream: u32, path: &str, accept: &str, body: &str) -> Vec<u8> {
    // Of the static table: `:method: POST`, `:scheme: http`. The others are literals, not indexed,
    // whose names are in it.
    let mut fields = vec![0x83, 0x86];
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
    const END_HEADERS: u8 = 0x4;
    const END_STREAM: u8 = 0x1;
    [frame(0x1, END_HEADERS, stream, &fields), frame(0x0, END_STREAM, stream, body.as_bytes())].concat()
}

/// Takes a request back.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 0x8;
    frame(0x3, 0, stream, &CANCEL.to_be_bytes())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
