//! From light to pixels: bloom, tone, grain, dither, PNG.

use std::ops::Range;

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

use super::brief::{Setting, Thing};
use super::canvas::Canvas;
use super::colour::{Rgb, encode_srgb};
use super::maths::{byte, exp2, index, lerp, saturate};
use super::noise::Noise;
use super::world::World;

/// Light that spreads in the eye or the lens: a blurred picture of what is bright, at a quarter of the
/// size.
#[derive(Debug)]
pub(super) struct Bloom {
    small: Canvas,
    strength: f32,
}

const SHRINK: usize = 4;

impl Bloom {
    /// No light yet.
    pub(super) fn new(world: &World, width: usize, height: usize) -> Self {
        let small = Canvas::new(width.div_ceil(SHRINK), height.div_ceil(SHRINK));
        let strength = if world.brief.allows(Thing::Glow) { 0.06 + 0.13 * world.light.night } else { 0.0 };
        let strength = if world.brief.asks(Thing::Glow) { strength * 1.6 } else { strength };
        Self { small, strength }
    }

    /// How many rows there are to gather.
    pub(super) fn rows(&self) -> usize {
        self.small.height
    }

    /// Gathers the light for `rows` of the small picture.
    pub(super) fn gather(&mut self, canvas: &Canvas, rows: Range<usize>) {
        for y in rows {
            let top = y * SHRINK;
            let bottom = (top + SHRINK).min(canvas.height);
            for (x, out) in self.small.row_mut(y).iter_mut().enumerate() {
                let left = x * SHRINK;
                let right = (left + SHRINK).min(canvas.width);
                let mut sum = Rgb::BLACK;
                for row in top..bottom {
                    sum = canvas.row(row)[left..right].iter().fold(sum, |sum, &pixel| sum + pixel);
                }
                *out = sum * (1.0 / ((bottom - top) * (right - left)) as f32);
            }
        }
    }

    /// Blurs it; three boxes make nearly a bell.
    pub(super) fn blur(&mut self, unit: f32) {
        let radius = index(unit / (SHRINK as f32) * 0.018).max(1);
        for _ in 0..3 {
            blur_rows(&mut self.small, radius);
            blur_columns(&mut self.small, radius);
        }
    }

    #[inline]
    fn at(&self, x: f32, y: f32) -> Rgb {
        self.small.sample(x / SHRINK as f32, y / SHRINK as f32)
    }
}

/// The last look at a picture: light becomes bytes.
#[derive(Debug)]
pub(super) struct Finish {
    /// `sRGB` over the square root of light, which is dense where eyes are keen.
    curve: Vec<f32>,
    grain: Noise,
    grain_strength: f32,
    vignette: f32,
    exposure: f32,
    saturation: f32,
    monochrome: Option<Rgb>,
    bytes: Vec<u8>,
}

impl Finish {
    /// For the picture of `world`, of `pixels` pixels.
    pub(super) fn new(world: &World, pixels: usize) -> Self {
        let brief = &world.brief;
        const SIZE: usize = 1024;
        let square = |i: usize| (i as f32 / (SIZE - 1) as f32) * (i as f32 / (SIZE - 1) as f32);
        let tone = brief.colours.first().filter(|colour| colour.c > 0.03);
        let tone = tone.map_or(Rgb::grey(1.0), |colour| {
            let light = colour.rgb();
            Rgb::grey(1.0).mix(light * (1.0 / light.luma().max(0.05)), 0.5)
        });
        let flat = matches!(brief.setting, Setting::Abstract(_));
        let grain = if flat { 0.9 } else { 1.3 };
        Self {
            curve: (0..SIZE).map(|i| 255.0 * encode_srgb(square(i))).collect(),
            grain: Noise::new(world.rng("grain").seed()),
            grain_strength: if brief.allows(Thing::Grain) { grain } else { 0.0 },
            vignette: if brief.allows(Thing::Vignette) { 0.20 } else { 0.0 },
            exposure: exp2(brief.lightness.clamp(-0.14, 0.09) * 5.0),
            saturation: brief.chroma,
            monochrome: brief.monochrome.then_some(tone),
            bytes: Vec::with_capacity(pixels * 3),
        }
    }

    /// Develops `rows`, which come in order.
    pub(super) fn develop(&mut self, canvas: &Canvas, bloom: &Bloom, rows: Range<usize>) {
        let (cx, cy) = (canvas.width as f32 * 0.5, canvas.height as f32 * 0.5);
        let inverse = 1.0 / (cx * cx + cy * cy);
        for y in rows {
            let dy = y as f32 + 0.5 - cy;
            for (x, &pixel) in canvas.row(y).iter().enumerate() {
                let dx = x as f32 + 0.5 - cx;
                let edge = (dx * dx + dy * dy) * inverse;
                let soft = bloom.at(x as f32 + 0.5, y as f32 + 0.5);
                let light = pixel.mix(soft, bloom.strength) + soft * (bloom.strength * 0.5);
                let mut light = light * (self.exposure * (1.0 - self.vignette * edge * edge.sqrt()));
                light = match self.monochrome {
                    Some(tone) => tone * light.luma(),
                    None => light.saturated(self.saturation),
                };
                self.put(light.shoulder(), x, y);
            }
        }
    }

    /// One pixel. The same noise goes on all three channels: it hides the steps between bytes as well
    /// as three noises would, and the file stays smaller.
    fn put(&mut self, light: Rgb, x: usize, y: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "a picture is at most 2048 pixels wide")]
        let hash = self.grain.hash(x as i32, y as i32);
        let a = (hash & 0xFFFF) as f32 / 65_536.0;
        let b = (hash >> 16) as f32 / 65_536.0;
        let noise = (a + b - 1.0) * (0.7 + self.grain_strength);
        for channel in light.0 {
            let at = saturate(channel).sqrt() * (self.curve.len() - 1) as f32;
            let from = index(at).min(self.curve.len() - 2);
            let level = lerp(self.curve[from], self.curve[from + 1], at - from as f32);
            self.bytes.push(byte(level + 0.5 + noise));
        }
    }

    /// The PNG, without any text in it.
    pub(super) fn encode(self, width: u32, height: u32) -> Result<Vec<u8>, image::ImageError> {
        let mut png = Vec::with_capacity(self.bytes.len() / 2);
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive).write_image(
            &self.bytes,
            width,
            height,
            image::ExtendedColorType::Rgb8,
        )?;
        Ok(png)
    }
}

fn blur_rows(canvas: &mut Canvas, radius: usize) {
    let mut line = Vec::new();
    for y in 0..canvas.height {
        let row = canvas.row_mut(y);
        line.clear();
        line.extend_from_slice(row);
        slide(&line, radius, |x, colour| row[x] = colour);
    }
}

fn blur_columns(canvas: &mut Canvas, radius: usize) {
    let mut line = Vec::new();
    for x in 0..canvas.width {
        line.clear();
        line.extend((0..canvas.height).map(|y| canvas.at(x, y)));
        slide(&line, radius, |y, colour| canvas.row_mut(y)[x] = colour);
    }
}

/// The mean over a window that slides along `line`; its ends go on beyond it.
fn slide(line: &[Rgb], radius: usize, mut put: impl FnMut(usize, Rgb)) {
    let last = line.len() - 1;
    let mut sum = line[0] * (radius + 1) as f32;
    for i in 1..=radius {
        sum = sum + line[i.min(last)];
    }
    let share = 1.0 / (2 * radius + 1) as f32;
    for i in 0..line.len() {
        put(i, sum * share);
        sum = sum + line[(i + radius + 1).min(last)] + line[i.saturating_sub(radius)] * -1.0;
    }
}
