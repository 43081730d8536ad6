//! The picture that benches and the fixture of the load comparison share.

use image::{ExtendedColorType, ImageEncoder, codecs::png};

/// Pixels of each side.
pub const SIDE: u32 = 512;

/// How far pixels stray, in levels: this alone sets the length of the PNG.
const NOISE: f64 = 5.7;

/// A PNG of about 359 kB: soft colours with a little noise, as hard to decode, to scale and to compress as what a
/// model draws.
pub fn png() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut pixels = Vec::new();
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        for place in [x + y, 2 * x, 2 * y + x / 2] {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let colour = (f64::from(place) / 90.0).sin().mul_add(100.0, 120.0);
            let noise = f64::from(state % 1024) / 1024.0 * NOISE;
            #[expect(clippy::cast_possible_truncation, reason = "between 20 and 230")]
            pixels.push((colour + noise) as u8);
        }
    }
    let mut encoded = Vec::new();
    png::PngEncoder::new_with_quality(&mut encoded, png::CompressionType::Default, png::FilterType::Adaptive)
        .write_image(&pixels, SIDE, SIDE, ExtendedColorType::Rgb8)
        .unwrap();
    encoded
}

/// What a KServe V1 predictor replies with it.
pub fn reply(png: &[u8]) -> String {
    let b64 = base64_simd::STANDARD.encode_to_string(png);
    format!(
        r#"{{"predictions":[{{"model_name":"stable-diffusion","prompt":"a fox","image":{{"format":"PNG","b64":"{b64}"}}}}]}}"#
    )
}
