//! Label overlays on a photo, and cut-outs.

use super::alloc::{copied, filled, with_capacity};
use super::border::mark_borders;
use super::decode::Image;
use super::labels::LabelMap;
use super::palette::ClassTable;
use crate::error::{Result, error};
#[cfg(test)]
use crate::memory;
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

/// Cuts the kept classes out of the photo: `alpha` is set to the cut-out's opacity, and `rgb` holds
/// the photo's own colors.
///
/// `keep` lists class numbers; if empty, everything but the table's background is kept.
/// `foreground` is the probability of the kept classes for each pixel, `[height, width]`: with it
/// the edge is soft (transparent below 0.2, opaque above 0.8, smoothstep between); without it each
/// pixel is either in or out. Transparent pixels of the photo stay transparent.
///
/// The result reuses the memory of `image`.
///
/// # Errors
/// Returns an error if the sizes differ, `keep` is empty and the table has no background, or memory
/// for the opacity runs out.
pub fn cut_out(
    mut image: Image,
    labels: &LabelMap,
    table: &ClassTable,
    keep: &[usize],
    foreground: Option<&[f32]>,
    backdrop: [u8; 3],
) -> Result<Image> {
    same_size(&image, labels)?;
    let background = table.background();
    if keep.is_empty() && background.is_none() {
        return Err(error!(Usage, "no classes to cut out, and the class table has no background")
            .advice("name the classes to keep"));
    }
    if let Some(p) = foreground.filter(|p| p.len() != labels.labels.len()) {
        return Err(error!(
            Usage,
            "expected one probability per pixel, got {} for {} pixels",
            p.len(),
            labels.labels.len()
        ));
    }
    let is_kept = |label: u16| match keep {
        [] => background != Some(label.into()) && table.ignored.iter().all(|i| i.label != label),
        keep => keep.contains(&label.into()),
    };
    let mut alpha: Vec<u8> = with_capacity(labels.labels.len(), "the cut-out's opacity")?;
    match foreground {
        Some(p) => {
            alpha.extend(p.iter().map(|&p| (255.0 * smooth_step((p - 0.2) / 0.6)).round() as u8))
        }
        None => alpha.extend(labels.labels.iter().map(|&l| if is_kept(l) { 255 } else { 0 })),
    }
    image.notes.clear();
    if let Some(photo_alpha) = image.alpha.take() {
        for (pixel, &a) in image.rgb.chunks_exact_mut(3).zip(&photo_alpha) {
            remove_backdrop(pixel, a, backdrop);
        }
        for (a, photo) in alpha.iter_mut().zip(photo_alpha) {
            *a = ((u32::from(*a) * u32::from(photo) + 127) / 255) as u8;
        }
    }
    image.alpha = Some(alpha);
    Ok(image)
}

/// Sums the probabilities of the kept classes over `[pixels, channels]`, as the `foreground`
/// argument of [`cut_out`].
///
/// # Errors
/// Returns an error if the number of probabilities is not a multiple of `channels`, or a kept class
/// is out of range.
#[cfg(test)]
pub(crate) fn foreground(
    probabilities: &[f32],
    channels: usize,
    keep: &[usize],
) -> Result<Vec<f32>> {
    if channels == 0
        || !probabilities.len().is_multiple_of(channels)
        || keep.iter().any(|&k| k >= channels)
    {
        return Err(error!(
            Usage,
            "expected {channels} probabilities per pixel and classes below {channels}, got {} probabilities and classes {keep:?}",
            probabilities.len()
        ));
    }
    let sums = probabilities
        .chunks_exact(channels)
        .map(|p| keep.iter().map(|&k| p[k]).sum::<f32>().clamp(0.0, 1.0));
    memory::collect(probabilities.len() / channels, sums)
}

/// Returns the outline color of a class color.
fn lighten(value: u8) -> u8 {
    let value = f32::from(value);
    (value + (255.0 - value) * OUTLINE_LIGHT).round() as u8
}

fn smooth_step(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Undoes the blending with the backdrop, so that half-transparent pixels carry no gray into the
/// cut-out.
fn remove_backdrop(pixel: &mut [u8], alpha: u8, backdrop: [u8; 3]) {
    if alpha == 0 {
        return;
    }
    for (value, background) in pixel.iter_mut().zip(backdrop) {
        let alpha = i32::from(alpha);
        let background = i32::from(background);
        let difference = i32::from(*value) - background;
        let front = background + (difference * 255 + difference.signum() * (alpha / 2)) / alpha;
        *value = front.clamp(0, 255) as u8;
    }
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
    use crate::image::BACKDROP;
    use crate::image::pixels::mix;

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
        assert!(cut_out(image.clone(), &labels, &table, &[], Some(&[0.5; 3]), BACKDROP).is_err());
        let error = cut_out(image.clone(), &labels, &ClassTable::cityscapes(), &[], None, BACKDROP)
            .unwrap_err();
        assert!(error.to_string().contains("name the classes"), "{error}");
        assert!(foreground(&[0.5; 4], 3, &[0]).is_err() && foreground(&[0.5; 3], 3, &[3]).is_err());
    }

    #[test]
    fn cut_outs_are_hard_by_labels_and_soft_by_probabilities() {
        let (image, labels) = scene();
        let hard =
            cut_out(image.clone(), &labels, &ClassTable::voc(), &[], None, BACKDROP).unwrap();
        assert_eq!(hard.alpha.unwrap()[..6], [0, 0, 255, 255, 255, 255]);
        let none =
            cut_out(image.clone(), &labels, &ClassTable::voc(), &[12], None, BACKDROP).unwrap();
        assert!(none.alpha.unwrap().iter().all(|&a| a == 0));
        let p = [0.0, 0.2, 0.35, 0.5, 0.8, 1.0].repeat(3);
        let soft =
            cut_out(image.clone(), &labels, &ClassTable::voc(), &[], Some(&p), BACKDROP).unwrap();
        assert_eq!(soft.alpha.unwrap()[..6], [0, 0, 40, 128, 255, 255]);
        assert_eq!(foreground(&[0.2, 0.3, 0.5, 0.9, 0.1, 0.0], 3, &[1, 2]).unwrap(), [0.8, 0.1]);
    }

    #[test]
    fn a_cut_out_keeps_the_photos_own_transparency_and_colors() {
        let (mut image, labels) = scene();
        for (alpha, tolerance) in [(255u8, 0), (200, 1), (100, 2), (40, 4)] {
            image.rgb = [20, 127, 250].map(|v| mix(v, 127, alpha)).repeat(18);
            image.alpha = Some(vec![alpha; 18]);
            let out =
                cut_out(image.clone(), &labels, &ClassTable::voc(), &[], None, BACKDROP).unwrap();
            assert_eq!(out.alpha.unwrap()[..6], [0, 0, alpha, alpha, alpha, alpha]);
            for (got, expected) in out.rgb[..3].iter().zip([20u8, 127, 250]) {
                assert!(
                    got.abs_diff(expected) <= tolerance,
                    "alpha {alpha}: {got} instead of {expected}"
                );
            }
        }
    }
}
