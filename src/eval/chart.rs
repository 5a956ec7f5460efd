//! The confusion matrix as an image.

use super::confusion::Confusion;
use super::scores::Scores;
use crate::error::Result;
use crate::image::canvas::{Canvas, Face, Rgb, TextDirection};
use crate::image::{ClassTable, Image};

const PAPER: Rgb = [252, 252, 250];
const INK: Rgb = [32, 34, 38];
const PALE_INK: Rgb = [118, 122, 130];
const GRID: Rgb = [232, 233, 235];

/// Draws the confusion matrix: rows are the true classes, columns the predicted ones. Each cell is
/// a percentage of its row, from white to dark blue; on the right is each class's IoU. Classes that
/// occur neither in the truth nor in the prediction are omitted.
///
/// # Errors
/// Returns an error if no pixel was counted.
pub fn confusion_chart(confusion: &Confusion, table: &ClassTable) -> Result<Image> {
    let occurs = |&c: &usize| confusion.truth_pixels(c) + confusion.predicted_pixels(c) > 0;
    let classes: Vec<usize> = (0..confusion.classes()).filter(occurs).collect();
    if classes.is_empty() {
        return Err(crate::error::error!(Usage, "cannot draw an empty confusion matrix"));
    }
    let chart = Chart::new(confusion, table, classes);
    let mut canvas = Canvas::new(chart.width(), chart.height(), PAPER);
    chart.draw_titles(&mut canvas);
    for row in 0..chart.classes.len() {
        chart.draw_row(&mut canvas, row);
    }
    chart.draw_summary(&mut canvas, &confusion.scores(table));
    Image::new(canvas.size(), canvas.rgb)
}

/// The contents and measures of a chart.
struct Chart<'a> {
    confusion: &'a Confusion,
    /// The classes that occur, and their names.
    classes: Vec<usize>,
    names: Vec<String>,
    face: Face,
    bold: Face,
    margin: usize,
    /// Side of a cell.
    cell: usize,
    /// Left and top of the matrix.
    start: usize,
    /// Width of the column of IoUs.
    column: usize,
}

impl<'a> Chart<'a> {
    fn new(confusion: &'a Confusion, table: &ClassTable, classes: Vec<usize>) -> Self {
        // Smaller text and cells for many classes, but still legible.
        let face = Face::of_height(if classes.len() > 30 { 13 } else { 15 }, false);
        let bold = Face::of_height(face.height(), true);
        let names: Vec<String> =
            classes.iter().map(|&c| bold.shorten(&table.name(c), 24 * bold.digit())).collect();
        let widest = names.iter().map(|name| bold.width(name)).max().unwrap_or(0);
        let margin = face.height() * 3 / 2;
        Self {
            confusion,
            classes,
            names,
            face,
            bold,
            margin,
            cell: (face.width("100") + face.height()).max(face.height() * 2),
            start: margin + face.height() * 2 + widest + margin / 2,
            column: face.width("IoU %") + margin / 2,
        }
    }

    /// Width and height of the matrix.
    fn side(&self) -> usize {
        self.classes.len() * self.cell
    }

    /// Right end of the column of IoUs.
    fn end(&self) -> usize {
        self.start + self.side() + self.margin / 2 + self.column
    }

    fn width(&self) -> usize {
        self.end() + self.margin
    }

    fn height(&self) -> usize {
        self.start + self.side() + 2 * self.margin + self.face.height()
    }

    fn draw_titles(&self, canvas: &mut Canvas) {
        let (face, margin, start, side) = (self.face, self.margin, self.start, self.side());
        let title = "predicted";
        let x = start + side.saturating_sub(face.width(title)) / 2;
        canvas.text(x, margin / 2, title, face, TextDirection::Right, PALE_INK);
        let title = "true";
        let y = start + (side + face.width(title)) / 2;
        canvas.text(margin / 2, y, title, face, TextDirection::Up, PALE_INK);
        let title = "IoU %";
        let (x, y) = (self.end() - face.width(title), start - margin / 2 - face.height());
        canvas.text(x, y, title, face, TextDirection::Right, PALE_INK);
        canvas.rect(start, start, side + 1, side + 1, GRID);
    }

    /// Draws the cells of a true class, its name in front and above, and its IoU behind.
    fn draw_row(&self, canvas: &mut Canvas, row: usize) {
        let &Self { confusion, face, bold, margin, cell, start, .. } = self;
        let (name, truth) = (&self.names[row], self.classes[row]);
        let y = start + row * cell;
        let middle = y + (cell - face.height()) / 2;
        let x = start - margin / 2 - bold.width(name);
        canvas.text(x, middle, name, bold, TextDirection::Right, INK);
        let x = start + row * cell + (cell - face.height()) / 2;
        canvas.text(x, start - margin / 2, name, bold, TextDirection::Up, INK);
        let total = confusion.truth_pixels(truth);
        for (column, &prediction) in self.classes.iter().enumerate() {
            let share = if total == 0 {
                0.0
            } else {
                confusion.count(truth, prediction) as f64 / total as f64
            };
            let x = start + column * cell;
            canvas.rect(x + 1, y + 1, cell - 1, cell - 1, shade(share));
            let text = percent(share);
            let ink = if share > 0.45 { PAPER } else { INK };
            let x = x + (cell + 1 - face.width(&text)) / 2;
            canvas.text(x, middle, &text, face, TextDirection::Right, ink);
        }
        let iou = confusion.iou(truth).map_or("-".into(), |iou| format!("{:.1}", 100.0 * iou));
        let x = self.end() - bold.width(&iou);
        canvas.text(x, middle, &iou, bold, TextDirection::Right, INK);
    }

    fn draw_summary(&self, canvas: &mut Canvas, scores: &Scores) {
        let figure =
            |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let summary = format!(
            "mIoU {}   pixel accuracy {}",
            figure(scores.mean_iou),
            figure(scores.pixel_accuracy)
        );
        let summary = self.bold.shorten(&summary, self.width() - 2 * self.margin);
        let y = self.height() - self.margin - self.face.height() / 2;
        canvas.text(self.margin, y, &summary, self.bold, TextDirection::Right, INK);
    }
}

/// Color of a cell: white at 0 to dark blue at 1, steeper at the start so that small confusions are
/// visible.
fn shade(share: f64) -> Rgb {
    let stops: [[f64; 3]; 4] =
        [[255.0, 255.0, 255.0], [158.0, 202.0, 225.0], [66.0, 146.0, 198.0], [8.0, 48.0, 107.0]];
    let at = share.clamp(0.0, 1.0).sqrt() * 3.0;
    let from = (at as usize).min(2);
    std::array::from_fn(|c| {
        (stops[from][c] + (stops[from + 1][c] - stops[from][c]) * (at - from as f64)).round() as u8
    })
}

/// Formats whole percents; empty below half a percent.
fn percent(share: f64) -> String {
    if share < 0.005 { String::new() } else { format!("{:.0}", 100.0 * share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_of_any_size_are_drawn_with_a_dark_diagonal() {
        for n in [1, 2, 21, 150] {
            let mut confusion = Confusion::new(n, &[]).unwrap();
            let labels: Vec<u32> = (0..n as u32).collect();
            confusion.add(&labels, &labels).unwrap();
            let chart = confusion_chart(&confusion, &ClassTable::for_classes(n)).unwrap();
            let dark = chart.rgb.chunks_exact(3).filter(|&p| p == shade(1.0)).count();
            assert!(dark > n * 300, "{n} classes: {dark} dark pixels");
            assert!(chart.width < 60 * n + 700 && chart.height < 60 * n + 500);
        }
        assert!(
            confusion_chart(&Confusion::new(2, &[]).unwrap(), &ClassTable::generic(2)).is_err()
        );
    }

    #[test]
    fn classes_that_do_not_occur_are_omitted() {
        let mut confusion = Confusion::new(21, &[]).unwrap();
        confusion.add(&[0u8, 15], &[0u8, 12]).unwrap();
        let few = confusion_chart(&confusion, &ClassTable::voc()).unwrap();
        assert!(few.width < 500, "{} wide", few.width);
    }
}
