//! The classes of a segmented image and their pixel shares, as data and as a table for the
//! terminal.

use super::labels::LabelMap;
use super::palette::ClassTable;
use anstyle::{RgbColor, Style};
use serde::Serialize;
use std::fmt::Write;

/// One class present in an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LegendEntry {
    /// Class number.
    pub class: u16,
    /// Class name.
    pub name: String,
    /// Display color, sRGB.
    pub color: [u8; 3],
    /// Number of pixels of the class.
    pub pixels: u64,
    /// Fraction of the image's pixels, 0 to 1.
    pub share: f64,
}

impl LegendEntry {
    /// Formats the share as a percentage: `41.2 %`, `<0.1 %`.
    pub fn percent(&self) -> String {
        if self.share < 0.0005 { "<0.1 %".into() } else { format!("{:.1} %", 100.0 * self.share) }
    }
}

/// Pixel counts by class, summed over any number of label maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Indexed by class, up to the largest class counted so far.
    counts: Vec<u64>,
    total: u64,
}

impl Tally {
    /// Adds the pixels of a label map to the counts.
    pub fn add(&mut self, labels: &LabelMap) {
        let classes = usize::from(labels.max()) + 1;
        if self.counts.len() < classes {
            self.counts.resize(classes, 0);
        }
        for &label in &labels.labels {
            self.counts[usize::from(label)] += 1;
        }
        self.total += labels.labels.len() as u64;
    }

    /// Returns the classes present, largest first; ties are ordered by class number.
    pub fn legend(&self, table: &ClassTable) -> Vec<LegendEntry> {
        let entry = |(class, &pixels): (u16, &u64)| {
            let (name, color) = (table.name(class.into()), table.color(class.into()));
            LegendEntry { class, name, color, pixels, share: pixels as f64 / self.total as f64 }
        };
        let mut entries: Vec<_> = (0..=u16::MAX)
            .zip(&self.counts)
            .filter(|(_, pixels)| **pixels > 0)
            .map(entry)
            .collect();
        entries.sort_by_key(|e| (std::cmp::Reverse(e.pixels), e.class));
        entries
    }
}

/// Returns the classes present in a label map, largest first; ties are ordered by class number.
pub fn legend(labels: &LabelMap, table: &ClassTable) -> Vec<LegendEntry> {
    let mut tally = Tally::default();
    tally.add(labels);
    tally.legend(table)
}

/// Formats a legend as text with the columns name, share and pixels. With `swatches`, each line
/// begins with the color of its class as 24-bit terminal codes, so set it only when the output is a
/// terminal.
pub fn legend_table(entries: &[LegendEntry], swatches: bool) -> String {
    let width = |text: fn(&LegendEntry) -> String| {
        entries.iter().map(|e| text(e).chars().count()).max().unwrap_or(0)
    };
    let (names, shares) = (width(|e| e.name.clone()), width(LegendEntry::percent));
    let pixels = width(|e| grouped(e.pixels));
    let mut out = String::new();
    for entry in entries {
        if swatches {
            let [r, g, b] = entry.color;
            let style = Style::new().bg_color(Some(RgbColor(r, g, b).into()));
            write!(out, "{style}  {style:#} ").expect("invariant: a String takes any text");
        }
        let (name, share, count) = (&entry.name, entry.percent(), grouped(entry.pixels));
        writeln!(out, "{name:<names$}  {share:>shares$}  {count:>pixels$} px")
            .expect("invariant: a String takes any text");
    }
    out
}

/// Formats a number with thousands separators: 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|g| String::from_utf8_lossy(g).into_owned())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    fn map() -> LabelMap {
        let mut labels = vec![0; 1500];
        labels.extend([15; 498]);
        labels.extend([12, 255]);
        LabelMap::new(Size::new(100, 20), labels).unwrap()
    }

    #[test]
    fn the_largest_class_comes_first_and_shares_add_up() {
        let entries = legend(&map(), &ClassTable::voc());
        let found: Vec<_> =
            entries.iter().map(|e| (e.class, e.name.as_str(), e.pixels, e.color)).collect();
        let (black, pink) = ([0; 3], [192, 128, 128]);
        assert_eq!(
            found,
            [
                (0, "background", 1500, black),
                (15, "person", 498, pink),
                (12, "dog", 1, [64, 0, 128]),
                (255, "ignore", 1, [224, 224, 192])
            ]
        );
        assert!((entries.iter().map(|e| e.share).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_table_is_in_columns_and_colored_only_when_asked() {
        let entries = legend(&map(), &ClassTable::voc());
        let plain = legend_table(&entries[..3], false);
        assert_eq!(
            plain,
            "background  75.0 %  1,500 px\nperson      24.9 %    498 px\ndog          0.1 %      1 px\n"
        );
        let colored = legend_table(&entries[1..2], true);
        assert!(colored.starts_with("\u{1b}[48;2;192;128;128m  \u{1b}[0m person"), "{colored:?}");
    }

    #[test]
    fn numbers_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(n), text);
        }
    }
}
