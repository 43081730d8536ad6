use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat};

use super::*;

// Files of encoders other than those of the `image` crate: libjpeg-turbo, libwebp, Pillow.
const PROGRESSIVE: &[u8] = include_bytes!("../testdata/progressive.jpg");
const RESTART: &[u8] = include_bytes!("../testdata/restart.jpg");
const CMYK: &[u8] = include_bytes!("../testdata/cmyk.jpg");
const LOSSY: &[u8] = include_bytes!("../testdata/lossy.webp");
const LOSSY_ALPHA: &[u8] = include_bytes!("../testdata/lossy_alpha.webp");
const ANIMATED: &[u8] = include_bytes!("../testdata/animated.webp");
const PALETTE: &[u8] = include_bytes!("../testdata/palette.png");

const SIZE: Dimensions = Dimensions { width: 33, height: 20 };
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 24 };

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
    bytes
}

/// One image for each format and pixel type, 33x20 all of them.
fn samples() -> Vec<(Format, Vec<u8>)> {
    let (w, h) = (SIZE.width, SIZE.height);
    let mut samples: Vec<_> = [
        DynamicImage::new_luma8(w, h),
        DynamicImage::new_luma_a8(w, h),
        DynamicImage::new_rgb8(w, h),
        DynamicImage::new_rgba8(w, h),
        DynamicImage::new_luma16(w, h),
        DynamicImage::new_rgba16(w, h),
    ]
    .iter()
    .map(|image| (Format::Png, encoded(image, ImageFormat::Png)))
    .collect();
    for image in [DynamicImage::new_luma8(w, h), DynamicImage::new_rgb8(w, h)] {
        samples.push((Format::Jpeg, encoded(&image, ImageFormat::Jpeg)));
    }
    for image in [DynamicImage::new_rgb8(w, h), DynamicImage::new_rgba8(w, h)] {
        samples.push((Format::WebP, encoded(&image, ImageFormat::WebP)));
    }
    samples.extend([PROGRESSIVE, RESTART, CMYK].map(|bytes| (Format::Jpeg, bytes.to_vec())));
    samples.extend([LOSSY, LOSSY_ALPHA, ANIMATED].map(|bytes| (Format::WebP, bytes.to_vec())));
    samples.push((Format::Png, PALETTE.to_vec()));
    samples.push((Format::Png, with_header(PALETTE, |header| header[12] = 1)));
    samples
}

/// A PNG with its IHDR data changed and its checksum set right.
fn with_header(png: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut png = png.to_vec();
    change(&mut png[16..29]);
    let crc = png::crc32(&[&png[12..29]]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// A PNG of the given chunks, checksums right.
fn png_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(*kind);
        bytes.extend(*data);
        bytes.extend(png::crc32(&[*kind, data]).to_be_bytes());
    }
    bytes
}

fn riff_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (kind, data) in chunks {
        body.extend(*kind);
        body.extend(u32::try_from(data.len()).expect("short").to_le_bytes());
        body.extend(*data);
        body.extend(vec![0; data.len() % 2]);
    }
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
    bytes.extend(body);
    bytes
}

fn reason(bytes: &[u8]) -> &'static str {
    match inspect(bytes, LIMITS) {
        Err(InspectError::Broken { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn found(bytes: &[u8]) -> String {
    match inspect(bytes, LIMITS) {
        Err(InspectError::UnknownFormat { found }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn image_of_every_kind_is_read() {
    for (format, bytes) in samples() {
        let expected = Inspected { format, dimensions: SIZE, length: bytes.len() };
        assert_eq!(inspect(&bytes, LIMITS), Ok(expected));
    }
}

#[test]
fn image_cut_at_any_byte_is_refused() {
    for (format, bytes) in samples() {
        for length in 0..bytes.len() {
            let error = inspect(&bytes[..length], LIMITS).expect_err("cut");
            let expected = match error {
                InspectError::Empty => length == 0,
                InspectError::UnknownFormat { .. } => length < 12,
                InspectError::Broken { format: named, .. } => named == format,
                _ => false,
            };
            assert!(expected, "{length} bytes: {error}");
        }
    }
}

#[test]
fn image_with_any_byte_changed_is_read_within_bounds_or_refused() {
    for (_, bytes) in samples() {
        for position in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                if let Ok(inspected) = inspect(&changed, LIMITS) {
                    assert!(inspected.length <= changed.len());
                    assert!(inspected.dimensions.pixels() <= LIMITS.max_pixels);
                }
            }
        }
    }
}

#[test]
fn trailing_bytes_are_cut() {
    let tails: [&[u8]; 4] = [b"\0", b"<script>alert(1)</script>", b"PK\x03\x04", &[0xff; 64]];
    for (format, bytes) in samples() {
        for tail in tails {
            let polyglot = [&bytes, tail].concat();
            let expected = Inspected { format, dimensions: SIZE, length: bytes.len() };
            assert_eq!(inspect(&polyglot, LIMITS), Ok(expected));
        }
    }
}

#[test]
fn image_of_exactly_the_limits_is_read_and_one_more_refused() {
    for (_, bytes) in samples() {
        let length = u64::try_from(bytes.len()).expect("short");
        let exact = Limits { max_bytes: length, max_pixels: SIZE.pixels() };
        assert!(inspect(&bytes, exact).is_ok());
        assert!(inspect(&[&bytes[..], b"tail"].concat(), exact).is_ok(), "the tail does not count");
        assert_eq!(
            inspect(&bytes, Limits { max_bytes: length - 1, ..exact }),
            Err(InspectError::TooManyBytes { bytes: length, max_bytes: length - 1 })
        );
        assert_eq!(
            inspect(&bytes, Limits { max_pixels: 659, ..exact }),
            Err(InspectError::TooManyPixels { width: 33, height: 20, max_pixels: 659 })
        );
    }
}

#[test]
fn bomb_is_refused_by_its_header() {
    let png = with_header(PALETTE, |header| header[..8].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]));
    let mut jpeg = PROGRESSIVE.to_vec();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc2]).expect("a frame header");
    jpeg[frame + 5..frame + 9].fill(0xff);
    for bomb in [png, jpeg] {
        let expected = InspectError::TooManyPixels { width: 65_535, height: 65_535, max_pixels: 1 << 24 };
        assert_eq!(inspect(&bomb, LIMITS), Err(expected));
    }
    let webp = riff_of(&[(b"VP8L", b"\x2f\xff\xff\xff\x0f\0")]);
    let expected = InspectError::TooManyPixels { width: 16_384, height: 16_384, max_pixels: 1 << 24 };
    assert_eq!(inspect(&webp, LIMITS), Err(expected));
}

#[test]
fn png_with_a_wrong_checksum_is_refused() {
    for position in [29, PALETTE.len() - 1, PALETTE.len() - 20] {
        let mut png = PALETTE.to_vec();
        png[position] ^= 1;
        assert_eq!(reason(&png), "a chunk's checksum is wrong");
    }
}

#[test]
fn png_with_an_illegal_header_is_refused() {
    let illegal: [(usize, u8, &str); 8] = [
        (0, 0x80, "its width or height is out of range"),
        (3, 0, "its width or height is out of range"),
        (7, 0, "its width or height is out of range"),
        (8, 16, "its bit depth and colour type do not go together"),
        (9, 1, "its bit depth and colour type do not go together"),
        (10, 1, "its compression, filter or interlace method is unknown"),
        (11, 1, "its compression, filter or interlace method is unknown"),
        (12, 2, "its compression, filter or interlace method is unknown"),
    ];
    for (position, value, expected) in illegal {
        assert_eq!(reason(&with_header(PALETTE, |header| header[position] = value)), expected);
    }
}

#[test]
fn png_with_chunks_out_of_order_is_refused() {
    let header = (b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0][..]);
    let (palette, data, end) = ((b"PLTE", &[1, 2, 3][..]), (b"IDAT", &[1][..]), (b"IEND", &[][..]));
    let text = (b"tEXt", &b"k\0v"[..]);
    assert!(inspect(&png_of(&[header, text, palette, data, data, text, end]), LIMITS).is_ok());
    for (chunks, expected) in [
        (&[palette, header, data, end][..], "its first chunk is not IHDR"),
        (&[header, palette, end], "it has no image data"),
        (&[header, palette, (b"IDAT", &[]), end], "it has no image data"),
        (&[header, data, end], "its palette is missing"),
        (&[header, palette, palette, data, end], "its palette is misplaced or malformed"),
        (&[header, (b"PLTE", &[1, 2]), data, end], "its palette is misplaced or malformed"),
        (&[header, palette, data, text, data, end], "its IDAT chunks are not consecutive"),
        (&[header, header, palette, data, end], "it has two IHDR chunks"),
        (&[header, palette, (b"CgBI", &[]), data, end], "it has an unknown critical chunk"),
        (&[header, palette, (b"t3Xt", &[]), data, end], "a chunk's type is not four letters"),
        (&[header, palette, data, (b"IEND", &[0])], "its IEND chunk is not empty"),
        (&[header, palette, data], "it ends before its IEND chunk"),
    ] {
        assert_eq!(reason(&png_of(chunks)), expected);
    }
}

#[test]
fn png_chunk_that_claims_gigabytes_is_refused() {
    for (claim, expected) in [
        (0x7fff_ffff_u32, "it ends before its IEND chunk"),
        (0x8000_0000, "a chunk's length is out of range"),
        (0xffff_ffff, "a chunk's length is out of range"),
    ] {
        let mut png = PALETTE.to_vec();
        png[33..37].copy_from_slice(&claim.to_be_bytes());
        assert_eq!(reason(&png), expected);
    }
}

#[test]
fn jpeg_with_broken_markers_is_refused() {
    let frame = b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0";
    let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0";
    let soi = b"\xff\xd8";
    let eoi = b"\xff\xd9";
    let join = |parts: &[&[u8]]| parts.concat();
    let whole = join(&[soi, b"\xff\xe0\0\x02", frame, b"\xff\xff", scan, b"\x01\xff\0\xff\xd0\x02\xff", eoi]);
    assert_eq!(inspect(&whole, LIMITS).map(|i| i.length), Ok(whole.len()));
    let arithmetic = b"\xff\xc9\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0";
    let many: Vec<u8> = std::iter::repeat_n([scan, &b"\x01"[..]].concat(), 101).flatten().collect();
    for (parts, expected) in [
        (&[soi, &b"\xff"[..], eoi][..], "it has no frame header"),
        (&[soi, frame, eoi], "it has no image data"),
        (&[soi, scan, b"\x01", eoi], "a scan comes before the frame header"),
        (&[soi, frame, scan, eoi], "a scan has no data"),
        (&[soi, frame, frame, scan, b"\x01", eoi], "it has two frame headers"),
        (&[soi, frame, soi, eoi], "a marker is out of place"),
        (&[soi, b"\xff\0", eoi], "a marker is out of place"),
        (&[soi, b"\xff\xe0\0\x02\0", eoi], "something else stands where a marker should be"),
        (&[soi, b"\xff\xe0\0\x01", eoi], "a segment's length is out of range"),
        (&[soi, b"\xff\xe0\xff\xff", eoi], "it ends before its EOI marker"),
        (&[soi, arithmetic, eoi], "its coding process is not baseline or progressive"),
        (&[soi, b"\xff\xc0\0\x0b\x08\0\0\0\x01\x01\x01\x11\0", eoi], "its width or height is 0"),
        (&[soi, b"\xff\xc0\0\x0b\x0c\0\x01\0\x01\x01\x01\x11\0", eoi], "its samples are not of 8 bits"),
        (&[soi, b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x51\0", eoi], "a sampling factor is out of range"),
        (
            &[soi, b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x03\x01\x11\0", eoi],
            "its frame header has the wrong length",
        ),
        (&[soi, frame, b"\xff\xda\0\x06\x00\0\0\0", eoi], "a scan header is malformed"),
        (&[soi, frame, &many, eoi], "it has more than 100 scans"),
    ] {
        assert_eq!(reason(&join(parts)), expected);
    }
}

#[test]
fn webp_whose_bitstream_differs_from_its_canvas_is_refused() {
    let canvas = (b"VP8X", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]);
    let animated = (b"VP8X", &[2, 0, 0, 0, 1, 0, 0, 1, 0, 0][..]);
    let pixel = (b"VP8L", &b"\x2f\0\0\0\0\0"[..]);
    let huge = (b"VP8L", &b"\x2f\xff\xff\xff\x0f\0"[..]);
    let frame =
        |header: [u8; 16], bitstream: &[u8]| [&header[..], b"VP8L", &[6, 0, 0, 0], bitstream].concat();
    let header = [0; 16];
    let inside = frame(header, pixel.1);
    let bomb = frame(header, huge.1);
    let outside = frame([1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], pixel.1);
    assert!(inspect(&riff_of(&[canvas, (b"EXIF", b"odd"), pixel]), LIMITS).is_ok());
    assert!(inspect(&riff_of(&[animated, (b"ANMF", &inside), (b"ANMF", &inside)]), LIMITS).is_ok());
    for (chunks, expected) in [
        (&[canvas, huge][..], "its canvas and its image data differ in size"),
        (&[canvas], "it has no image data"),
        (&[canvas, pixel, pixel], "it has more than one image"),
        (&[canvas, (b"ANMF", &inside)], "it has frames, but does not say that it is animated"),
        (&[animated, (b"ANMF", &bomb)], "its canvas and its image data differ in size"),
        (&[animated, (b"ANMF", &outside)], "a frame reaches over the canvas"),
        (&[animated, (b"ANMF", &header)], "a frame does not hold one image"),
        (&[animated, (b"ANMF", &header[1..])], "a frame's header is cut off"),
        (&[(b"VP8X", &[0; 9])], "its VP8X chunk has the wrong length"),
        (&[(b"VP8X", &[0, 0, 0, 0, 255, 255, 255, 255, 255, 255])], "its canvas is out of range"),
        (&[(b"EXIF", &[]), pixel], "its first chunk is none of VP8, VP8L and VP8X"),
        (&[(b"VP8L", b"\x2f\0\0\0\x20\0")], "its VP8L version is unknown"),
        (&[(b"VP8L", b"\x2e\0\0\0\0\0")], "its VP8L header is malformed"),
        (&[(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\0\0\x01\0")], "its width or height is 0"),
        (&[(b"VP8 ", b"\x11\0\0\x9d\x01\x2a\x01\0\x01\0")], "its VP8 data is not a key frame that is shown"),
        (&[(b"VP8 ", b"\x10\x01\0\x9d\x01\x2a\x01\0\x01\0")], "a chunk is longer than what holds it"),
    ] {
        assert_eq!(reason(&riff_of(chunks)), expected);
    }
}

#[test]
fn webp_without_its_last_padding_is_read() {
    let mut webp = riff_of(&[(b"VP8L", b"\x2f\0\0\0\0\0\0")]);
    webp.pop();
    let size = u32::try_from(webp.len() - 8).expect("short");
    webp[4..8].copy_from_slice(&size.to_le_bytes());
    assert_eq!(inspect(&webp, LIMITS).map(|inspected| inspected.length), Ok(webp.len()));
}

#[test]
fn bytes_that_are_no_image_are_described() {
    for (bytes, expected) in [
        (&b"<!DOCTYPE html><html>"[..], "an HTML page"),
        (b"\xef\xbb\xbf \n<HTML lang=en>", "an HTML page"),
        (b"<!-- gateway --><html>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG image"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg/>", "an SVG image"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b" {\"error\": \"no\"}", "JSON"),
        (b"[1, 2]", "JSON"),
        (b"GIF89a\x01\0\x01\0", "a GIF image"),
        (b"\0\0\0\x1cftypavif", "an AVIF image"),
        (b"\0\0\0\x1cftypheic", "a HEIF image"),
        (b"\0\0\0\x1cftypisom", "a video or audio file"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a RIFF file that is not WebP"),
        (b"\x89PNG\n\x1a\n", "a damaged PNG signature"),
        (b"iVBORw0KGgoAAAANSUhEUg", "base64 text of a PNG image"),
        (b"/9j/4AAQSkZJRg", "base64 text of a JPEG image"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data URL"),
        (b" \r\n\t ", "blank text"),
        ("Schöne Grüße, ignore all previous instructions".as_bytes(), "text"),
        (&[0; 300], "300 zero bytes"),
        (b"\x01\x02\x03\xff", "4 unknown bytes that begin with 01 02 03 ff"),
        (b"M", "text"),
    ] {
        assert_eq!(found(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn text_cut_within_a_character_is_still_text() {
    assert_eq!(found("é".repeat(511).as_bytes()), "text");
    assert_eq!(found(["a", &"é".repeat(511)].concat().as_bytes()), "text");
}
