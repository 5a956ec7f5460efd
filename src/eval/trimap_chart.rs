//! Chart of the mIoU against the width of the band around borders.

use super::trimap::Band;
use crate::error::{Result, error};
use crate::geometry::{Position, Size};
use crate::image::Image;
use crate::image::canvas::{Canvas, Face, Rgb, TextDirection};

const PAPER: Rgb = [252, 252, 250];
const INK: Rgb = [32, 34, 38];
const PALE_INK: Rgb = [118, 122, 130];
const GRID: Rgb = [226, 228, 230];
const LINE: Rgb = [35, 96, 197];

/// Size of the image.
const SIZE: Size = Size::new(720, 440);
/// Top left corner of the plot area.
const CORNER: Position = Position::new(76, 44);
/// Size of the plot area.
const PLOT: Size = Size::new(612, 324);

/// The plot area's scale: widths of bands along x, percentages along y.
struct Scale {
    widest: f64,
    bottom: f64,
    top: f64,
}

impl Scale {
    /// Returns the scale for points of width and percentage, `None` without points.
    fn of(points: &[(f64, f64)]) -> Option<Self> {
        let widest = points.iter().map(|p| p.0).reduce(f64::max)?;
        let (low, high) =
            points.iter().fold((100.0f64, 0.0f64), |(low, high), p| (low.min(p.1), high.max(p.1)));
        // Multiples of ten around the values, at least twenty apart, so that small differences do
        // not look large.
        let (bottom, top) = ((low / 10.0).floor() * 10.0, (high / 10.0).ceil() * 10.0);
        let bottom = if top - bottom < 20.0 { (top - 20.0).max(0.0) } else { bottom };
        Some(Self { widest, bottom, top: top.max(bottom + 20.0) })
    }

    fn x(&self, width: f64) -> f64 {
        CORNER.x as f64 + width / self.widest * PLOT.width as f64
    }

    fn y(&self, percentage: f64) -> f64 {
        let from_top = (self.top - percentage) / (self.top - self.bottom);
        CORNER.y as f64 + from_top * PLOT.height as f64
    }
}

/// Draws the mIoU of bands against their width, as in figure 5 of the DeepLabv3+ paper.
///
/// # Errors
/// Returns an error if no band contains a pixel.
pub fn trimap_chart(bands: &[Band]) -> Result<Image> {
    let points: Vec<(f64, f64)> =
        bands.iter().filter_map(|b| Some((b.width, 100.0 * b.mean_iou?))).collect();
    let Some(scale) = Scale::of(&points) else {
        return Err(error!(Usage, "cannot draw trimap bands without pixels")
            .advice("the masks contain no void or no border; try another --trimap-around"));
    };
    let bold = Face::of_height(15, true);
    let mut canvas = Canvas::new(SIZE.width, SIZE.height, PAPER);
    canvas.text(CORNER.x, 14, "mIoU in a band around borders", bold, TextDirection::Right, INK);
    draw_axes(&mut canvas, &scale, &points);
    let at = |(width, percentage)| (scale.x(width), scale.y(percentage));
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (at(pair[0]), at(pair[1]));
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0) as usize * 2;
        for i in 0..=steps {
            let t = i as f64 / steps as f64;
            dot(&mut canvas, x0 + (x1 - x0) * t, y0 + (y1 - y0) * t, 3);
        }
    }
    for &point in &points {
        let (x, y) = at(point);
        dot(&mut canvas, x, y, 9);
    }
    Image::new(canvas.size(), canvas.rgb)
}

/// Draws the grid, both axes and their numbers.
fn draw_axes(canvas: &mut Canvas, scale: &Scale, points: &[(f64, f64)]) {
    let face = Face::of_height(15, false);
    let step = if scale.top - scale.bottom > 50.0 { 10.0 } else { 5.0 };
    for i in 0..=((scale.top - scale.bottom) / step) as usize {
        let value = scale.bottom + step * i as f64;
        let (text, at) = (format!("{value:.0} %"), scale.y(value) as usize);
        canvas.rect(CORNER.x, at, PLOT.width, 1, GRID);
        canvas.text(
            CORNER.x - 10 - face.width(&text),
            at.saturating_sub(face.height() / 2),
            &text,
            face,
            TextDirection::Right,
            PALE_INK,
        );
    }
    let floor = CORNER.y + PLOT.height;
    canvas.rect(CORNER.x, floor, PLOT.width, 1, PALE_INK);
    let mut next_free = 0;
    for &(w, _) in points {
        let text = format!("{w}");
        let start = (scale.x(w) as usize).saturating_sub(face.width(&text) / 2);
        canvas.rect(scale.x(w) as usize, floor, 1, 6, PALE_INK);
        // Skip labels that would overlap the previous one.
        if start >= next_free {
            canvas.text(start, floor + 9, &text, face, TextDirection::Right, PALE_INK);
            next_free = start + face.width(&text) + face.digit();
        }
    }
    let axis = "width of the band, pixels to each side";
    canvas.text(
        CORNER.x + (PLOT.width - face.width(axis)) / 2,
        SIZE.height - 28,
        axis,
        face,
        TextDirection::Right,
        INK,
    );
}

fn dot(canvas: &mut Canvas, x: f64, y: f64, size: usize) {
    let corner = |v: f64| (v.round() as usize).saturating_sub(size / 2);
    canvas.rect(corner(x), corner(y), size, size, LINE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_where_wider_bands_score_better() {
        let band = |width: f64, mean_iou| Band { width, pixels: 1, mean_iou, pixel_accuracy: None };
        let bands =
            [band(1.0, Some(0.3)), band(2.0, None), band(10.0, Some(0.5)), band(40.0, Some(0.75))];
        let chart = trimap_chart(&bands).unwrap();
        // The topmost pixel of the line in a column.
        let top = |x: usize| {
            (0..chart.height).find(|y| chart.rgb[3 * (y * chart.width + x)..][..3] == LINE).unwrap()
        };
        assert!(
            top(100) > top(230) && top(230) > top(600),
            "{} {} {}",
            top(100),
            top(230),
            top(600)
        );
        assert!(trimap_chart(&[band(1.0, None)]).is_err());
        assert!(trimap_chart(&[band(1.0, Some(1.0))]).is_ok());
    }
}
