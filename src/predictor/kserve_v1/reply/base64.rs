//! Base64 that arrives in pieces.

/// How much is handed to the vector decoder at once; small, so that one odd character sends only
/// its block through the slow path.
const BLOCK: usize = 8 * 1024;

/// The text is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBase64;

/// Decodes base64 of either alphabet (RFC 4648, sections 4 and 5), padded or not, white space
/// anywhere, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    out: Vec<u8>,
    /// The bits of the characters of the group of four that is begun.
    bits: u32,
    held: u8,
    padded: bool,
}

impl Decoder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Decoded bytes so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), NotBase64> {
        text.chunks(BLOCK).try_for_each(|block| self.block(block))
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, NotBase64> {
        match self.held {
            0 => {}
            2 => self.out.push(byte(self.bits, 4)),
            3 => self.out.extend([byte(self.bits, 10), byte(self.bits, 2)]),
            _ => return Err(NotBase64),
        }
        Ok(self.out)
    }

    fn block(&mut self, block: &[u8]) -> Result<(), NotBase64> {
        let mut rest = block;
        while self.held > 0
            && let Some((&character, tail)) = rest.split_first()
        {
            self.character(character)?;
            rest = tail;
        }
        // The last two characters may be padding, which is not the vector decoder's business.
        let mut whole = if self.padded { 0 } else { rest.len().saturating_sub(2) & !3 };
        // It reserves exactly what it needs, block by block, which would copy the image over and over.
        self.out.reserve(whole / 4 * 3);
        if base64_simd::STANDARD_NO_PAD.decode_append(&rest[..whole], &mut self.out).is_err() {
            whole = 0;
        }
        rest[whole..].iter().try_for_each(|&character| self.character(character))
    }

    fn character(&mut self, character: u8) -> Result<(), NotBase64> {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(()),
            b'=' => {
                self.padded = true;
                return Ok(());
            }
            _ => return Err(NotBase64),
        };
        if self.padded {
            return Err(NotBase64);
        }
        self.bits = self.bits << 6 | u32::from(value);
        self.held += 1;
        if self.held == 4 {
            self.out.extend([byte(self.bits, 16), byte(self.bits, 8), byte(self.bits, 0)]);
            self.held = 0;
        }
        Ok(())
    }
}

fn byte(bits: u32, shift: u32) -> u8 {
    (bits >> shift & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], cut: usize) -> Result<Vec<u8>, NotBase64> {
        let mut decoder = Decoder::default();
        for piece in text.chunks(cut) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn decoder_fed_in_any_pieces_gives_the_bytes() {
        let bytes: Vec<u8> = (0..30_011_u32).map(|i| byte(i.wrapping_mul(2_654_435_761), 13)).collect();
        for length in [0, 1, 2, 3, 4, 5, 6, 7, 100, 8_190, 30_009, 30_010, 30_011] {
            let bytes = &bytes[..length];
            for text in [
                base64_simd::STANDARD.encode_to_string(bytes),
                base64_simd::STANDARD_NO_PAD.encode_to_string(bytes),
                base64_simd::URL_SAFE.encode_to_string(bytes),
                base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes),
            ] {
                for cut in [1, 2, 3, 5, 76, 8_192, 50_000] {
                    assert_eq!(decode(text.as_bytes(), cut).as_deref(), Ok(bytes), "{length} by {cut}");
                }
                let lines = text.as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
                assert_eq!(decode(&lines, 1_000).as_deref(), Ok(bytes), "{length} in lines");
            }
        }
    }

    #[test]
    fn decoder_given_other_text_refuses_it() {
        for text in ["a", "abcde", "ab=c", "ab!d", "ab\u{e9}d", "abcd\0", "===a"] {
            assert_eq!(decode(text.as_bytes(), 2), Err(NotBase64), "{text:?}");
        }
    }
}
