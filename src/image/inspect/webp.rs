//! WebP (RFC 9649): the RIFF container, and the headers of its bitstreams.

use super::{Dimensions, Walk, Walked, take, take_array};

const TRUNCATED: &str = "it ends before the length that its header gives";
const OVERRUN: &str = "a chunk is longer than what holds it";
const MISMATCH: &str = "its canvas and its image data differ in size";

const FLAG_ANIMATION: u8 = 0b0000_0010;
/// Bytes of an `ANMF` chunk before the frame's own chunks.
const FRAME_HEADER_LENGTH: usize = 16;

pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut rest = bytes;
    let (Some(_riff), Some(size)) = (take_array::<4>(&mut rest), take_array(&mut rest)) else {
        return Err(TRUNCATED);
    };
    let size = usize::try_from(u32::from_le_bytes(size)).map_err(|_| TRUNCATED)?;
    let mut chunks = take(&mut rest, size).ok_or(TRUNCATED)?;
    let _webp = take(&mut chunks, 4).ok_or("its header gives a length that holds nothing")?;
    let first = Chunk::take(&mut chunks)?.ok_or("it has no chunks")?;
    let dimensions = match &first.kind {
        b"VP8X" => extended(first.data, chunks)?,
        _ => {
            let dimensions = first.bitstream().ok_or("its first chunk is none of VP8, VP8L and VP8X")??;
            while Chunk::take(&mut chunks)?.is_some() {}
            dimensions
        }
    };
    Ok(Walked { dimensions, length: bytes.len() - rest.len() })
}

/// The canvas of an extended file (section 2.7), once every bitstream was seen to fit it: a
/// decoder reserves memory for what the bitstream claims, not the canvas.
fn extended(mut header: &[u8], mut chunks: &[u8]) -> Result<Dimensions, &'static str> {
    let (Some([flags, ..]), Some(width), Some(height), []) =
        (take_array::<4>(&mut header), take_array(&mut header), take_array(&mut header), header)
    else {
        return Err("its VP8X chunk has the wrong length");
    };
    let canvas = Dimensions { width: u24(width) + 1, height: u24(height) + 1 };
    if canvas.pixels() > u64::from(u32::MAX) {
        return Err("its canvas is out of range");
    }
    let animated = flags & FLAG_ANIMATION != 0;
    let mut images = 0_usize;
    while let Some(chunk) = Chunk::take(&mut chunks)? {
        if &chunk.kind == b"ANMF" {
            if !animated {
                return Err("it has frames, but does not say that it is animated");
            }
            frame(chunk.data, canvas)?;
            images += 1;
        } else if let Some(dimensions) = chunk.bitstream() {
            if animated || images > 0 {
                return Err("it has more than one image");
            }
            if dimensions? != canvas {
                return Err(MISMATCH);
            }
            images += 1;
        }
    }
    if images == 0 { Err("it has no image data") } else { Ok(canvas) }
}

/// One frame of an animation (section 2.7.1.1): within the canvas, with a bitstream of its size.
fn frame(data: &[u8], canvas: Dimensions) -> Result<(), &'static str> {
    const MALFORMED: &str = "a frame's header is cut off";
    let (mut header, mut chunks) = data.split_at_checked(FRAME_HEADER_LENGTH).ok_or(MALFORMED)?;
    let mut field = || take_array(&mut header).map(u24).ok_or(MALFORMED);
    let (x, y) = (2 * field()?, 2 * field()?);
    let size = Dimensions { width: field()? + 1, height: field()? + 1 };
    if x + size.width > canvas.width || y + size.height > canvas.height {
        return Err("a frame reaches over the canvas");
    }
    let mut images = 0_usize;
    while let Some(chunk) = Chunk::take(&mut chunks)? {
        if let Some(dimensions) = chunk.bitstream() {
            if dimensions? != size {
                return Err(MISMATCH);
            }
            images += 1;
        }
    }
    if images == 1 { Ok(()) } else { Err("a frame does not hold one image") }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The next chunk; `None` at the end. A last chunk of odd length may lack its padding.
    fn take(rest: &mut &'a [u8]) -> Result<Option<Self>, &'static str> {
        if rest.is_empty() {
            return Ok(None);
        }
        let kind = take_array(rest).ok_or(OVERRUN)?;
        let size = u32::from_le_bytes(take_array(rest).ok_or(OVERRUN)?);
        let size = usize::try_from(size).map_err(|_| OVERRUN)?;
        let data = take(rest, size).ok_or(OVERRUN)?;
        take(rest, size % 2);
        Ok(Some(Self { kind, data }))
    }

    /// What the header of a bitstream says of its size; `None` for other chunks.
    fn bitstream(&self) -> Option<Result<Dimensions, &'static str>> {
        match &self.kind {
            b"VP8 " => Some(lossy(self.data)),
            b"VP8L" => Some(lossless(self.data)),
            _ => None,
        }
    }
}

/// The header of a VP8 key frame (RFC 6386, section 9.1).
fn lossy(data: &[u8]) -> Result<Dimensions, &'static str> {
    let [tag0, tag1, tag2, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, rest @ ..] = data else {
        return Err("its VP8 header is malformed");
    };
    let tag = u24([*tag0, *tag1, *tag2]);
    let (inter_frame, version, shown) = (tag & 1 == 1, (tag >> 1) & 7, (tag >> 4) & 1 == 1);
    if inter_frame || version > 3 || !shown {
        return Err("its VP8 data is not a key frame that is shown");
    }
    if usize::try_from(tag >> 5).map_or(true, |partition| partition > rest.len()) {
        return Err(OVERRUN);
    }
    // The two bits above the 14 are an upscaling hint, which WebP ignores.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    match (side(*w0, *w1), side(*h0, *h1)) {
        (0, _) | (_, 0) => Err("its width or height is 0"),
        (width, height) => Ok(Dimensions { width, height }),
    }
}

/// The header of a lossless bitstream (RFC 9649, section 3.4).
fn lossless(data: &[u8]) -> Result<Dimensions, &'static str> {
    let [0x2f, b0, b1, b2, b3, _, ..] = data else {
        return Err("its VP8L header is malformed");
    };
    let bits = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
    if bits >> 29 != 0 {
        return Err("its VP8L version is unknown");
    }
    Ok(Dimensions { width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1 })
}

fn u24([b0, b1, b2]: [u8; 3]) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0])
}
