//! A reply taken apart while it streams in: what is large (long strings, lists of pixels) is decoded
//! where it passes and leaves a placeholder; the small rest is kept as JSON text, the *skeleton*.

use memchr::memchr2;

use super::pixels::{NotPixels, PixelReader, Pixels};
use super::text::{BadText, LongString};

/// A string with more raw bytes than this is taken out of the skeleton. A prompt of the allowed
/// length stays in, unless most of it is escaped; taken for an image it is not in any case, since
/// that depends on where a string stands.
pub(super) const LONG_STRING: usize = 16 * 1024;

/// What may stand around the image.
pub(super) const MAX_SKELETON: usize = 128 * 1024;

/// Begins a placeholder: a noncharacter, which no reply has a reason to hold.
pub(super) const PLACEHOLDER: char = '\u{10ffff}';

/// What a placeholder stands for.
#[derive(Debug)]
pub(super) enum Blob {
    Text(Result<Vec<u8>, BadText>),
    Pixels(Result<Pixels, NotPixels>),
}

/// The skeleton is over [`MAX_SKELETON`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SkeletonTooLarge;

/// Takes a JSON document apart, piece by piece. It checks no more of the grammar than it needs:
/// what is wrong outside strings is found when the skeleton is parsed.
#[derive(Debug)]
pub(super) struct Scanner {
    skeleton: Vec<u8>,
    blobs: Vec<Blob>,
    mode: Mode,
    /// Opening brackets that are not in the skeleton yet: three before a digit begin pixels.
    brackets: usize,
    capacity: usize,
    max_image_bytes: usize,
}

#[derive(Debug)]
enum Mode {
    Outside,
    /// In a string of the skeleton, whose characters begin at `start`.
    String {
        start: usize,
        escaped: bool,
    },
    LongString(Box<LongString>),
    Pixels(Box<PixelReader>),
}

impl Scanner {
    /// `capacity` is how long the image is expected to be, in bytes; 0 if nothing is known.
    pub(super) fn new(capacity: usize, max_image_bytes: usize) -> Self {
        Self {
            skeleton: Vec::new(),
            blobs: Vec::new(),
            mode: Mode::Outside,
            brackets: 0,
            capacity: capacity.min(max_image_bytes),
            max_image_bytes,
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, mut raw: &[u8]) -> Result<(), SkeletonTooLarge> {
        while !raw.is_empty() {
            let taken = match &mut self.mode {
                Mode::Outside => self.outside(raw),
                Mode::String { .. } => self.string(raw),
                Mode::LongString(string) => string.push(raw).inspect(|_| self.end_blob()),
                Mode::Pixels(pixels) => pixels.push(raw).inspect(|_| self.end_blob()),
            };
            if self.skeleton.len() > MAX_SKELETON {
                return Err(SkeletonTooLarge);
            }
            raw = &raw[taken.unwrap_or(raw.len())..];
        }
        Ok(())
    }

    /// Whether a list of pixels came by: then finishing the reply means encoding an image.
    pub(super) fn has_pixels(&self) -> bool {
        self.blobs.iter().any(|blob| matches!(blob, Blob::Pixels(Ok(_))))
    }

    /// The skeleton, and what its placeholders (`PLACEHOLDER` and a number) stand for. A document
    /// that ends in the middle gives a skeleton that does.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<Blob>) {
        self.flush_brackets();
        (self.skeleton, self.blobs)
    }

    fn outside(&mut self, raw: &[u8]) -> Option<usize> {
        if self.brackets == 0 {
            let end = memchr2(b'"', b'[', raw).unwrap_or(raw.len());
            // One byte past the cap is enough to see that it is over.
            let end = end.min(MAX_SKELETON + 1);
            self.skeleton.extend_from_slice(&raw[..end]);
            if end > 0 {
                return Some(end);
            }
        }
        match raw[0] {
            b'[' => self.brackets += 1,
            b'0'..=b'9' if self.brackets >= 3 => {
                self.brackets -= 3;
                self.flush_brackets();
                self.mode = Mode::Pixels(Box::new(PixelReader::new()));
                return Some(0);
            }
            b' ' | b'\t' | b'\r' | b'\n' if self.brackets > 0 => {}
            other => {
                self.flush_brackets();
                self.skeleton.push(other);
                if other == b'"' {
                    self.mode = Mode::String { start: self.skeleton.len(), escaped: false };
                }
            }
        }
        // Brackets are counted against the cap while they wait, too.
        if self.brackets > MAX_SKELETON {
            self.flush_brackets();
        }
        Some(1)
    }

    fn string(&mut self, raw: &[u8]) -> Option<usize> {
        let Mode::String { start, escaped } = &mut self.mode else { return None };
        let room = LONG_STRING + 1 - (self.skeleton.len() - *start);
        let raw = &raw[..raw.len().min(room)];
        let mut taken = raw.len();
        let mut ended = false;
        if std::mem::take(escaped) {
            taken = 1;
        } else if let Some(end) = memchr2(b'"', b'\\', raw) {
            taken = end + 1;
            ended = raw[end] == b'"';
            *escaped = !ended;
        }
        self.skeleton.extend_from_slice(&raw[..taken]);
        if ended {
            self.mode = Mode::Outside;
        } else if self.skeleton.len() - *start > LONG_STRING {
            let start = *start;
            let mut string = LongString::new(self.capacity, self.max_image_bytes);
            // The first one is the image, most likely; the others need not be as large.
            self.capacity = 0;
            string.push(&self.skeleton[start..]);
            // The opening quote goes as well: a placeholder brings its own.
            self.skeleton.truncate(start - 1);
            self.mode = Mode::LongString(Box::new(string));
        }
        Some(taken)
    }

    fn end_blob(&mut self) {
        let blob = match std::mem::replace(&mut self.mode, Mode::Outside) {
            Mode::LongString(string) => Blob::Text(string.finish()),
            Mode::Pixels(pixels) => Blob::Pixels(pixels.finish()),
            Mode::Outside | Mode::String { .. } => return,
        };
        let placeholder = format!("\"{PLACEHOLDER}{}\"", self.blobs.len());
        self.skeleton.extend_from_slice(placeholder.as_bytes());
        self.blobs.push(blob);
    }

    fn flush_brackets(&mut self) {
        self.skeleton.resize(self.skeleton.len() + self.brackets, b'[');
        self.brackets = 0;
    }
}
