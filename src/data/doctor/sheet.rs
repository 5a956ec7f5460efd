//! A sheet of images with their masks over them: what is wrong with labels is seen sooner than it
//! is computed.

use super::{Examination, Seen};
use crate::error::{Result, error};
use crate::image::canvas::{Canvas, Face, Rgb, TextDirection};
use crate::image::{ClassTable, Image, LabelMap, Overlay, SizeRule, resample};
use rayon::prelude::*;

const PAPER: Rgb = [252, 252, 250];
const INK: Rgb = [32, 34, 38];
const PALE_INK: Rgb = [118, 122, 130];
const FAULT: Rgb = [200, 40, 40];
const IGNORED: Rgb = [20, 20, 22];
/// For the background, which is drawn as it is.
const UNTINTED: Rgb = [228, 230, 233];

/// Cells of a row, and the width and height that an image has in one.
const COLUMNS: usize = 4;
const CELL: (usize, usize) = (360, 270);
const GAP: usize = 16;

impl Examination {
    /// Draws up to `most` images with their masks over them, with the classes' names and shares
    /// below. Every class is among them where that many images suffice; the rest is spread evenly
    /// over the parts. Images with findings have a red name.
    ///
    /// Errors where no pair can be drawn.
    pub fn sheet(&self, most: usize) -> Result<Image> {
        let chosen = self.choose(most);
        let mut table = self.classes.vivid();
        // Nothing may look like what is ignored.
        table.ignored.iter_mut().for_each(|i| i.color = IGNORED);
        let cells: Vec<(&Seen, Image)> =
            chosen.par_iter().filter_map(|seen| Some((*seen, self.cell(seen, &table)?))).collect();
        if cells.is_empty() {
            return Err(error!(Data, "has no pair that could be drawn").file(&self.root));
        }
        let (face, bold) = (Face::of_height(15, false), Face::of_height(15, true));
        let columns = COLUMNS.min(cells.len());
        let (pitch_x, pitch_y) = (CELL.0 + GAP, CELL.1 + face.height() + GAP);
        let width = (columns * pitch_x + GAP).max(2 * CELL.0);
        let entries = self.legend(&table);
        let entry =
            entries.iter().map(|e| face.height() + GAP + face.width(&e.1)).max().unwrap_or(1)
                + 2 * GAP;
        let across = ((width - 2 * GAP) / entry).max(1);
        let rows = cells.len().div_ceil(columns);
        let legend = entries.len().div_ceil(across) * face.height() * 3 / 2;
        let mut canvas = Canvas::new(width, 2 * GAP + rows * pitch_y + legend + GAP, PAPER);
        for (index, (seen, image)) in cells.iter().enumerate() {
            let (x, y) = (GAP + index % columns * pitch_x, GAP + index / columns * pitch_y);
            let (left, top) = ((CELL.0 - image.width) / 2, (CELL.1 - image.height) / 2);
            canvas.image(x + left, y + top, (image.width, image.height), &image.rgb);
            let name = face.shorten(&seen.pair.name, CELL.0);
            let (face, ink) = if seen.findings.is_empty() { (face, INK) } else { (bold, FAULT) };
            canvas.text(x, y + CELL.1 + 2, &name, face, TextDirection::Right, ink);
        }
        let top = GAP + rows * pitch_y + GAP / 2;
        for (index, (color, text)) in entries.iter().enumerate() {
            let (x, y) =
                (GAP + index % across * entry, top + index / across * face.height() * 3 / 2);
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
        Image::new(canvas.width, canvas.height, canvas.rgb)
    }

    fn legend(&self, table: &ClassTable) -> Vec<(Rgb, String)> {
        let mut pixels = vec![0u64; table.len()];
        self.parts.iter().flat_map(|p| &p.classes).for_each(|c| pixels[c.class] += c.pixels);
        let all = pixels.iter().sum::<u64>().max(1) as f64;
        let text = |class: usize| {
            format!("{class} {} {:.1} %", table.name(class), 100.0 * pixels[class] as f64 / all)
        };
        let color = |class: usize| {
            if table.background() == Some(class) { UNTINTED } else { table.colors[class] }
        };
        let entries = (0..table.len()).filter(|&c| pixels[c] > 0).map(|c| (color(c), text(c)));
        let ignored = self.parts.iter().any(|p| p.ignored > 0);
        entries.chain(ignored.then(|| (IGNORED, "- ignored".to_owned()))).collect()
    }

    /// Images that can be drawn: for each class that none has yet, the one with most of it; then
    /// evenly over all.
    fn choose(&self, most: usize) -> Vec<&Seen> {
        let all: Vec<&Seen> =
            self.seen.iter().flatten().filter(|s| s.size.is_some() && s.counts.is_some()).collect();
        let pixels = |at: usize, class: usize| {
            all[at].counts.as_ref().and_then(|c| c.get(&(class as u16))).copied().unwrap_or(0)
        };
        let mut chosen: Vec<usize> = Vec::new();
        for class in 0..self.classes.len() {
            if chosen.len() < most && chosen.iter().all(|&at| pixels(at, class) == 0) {
                let best = (0..all.len())
                    .max_by_key(|&at| pixels(at, class))
                    .filter(|&at| pixels(at, class) > 0);
                chosen.extend(best);
            }
        }
        let flagged = (0..all.len()).filter(|&at| !all[at].findings.is_empty());
        let spread = (0..most).map(|i| i * all.len() / most.max(1)).filter(|&at| at < all.len());
        for at in flagged.take(most / 3).chain(spread) {
            if chosen.len() < most && !chosen.contains(&at) {
                chosen.push(at);
            }
        }
        chosen.sort_unstable();
        chosen.into_iter().map(|at| all[at]).collect()
    }

    /// A pair drawn at the cell's size; `None` where it cannot be read any more.
    fn cell(&self, seen: &Seen, table: &ClassTable) -> Option<Image> {
        let (image, mut mask) = seen.pair.load(Some(&self.classes)).ok()?;
        let fit = SizeRule::Exact { w: CELL.0, h: CELL.1 }.fit(image.width, image.height);
        let (w, h) = fit.scaled;
        // What counts in no loss is drawn as such.
        let ignored = self.classes.ignored_values();
        let counts = |label: &u16| {
            usize::from(*label) < self.classes.len() && !ignored.contains(&u32::from(*label))
        };
        mask.labels.iter_mut().filter(|l| !counts(l)).for_each(|l| *l = 255);
        let at = |x: usize, y: usize| {
            mask.labels[(2 * y + 1) * mask.height / (2 * h) * mask.width
                + (2 * x + 1) * mask.width / (2 * w)]
        };
        let labels = (0..w * h).map(|i| at(i % w, i / w)).collect();
        let small = resample(&image.rgb, (image.width, image.height), (w, h)).ok()?;
        let small = Image::new(w, h, small.into_owned()).ok()?;
        let mut table = table.clone();
        if table.len() <= 255 && !table.ignored_values().contains(&255) {
            table.ignored.push(crate::image::IgnoredLabel {
                label: 255,
                name: "ignored".into(),
                color: IGNORED,
            });
        }
        Overlay { opacity: 0.5, ..Overlay::default() }
            .draw(&small, &LabelMap::new(w, h, labels).ok()?, &table)
            .ok()
    }
}
