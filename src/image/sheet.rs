//! The side-by-side view: the photo, the overlay next to it, and a legend of the classes with their
//! shares.

use super::canvas::{Canvas, Face, Rgb, TextDirection};
use super::decode::Image;
use super::labels::LabelMap;
use super::legend::{LegendEntry, legend};
use super::overlay::{Overlay, same_size};
use super::palette::ClassTable;
use super::resize::{Fit, resample};
use crate::error::Result;
use crate::geometry::{Position, Size};

/// Background, text, and secondary text.
const PAPER: Rgb = [252, 252, 250];
const INK: Rgb = [32, 34, 38];
const PALE_INK: Rgb = [118, 122, 130];
/// Border of swatches, so that a white class is visible too.
const EDGE: Rgb = [205, 207, 210];
/// Swatch of an untinted background: its table color, often black, does not occur in the overlay.
const UNTINTED: Rgb = [228, 230, 233];

/// Maximum number of legend entries; further classes are summed up in one line.
const MAX_ENTRIES: usize = 30;

/// How the side-by-side image is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SideBySide {
    /// Style of the overlay in the right half.
    pub overlay: Overlay,
    /// Long side of each half, in pixels. Larger photos are scaled down to it.
    pub panel: usize,
    /// Small line of text at the bottom, such as the network's name.
    pub caption: Option<String>,
}

impl Default for SideBySide {
    fn default() -> Self {
        Self { overlay: Overlay::default(), panel: 1600, caption: None }
    }
}

/// Positions and sizes in pixels.
struct Layout {
    face: Face,
    bold: Face,
    margin: usize,
    gap: usize,
    panel: Size,
    /// Width between the margins.
    inner: usize,
    columns: usize,
    /// Width of a legend entry, and the distance from one entry to the next.
    cell: usize,
    pitch: usize,
    row: usize,
}

impl SideBySide {
    /// Draws the photo on the left and the overlay on the right, with a bar of class shares and the
    /// legend below, largest class first.
    ///
    /// # Errors
    /// Returns an error if labels and photo differ in size, or the overlay's opacity is not between
    /// 0 and 1.
    pub fn draw(&self, image: &Image, labels: &LabelMap, table: &ClassTable) -> Result<Image> {
        same_size(image, labels)?;
        let mut entries = legend(labels, table);
        let untinted = table.background().filter(|_| !self.overlay.tint_background);
        for entry in &mut entries {
            if untinted == Some(entry.class.into()) {
                entry.color = UNTINTED;
            }
        }
        let shown = &entries[..entries.len().min(MAX_ENTRIES)];
        let layout = self.layout(image, shown);
        let (photo, overlay) = self.panels(image, labels, table, layout.panel)?;
        let Layout { face, margin, gap, panel, inner, .. } = layout;

        let rows = shown.len().div_ceil(layout.columns);
        let bar = (face.height() / 2).max(6);
        let lines = usize::from(entries.len() > shown.len()) + usize::from(self.caption.is_some());
        let height = margin
            + panel.height
            + margin
            + bar
            + gap
            + rows * layout.row
            + lines * layout.row
            + margin * 2 / 3;
        let mut canvas = Canvas::new(inner + 2 * margin, height, PAPER);

        let left = margin + (inner - (2 * panel.width + gap)) / 2;
        canvas.image(Position::new(left, margin), panel, &photo.rgb);
        canvas.image(Position::new(left + panel.width + gap, margin), panel, &overlay.rgb);
        for x in [left, left + panel.width + gap] {
            canvas.round_corners(x, margin, panel.width, panel.height, face.height() / 3, PAPER);
        }
        let y = margin + panel.height + margin;
        draw_bar(&mut canvas, (margin, y, inner, bar), &entries);
        self.draw_legend(&mut canvas, &layout, y + bar + gap, &entries);
        Image::new(canvas.size(), canvas.rgb)
    }

    /// Draws the entries from row `y` on, the share of those that are not shown, and the caption.
    fn draw_legend(
        &self,
        canvas: &mut Canvas,
        layout: &Layout,
        mut y: usize,
        entries: &[LegendEntry],
    ) {
        let &Layout { face, margin, .. } = layout;
        let shown = &entries[..entries.len().min(MAX_ENTRIES)];
        for (index, entry) in shown.iter().enumerate() {
            let (row, column) = (index / layout.columns, index % layout.columns);
            draw_entry(canvas, layout, margin + column * layout.pitch, y + row * layout.row, entry);
        }
        y += shown.len().div_ceil(layout.columns) * layout.row;
        if let Some(rest) = entries.get(MAX_ENTRIES..).filter(|rest| !rest.is_empty()) {
            let share = 100.0 * rest.iter().map(|e| e.share).sum::<f64>();
            canvas.text(
                margin,
                y,
                &format!("and {} more, {share:.1} % together", rest.len()),
                face,
                TextDirection::Right,
                PALE_INK,
            );
            y += layout.row;
        }
        if let Some(caption) = &self.caption {
            let caption = face.shorten(caption, layout.inner);
            canvas.text(
                margin,
                y + (layout.row - face.height()) / 2,
                &caption,
                face,
                TextDirection::Right,
                PALE_INK,
            );
        }
    }

    fn layout(&self, image: &Image, shown: &[LegendEntry]) -> Layout {
        let long = image.width.max(image.height);
        // Small images are enlarged by an integer factor to be visible at all.
        let grow = (320 / long.max(1)).clamp(1, self.panel.max(1));
        let target = (long * grow).min(self.panel.max(1));
        let side = |n: usize| ((n * target + long / 2) / long).max(1);
        let panel = image.size().map(side);
        let unit = (panel.width.max(panel.height) / 28).clamp(13, 54);
        let (face, bold) = (Face::of_height(unit, false), Face::of_height(unit, true));
        let gap = unit * 2 / 3;
        // Swatch, name, share.
        let widest =
            shown.iter().map(|e| bold.width(&e.name)).max().unwrap_or(0).min(30 * bold.digit());
        let cell = swatch(face) + gap + widest + gap + face.width("100.0 %");
        let inner = (2 * panel.width + gap).max(cell);
        let max_columns = (inner + 2 * unit) / (cell + 2 * unit);
        let columns = max_columns.min(shown.len()).max(1);
        // Full rows end flush with the images; a partial row is left-aligned.
        let pitch = if columns == max_columns && columns > 1 {
            (inner - cell) / (columns - 1)
        } else {
            cell + 2 * unit
        };
        Layout {
            face,
            bold,
            margin: unit * 4 / 3,
            gap,
            panel,
            inner,
            columns,
            cell,
            pitch,
            row: face.height() * 3 / 2,
        }
    }

    fn panels(
        &self,
        image: &Image,
        labels: &LabelMap,
        table: &ClassTable,
        panel: Size,
    ) -> Result<(Image, Image)> {
        let source = image.size();
        let photo = Image::new(panel, resample(&image.rgb, source, panel)?.into_owned())?;
        let fit = Fit { source: panel, scaled: source, padded: source };
        let labels = LabelMap::new(panel, fit.restore_labels(&labels.labels)?)?;
        let overlay = self.overlay.draw(&photo, &labels, table)?;
        Ok((photo, overlay))
    }
}

fn swatch(face: Face) -> usize {
    face.height() - face.height() / 5
}

/// Draws one bar, as wide as the images, divided by the class shares.
fn draw_bar(
    canvas: &mut Canvas,
    (x, y, w, h): (usize, usize, usize, usize),
    entries: &[LegendEntry],
) {
    let mut done = 0.0;
    for entry in entries {
        let from = (done * w as f64).round() as usize;
        done += entry.share;
        let to = (done * w as f64).round() as usize;
        canvas.rect(x + from, y, to.min(w).saturating_sub(from), h, entry.color);
        // A thin gap between neighbors if both are wide enough.
        if from > 0 && to - from > 3 {
            canvas.rect(x + from, y, 1, h, PAPER);
        }
    }
    canvas.round_corners(x, y, w, h, h / 2, PAPER);
}

fn draw_entry(canvas: &mut Canvas, layout: &Layout, x: usize, y: usize, entry: &LegendEntry) {
    let (face, side) = (layout.face, swatch(layout.face));
    let down = (layout.row - side) / 2;
    canvas.rect(x, y + down, side, side, EDGE);
    canvas.round_corners(x, y + down, side, side, side / 4, PAPER);
    canvas.rect(x + 1, y + down + 1, side - 2, side - 2, entry.color);
    canvas.round_corners(x + 1, y + down + 1, side - 2, side - 2, side / 4, EDGE);
    canvas.round_corners(x, y + down, side, side, side / 4, PAPER);
    let text = y + (layout.row - face.height()) / 2;
    let at = x + side + layout.gap;
    let share = entry.percent();
    let available = layout.cell - side - 2 * layout.gap - face.width("100.0 %");
    canvas.text(
        at,
        text,
        &layout.bold.shorten(&entry.name, available),
        layout.bold,
        TextDirection::Right,
        INK,
    );
    canvas.text(
        x + layout.cell - face.width(&share),
        text,
        &share,
        face,
        TextDirection::Right,
        PALE_INK,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(w: usize, h: usize, classes: u16) -> (Image, LabelMap) {
        let labels = (0..w * h).map(|i| (i % usize::from(classes)) as u16).collect();
        (
            Image::new(Size::new(w, h), vec![90; 3 * w * h]).unwrap(),
            LabelMap::new(Size::new(w, h), labels).unwrap(),
        )
    }

    #[test]
    fn sheets_of_any_shape_hold_both_images() {
        for (w, h, classes) in [
            (1, 1, 1),
            (500, 375, 3),
            (375, 500, 21),
            (3000, 40, 5),
            (7, 900, 2),
            (2500, 1900, 200),
        ] {
            let (photo, labels) = image(w, h, classes);
            let sheet =
                SideBySide { caption: Some("a network".into()), panel: 800, ..Default::default() };
            let out =
                sheet.draw(&photo, &labels, &ClassTable::for_classes(classes.into())).unwrap();
            let scale = (800.0 / w.max(h) as f64).min(1.0);
            assert!(
                out.width as f64 >= 2.0 * w as f64 * scale && out.height as f64 > h as f64 * scale,
                "{w} x {h}"
            );
            assert!(
                out.width < 2400 && out.height < 2400,
                "{w} x {h} became {} x {}",
                out.width,
                out.height
            );
            // The photo's gray is unchanged in the left half.
            assert!(
                out.rgb.chunks_exact(3).filter(|p| p == &[90; 3]).count() as f64
                    >= (w * h) as f64 * scale * scale * 0.9
            );
        }
    }

    #[test]
    fn the_bar_is_divided_by_share() {
        let mut canvas = Canvas::new(100, 3, PAPER);
        let entry =
            |share, color| LegendEntry { class: 0, name: String::new(), color, pixels: 1, share };
        draw_bar(&mut canvas, (0, 0, 100, 2), &[entry(0.75, [1; 3]), entry(0.25, [2; 3])]);
        let count = |v: u8| canvas.rgb[..300].chunks_exact(3).filter(|p| p == &[v; 3]).count();
        assert!(
            (73..=75).contains(&count(1)) && (23..=25).contains(&count(2)),
            "{} and {}",
            count(1),
            count(2)
        );
    }
}
