//! A canvas of RGB bytes with the drawing primitives that legends and charts need: rectangles,
//! images, and text.
//!
//! The fonts are the X11 "misc-fixed" bitmap fonts (public domain) from `embedded-graphics`: no
//! font file, no license to pass on, and the same pixels on every machine. They cover Latin-1;
//! other characters are drawn as `?`.

use crate::geometry::{self, Position};
use embedded_graphics::mono_font::iso_8859_1::{
    FONT_7X13, FONT_7X13_BOLD, FONT_9X15, FONT_9X15_BOLD, FONT_9X18, FONT_9X18_BOLD,
};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use std::convert::Infallible;

/// A color, sRGB.
pub(crate) type Rgb = [u8; 3];

/// A bitmap font at a whole-numbered scale.
#[derive(Clone, Copy)]
pub(crate) struct Face {
    font: &'static MonoFont<'static>,
    scale: usize,
}

impl Face {
    /// Returns the face whose height is nearest to `pixels`, at least 13.
    pub(crate) fn of_height(pixels: usize, bold: bool) -> Self {
        let fonts: [&'static MonoFont<'static>; 3] = if bold {
            [&FONT_7X13_BOLD, &FONT_9X15_BOLD, &FONT_9X18_BOLD]
        } else {
            [&FONT_7X13, &FONT_9X15, &FONT_9X18]
        };
        let scale = pixels.div_ceil(20).max(1);
        let faces = (1..=scale).flat_map(|scale| fonts.map(|font| Face { font, scale }));
        faces
            .min_by_key(|face| face.height().abs_diff(pixels))
            .expect("invariant: there are three faces at scale 1")
    }

    /// Line height in pixels.
    pub(crate) fn height(self) -> usize {
        self.font.character_size.height as usize * self.scale
    }

    /// Width of a text in pixels.
    pub(crate) fn width(self, text: &str) -> usize {
        self.advance() * text.chars().count()
    }

    /// Pixels from one character to the next.
    pub(crate) fn advance(self) -> usize {
        (self.font.character_size.width + self.font.character_spacing) as usize * self.scale
    }

    /// Returns the text, truncated with `..` if it is wider than `pixels`.
    pub(crate) fn shorten(self, text: &str, pixels: usize) -> String {
        if self.width(text) <= pixels {
            return text.to_string();
        }
        let letters = (pixels / self.advance()).saturating_sub(2).max(1);
        text.chars().take(letters).chain("..".chars()).collect()
    }
}

/// Direction of a line of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextDirection {
    /// To the right.
    Right,
    /// Upwards, rotated 90 degrees counterclockwise.
    Up,
}

/// An RGB image to draw on. Drawing is clipped to its bounds.
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize, color: Rgb) -> Self {
        Self { width, height, rgb: color.repeat(width * height) }
    }

    fn put(&mut self, x: usize, y: usize, color: Rgb) {
        if x < self.width && y < self.height {
            self.rgb[3 * (y * self.width + x)..][..3].copy_from_slice(&color);
        }
    }

    pub(crate) fn rect(&mut self, x: usize, y: usize, w: usize, h: usize, color: Rgb) {
        for y in y..y + h {
            for x in x..x + w {
                self.put(x, y, color);
            }
        }
    }

    /// Rounds the corners of a rectangle that is already drawn, by blending `outside` over them
    /// with antialiasing.
    pub(crate) fn round_corners(
        &mut self,
        x: usize,
        y: usize,
        w: usize,
        h: usize,
        radius: usize,
        outside: Rgb,
    ) {
        let r = radius.min(w / 2).min(h / 2);
        for dy in 0..r {
            for dx in 0..r {
                // Coverage from the distance of the pixel's center to the quarter circle.
                let (fx, fy) = (r as f32 - dx as f32 - 0.5, r as f32 - dy as f32 - 0.5);
                let cover = ((fx * fx + fy * fy).sqrt() - r as f32 + 0.5).clamp(0.0, 1.0);
                for (px, py) in [
                    (x + dx, y + dy),
                    (x + w - 1 - dx, y + dy),
                    (x + dx, y + h - 1 - dy),
                    (x + w - 1 - dx, y + h - 1 - dy),
                ] {
                    self.blend(px, py, outside, cover);
                }
            }
        }
    }

    /// Returns the width and height.
    pub(crate) fn size(&self) -> geometry::Size {
        geometry::Size::new(self.width, self.height)
    }

    fn blend(&mut self, x: usize, y: usize, color: Rgb, opacity: f32) {
        if x < self.width && y < self.height {
            for (pixel, color) in self.rgb[3 * (y * self.width + x)..][..3].iter_mut().zip(color) {
                *pixel = (f32::from(*pixel) + (f32::from(color) - f32::from(*pixel)) * opacity)
                    .round() as u8;
            }
        }
    }

    /// Draws an image `[h, w, 3]`.
    pub(crate) fn image(&mut self, at: Position, size: geometry::Size, rgb: &[u8]) {
        let (Position { x, y }, (w, h)) = (at, (size.width, size.height));
        let visible = w.min(self.width.saturating_sub(x));
        for row in 0..h.min(self.height.saturating_sub(y)) {
            self.rgb[3 * ((y + row) * self.width + x)..][..3 * visible]
                .copy_from_slice(&rgb[3 * row * w..][..3 * visible]);
        }
    }

    /// Draws a line of text. (x, y) is the origin of the first character: the top left corner, or
    /// the bottom left one for `TextDirection::Up`.
    pub(crate) fn text(
        &mut self,
        x: usize,
        y: usize,
        text: &str,
        face: Face,
        direction: TextDirection,
        color: Rgb,
    ) {
        let mut pen = Pen { canvas: self, x, y, scale: face.scale, direction, color };
        let style = MonoTextStyle::new(face.font, BinaryColor::On);
        let drawn = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut pen);
        drawn.expect("invariant: drawing to memory cannot fail");
    }
}

/// Draws font pixels on the canvas, scaled and rotated.
struct Pen<'a> {
    canvas: &'a mut Canvas,
    x: usize,
    y: usize,
    scale: usize,
    direction: TextDirection,
    color: Rgb,
}

impl OriginDimensions for Pen<'_> {
    fn size(&self) -> Size {
        Size::new(self.canvas.width as u32, self.canvas.height as u32)
    }
}

impl DrawTarget for Pen<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        let scale = self.scale;
        for Pixel(Point { x, y }, ink) in pixels {
            let (Ok(x), Ok(y), true) = (usize::try_from(x), usize::try_from(y), ink.is_on()) else {
                continue;
            };
            let (dx, dy) = (x * scale, y * scale);
            match self.direction {
                TextDirection::Right => {
                    self.canvas.rect(self.x + dx, self.y + dy, scale, scale, self.color)
                }
                TextDirection::Up => self.canvas.rect(
                    self.x + dy,
                    self.y.saturating_sub(dx + scale - 1),
                    scale,
                    scale,
                    self.color,
                ),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_inside_its_width_and_height_and_is_cut_at_the_canvas() {
        for (height, bold) in
            [(5, false), (13, true), (17, false), (27, true), (44, false), (90, true)]
        {
            let face = Face::of_height(height, bold);
            assert!(
                face.height().abs_diff(height) <= height.max(13) / 4 + 8,
                "{height} became {}",
                face.height()
            );
            let (w, h) = (face.width("Wgß@"), face.height());
            let mut canvas = Canvas::new(w + 6, h + 6, [0; 3]);
            canvas.text(3, 3, "Wgß@", face, TextDirection::Right, [255; 3]);
            let inked: Vec<_> = (0..canvas.rgb.len() / 3)
                .filter(|p| canvas.rgb[3 * p] == 255)
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
    fn long_text_is_shortened_to_its_room() {
        let face = Face::of_height(13, false);
        assert_eq!(face.shorten("short", 200), "short");
        let cut = face.shorten("a very long class name", 70);
        assert!(cut.ends_with("..") && face.width(&cut) <= 70, "{cut}");
    }
}
