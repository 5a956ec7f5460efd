//! Label overlays on a photo.

use super::alloc::{copied, filled};
use super::border::mark_borders;
use super::decode::Image;
use super::labels::LabelMap;
use super::palette::ClassTable;
use crate::error::{Result, error};
use rayon::prelude::*;

/// How labels are drawn over the photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlay {
    /// Opacity of the class colors, 0 (photo only) to 1 (color only).
    pub opacity: f32,
    /// Width in pixels of the outline along class borders. `None` uses one pixel per 400 pixels of
    /// the long side; 0 draws no outline.
    pub outline: Option<usize>,
    /// Tint the class named "background" too. Otherwise the photo shows through unchanged.
    pub tint_background: bool,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { opacity: 0.6, outline: None, tint_background: false }
    }
}

/// Fraction by which the outline color is lightened from the class color towards white, so that
/// dark colors get a visible border too.
const OUTLINE_LIGHT: f32 = 0.45;

impl Overlay {
    /// Draws the class colors over a copy of the photo, with a thin light outline along class
    /// borders.
    ///
    /// # Errors
    /// Returns an error if labels and photo differ in size, the opacity is not between 0 and 1, or
    /// memory for the copy runs out.
    pub fn draw(&self, image: &Image, labels: &LabelMap, table: &ClassTable) -> Result<Image> {
        same_size(image, labels)?;
        let mut out = Image::new(image.size(), copied(&image.rgb, "the overlay")?)?;
        self.draw_over(&mut out, labels, table)?;
        Ok(out)
    }

    /// Like [`Overlay::draw`], but in place. The image becomes opaque; its notes are kept.
    ///
    /// # Errors
    /// As for [`Overlay::draw`]; the image is then unchanged.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn draw_over(
        &self,
        image: &mut Image,
        labels: &LabelMap,
        table: &ClassTable,
    ) -> Result<()> {
        same_size(image, labels)?;
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(error!(Usage, "opacity must be between 0 and 1, got {}", self.opacity));
        }
        let (w, h) = (image.width, image.height);
        let line = self.outline.unwrap_or_else(|| (w.max(h) / 400).max(1));
        let background = table.background().filter(|_| !self.tint_background);
        let plain = |label: u16| background == Some(usize::from(label));
        // Fill and outline colors by class.
        let colors: Vec<([u8; 3], [u8; 3])> = (0..=usize::from(labels.max()))
            .map(|label| (table.color(label), table.color(label).map(lighten)))
            .collect();
        // High enough that the extra rows read around a strip are at most half as many as its own
        // rows.
        let strip = line.saturating_mul(4).max(64).min(h);
        // Everything that can fail happens before the first change.
        let threads = rayon::current_num_threads().min(h.div_ceil(strip));
        let buffers = (0..threads)
            .map(|_| filled(false, w * strip, "the outline"))
            .collect::<Result<Vec<_>>>()?;
        let buffers = std::sync::Mutex::new(buffers);
        let strips = image.rgb.par_chunks_mut(3 * w * strip).enumerate();
        strips.for_each(|(index, rgb)| {
            let lock = || buffers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut buffer = lock().pop().expect("invariant: there is one buffer per thread");
            let marks = &mut buffer[..rgb.len() / 3];
            mark_borders(&labels.labels, w, line, index * strip, rgb.len() / (3 * w), marks);
            let labels = &labels.labels[index * strip * w..][..marks.len()];
            for ((pixel, &label), &border) in rgb.chunks_exact_mut(3).zip(labels).zip(&*marks) {
                let (color, outline) = colors[usize::from(label)];
                if plain(label) {
                    continue;
                }
                if border {
                    pixel.copy_from_slice(&outline);
                    continue;
                }
                for (value, color) in pixel.iter_mut().zip(color) {
                    let (photo, color) = (f32::from(*value), f32::from(color));
                    *value = (photo + (color - photo) * self.opacity).round() as u8;
                }
            }
            lock().push(buffer);
        });
        image.alpha = None;
        Ok(())
    }
}

/// Returns the outline color of a class color.
fn lighten(value: u8) -> u8 {
    let value = f32::from(value);
    (value + (255.0 - value) * OUTLINE_LIGHT).round() as u8
}

pub(super) fn same_size(image: &Image, labels: &LabelMap) -> Result<()> {
    let (p, l) = (image.size(), labels.size());
    if p != l {
        return Err(error!(Usage, "label map is {l} pixels, but the image is {p}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    fn scene() -> (Image, LabelMap) {
        let image = Image::new(Size::new(6, 3), vec![100; 54]).unwrap();
        (image, LabelMap::new(Size::new(6, 3), [0, 0, 15, 15, 15, 15].repeat(3)).unwrap())
    }

    #[test]
    fn the_background_stays_the_border_is_light_and_the_inside_is_tinted() {
        let (image, labels) = scene();
        let out = Overlay { opacity: 0.5, outline: Some(1), tint_background: false }
            .draw(&image, &labels, &ClassTable::voc())
            .unwrap();
        let row: Vec<_> = out.rgb[..18].chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
        assert_eq!(row[..2], [[100; 3]; 2]);
        assert_eq!(row[2], [220, 185, 185], "192 and 128 lightened by 45 %");
        assert_eq!(row[3], [146, 114, 114]);
        let none = Overlay { opacity: 0.0, outline: Some(0), tint_background: true }
            .draw(&image, &labels, &ClassTable::voc())
            .unwrap();
        assert_eq!(none, image);
        let full = Overlay { opacity: 1.0, outline: Some(0), tint_background: true }
            .draw(&image, &labels, &ClassTable::voc())
            .unwrap();
        assert_eq!((&full.rgb[..3], &full.rgb[6..9]), (&[0u8, 0, 0][..], &[192u8, 128, 128][..]));
    }

    /// Checking every pixel in reach would take 9e9 steps here.
    #[test]
    fn a_wide_outline_takes_no_longer_than_a_thin_one() {
        let (w, h) = (1500, 1500);
        let mut image = Image::new(Size::new(w, h), vec![100; 3 * w * h]).unwrap();
        let labels = LabelMap::new(Size::new(w, h), vec![15; w * h]).unwrap();
        let mut time = |outline| {
            let start = std::time::Instant::now();
            let overlay = Overlay { outline: Some(outline), ..Overlay::default() };
            overlay.draw_over(&mut image, &labels, &ClassTable::voc()).unwrap();
            start.elapsed()
        };
        let thin = time(1);
        let wide = time(1000);
        assert!(
            wide < 10 * thin + std::time::Duration::from_secs(1),
            "{wide:?}, a thin one takes {thin:?}"
        );
    }

    #[test]
    fn drawing_over_an_image_is_drawing_a_copy_of_it() {
        let (mut image, labels) = scene();
        let overlay = Overlay { outline: Some(2), ..Overlay::default() };
        let drawn = overlay.draw(&image, &labels, &ClassTable::voc()).unwrap();
        image.alpha = Some(vec![9; 18]);
        overlay.draw_over(&mut image, &labels, &ClassTable::voc()).unwrap();
        assert_eq!(image, drawn);
    }

    #[test]
    fn mismatches_are_refused() {
        let (image, labels) = scene();
        let other = LabelMap::new(Size::new(3, 6), vec![0; 18]).unwrap();
        let table = ClassTable::voc();
        assert!(Overlay::default().draw(&image, &other, &table).is_err());
        assert!(
            Overlay { opacity: 1.5, ..Overlay::default() }.draw(&image, &labels, &table).is_err()
        );
    }
}
