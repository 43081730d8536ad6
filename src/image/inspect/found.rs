//! What bytes that are no image look like, for whoever has to find out why they came.

/// Bytes that are looked at.
const WINDOW: usize = 512;
/// Unknown bytes that are shown.
const SHOWN: usize = 8;

/// First bytes of what is sent by mistake.
const SIGNATURES: [(&[u8], &str); 18] = [
    (b"\x89PNG", "a damaged PNG signature"),
    (b"\xff\xd8", "the start of a JPEG image, cut off"),
    (b"RIFF", "a RIFF file that is not WebP"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\0\x01\0", "an ICO image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"iVBORw0KGgo", "base64 text of a PNG image"),
    (b"UklGR", "base64 text of a WebP image"),
];

/// How text begins, in lower case.
const TEXTS: [(&str, &str); 9] = [
    ("/9j/", "base64 text of a JPEG image"),
    ("data:", "a data URL"),
    ("http://", "a URL"),
    ("https://", "a URL"),
    ("<!doctype html", "an HTML page"),
    ("<html", "an HTML page"),
    ("<svg", "an SVG image"),
    ("{", "JSON"),
    ("[", "JSON"),
];

/// A short description of what `bytes` look like. It repeats no text of theirs: whoever reads it
/// may be a model, and the bytes may be written for it.
pub(super) fn describe(bytes: &[u8]) -> String {
    let window = &bytes[..bytes.len().min(WINDOW)];
    if let Some((_, name)) = SIGNATURES.iter().find(|(signature, _)| window.starts_with(signature)) {
        return (*name).to_owned();
    }
    if let [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] = window {
        return iso_media(brand).to_owned();
    }
    if window.iter().all(|&byte| byte == 0) {
        return format!("{} zero bytes", bytes.len());
    }
    match text(window) {
        Some(text) => describe_text(text).to_owned(),
        None => {
            let shown: Vec<_> = window.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
            format!("{} unknown bytes that begin with {}", bytes.len(), shown.join(" "))
        }
    }
}

fn iso_media(brand: &[u8]) -> &'static str {
    match brand {
        [b'a', b'v', b'i', b'f' | b's', ..] => "an AVIF image",
        [b'h', b'e', b'i' | b'v', ..] | [b'm', b'i', b'f', b'1', ..] => "a HEIF image",
        _ => "a video or audio file",
    }
}

/// `window` as text: UTF-8 without control characters but white space; the window may cut the last
/// character.
fn text(window: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&window[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    (!text.is_empty() && text.chars().all(printable)).then_some(text)
}

fn describe_text(text: &str) -> &'static str {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').to_ascii_lowercase();
    if text.is_empty() {
        return "blank text";
    }
    if let Some((_, name)) = TEXTS.iter().find(|(start, _)| text.starts_with(start)) {
        return name;
    }
    // Comments and a prologue may stand before the root element.
    if text.starts_with("<?xml") || text.starts_with("<!") {
        return match (text.contains("<svg"), text.contains("<html")) {
            (true, _) => "an SVG image",
            (_, true) => "an HTML page",
            _ => "XML",
        };
    }
    "text"
}
