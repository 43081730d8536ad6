//! JPEG (ITU-T T.81, annex B): markers from SOI to EOI, scan data walked by its stuffing.

use super::{Dimensions, Walk, Walked, take, take_array};

const TRUNCATED: &str = "it ends before its EOI marker";

/// Encoders write about ten. A decoder goes over the whole image for each, however short it is.
const MAX_SCANS: usize = 100;

const TEM: u8 = 0x01;
const SOF0_BASELINE: u8 = 0xc0;
const SOF2_PROGRESSIVE: u8 = 0xc2;
const DHT: u8 = 0xc4;
const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut rest = bytes.get(2..).ok_or(TRUNCATED)?;
    let mut frame: Option<Frame> = None;
    let mut scans = 0_usize;
    loop {
        match marker(&mut rest)? {
            TEM => {}
            EOI => {
                let frame = frame.ok_or("it has no frame header")?;
                if scans == 0 {
                    return Err("it has no image data");
                }
                return Ok(Walked { dimensions: frame.dimensions, length: bytes.len() - rest.len() });
            }
            SOS => {
                let header = segment(&mut rest)?;
                frame.as_ref().ok_or("a scan comes before the frame header")?.check_scan(header)?;
                skip_scan_data(&mut rest)?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err("it has more than 100 scans");
                }
            }
            SOF0_BASELINE..=SOF2_PROGRESSIVE => {
                let header = segment(&mut rest)?;
                if frame.is_some() {
                    return Err("it has two frame headers");
                }
                frame = Some(Frame::read(header)?);
            }
            DHT => {
                segment(&mut rest)?;
            }
            // Lossless, hierarchical and arithmetic coding: browsers show none of them.
            0xc3..=0xcf => return Err("its coding process is not baseline or progressive"),
            RST0..=RST7 | SOI | 0x00 => return Err("a marker is out of place"),
            _ => {
                segment(&mut rest)?;
            }
        }
    }
}

/// The next marker's code; any number of fill bytes may stand before it (B.1.1.2).
fn marker(rest: &mut &[u8]) -> Result<u8, &'static str> {
    match take_array(rest).ok_or(TRUNCATED)? {
        [0xff] => {}
        _ => return Err("something else stands where a marker should be"),
    }
    loop {
        match take_array(rest).ok_or(TRUNCATED)? {
            [0xff] => {}
            [code] => return Ok(code),
        }
    }
}

/// The parameters of a marker segment; its length counts itself.
fn segment<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = usize::from(u16::from_be_bytes(take_array(rest).ok_or(TRUNCATED)?));
    let parameters = length.checked_sub(2).ok_or("a segment's length is out of range")?;
    take(rest, parameters).ok_or(TRUNCATED)
}

/// Leaves `rest` at the marker that ends the scan: the first 0xff that is neither stuffed
/// (0xff 0x00) nor a restart marker (B.1.1.5).
fn skip_scan_data(rest: &mut &[u8]) -> Result<(), &'static str> {
    let mut position = 0;
    loop {
        let tail = rest.get(position..).ok_or(TRUNCATED)?;
        let offset = tail.iter().position(|&byte| byte == 0xff).ok_or(TRUNCATED)?;
        position += offset;
        match tail.get(offset + 1).ok_or(TRUNCATED)? {
            0x00 | RST0..=RST7 => position += 2,
            0xff => position += 1,
            _ if position == 0 => return Err("a scan has no data"),
            _ => {
                take(rest, position);
                return Ok(());
            }
        }
    }
}

struct Frame {
    dimensions: Dimensions,
    components: u8,
}

impl Frame {
    /// A frame header (B.2.2).
    fn read(mut header: &[u8]) -> Result<Self, &'static str> {
        const WRONG_LENGTH: &str = "its frame header has the wrong length";
        let [precision] = take_array(&mut header).ok_or(WRONG_LENGTH)?;
        let height = u16::from_be_bytes(take_array(&mut header).ok_or(WRONG_LENGTH)?);
        let width = u16::from_be_bytes(take_array(&mut header).ok_or(WRONG_LENGTH)?);
        let [components] = take_array(&mut header).ok_or(WRONG_LENGTH)?;
        let specifications: (&[[u8; 3]], &[u8]) = header.as_chunks();
        let (specifications, []) = specifications else { return Err(WRONG_LENGTH) };
        if specifications.len() != usize::from(components) {
            return Err(WRONG_LENGTH);
        }
        if precision != 8 {
            return Err("its samples are not of 8 bits");
        }
        // A height of 0 announces a DNL segment behind the first scan; hardly any decoder reads it.
        if width == 0 || height == 0 {
            return Err("its width or height is 0");
        }
        if !matches!(components, 1 | 3 | 4) {
            return Err("it has neither 1, 3 nor 4 components");
        }
        let legal = 1..=4;
        let sampled =
            |[_, factors, _]: &[u8; 3]| legal.contains(&(factors >> 4)) && legal.contains(&(factors & 15));
        if !specifications.iter().all(sampled) {
            return Err("a sampling factor is out of range");
        }
        Ok(Self { dimensions: Dimensions { width: width.into(), height: height.into() }, components })
    }

    /// A scan header (B.2.3) of this frame.
    fn check_scan(&self, header: &[u8]) -> Result<(), &'static str> {
        match header {
            [components, rest @ ..]
                if (1..=self.components).contains(components)
                    && rest.len() == 2 * usize::from(*components) + 3 =>
            {
                Ok(())
            }
            _ => Err("a scan header is malformed"),
        }
    }
}
