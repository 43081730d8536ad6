//! Decompression bombs: PNGs of some hundred kilobytes that unpack to far more than they say, or say far too much.

/// Pixels of each side, as the metadata says; the header of one of the bombs says otherwise.
pub(crate) const SIDE: u32 = 64;

/// Bytes that each of the compressed bombs unpacks to.
const UNPACKED: usize = 64 << 20;
/// The longest match of DEFLATE.
const LONGEST: usize = 258;

/// Every bomb with its name.
pub(crate) fn all() -> [(&'static str, Vec<u8>); 4] {
    let huge = png(u16::MAX.into(), &[(*b"IDAT", zeros(UNPACKED))]);
    let pixels = png(SIDE, &[(*b"IDAT", zeros(UNPACKED))]);
    let named = |head: &[u8]| [head, &zeros(UNPACKED)].concat();
    let plain = || (*b"IDAT", zeros((SIDE * (SIDE * 3 + 1)) as usize));
    let profile = png(SIDE, &[(*b"iCCP", named(b"profile\0\0")), plain()]);
    let text = png(SIDE, &[(*b"zTXt", named(b"Comment\0\0")), plain()]);
    [("size in the header", huge), ("pixel data", pixels), ("colour profile", profile), ("text", text)]
}

/// A square PNG with 8-bit RGB in its header and these chunks.
fn png(side: u32, chunks: &[([u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut chunk = |kind: [u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(&body);
        bytes.extend(crc32fast::hash(&body).to_be_bytes());
    };
    chunk(*b"IHDR", &header);
    chunks.iter().for_each(|(kind, data)| chunk(*kind, data));
    chunk(*b"IEND", &[]);
    bytes
}

/// So many zeros as a zlib stream (RFC 1950, 1951): one literal, then matches as long as they can be, in fixed codes.
fn zeros(length: usize) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], used: 0 };
    let (matches, literals) = ((length - 1) / LONGEST, (length - 1) % LONGEST + 1);
    bits.push(0b1, 1); // The last block,
    bits.push(0b01, 2); // in fixed codes.
    (0..literals).for_each(|_| bits.push(0b0000_1100, 8)); // 0 is 00110000, most significant bit first.
    for _ in 0..matches {
        bits.push(0b1010_0011, 8); // Length 258 is 11000101.
        bits.push(0, 5); // Distance 1.
    }
    bits.push(0, 7); // The end.
    let sum = u32::try_from(length % 65_521).expect("small") << 16 | 1;
    bits.bytes.extend(sum.to_be_bytes());
    bits.bytes
}

/// Bits, packed from the least significant one on.
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: u8, count: u32) {
        for at in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (bits >> at & 1) << self.used;
            }
            self.used = (self.used + 1) % 8;
        }
    }
}
