//! What a V1 predictor answers, in all the forms met in the wild, decoded as it streams in.

mod base64;
mod pixels;
mod scan;
mod text;

use bytes::Bytes;
use serde_json::Value;

use self::scan::{Blob, MAX_SKELETON, PLACEHOLDER, Scanner, SkeletonTooLarge};
use self::text::{BadText, ImageText};
use super::super::Error;
use super::classify;

/// Where an image stands in an object, best first.
const IMAGE_KEYS: [&str; 4] = ["image", "image_data", "b64", "b64_json"];

/// Objects and lists between the root and the image.
const MAX_DEPTH: usize = 8;

/// A longer model name is no name.
const MAX_MODEL_NAME: usize = 256;

/// A predictor's reply, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The encoded image, not inspected yet.
    pub image: Bytes,
    /// The model's name, if the reply gives one.
    pub model: Option<String>,
    /// The seed, if the reply gives one.
    pub seed: Option<u32>,
}

/// Reads a whole reply from its pieces. How it is cut makes no difference.
///
/// The image is where the first of these finds one: the first of `predictions`, of `instances`, or
/// the document itself; there, a string, a list of pixels (`[[[r, g, b], ...], ...]`, which becomes
/// PNG), or an object's `image`, `image_data`, `b64` or `b64_json`, which may be any of these again.
/// A string is base64 (RFC 4648, either alphabet, padded or not), plain or as a `data:` URL.
///
/// Memory: the decoded image, and at most 128 KiB of the JSON around it. A reply with several long
/// strings costs what they decode to, together at most three quarters of [`max_reply_bytes`].
///
/// # Errors
/// [`Error::TooLarge`] as soon as the reply is longer than [`max_reply_bytes`] or when the image is
/// over `max_image_bytes`; [`Error::BadReply`] for anything without an image; what the reply's
/// `error` says, if it holds that instead.
pub fn parse_reply<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    max_image_bytes: u64,
) -> Result<Reply, Error> {
    let mut reader = ReplyReader::new(None, max_image_bytes)?;
    for chunk in chunks {
        reader.push(chunk)?;
    }
    reader.finish()
}

/// How long a reply may be: the largest image in base64, one part in 16 of that for escapes and
/// line breaks in it, and 128 KiB for the JSON around it.
#[must_use]
pub const fn max_reply_bytes(max_image_bytes: u64) -> u64 {
    let base64 = max_image_bytes.div_ceil(3).saturating_mul(4);
    base64.saturating_add(base64 / 16).saturating_add(MAX_SKELETON as u64)
}

/// Reads a reply piece by piece.
#[derive(Debug)]
pub(super) struct ReplyReader {
    scanner: Scanner,
    length: Option<u64>,
    left: u64,
    max_image_bytes: u64,
}

impl ReplyReader {
    /// `length` is what the reply's head says about its length.
    pub(super) fn new(length: Option<u64>, max_image_bytes: u64) -> Result<Self, Error> {
        let left = max_reply_bytes(max_image_bytes);
        if length.is_some_and(|length| length > left) {
            return Err(Error::TooLarge { max_bytes: max_image_bytes });
        }
        let capacity = length.unwrap_or(0) / 4 * 3;
        Ok(Self {
            scanner: Scanner::new(to_usize(capacity), to_usize(max_image_bytes)),
            length,
            left,
            max_image_bytes,
        })
    }

    /// Bytes that the image can have, as far as the reply's length is known.
    pub(super) fn most_image_bytes(&self) -> u64 {
        self.length.map_or(self.max_image_bytes, |length| (length / 4 * 3).min(self.max_image_bytes))
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let too_large = Error::TooLarge { max_bytes: self.max_image_bytes };
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or(too_large)?;
        self.scanner.push(chunk).map_err(|SkeletonTooLarge| {
            bad(format!("it holds more than {} KiB besides an image", MAX_SKELETON / 1024))
        })
    }

    /// Whether [`ReplyReader::finish`] has an image to encode, which takes a while.
    pub(super) fn is_slow_to_finish(&self) -> bool {
        self.scanner.has_pixels()
    }

    pub(super) fn finish(self) -> Result<Reply, Error> {
        let (skeleton, blobs) = self.scanner.finish();
        let root: Value =
            serde_json::from_slice(&skeleton).map_err(|error| bad(format!("it is not JSON: {error}")))?;
        drop(skeleton);
        let mut parts = Parts { blobs, max_image_bytes: self.max_image_bytes };
        let item = item(&root)?;
        let image = parts.image(item, MAX_DEPTH)?.ok_or_else(|| without_image(item, &root))?;
        if image.is_empty() {
            return Err(bad("its image is empty"));
        }
        Ok(Reply {
            image: image.into(),
            model: [item, &root].iter().find_map(|object| model_name(object)),
            seed: item.get("seed").and_then(Value::as_u64).and_then(|seed| seed.try_into().ok()),
        })
    }
}

struct Parts {
    blobs: Vec<Blob>,
    max_image_bytes: u64,
}

impl Parts {
    /// The image that `value` is or holds.
    fn image(&mut self, value: &Value, depth: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
        match value {
            Value::String(text) => self.text(text).map(Some),
            Value::Array(list) => list.first().map_or(Ok(None), |first| self.image(first, depth)),
            Value::Object(object) => {
                let image =
                    IMAGE_KEYS.iter().find_map(|&key| object.get(key).filter(|image| !image.is_null()));
                image.map_or(Ok(None), |image| self.image(image, depth))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(None),
        }
    }

    fn text(&mut self, text: &str) -> Result<Vec<u8>, Error> {
        let blob = text.strip_prefix(PLACEHOLDER).and_then(|index| index.parse().ok());
        match blob.and_then(|index: usize| self.blobs.get_mut(index)) {
            Some(Blob::Text(image)) => {
                std::mem::replace(image, Err(BadText::NotBase64)).map_err(|reason| self.refused(reason))
            }
            Some(Blob::Pixels(Ok(pixels))) => {
                let png = pixels.to_png().map_err(|error| bad(format!("its list of pixels: {error}")))?;
                if png.len() as u64 > self.max_image_bytes {
                    return Err(self.refused(BadText::TooLarge));
                }
                Ok(png)
            }
            Some(Blob::Pixels(Err(_))) => {
                Err(bad("its nested lists are not an image: height x width x 3 whole numbers from 0 to 255"))
            }
            None => {
                let mut image = ImageText::new(text.len() / 4 * 3, to_usize(self.max_image_bytes));
                image
                    .push(text.as_bytes())
                    .and_then(|()| image.finish())
                    .map_err(|reason| self.refused(reason))
            }
        }
    }

    fn refused(&self, reason: BadText) -> Error {
        match reason {
            BadText::NotBase64 => bad("its image is not base64"),
            BadText::TooLarge => Error::TooLarge { max_bytes: self.max_image_bytes },
        }
    }
}

/// The first prediction, or what stands in its place.
fn item(root: &Value) -> Result<&Value, Error> {
    let given = |&key: &&str| root.get(key).filter(|list| !list.is_null());
    let list = ["predictions", "instances"].iter().find_map(given).unwrap_or(root);
    match list {
        Value::Array(items) => items.first().ok_or_else(|| bad("its list of predictions is empty")),
        other => Ok(other),
    }
}

fn model_name(object: &Value) -> Option<String> {
    let name = object.get("model_name")?.as_str()?;
    let is_name = !name.is_empty() && name.len() <= MAX_MODEL_NAME && !name.starts_with(PLACEHOLDER);
    is_name.then(|| name.to_owned())
}

fn without_image(item: &Value, root: &Value) -> Error {
    let message = [root, item].iter().find_map(|object| classify::message_of(object));
    match message.filter(|message| !message.starts_with(PLACEHOLDER)) {
        Some(message) => classify::by_message(&message).unwrap_or(Error::Failed { message }),
        None => bad("it holds no image; expected `predictions` with base64 text in `image.b64`"),
    }
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadReply { reason: reason.into() }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
