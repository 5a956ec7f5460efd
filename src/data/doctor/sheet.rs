//! Contact sheet of images with their masks, on which people spot label errors that the checks do
//! not find.

use super::{CheckedPair, Examination};
use crate::error::{Result, error};
use crate::geometry::{Position, Size};
use crate::image::canvas::{Canvas, Face, Rgb, TextDirection};
use crate::image::{ClassTable, Image, LabelMap, Overlay, SizeRule, resample};
use rayon::prelude::*;

const PAPER: Rgb = [252, 252, 250];
const INK: Rgb = [32, 34, 38];
const PALE_INK: Rgb = [118, 122, 130];
const FAULT: Rgb = [200, 40, 40];
const IGNORED: Rgb = [20, 20, 22];
/// Legend color of the background class, which is not tinted in the images.
const UNTINTED: Rgb = [228, 230, 233];

/// Maximum number of cells in a row.
const COLUMNS: usize = 4;
/// Maximum width and height of an image in a cell.
const CELL: Size = Size::new(360, 270);
const GAP: usize = 16;

impl Examination {
    /// Draws up to `max_images` images overlaid with their masks, and a legend with the classes'
    /// names and frequencies. Shows every class if that many images suffice; the rest is spread
    /// evenly over the splits. Images with findings have a red name.
    ///
    /// # Errors
    /// Returns an error if no pair can be drawn.
    pub fn sheet(&self, max_images: usize) -> Result<Image> {
        let chosen = self.choose_pairs(max_images);
        let mut table = self.classes.vivid();
        // Distinguish ignored pixels from all classes.
        for ignored in &mut table.ignored {
            ignored.color = IGNORED;
        }
        let cells: Vec<(&CheckedPair, Image)> =
            chosen.par_iter().filter_map(|pair| Some((*pair, self.cell(pair, &table)?))).collect();
        if cells.is_empty() {
            return Err(error!(Data, "no pair can be drawn").file(&self.root));
        }
        let (face, bold) = (Face::of_height(15, false), Face::of_height(15, true));
        let columns = COLUMNS.min(cells.len());
        let (pitch_x, pitch_y) = (CELL.width + GAP, CELL.height + face.height() + GAP);
        let width = (columns * pitch_x + GAP).max(2 * CELL.width);
        let entries = self.legend(&table);
        let entry_width =
            entries.iter().map(|e| face.height() + GAP + face.width(&e.1)).max().unwrap_or(1)
                + 2 * GAP;
        let per_row = ((width - 2 * GAP) / entry_width).max(1);
        let rows = cells.len().div_ceil(columns);
        let legend = entries.len().div_ceil(per_row) * face.height() * 3 / 2;
        let mut canvas = Canvas::new(width, 2 * GAP + rows * pitch_y + legend + GAP, PAPER);
        for (index, (checked, image)) in cells.iter().enumerate() {
            let (x, y) = (GAP + index % columns * pitch_x, GAP + index / columns * pitch_y);
            let (left, top) = ((CELL.width - image.width) / 2, (CELL.height - image.height) / 2);
            canvas.image(Position::new(x + left, y + top), image.size(), &image.rgb);
            let name = face.shorten(&checked.pair.name, CELL.width);
            let (face, ink) = if checked.findings.is_empty() { (face, INK) } else { (bold, FAULT) };
            canvas.text(x, y + CELL.height + 2, &name, face, TextDirection::Right, ink);
        }
        let top = GAP + rows * pitch_y + GAP / 2;
        for (index, (color, text)) in entries.iter().enumerate() {
            let x = GAP + index % per_row * entry_width;
            let y = top + index / per_row * face.height() * 3 / 2;
            canvas.rect(x, y, face.height(), face.height(), *color);
            canvas.text(
                x + face.height() + GAP / 2,
                y,
                text,
                face,
                TextDirection::Right,
                if text.starts_with('-') { PALE_INK } else { INK },
            );
        }
        Image::new(canvas.size(), canvas.rgb)
    }

    fn legend(&self, table: &ClassTable) -> Vec<(Rgb, String)> {
        let mut pixels = vec![0u64; table.len()];
        for class in self.splits.iter().flat_map(|split| &split.classes) {
            pixels[class.class] += class.pixels;
        }
        let total = pixels.iter().sum::<u64>().max(1) as f64;
        let text = |class: usize| {
            format!("{class} {} {:.1} %", table.name(class), 100.0 * pixels[class] as f64 / total)
        };
        let color = |class: usize| {
            if table.background() == Some(class) { UNTINTED } else { table.colors[class] }
        };
        let entries = (0..table.len()).filter(|&c| pixels[c] > 0).map(|c| (color(c), text(c)));
        let ignored = self.splits.iter().any(|split| split.ignored > 0);
        entries.chain(ignored.then(|| (IGNORED, "- ignored".to_owned()))).collect()
    }

    /// Chooses pairs that can be drawn: for each class that is not covered yet, the one with most
    /// of its pixels; then some with findings; then evenly over all.
    fn choose_pairs(&self, max_images: usize) -> Vec<&CheckedPair> {
        let pairs = self.checked.iter().flatten();
        let all: Vec<&CheckedPair> =
            pairs.filter(|pair| pair.size.is_some() && pair.counts.is_some()).collect();
        let pixels = |at: usize, class: usize| {
            all[at].counts.as_ref().and_then(|c| c.get(&(class as u16))).copied().unwrap_or(0)
        };
        let mut chosen: Vec<usize> = Vec::new();
        for class in 0..self.classes.len() {
            if chosen.len() < max_images && chosen.iter().all(|&at| pixels(at, class) == 0) {
                let best = (0..all.len())
                    .max_by_key(|&at| pixels(at, class))
                    .filter(|&at| pixels(at, class) > 0);
                chosen.extend(best);
            }
        }
        let flagged = (0..all.len()).filter(|&at| !all[at].findings.is_empty());
        let spread =
            (0..max_images).map(|i| i * all.len() / max_images.max(1)).filter(|&at| at < all.len());
        for at in flagged.take(max_images / 3).chain(spread) {
            if chosen.len() < max_images && !chosen.contains(&at) {
                chosen.push(at);
            }
        }
        chosen.sort_unstable();
        chosen.into_iter().map(|at| all[at]).collect()
    }

    /// Draws a pair at the size of a cell. Returns `None` if it can no longer be read.
    fn cell(&self, checked: &CheckedPair, table: &ClassTable) -> Option<Image> {
        let (image, mut mask) = checked.pair.load(Some(&self.classes)).ok()?;
        let fit = SizeRule::Exact(CELL).fit(image.size());
        let Size { width: w, height: h } = fit.scaled;
        // Draw all pixels that count in no loss as ignored.
        let ignored = self.classes.ignored_values();
        let counts = |label: &u16| {
            usize::from(*label) < self.classes.len() && !ignored.contains(&u32::from(*label))
        };
        for label in mask.labels.iter_mut().filter(|l| !counts(l)) {
            *label = 255;
        }
        let at = |x: usize, y: usize| {
            mask.labels[(2 * y + 1) * mask.height / (2 * h) * mask.width
                + (2 * x + 1) * mask.width / (2 * w)]
        };
        let labels = (0..w * h).map(|i| at(i % w, i / w)).collect();
        let small = resample(&image.rgb, image.size(), fit.scaled).ok()?;
        let small = Image::new(fit.scaled, small.into_owned()).ok()?;
        let mut table = table.clone();
        if table.len() <= 255 && !table.ignored_values().contains(&255) {
            table.ignored.push(crate::image::IgnoredLabel {
                label: 255,
                name: "ignored".into(),
                color: IGNORED,
            });
        }
        Overlay { opacity: 0.5, ..Overlay::default() }
            .draw(&small, &LabelMap::new(fit.scaled, labels).ok()?, &table)
            .ok()
    }
}
