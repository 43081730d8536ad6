//! Outlines, and filling them with exact coverage.

use super::canvas::Canvas;
use super::colour::Rgb;
use super::maths::{floor, index};

/// A point in pixels.
pub(super) type Point = [f32; 2];

/// A closed outline, or several.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    contours: Vec<Vec<Point>>,
}

/// How an outline's own units become pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where the outline's origin goes.
    pub(super) at: Point,
    /// Pixels to one of its units; negative across mirrors it.
    pub(super) scale: [f32; 2],
}

impl Place {
    /// A point of the outline, in pixels.
    pub(super) fn apply(&self, [x, y]: Point) -> Point {
        [self.at[0] + x * self.scale[0], self.at[1] + y * self.scale[1]]
    }
}

impl Shape {
    /// One contour through `points`.
    pub(super) fn polygon(points: Vec<Point>) -> Self {
        Self { contours: vec![points] }
    }

    /// An upright box.
    pub(super) fn rect(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        Self::polygon(vec![[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    /// Reads an outline in the manner of SVG paths: `M`, `L`, `Q`, `C`, `Z`, absolute, separated by
    /// spaces; unknown words end it.
    pub(super) fn parse(outline: &str, place: Place) -> Self {
        let mut shape = Self::default();
        let mut words = outline.split_ascii_whitespace();
        let mut pen = [0.0; 2];
        while let Some(command) = words.next() {
            let count = match command {
                "M" | "L" => 1,
                "Q" => 2,
                "C" => 3,
                "Z" => continue,
                _ => break,
            };
            let mut points = [[0.0_f32; 2]; 3];
            for point in points.iter_mut().take(count) {
                let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
                *point = [number(), number()];
            }
            shape.extend(command, pen, points, place);
            pen = points[count - 1];
        }
        shape
    }

    fn extend(&mut self, command: &str, pen: Point, points: [Point; 3], place: Place) {
        if command == "M" || self.contours.is_empty() {
            self.contours.push(Vec::new());
        }
        let Some(contour) = self.contours.last_mut() else { return };
        let [a, b, c] = points;
        match command {
            "Q" => {
                let third =
                    |p: Point, q: Point| [p[0] + (q[0] - p[0]) * 2.0 / 3.0, p[1] + (q[1] - p[1]) * 2.0 / 3.0];
                curve(contour, [pen, third(pen, a), third(b, a), b], place);
            }
            "C" => curve(contour, [pen, a, b, c], place),
            _ => contour.push(place.apply(a)),
        }
    }

    /// Fills it; `shade` gives the colour and the opacity at a pixel's centre.
    pub(super) fn fill(&self, canvas: &mut Canvas, shade: impl Fn(f32, f32) -> (Rgb, f32)) {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for point in self.contours.iter().flatten() {
            for k in 0..2 {
                low[k] = low[k].min(point[k]);
                high[k] = high[k].max(point[k]);
            }
        }
        let cols = canvas.span(low[0], high[0], canvas.width);
        let rows = canvas.span(low[1], high[1], canvas.height);
        if cols.is_empty() || rows.is_empty() || low[0] > high[0] {
            return;
        }
        let mut cover = Coverage::new(cols.start, rows.start, cols.len(), rows.len());
        for contour in &self.contours {
            for (i, &from) in contour.iter().enumerate() {
                cover.edge(from, contour[(i + 1) % contour.len()]);
            }
        }
        for (j, y) in rows.enumerate() {
            let mut sum = 0.0_f32;
            for (i, x) in cols.clone().enumerate() {
                sum += cover.cells[j * cover.stride + i];
                let alpha = sum.abs().min(1.0);
                if alpha > 0.002 {
                    let (colour, opacity) = shade(x as f32 + 0.5, y as f32 + 0.5);
                    canvas.blend(x, y, colour, alpha * opacity);
                }
            }
        }
    }

    /// Fills it with one colour.
    pub(super) fn paint(&self, canvas: &mut Canvas, colour: Rgb, alpha: f32) {
        self.fill(canvas, |_, _| (colour, alpha));
    }
}

fn curve(contour: &mut Vec<Point>, points: [Point; 4], place: Place) {
    const PIECES: u8 = 14;
    for i in 1..=PIECES {
        let t = f32::from(i) / f32::from(PIECES);
        let s = 1.0 - t;
        let weights = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
        let along = |k: usize| points.iter().zip(weights).map(|(p, w)| p[k] * w).sum::<f32>();
        contour.push(place.apply([along(0), along(1)]));
    }
}

/// Signed area that edges add to each pixel; the running sum along a row is what is covered.
struct Coverage {
    x: f32,
    y: f32,
    width: usize,
    height: usize,
    stride: usize,
    cells: Vec<f32>,
}

impl Coverage {
    fn new(x: usize, y: usize, width: usize, height: usize) -> Self {
        let stride = width + 2;
        Self { x: x as f32, y: y as f32, width, height, stride, cells: vec![0.0; stride * height] }
    }

    fn edge(&mut self, from: Point, to: Point) {
        let sign = if from[1] < to[1] { 1.0 } else { -1.0 };
        let (upper, lower) = if from[1] < to[1] { (from, to) } else { (to, from) };
        let slope = (lower[0] - upper[0]) / (lower[1] - upper[1]);
        if !slope.is_finite() {
            return;
        }
        let top = (upper[1] - self.y).max(0.0);
        let bottom = (lower[1] - self.y).min(self.height as f32);
        let mut y = top;
        while y < bottom {
            let row = index(y);
            let next = ((row + 1) as f32).min(bottom);
            let x0 = upper[0] - self.x + (y + self.y - upper[1]) * slope;
            let x1 = upper[0] - self.x + (next + self.y - upper[1]) * slope;
            self.span(row, x0.min(x1), x0.max(x1), (next - y) * sign);
            if next <= y {
                break;
            }
            y = next;
        }
    }

    /// An edge that goes `height` down within one row, from `left` to `right`.
    fn span(&mut self, row: usize, left: f32, right: f32, height: f32) {
        let limit = self.width as f32;
        let (left, right) = (left.clamp(0.0, limit), right.clamp(0.0, limit));
        let cells = &mut self.cells[row * self.stride..(row + 1) * self.stride];
        let first = index(left);
        if right - left < 1e-4 || floor(right) == floor(left) {
            let inside = 1.0 - ((left + right) * 0.5 - first as f32);
            cells[first] += height * inside;
            cells[first + 1] += height * (1.0 - inside);
            return;
        }
        let per_pixel = height / (right - left);
        let mut x = left;
        let mut cell = first;
        while x < right && cell < self.width {
            let next = ((cell + 1) as f32).min(right);
            let share = (next - x) * per_pixel;
            let inside = 1.0 - ((x + next) * 0.5 - cell as f32);
            cells[cell] += share * inside;
            cells[cell + 1] += share * (1.0 - inside);
            x = next;
            cell += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(shape: &Shape) -> f32 {
        let mut canvas = Canvas::new(40, 40);
        shape.paint(&mut canvas, Rgb::grey(1.0), 1.0);
        (0..40).flat_map(|y| canvas.row(y).to_vec()).map(|p| p.0[0]).sum()
    }

    #[test]
    fn fill_of_a_rectangle_covers_its_exact_area() {
        assert!((area(&Shape::rect(2.25, 3.5, 12.75, 9.25)) - 10.5 * 5.75).abs() < 0.05);
        assert!((area(&Shape::rect(-10.0, -5.0, 4.5, 3.0)) - 13.5).abs() < 0.05);
    }

    #[test]
    fn fill_of_a_slanted_triangle_covers_its_exact_area() {
        let triangle = Shape::polygon(vec![[5.3, 4.1], [33.7, 12.9], [11.2, 36.4]]);
        let exact = 0.5 * ((33.7 - 5.3) * (36.4 - 4.1) - (11.2 - 5.3) * (12.9 - 4.1_f32));
        assert!((area(&triangle) - exact).abs() < 0.5);
        assert!(area(&Shape::polygon(vec![[60.0, 4.0], [70.0, 12.0], [65.0, 20.0]])) < 1e-6);
    }

    #[test]
    fn parse_of_curves_closes_the_outline() {
        let place = Place { at: [20.0, 20.0], scale: [10.0, 10.0] };
        let circle = "M 1 0 C 1 0.5523 0.5523 1 0 1 C -0.5523 1 -1 0.5523 -1 0 C -1 -0.5523 -0.5523 -1 0 -1 C 0.5523 -1 1 -0.5523 1 0 Z";
        assert!((area(&Shape::parse(circle, place)) - 314.0).abs() < 4.0);
    }
}
