//! PNG (Third Edition, W3C): signature, chunks from IHDR to IEND.

use super::{Dimensions, Walk, Walked, take, take_array};

const SIGNATURE_LENGTH: usize = 8;
const TRUNCATED: &str = "it ends before its IEND chunk";

/// Where in the order of chunks (section 5.6) the walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Data,
    Trailer,
}

pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut rest = bytes.get(SIGNATURE_LENGTH..).ok_or(TRUNCATED)?;
    let first = Chunk::take(&mut rest)?;
    if &first.kind != b"IHDR" {
        return Err("its first chunk is not IHDR");
    }
    first.check_crc()?;
    let header = Header::read(first.data)?;

    let mut stage = Stage::Header;
    let mut palette = false;
    let mut data_bytes = 0_usize;
    loop {
        let chunk = Chunk::take(&mut rest)?;
        if chunk.is_critical() {
            chunk.check_crc()?;
        }
        if stage == Stage::Data && &chunk.kind != b"IDAT" {
            stage = Stage::Trailer;
        }
        match &chunk.kind {
            b"IDAT" if stage == Stage::Trailer => return Err("its IDAT chunks are not consecutive"),
            b"IDAT" if header.needs_palette() && !palette => return Err("its palette is missing"),
            b"IDAT" => {
                stage = Stage::Data;
                data_bytes += chunk.data.len();
            }
            b"PLTE" => {
                let entries_fit = (3..=768).contains(&chunk.data.len()) && chunk.data.len() % 3 == 0;
                if palette || stage != Stage::Header || !entries_fit || !header.may_have_palette() {
                    return Err("its palette is misplaced or malformed");
                }
                palette = true;
            }
            b"IEND" if !chunk.data.is_empty() => return Err("its IEND chunk is not empty"),
            b"IEND" if data_bytes == 0 => return Err("it has no image data"),
            b"IEND" => {
                return Ok(Walked { dimensions: header.dimensions, length: bytes.len() - rest.len() });
            }
            b"IHDR" => return Err("it has two IHDR chunks"),
            _ if chunk.is_critical() => return Err("it has an unknown critical chunk"),
            _ => {}
        }
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    crc: u32,
}

impl<'a> Chunk<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, &'static str> {
        let length = u32::from_be_bytes(take_array(rest).ok_or(TRUNCATED)?);
        if length > i32::MAX.unsigned_abs() {
            return Err("a chunk's length is out of range");
        }
        let kind: [u8; 4] = take_array(rest).ok_or(TRUNCATED)?;
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return Err("a chunk's type is not four letters");
        }
        let length = usize::try_from(length).map_err(|_| TRUNCATED)?;
        let data = take(rest, length).ok_or(TRUNCATED)?;
        let crc = u32::from_be_bytes(take_array(rest).ok_or(TRUNCATED)?);
        Ok(Self { kind, data, crc })
    }

    /// Whether a decoder has to understand it (section 5.4).
    fn is_critical(&self) -> bool {
        self.kind[0].is_ascii_uppercase()
    }

    fn check_crc(&self) -> Result<(), &'static str> {
        if crc32(&[&self.kind, self.data]) == self.crc { Ok(()) } else { Err("a chunk's checksum is wrong") }
    }
}

struct Header {
    dimensions: Dimensions,
    colour_type: u8,
}

impl Header {
    fn read(mut data: &[u8]) -> Result<Self, &'static str> {
        let fields = (take_array(&mut data), take_array(&mut data), take_array::<5>(&mut data), data);
        let (Some(width), Some(height), Some([depth, colour_type, compression, filter, interlace]), []) =
            fields
        else {
            return Err("its IHDR chunk has the wrong length");
        };
        let (width, height) = (u32::from_be_bytes(width), u32::from_be_bytes(height));
        let sides = 1..=i32::MAX.unsigned_abs();
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err("its width or height is out of range");
        }
        // Table 11.1: which bit depths go with which colour type.
        let legal = match colour_type {
            0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
            3 => matches!(depth, 1 | 2 | 4 | 8),
            2 | 4 | 6 => matches!(depth, 8 | 16),
            _ => false,
        };
        if !legal {
            return Err("its bit depth and colour type do not go together");
        }
        if compression != 0 || filter != 0 || interlace > 1 {
            return Err("its compression, filter or interlace method is unknown");
        }
        Ok(Self { dimensions: Dimensions { width, height }, colour_type })
    }

    fn needs_palette(&self) -> bool {
        self.colour_type == 3
    }

    fn may_have_palette(&self) -> bool {
        matches!(self.colour_type, 2 | 3 | 6)
    }
}

/// CRC-32 of the concatenated `parts` (annex D).
pub(super) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.finalize()
}
