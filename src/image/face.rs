//! Text in legends and charts.
//!
//! The fonts are part of the program, so that pictures have the same pixels on every machine: Open
//! Sans by Steve Matteson (Apache License 2.0, `assets/fonts/LICENSE-APACHE`), reduced to Latin, Greek
//! and Cyrillic letters. Other characters are drawn as `?`.

use ab_glyph::{Font, FontRef, GlyphId, PxScale, PxScaleFont, ScaleFont, point};
use std::sync::LazyLock;

static REGULAR: LazyLock<FontRef<'static>> =
    LazyLock::new(|| parse(include_bytes!("../../assets/fonts/OpenSans-Regular.ttf")));
static BOLD: LazyLock<FontRef<'static>> =
    LazyLock::new(|| parse(include_bytes!("../../assets/fonts/OpenSans-Bold.ttf")));

fn parse(file: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(file).expect("invariant: the font in the program is valid")
}

/// Least height of a line: smaller letters are not legible.
const LEAST: usize = 13;

/// A font at a size.
#[derive(Clone, Copy)]
pub(crate) struct Face {
    font: &'static FontRef<'static>,
    height: usize,
}

/// Direction of a line of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextDirection {
    /// To the right.
    Right,
    /// Upwards, rotated 90 degrees counterclockwise.
    Up,
}

impl Face {
    /// Returns the face whose lines have this height in pixels, at least 13.
    pub(crate) fn of_height(pixels: usize, bold: bool) -> Self {
        Self { font: if bold { &BOLD } else { &REGULAR }, height: pixels.max(LEAST) }
    }

    /// Line height in pixels.
    pub(crate) fn height(self) -> usize {
        self.height
    }

    /// Width of a text in pixels.
    pub(crate) fn width(self, text: &str) -> usize {
        self.place(text, |_, _| ()).ceil() as usize
    }

    /// Width of a digit in pixels.
    pub(crate) fn digit(self) -> usize {
        self.width("0")
    }

    /// Returns the text, cut and ended with `…` if it is wider than `pixels`.
    pub(crate) fn shorten(self, text: &str, pixels: usize) -> String {
        if self.width(text) <= pixels {
            return text.to_owned();
        }
        let ends = text.char_indices().map(|(at, _)| at).skip(1);
        let cut = |end: usize| format!("{}…", text[..end].trim_end());
        let fitting = ends.map(cut).take_while(|cut| self.width(cut) <= pixels);
        fitting.last().unwrap_or_else(|| "…".to_owned())
    }

    /// Calls `pixel` with the position of each pixel of a text, from its top left corner, and the
    /// share of it that is covered, 0 to 1.
    pub(super) fn draw(self, text: &str, mut pixel: impl FnMut(usize, usize, f32)) {
        let font = self.scaled();
        let width = self.width(text);
        self.place(text, |id, x| {
            let glyph = id.with_scale_and_position(font.scale(), point(x, font.ascent()));
            let Some(outline) = font.font().outline_glyph(glyph) else { return };
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, cover| {
                let (x, y) = (bounds.min.x + dx as f32, bounds.min.y + dy as f32);
                // What a letter extends beyond its line is cut off.
                let is_inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < self.height as f32;
                if is_inside {
                    pixel(x as usize, y as usize, cover.min(1.0));
                }
            });
        });
    }

    fn scaled(self) -> PxScaleFont<&'static FontRef<'static>> {
        self.font.into_scaled(PxScale::from(self.height as f32))
    }

    /// Calls `glyph` with each glyph of a text and its left end, kerned. Returns the right end.
    fn place(self, text: &str, mut glyph: impl FnMut(GlyphId, f32)) -> f32 {
        let font = self.scaled();
        let (mut x, mut last) = (0.0, None);
        for character in text.chars() {
            let id = match font.glyph_id(character) {
                GlyphId(0) => font.glyph_id('?'),
                id => id,
            };
            if let Some(last) = last.replace(id) {
                x += font.kern(last, id);
            }
            glyph(id, x);
            x += font.h_advance(id);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::canvas::Canvas;

    #[test]
    fn text_stays_inside_its_width_and_height_and_is_cut_at_the_canvas() {
        for (height, bold) in
            [(5, false), (13, true), (17, false), (27, true), (44, false), (90, true)]
        {
            let face = Face::of_height(height, bold);
            assert_eq!(face.height(), height.max(LEAST));
            let (w, h) = (face.width("Wgß@"), face.height());
            let mut canvas = Canvas::new(w + 6, h + 6, [0; 3]);
            canvas.text(3, 3, "Wgß@", face, TextDirection::Right, [255; 3]);
            let inked: Vec<_> = (0..canvas.rgb.len() / 3)
                .filter(|p| canvas.rgb[3 * p] > 0)
                .map(|p| (p % (w + 6), p / (w + 6)))
                .collect();
            assert!(inked.len() > 40);
            assert!(
                inked.iter().all(|&(x, y)| (3..3 + w).contains(&x) && (3..3 + h).contains(&y)),
                "{height}"
            );
            canvas.text(w, h, "cut off", face, TextDirection::Right, [255; 3]);
            canvas.text(2, 4, "cut off", face, TextDirection::Up, [255; 3]);
        }
    }

    #[test]
    fn upward_text_is_the_same_text_turned() {
        let face = Face::of_height(20, false);
        let (w, h) = (face.width("Road"), face.height());
        let (mut flat, mut turned) = (Canvas::new(w, h, [0; 3]), Canvas::new(h, w, [0; 3]));
        flat.text(0, 0, "Road", face, TextDirection::Right, [255; 3]);
        turned.text(0, w - 1, "Road", face, TextDirection::Up, [255; 3]);
        for (x, y) in (0..w).flat_map(|x| (0..h).map(move |y| (x, y))) {
            let there = 3 * ((w - 1 - x) * h + y);
            assert_eq!(flat.rgb[3 * (y * w + x)], turned.rgb[there], "{x}, {y}");
        }
    }

    #[test]
    fn letters_are_kerned_and_unknown_ones_are_question_marks() {
        let face = Face::of_height(60, false);
        assert!(face.width("AV") < face.width("A") + face.width("V"));
        assert_eq!(face.width("\u{4e00}"), face.width("?"));
        assert!(
            ["Straße", "Δρόμος", "дорога", "żółw"]
                .iter()
                .all(|text| { text.chars().all(|c| face.scaled().glyph_id(c) != GlyphId(0)) })
        );
    }

    #[test]
    fn long_text_is_shortened_to_its_room() {
        let face = Face::of_height(13, false);
        assert_eq!(face.shorten("short", 200), "short");
        let cut = face.shorten("a very long class name", 70);
        assert!(cut.ends_with('…') && face.width(&cut) <= 70, "{cut}");
        assert_eq!(face.shorten("wide", 1), "…");
    }
}
