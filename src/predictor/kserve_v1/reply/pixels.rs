//! An image as nested lists of numbers, `[[[r, g, b], ...], ...]`: height × width × channels.

use image::ExtendedColorType;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

/// Rows of pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    width: u32,
    height: u32,
    channels: u8,
    data: Vec<u8>,
}

/// The lists are not rows of equal length of pixels of 3 or 4 whole numbers from 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotPixels;

impl Pixels {
    /// The image as PNG.
    pub(super) fn to_png(&self) -> Result<Vec<u8>, image::ImageError> {
        use image::ImageEncoder;

        let color = if self.channels == 4 { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive).write_image(
            &self.data,
            self.width,
            self.height,
            color,
        )?;
        Ok(png)
    }
}

/// Reads the lists as they pass, from behind the three brackets that begin them. Lists that turn
/// out to be something else are passed over to their end.
#[derive(Debug)]
pub(super) struct PixelReader {
    /// Brackets open: 3 inside a pixel, 2 inside a row, 1 between rows.
    depth: usize,
    number: Option<u8>,
    channel: usize,
    channels: usize,
    row_start: usize,
    row_bytes: usize,
    rows: u32,
    data: Vec<u8>,
    passed_over: Option<PassedOver>,
}

#[derive(Debug, Default)]
struct PassedOver {
    in_string: bool,
    escaped: bool,
}

impl PixelReader {
    pub(super) fn new() -> Self {
        Self {
            depth: 3,
            number: None,
            channel: 0,
            channels: 0,
            row_start: 0,
            row_bytes: 0,
            rows: 0,
            data: Vec::new(),
            passed_over: None,
        }
    }

    /// Takes raw JSON. When the lists end within it, tells how many bytes belong to them.
    pub(super) fn push(&mut self, raw: &[u8]) -> Option<usize> {
        for (at, &byte) in raw.iter().enumerate() {
            if let Some(passed_over) = &mut self.passed_over {
                passed_over.pass(byte, &mut self.depth);
            } else if self.read(byte).is_err() {
                self.data = Vec::new();
                self.passed_over.get_or_insert_default().pass(byte, &mut self.depth);
            }
            if self.depth == 0 {
                return Some(at + 1);
            }
        }
        None
    }

    pub(super) fn finish(self) -> Result<Pixels, NotPixels> {
        if self.passed_over.is_some() || self.depth > 0 {
            return Err(NotPixels);
        }
        let width = self.row_bytes.checked_div(self.channels).unwrap_or_default();
        Ok(Pixels {
            width: u32::try_from(width).map_err(|_| NotPixels)?,
            height: self.rows,
            channels: u8::try_from(self.channels).map_err(|_| NotPixels)?,
            data: self.data,
        })
    }

    fn read(&mut self, byte: u8) -> Result<(), NotPixels> {
        match (byte, self.depth) {
            (b' ' | b'\t' | b'\r' | b'\n', _) | (b',', 1 | 2) => Ok(()),
            (b'0'..=b'9', 3) => {
                let number = self.number.unwrap_or(0).checked_mul(10);
                self.number = number.and_then(|number| number.checked_add(byte - b'0'));
                self.number.map(drop).ok_or(NotPixels)
            }
            (b',', _) => self.end_number(),
            (b'[', 1 | 2) => {
                self.depth += 1;
                Ok(())
            }
            (b']', _) => self.close(),
            _ => Err(NotPixels),
        }
    }

    fn end_number(&mut self) -> Result<(), NotPixels> {
        self.data.push(self.number.take().ok_or(NotPixels)?);
        self.channel += 1;
        Ok(())
    }

    /// Ends a pixel, a row or the image; the first of each kind says how long the others are.
    fn close(&mut self) -> Result<(), NotPixels> {
        match self.depth {
            3 => {
                // The bracket is counted only when all is well: a refused one is passed over again.
                self.end_number()?;
                let channels = std::mem::take(&mut self.channel);
                if self.channels == 0 {
                    self.channels = channels;
                }
                if channels != self.channels || !(3..=4).contains(&channels) {
                    return Err(NotPixels);
                }
            }
            2 => {
                let row_bytes = self.data.len() - self.row_start;
                if self.rows == 0 {
                    self.row_bytes = row_bytes;
                }
                if row_bytes != self.row_bytes || row_bytes == 0 {
                    return Err(NotPixels);
                }
                self.row_start = self.data.len();
                self.rows = self.rows.checked_add(1).ok_or(NotPixels)?;
            }
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }
}

impl PassedOver {
    fn pass(&mut self, byte: u8, depth: &mut usize) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'[' if !self.in_string => *depth += 1,
            b']' if !self.in_string => *depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what stands behind `[[[`, in pieces of `cut` bytes.
    fn read(json: &str, cut: usize) -> (Option<usize>, Result<Pixels, NotPixels>) {
        let mut reader = PixelReader::new();
        let mut passed = 0;
        for piece in json.as_bytes().chunks(cut) {
            if let Some(end) = reader.push(piece) {
                return (Some(passed + end), reader.finish());
            }
            passed += piece.len();
        }
        (None, reader.finish())
    }

    #[test]
    fn reader_given_rows_of_pixels_reads_them() {
        let json = "1,2,3], [0,255, 7]],\n[[9,9,9],[10,11,12]]] , more";
        for cut in [1, 2, 7, 100] {
            let (end, pixels) = read(json, cut);
            assert_eq!(end, json.find(" , more"));
            let data = vec![1, 2, 3, 0, 255, 7, 9, 9, 9, 10, 11, 12];
            assert_eq!(pixels, Ok(Pixels { width: 2, height: 2, channels: 3, data }));
        }
    }

    #[test]
    fn reader_given_other_lists_passes_over_them() {
        for json in [
            "1,2]]]",
            "1,2,256]]]",
            "1,2,3],[1,2,3,4]]]",
            "1,2,3]],[[1,2,3],[1,2,3]]]",
            "1,2,0.5]]]",
            "1,2,-3]]]",
            "1,2,3]],[]]",
            "1,2,3],\"]\\\"]\"]]",
            "1,[2,3]]]]",
            "1,{\"a\":[]},3]]]",
            "1,2,]]]",
        ] {
            for cut in [1, 3, 100] {
                assert_eq!(read(&format!("{json},9"), cut), (Some(json.len()), Err(NotPixels)), "{json}");
            }
        }
    }

    #[test]
    fn pixels_as_png_decode_to_the_same_pixels() {
        let (_, pixels) = read("1,2,3],[0,255,7]]]", 4);
        let png = pixels.expect("pixels").to_png().expect("encodes");
        let decoded = image::load_from_memory(&png).expect("a PNG").into_rgb8();
        assert_eq!((decoded.dimensions(), decoded.into_raw()), ((2, 1), vec![1, 2, 3, 0, 255, 7]));
    }
}
