//! Labels laid over the photo, and objects cut out of it.

use super::border::mark_borders;
use super::decode::Image;
use super::labels::LabelMap;
use super::palette::ClassTable;
use super::room::{copied, filled, room};
use crate::error::{Result, error};
use crate::memory;
use rayon::prelude::*;

/// How labels are laid over the photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlay {
    /// Strength of a class's color, 0 (photo alone) to 1 (color alone).
    pub opacity: f32,
    /// Pixels of the line along class borders; `None` takes one for each 400 pixels of the long
    /// side, 0 draws none.
    pub outline: Option<usize>,
    /// Also tint the class called "background", which otherwise shows the photo as it is.
    pub tint_background: bool,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { opacity: 0.55, outline: None, tint_background: false }
    }
}

/// How far the outline's color is taken from the class's towards white, so that dark colors have a
/// visible border too.
const OUTLINE_LIGHT: f32 = 0.45;

impl Overlay {
    /// The photo with the classes' colors over it and a thin light line along their borders.
    ///
    /// Errors where labels and photo differ in size, the opacity is not within 0 and 1, or there is
    /// no memory for the copy.
    pub fn draw(&self, image: &Image, labels: &LabelMap, table: &ClassTable) -> Result<Image> {
        same_size(image, labels)?;
        let mut out = Image::new(image.width, image.height, copied(&image.rgb, "the overlay")?)?;
        self.draw_over(&mut out, labels, table)?;
        Ok(out)
    }

    /// As [`Overlay::draw`], in the image's own memory. It is opaque afterwards; its notes stay.
    ///
    /// # Errors
    /// As [`Overlay::draw`]; the image is unchanged then.
    pub fn draw_over(
        &self,
        image: &mut Image,
        labels: &LabelMap,
        table: &ClassTable,
    ) -> Result<()> {
        same_size(image, labels)?;
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(error!(Usage, "an opacity of {} is not within 0 and 1", self.opacity));
        }
        let (w, h) = (image.width, image.height);
        let line = self.outline.unwrap_or_else(|| (w.max(h) / 400).max(1));
        let background = table.background().filter(|_| !self.tint_background);
        let plain = |label: u16| background == Some(usize::from(label));
        // A class's color, and its line's.
        let colors: Vec<([u8; 3], [u8; 3])> = (0..=usize::from(labels.max()))
            .map(|label| {
                let color = table.color(label);
                (
                    color,
                    color.map(|c| {
                        (f32::from(c) + (255.0 - f32::from(c)) * OUTLINE_LIGHT).round() as u8
                    }),
                )
            })
            .collect();
        // High enough that the rows which are read beside a strip for its columns are at most half
        // as many as its own.
        let strip = line.saturating_mul(4).max(64).min(h);
        // All that can fail comes before the first change.
        let spare = rayon::current_num_threads().min(h.div_ceil(strip));
        let spare = (0..spare)
            .map(|_| filled(false, w * strip, "the outline"))
            .collect::<Result<Vec<_>>>()?;
        let spare = std::sync::Mutex::new(spare);
        let strips = image.rgb.par_chunks_mut(3 * w * strip).enumerate();
        strips.for_each(|(index, rgb)| {
            let lock = || spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut memory = lock().pop().expect("invariant: there is one for each thread");
            let marks = &mut memory[..rgb.len() / 3];
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
            lock().push(memory);
        });
        image.alpha = None;
        Ok(())
    }
}

/// The kept classes on a transparent background: `alpha` is set, and `rgb` holds the photo's own
/// colors.
///
/// `keep` are class numbers; where it is empty, all but the table's background. `foreground` is the
/// probability of the kept classes for each pixel, `[height, width]`: with it the edge is soft
/// (transparent below 0.2, opaque above 0.8, a smooth step between); without it each pixel is in or
/// out. What was transparent in the photo stays so.
///
/// The image's own memory holds the result. Errors where sizes differ, nothing is named and the
/// table has no background, or there is no memory for the opacity.
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
        return Err(error!(Usage, "a cut-out of what? these classes have no background")
            .advice("name the classes to keep"));
    }
    if let Some(p) = foreground.filter(|p| p.len() != labels.labels.len()) {
        return Err(error!(
            Usage,
            "{} probabilities for an image of {} pixels",
            p.len(),
            labels.labels.len()
        ));
    }
    let kept = |label: u16| match keep {
        [] => background != Some(label.into()) && table.ignored.iter().all(|i| i.label != label),
        keep => keep.contains(&label.into()),
    };
    let mut alpha: Vec<u8> = room(labels.labels.len(), "the cut-out's opacity")?;
    match foreground {
        Some(p) => {
            alpha.extend(p.iter().map(|&p| (255.0 * smooth_step((p - 0.2) / 0.6)).round() as u8))
        }
        None => alpha.extend(labels.labels.iter().map(|&l| if kept(l) { 255 } else { 0 })),
    }
    image.notes.clear();
    if let Some(own) = image.alpha.take() {
        for (pixel, &own) in image.rgb.chunks_exact_mut(3).zip(&own) {
            lift_off(pixel, own, backdrop);
        }
        alpha
            .iter_mut()
            .zip(own)
            .for_each(|(a, own)| *a = ((u32::from(*a) * u32::from(own) + 127) / 255) as u8);
    }
    image.alpha = Some(alpha);
    Ok(image)
}

/// Sums the probabilities of the kept classes over `[pixels, channels]`: what [`cut_out`] takes for
/// a soft edge.
pub fn foreground(probabilities: &[f32], channels: usize, keep: &[usize]) -> Result<Vec<f32>> {
    if channels == 0
        || !probabilities.len().is_multiple_of(channels)
        || keep.iter().any(|&k| k >= channels)
    {
        return Err(error!(
            Usage,
            "{} probabilities are not {channels} for each pixel, or {keep:?} are not among them",
            probabilities.len()
        ));
    }
    let sums = probabilities
        .chunks_exact(channels)
        .map(|p| keep.iter().map(|&k| p[k]).sum::<f32>().clamp(0.0, 1.0));
    memory::collect(probabilities.len() / channels, sums)
}

fn smooth_step(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Undoes the laying over the backdrop, so that half-transparent pixels carry no gray into the
/// cut-out.
fn lift_off(pixel: &mut [u8], alpha: u8, backdrop: [u8; 3]) {
    if alpha == 0 {
        return;
    }
    for (value, behind) in pixel.iter_mut().zip(backdrop) {
        let (laid, behind, alpha) = (i32::from(*value), i32::from(behind), i32::from(alpha));
        let front =
            behind + ((laid - behind) * 255 + (laid - behind).signum() * (alpha / 2)) / alpha;
        *value = front.clamp(0, 255) as u8;
    }
}

pub(super) fn same_size(image: &Image, labels: &LabelMap) -> Result<()> {
    let (p, l) = ((image.width, image.height), (labels.width, labels.height));
    if p != l {
        return Err(error!(
            Usage,
            "labels of {} x {} pixels do not fit an image of {} x {}", l.0, l.1, p.0, p.1
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::BACKDROP;
    use crate::image::pixels::mix;

    fn scene() -> (Image, LabelMap) {
        let image = Image::new(6, 3, vec![100; 54]).unwrap();
        (image, LabelMap::new(6, 3, [0, 0, 15, 15, 15, 15].repeat(3)).unwrap())
    }

    #[test]
    fn the_background_stays_the_border_is_light_and_the_inside_is_tinted() {
        let (image, labels) = scene();
        let out = Overlay { opacity: 0.5, outline: Some(1), tint_background: false }
            .draw(&image, &labels, &ClassTable::voc())
            .unwrap();
        let row: Vec<_> = out.rgb[..18].chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
        assert_eq!(row[..2], [[100; 3]; 2]);
        assert_eq!(row[2], [220, 185, 185], "192 and 128 taken 45 % of the way to white");
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

    /// Looking at every pixel in reach would be 9e9 steps here.
    #[test]
    fn a_wide_outline_takes_no_longer_than_a_thin_one() {
        let (w, h) = (1500, 1500);
        let mut image = Image::new(w, h, vec![100; 3 * w * h]).unwrap();
        let labels = LabelMap::new(w, h, vec![15; w * h]).unwrap();
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
        let other = LabelMap::new(3, 6, vec![0; 18]).unwrap();
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
            for (got, wanted) in out.rgb[..3].iter().zip([20u8, 127, 250]) {
                assert!(
                    got.abs_diff(wanted) <= tolerance,
                    "alpha {alpha}: {got} instead of {wanted}"
                );
            }
        }
    }
}
