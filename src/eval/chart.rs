//! The confusion matrix as an image.

use super::confusion::Confusion;
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
    let n = classes.len();
    // Smaller text and cells for many classes, but still legible.
    let face = Face::of_height(if n > 30 { 13 } else { 15 }, false);
    let bold = Face::of_height(face.height(), true);
    let names: Vec<String> =
        classes.iter().map(|&c| bold.shorten(&table.name(c), 24 * bold.advance())).collect();
    let widest = names.iter().map(|name| bold.width(name)).max().unwrap_or(0);
    let margin = face.height() * 3 / 2;
    let cell = (face.width("100") + face.height()).max(face.height() * 2);
    let left = margin + face.height() * 2 + widest + margin / 2;
    let top = left;
    let column = face.width("IoU %") + margin / 2;
    let width = left + n * cell + margin / 2 + column + margin;
    let height = top + n * cell + 2 * margin + face.height();
    let mut canvas = Canvas::new(width, height, PAPER);

    let title = "predicted";
    canvas.text(
        left + (n * cell).saturating_sub(face.width(title)) / 2,
        margin / 2,
        title,
        face,
        TextDirection::Right,
        PALE_INK,
    );
    let title = "true";
    canvas.text(
        margin / 2,
        top + (n * cell + face.width(title)) / 2,
        title,
        face,
        TextDirection::Up,
        PALE_INK,
    );
    canvas.rect(left, top, n * cell + 1, n * cell + 1, GRID);
    for (row, &truth) in classes.iter().enumerate() {
        let y = top + row * cell;
        let middle = y + (cell - face.height()) / 2;
        let name = &names[row];
        canvas.text(
            left - margin / 2 - bold.width(name),
            middle,
            name,
            bold,
            TextDirection::Right,
            INK,
        );
        canvas.text(
            left + row * cell + (cell - face.height()) / 2,
            top - margin / 2,
            name,
            bold,
            TextDirection::Up,
            INK,
        );
        let total = confusion.truth_pixels(truth);
        for (column, &prediction) in classes.iter().enumerate() {
            let share = if total == 0 {
                0.0
            } else {
                confusion.count(truth, prediction) as f64 / total as f64
            };
            let x = left + column * cell;
            canvas.rect(x + 1, y + 1, cell - 1, cell - 1, shade(share));
            let text = percent(share);
            let ink = if share > 0.45 { PAPER } else { INK };
            canvas.text(
                x + (cell + 1 - face.width(&text)) / 2,
                middle,
                &text,
                face,
                TextDirection::Right,
                ink,
            );
        }
        let iou = confusion.iou(truth).map_or("-".into(), |iou| format!("{:.1}", 100.0 * iou));
        let end = left + n * cell + margin / 2 + column;
        canvas.text(end - bold.width(&iou), middle, &iou, bold, TextDirection::Right, INK);
    }
    let heading = "IoU %";
    let end = left + n * cell + margin / 2 + column;
    canvas.text(
        end - face.width(heading),
        top - margin / 2 - face.height(),
        heading,
        face,
        TextDirection::Right,
        PALE_INK,
    );
    let scores = confusion.scores(table);
    let figure = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
    let summary = format!(
        "mIoU {}   pixel accuracy {}",
        figure(scores.mean_iou),
        figure(scores.pixel_accuracy)
    );
    let summary = bold.shorten(&summary, width - 2 * margin);
    canvas.text(
        margin,
        height - margin - face.height() / 2,
        &summary,
        bold,
        TextDirection::Right,
        INK,
    );
    Image::new(canvas.size(), canvas.rgb)
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
