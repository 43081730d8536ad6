//! The text of an image: base64, plain or as a `data:` URL, and its escapes inside a JSON string.

use memchr::memchr2;

use super::base64::{Decoder, NotBase64};

/// Longer than any `data:image/...;base64,` in use.
const MAX_DATA_PREFIX: usize = 256;

/// Decodes unescaped text in pieces: base64, with or without `data:<type>;base64,` before it.
#[derive(Debug)]
pub(super) struct ImageText {
    state: State,
    decoder: Decoder,
    max_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// The first characters, until they tell whether this is a `data:` URL.
    Start(Vec<u8>),
    /// Inside the prefix, this many characters of it passed.
    Prefix(usize),
    Body,
}

/// Why text gave no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadText {
    NotBase64,
    TooLarge,
}

impl From<NotBase64> for BadText {
    fn from(NotBase64: NotBase64) -> Self {
        Self::NotBase64
    }
}

impl ImageText {
    pub(super) fn new(capacity: usize, max_bytes: usize) -> Self {
        Self { state: State::Start(Vec::new()), decoder: Decoder::with_capacity(capacity), max_bytes }
    }

    pub(super) fn push(&mut self, mut text: &[u8]) -> Result<(), BadText> {
        while let Some((&character, rest)) = text.split_first() {
            match &mut self.state {
                State::Body => {
                    self.decoder.push(text)?;
                    return self.check_size();
                }
                State::Start(begun) => {
                    if !(begun.is_empty() && character.is_ascii_whitespace()) {
                        begun.push(character);
                    }
                    if begun.len() == 5 {
                        self.begin()?;
                    }
                }
                State::Prefix(MAX_DATA_PREFIX) => return Err(BadText::NotBase64),
                State::Prefix(passed) => {
                    *passed += 1;
                    if character == b',' {
                        self.state = State::Body;
                    }
                }
            }
            text = rest;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, BadText> {
        if matches!(self.state, State::Start(_)) {
            self.begin()?;
        }
        if matches!(self.state, State::Prefix(_)) {
            return Err(BadText::NotBase64);
        }
        let max_bytes = self.max_bytes;
        let bytes = self.decoder.finish()?;
        if bytes.len() > max_bytes { Err(BadText::TooLarge) } else { Ok(bytes) }
    }

    fn begin(&mut self) -> Result<(), BadText> {
        let State::Start(begun) = std::mem::replace(&mut self.state, State::Body) else { return Ok(()) };
        if begun.eq_ignore_ascii_case(b"data:") {
            self.state = State::Prefix(begun.len());
            return Ok(());
        }
        Ok(self.decoder.push(&begun)?)
    }

    fn check_size(&self) -> Result<(), BadText> {
        if self.decoder.len() > self.max_bytes { Err(BadText::TooLarge) } else { Ok(()) }
    }
}

/// A JSON string that is too long for the skeleton, decoded as an image while it passes. One that
/// turns out not to be an image is passed over.
#[derive(Debug)]
pub(super) struct LongString {
    image: Result<ImageText, BadText>,
    escape: Escape,
}

#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    Backslash,
    Unicode { digits_left: u8, value: u32 },
}

impl LongString {
    pub(super) fn new(capacity: usize, max_bytes: usize) -> Self {
        Self { image: Ok(ImageText::new(capacity, max_bytes)), escape: Escape::None }
    }

    /// Takes the string's raw characters. When the string ends within them, tells how many belong
    /// to it, its closing quote included.
    pub(super) fn push(&mut self, raw: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < raw.len() {
            match self.escape {
                Escape::None => {
                    let end = memchr2(b'"', b'\\', &raw[at..]).map_or(raw.len(), |run| at + run);
                    self.text(&raw[at..end]);
                    match raw.get(end) {
                        Some(b'"') => return Some(end + 1),
                        Some(_) => self.escape = Escape::Backslash,
                        None => {}
                    }
                    at = end + 1;
                }
                Escape::Backslash => {
                    self.escaped(raw[at]);
                    at += 1;
                }
                Escape::Unicode { digits_left, value } => {
                    self.unicode(raw[at], digits_left, value);
                    at += 1;
                }
            }
        }
        None
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, BadText> {
        self.image.and_then(ImageText::finish)
    }

    fn text(&mut self, text: &[u8]) {
        if let Ok(image) = &mut self.image
            && let Err(reason) = image.push(text)
        {
            self.image = Err(reason);
        }
    }

    fn escaped(&mut self, character: u8) {
        self.escape = Escape::None;
        match character {
            b'u' => self.escape = Escape::Unicode { digits_left: 4, value: 0 },
            b'n' | b'r' | b't' => self.text(b" "),
            other => self.text(&[other]),
        }
    }

    fn unicode(&mut self, digit: u8, digits_left: u8, value: u32) {
        let Some(digit) = char::from(digit).to_digit(16) else {
            self.escape = Escape::None;
            self.image = Err(BadText::NotBase64);
            return;
        };
        let value = value << 4 | digit;
        if digits_left > 1 {
            self.escape = Escape::Unicode { digits_left: digits_left - 1, value };
            return;
        }
        self.escape = Escape::None;
        // Serialisers made safe for HTML write `+`, `/` and `=` like this; nothing past ASCII is base64.
        match u8::try_from(value) {
            Ok(character) => self.text(&[character]),
            Err(_) => self.image = Err(BadText::NotBase64),
        }
    }
}
