//! A canvas of RGB bytes with the drawing primitives that legends and charts need: rectangles,
//! images, and text.

pub(crate) use super::face::{Face, TextDirection};
use crate::geometry::{self, Position};

/// A color, sRGB.
pub(crate) type Rgb = [u8; 3];

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
        face.draw(text, |dx, dy, cover| {
            let (px, py) = match direction {
                TextDirection::Right => (x + dx, Some(y + dy)),
                TextDirection::Up => (x + dy, y.checked_sub(dx)),
            };
            if let Some(py) = py {
                self.blend(px, py, color, cover);
            }
        });
    }
}
