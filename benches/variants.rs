//! What a variant costs the processor: `cargo bench --bench variants [-- FILTER]`.
//!
//! Everything here is one thread's work, so the time is processor time. The goals: 30 ms for a 512 px WebP of a 1024 px
//! PNG, 50 ms for a decompression bomb.

#![expect(clippy::unwrap_used, reason = "a bench: it may die of anything unexpected")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use image::{ExtendedColorType, ImageEncoder, codecs::png};
use mcp_image_server::image::{Fit, Format, Limits, VariantFormat, VariantSpec, variant};

#[path = "../tests/support/bomb.rs"]
mod bomb;

const LIMITS: Limits = Limits { max_bytes: 10 << 20, max_pixels: 1 << 24 };

criterion_group!(benches, variants, bombs);
criterion_main!(benches);

/// A PNG of soft colours with a little noise, as hard to decode, to scale and to compress as what a model draws.
fn picture(side: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut pixels = Vec::new();
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        for place in [x + y, 2 * x, 2 * y + x / 2] {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let colour = (f64::from(place) / 90.0).sin().mul_add(100.0, 120.0);
            #[expect(clippy::cast_possible_truncation, reason = "between 20 and 230")]
            pixels.push((colour + f64::from(state % 1024) / 180.0) as u8);
        }
    }
    let mut encoded = Vec::new();
    png::PngEncoder::new_with_quality(&mut encoded, png::CompressionType::Default, png::FilterType::Adaptive)
        .write_image(&pixels, side, side, ExtendedColorType::Rgb8)
        .unwrap();
    encoded
}

fn variants(criterion: &mut Criterion) {
    let original = picture(1024);
    let mut group = criterion.benchmark_group("1024 px PNG to");
    for (name, side, fit, format) in [
        ("256 px WebP", 256, Fit::Contain, Format::WebP.into()),
        ("512 px WebP", 512, Fit::Contain, Format::WebP.into()),
        ("512 px JPEG", 512, Fit::Contain, Format::Jpeg.into()),
        ("512 px PNG", 512, Fit::Contain, Format::Png.into()),
        ("320 px WebP, cover", 320, Fit::Cover, Format::WebP.into()),
        ("1024 px WebP", 1024, Fit::Contain, Format::WebP.into()),
        ("256 px AVIF", 256, Fit::Contain, VariantFormat::Avif),
        ("512 px AVIF", 512, Fit::Contain, VariantFormat::Avif),
        ("1024 px AVIF", 1024, Fit::Contain, VariantFormat::Avif),
    ] {
        if !format.is_made() {
            continue;
        }
        let quality = format.quality(None);
        let spec = VariantSpec { width: side, height: side, fit, format, quality };
        group.bench_function(name, |bencher| {
            bencher.iter(|| variant(black_box(&original), &spec, LIMITS).unwrap());
        });
    }
}

fn bombs(criterion: &mut Criterion) {
    let spec =
        VariantSpec { width: 64, height: 64, fit: Fit::Contain, format: Format::WebP.into(), quality: 80 };
    let mut group = criterion.benchmark_group("bomb in");
    for (name, bytes) in bomb::all() {
        // Some are refused, and some are images all the same.
        group.bench_function(name, |bencher| {
            bencher.iter(|| variant(black_box(&bytes), &spec, LIMITS).is_ok());
        });
    }
}
