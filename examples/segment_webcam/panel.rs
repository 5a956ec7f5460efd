//! Text panels of the window: small RGBA images, uploaded when they change.

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_7X13_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use std::convert::Infallible;

/// Width of a character and height of a line in pixels, before scaling for the screen.
pub const LETTER: (usize, usize) = (7, 17);
/// Margin around the text.
pub const MARGIN: usize = 4;

const BACK: [u8; 4] = [12, 14, 18, 190];
const INK: [u8; 4] = [240, 242, 245, 255];
const DIM: [u8; 4] = [140, 144, 152, 255];

/// An image `[height, width, 4]`, red first, with straight alpha.
pub struct Panel {
    pub width: usize,
    pub height: usize,
    pub rgba: Vec<u8>,
}

impl Panel {
    fn new(letters: usize, lines: usize) -> Self {
        let (width, height) =
            (letters.max(1) * LETTER.0 + 2 * MARGIN, lines.max(1) * LETTER.1 + MARGIN);
        Self { width, height, rgba: BACK.repeat(width * height) }
    }

    /// Lines of text, the first one bold.
    pub fn lines<S: AsRef<str>>(lines: &[S]) -> Self {
        let longest = lines.iter().map(|l| l.as_ref().chars().count()).max().unwrap_or(0);
        let mut panel = Self::new(longest, lines.len());
        for (i, line) in lines.iter().enumerate() {
            panel.text(i, 0, line.as_ref(), if i == 0 { &FONT_7X13_BOLD } else { &FONT_7X13 }, INK);
        }
        panel
    }

    /// A row for each class with its color and name, dimmed if hidden and marked if selected. The
    /// device decides which rows are visible.
    pub fn classes(rows: &[(String, [u8; 3], bool)], selected: usize) -> Self {
        let longest = rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0);
        let mut panel = Self::new(longest + 4, rows.len());
        // No vertical margin: each class is exactly one line of the image.
        panel.height = rows.len() * LETTER.1;
        panel.rgba.truncate(4 * panel.width * panel.height);
        for (i, (name, [r, g, b], shown)) in rows.iter().enumerate() {
            let (ink, alpha) = if *shown { (INK, 255) } else { (DIM, 90) };
            panel.text(i, 0, if i == selected { ">" } else { "" }, &FONT_7X13_BOLD, INK);
            panel.square(i, [*r, *g, *b, alpha]);
            panel.text(i, 4, name, &FONT_7X13, ink);
        }
        panel
    }

    fn square(&mut self, line: usize, color: [u8; 4]) {
        for y in line * LETTER.1 + 3..line * LETTER.1 + 14 {
            for x in MARGIN + 10..MARGIN + 22 {
                self.put(x, y, color);
            }
        }
    }

    fn text(
        &mut self,
        line: usize,
        letter: usize,
        text: &str,
        font: &'static MonoFont<'static>,
        ink: [u8; 4],
    ) {
        let mut pen =
            Pen { at: (MARGIN + letter * LETTER.0, line * LETTER.1 + 2), panel: self, ink };
        let style = MonoTextStyle::new(font, BinaryColor::On);
        let drawn = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut pen);
        drawn.expect("invariant: drawing to memory cannot fail");
    }

    fn put(&mut self, x: usize, y: usize, color: [u8; 4]) {
        if x < self.width && y < self.height {
            self.rgba[4 * (y * self.width + x)..][..4].copy_from_slice(&color);
        }
    }
}

struct Pen<'a> {
    panel: &'a mut Panel,
    at: (usize, usize),
    ink: [u8; 4],
}

impl OriginDimensions for Pen<'_> {
    fn size(&self) -> Size {
        Size::new(self.panel.width as u32, self.panel.height as u32)
    }
}

impl DrawTarget for Pen<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, ink) in pixels {
            if let (Ok(x), Ok(y), true) = (usize::try_from(x), usize::try_from(y), ink.is_on()) {
                self.panel.put(self.at.0 + x, self.at.1 + y, self.ink);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_panel() {
        let panel = Panel::lines(&["one", "two words"]);
        assert_eq!((panel.width, panel.height), (9 * LETTER.0 + 2 * MARGIN, 2 * LETTER.1 + MARGIN));
        let inked = panel.rgba.chunks_exact(4).filter(|p| *p == INK).count();
        assert!(inked > 60 && panel.rgba.len() == 4 * panel.width * panel.height);
        let classes = Panel::classes(
            &[("sky".into(), [1, 2, 3], true), ("road".into(), [4, 5, 6], false)],
            1,
        );
        assert_eq!(classes.height, 2 * LETTER.1);
        assert!(
            classes.rgba.chunks_exact(4).any(|p| p == [1, 2, 3, 255])
                && classes.rgba.chunks_exact(4).any(|p| p == DIM)
        );
    }
}
