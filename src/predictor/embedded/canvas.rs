//! The canvas: linear light, 12 bytes a pixel.

use super::colour::Rgb;
use super::maths::{floor, index, saturate};

/// A picture in the making.
#[derive(Debug)]
pub(super) struct Canvas {
    /// Pixels across.
    pub(super) width: usize,
    /// Pixels down.
    pub(super) height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A black canvas.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![Rgb::BLACK; width * height] }
    }

    /// The pixels of row `y`.
    pub(super) fn row(&self, y: usize) -> &[Rgb] {
        &self.pixels[y * self.width..(y + 1) * self.width]
    }

    /// The pixels of row `y`, to be painted.
    pub(super) fn row_mut(&mut self, y: usize) -> &mut [Rgb] {
        &mut self.pixels[y * self.width..(y + 1) * self.width]
    }

    /// One pixel, which must be on the canvas.
    #[inline]
    pub(super) fn at(&self, x: usize, y: usize) -> Rgb {
        self.pixels[y * self.width + x]
    }

    /// Lays `colour` over one pixel, which must be on the canvas.
    #[inline]
    pub(super) fn blend(&mut self, x: usize, y: usize, colour: Rgb, alpha: f32) {
        let pixel = &mut self.pixels[y * self.width + x];
        *pixel = pixel.mix(colour, alpha);
    }

    /// Adds light to one pixel, which must be on the canvas.
    #[inline]
    pub(super) fn add(&mut self, x: usize, y: usize, light: Rgb) {
        let pixel = &mut self.pixels[y * self.width + x];
        *pixel = *pixel + light;
    }

    /// The light at a point between pixels; beyond an edge the edge goes on.
    pub(super) fn sample(&self, x: f32, y: f32) -> Rgb {
        let x = (x - 0.5).clamp(0.0, (self.width - 1) as f32);
        let y = (y - 0.5).clamp(0.0, (self.height - 1) as f32);
        let (x0, y0) = (index(x), index(y));
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        self.at(x0, y0).mix(self.at(x1, y0), fx).mix(self.at(x0, y1).mix(self.at(x1, y1), fx), fy)
    }

    /// A disc with a soft edge: `soft` is the share of the radius that fades, 0 for a sharp edge.
    pub(super) fn disc(&mut self, centre: [f32; 2], radius: f32, soft: f32, colour: Rgb, alpha: f32) {
        let fade = (radius * soft).max(0.5);
        let inner = radius - fade;
        self.around(centre, radius + 1.0, |canvas, x, y, distance| {
            let cover = saturate((radius + 0.5 - distance) / (radius + 0.5 - inner));
            if cover > 0.0 {
                canvas.blend(x, y, colour, alpha * cover);
            }
        });
    }

    /// Light that falls off around `centre` to nothing at `radius`.
    pub(super) fn glow(&mut self, centre: [f32; 2], radius: f32, light: Rgb) {
        self.around(centre, radius, |canvas, x, y, distance| {
            let t = saturate(1.0 - distance / radius);
            canvas.add(x, y, light * (t * t * t));
        });
    }

    /// A straight stroke with round ends, tapering from `widths[0]` to `widths[1]`.
    pub(super) fn stroke(&mut self, from: [f32; 2], to: [f32; 2], widths: [f32; 2], colour: Rgb, alpha: f32) {
        // What is thinner than a pixel is drawn a pixel wide, and paler.
        let reach = widths[0].max(widths[1]).max(1.0) * 0.5 + 1.0;
        let along = [to[0] - from[0], to[1] - from[1]];
        let length2 = (along[0] * along[0] + along[1] * along[1]).max(1e-6);
        let rows = self.span(from[1].min(to[1]) - reach, from[1].max(to[1]) + reach, self.height);
        for y in rows {
            let py = y as f32 + 0.5 - from[1];
            // Only the part of the row near the stroke is looked at.
            let (low, high) = if along[1].abs() > 1e-3 {
                let a = saturate((py - reach) / along[1]);
                let b = saturate((py + reach) / along[1]);
                (along[0] * a, along[0] * b)
            } else {
                (0.0, along[0])
            };
            let cols =
                self.span(from[0] + low.min(high) - reach, from[0] + low.max(high) + reach, self.width);
            for x in cols {
                let px = x as f32 + 0.5 - from[0];
                let t = saturate((px * along[0] + py * along[1]) / length2);
                let (dx, dy) = (px - along[0] * t, py - along[1] * t);
                let width = widths[0] + (widths[1] - widths[0]) * t;
                let half = width.max(1.0) * 0.5;
                let cover = saturate(half + 0.5 - (dx * dx + dy * dy).sqrt()) * width.min(1.0);
                if cover > 0.0 {
                    self.blend(x, y, colour, alpha * cover);
                }
            }
        }
    }

    /// The pixels from `low` to `high` that are on the canvas, which has `size` of them.
    pub(super) fn span(&self, low: f32, high: f32, size: usize) -> std::ops::Range<usize> {
        let end = index((high + 1.0).max(0.0)).min(size);
        let start = usize::try_from(floor(low).max(0)).unwrap_or(0).min(end);
        start..end
    }

    fn around(&mut self, centre: [f32; 2], radius: f32, mut paint: impl FnMut(&mut Self, usize, usize, f32)) {
        let [cx, cy] = centre;
        for y in self.span(cy - radius, cy + radius, self.height) {
            let dy = y as f32 + 0.5 - cy;
            let half = (radius * radius - dy * dy).max(0.0).sqrt() + 1.0;
            for x in self.span(cx - half, cx + half, self.width) {
                let dx = x as f32 + 0.5 - cx;
                paint(self, x, y, (dx * dx + dy * dy).sqrt());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disc_covers_its_area() {
        let mut canvas = Canvas::new(64, 64);
        canvas.disc([31.3, 30.8], 10.0, 0.0, Rgb::grey(1.0), 1.0);
        let area: f32 = (0..64).flat_map(|y| canvas.row(y).to_vec()).map(|p| p.0[0]).sum();
        assert!((area - 314.0).abs() < 12.0, "{area}");
    }

    #[test]
    fn shapes_off_the_canvas_paint_what_is_on_it() {
        let mut canvas = Canvas::new(16, 8);
        canvas.disc([-3.0, 20.0], 4.0, 0.5, Rgb::grey(1.0), 1.0);
        canvas.glow([-500.0, 4.0], 100.0, Rgb::grey(1.0));
        assert!((0..8).all(|y| canvas.row(y).iter().all(|p| *p == Rgb::BLACK)));
        canvas.stroke([-10.0, 4.0], [30.0, 4.0], [3.0, 3.0], Rgb::grey(1.0), 1.0);
        assert_eq!(canvas.at(0, 4), Rgb::grey(1.0));
    }
}
