//! Cut-outs: the kept classes with a clean edge, on transparency or on another background.

mod background;
mod blur;
mod color;
#[cfg(test)]
mod draw_tests;
mod guided;
mod refine;
mod sums;

pub use background::Background;

use super::alloc::with_capacity;
use super::decode::Image;
use super::labels::LabelMap;
use super::overlay::same_size;
use super::palette::ClassTable;
use crate::error::{Result, error};

/// How the edge of a cut-out is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edge {
    /// Each pixel is opaque or transparent, by its label.
    Hard,
    /// Opacity by the probability of the kept classes alone: transparent up to 0.2, opaque from 0.8 on,
    /// smoothstep between. Colors are the image's own.
    Soft,
    /// Opacity by the probability, moved to the edges of the image with a guided filter; opaque or
    /// transparent away from the border. Colors of the edge are an estimate of the foreground's.
    #[default]
    Refined,
}

/// Cuts the kept classes out of an image.
#[derive(Debug, Clone, Copy)]
pub struct CutOut<'a> {
    /// Names of the classes, of which `background` is not kept by default.
    pub table: &'a ClassTable,
    /// Numbers of the classes to keep. If empty, everything but the table's background is kept.
    pub keep: &'a [usize],
    /// How the edge is made.
    pub edge: Edge,
    /// What is behind the kept classes; `None` for transparency.
    pub background: Option<&'a Background>,
    /// Color that transparent pixels of the image were blended with when it was decoded.
    pub backdrop: [u8; 3],
}

impl CutOut<'_> {
    /// Draws the cut-out in the memory of `image`.
    ///
    /// Without a background `alpha` is set to the cut-out's opacity, and fully transparent pixels are
    /// black, so that a file does not contain what was cut off. Transparent pixels of the image stay
    /// transparent. With a background the result is opaque: `rgb` is blended with it as browsers do, on
    /// sRGB values and not on linear light, so the result is that of placing the transparent cut-out
    /// on the background.
    ///
    /// `foreground` is the probability of the kept classes for each pixel, `[height, width]`, which a
    /// hard edge does not need. `cell` is the side in pixels of a cell of the network's output, to
    /// which the refinement is limited; see [`Segmentation::cut_out`](crate::Segmentation::cut_out).
    ///
    /// # Errors
    /// Returns an error if the sizes differ, `keep` is empty and the table has no background, the
    /// probabilities are missing, or there is not enough memory.
    pub fn draw(
        &self,
        mut image: Image,
        labels: &LabelMap,
        foreground: Option<Vec<f32>>,
        cell: f32,
    ) -> Result<Image> {
        same_size(&image, labels)?;
        let mut alpha = self.alpha(&image, labels, foreground, cell)?;
        let background =
            self.background.map(|background| background.prepare(&image, &alpha)).transpose()?;
        image.notes.clear();
        let photo_alpha = image.alpha.take();
        if self.edge == Edge::Refined {
            // Opaque and transparent pixels are at most two radii from the edge.
            let reach = 2 * refine::radius(image.size(), cell);
            color::decontaminate(&mut image.rgb, &alpha, labels.size(), reach)?;
        }
        if let Some(photo_alpha) = photo_alpha {
            for (pixel, &a) in image.rgb.chunks_exact_mut(3).zip(&photo_alpha) {
                remove_backdrop(pixel, a, self.backdrop);
            }
            for (a, photo) in alpha.iter_mut().zip(photo_alpha) {
                *a = ((u32::from(*a) * u32::from(photo) + 127) / 255) as u8;
            }
        }
        match background {
            Some(background) => background.blend(&mut image.rgb, &alpha, image.width),
            None => {
                let pixels = image.rgb.chunks_exact_mut(3).zip(&alpha);
                pixels.filter(|(_, a)| **a == 0).for_each(|(pixel, _)| pixel.fill(0));
                image.alpha = Some(alpha);
            }
        }
        Ok(image)
    }

    /// Returns the opacity of each pixel, without that of the image.
    fn alpha(
        &self,
        image: &Image,
        labels: &LabelMap,
        foreground: Option<Vec<f32>>,
        cell: f32,
    ) -> Result<Vec<u8>> {
        let background = self.table.background();
        if self.keep.is_empty() && background.is_none() {
            return Err(error!(
                Usage,
                "no classes to cut out, and the class table has no background"
            )
            .advice("name the classes to keep"));
        }
        if let Some(p) = foreground.as_ref().filter(|p| p.len() != labels.labels.len()) {
            let (got, pixels) = (p.len(), labels.labels.len());
            return Err(error!(
                Usage,
                "expected one probability per pixel, got {got} for {pixels} pixels"
            ));
        }
        let is_kept = |label: u16| match self.keep {
            [] => {
                let is_ignored = self.table.ignored.iter().any(|i| i.label == label);
                background != Some(label.into()) && !is_ignored
            }
            keep => keep.contains(&label.into()),
        };
        match (self.edge, foreground) {
            (Edge::Refined, Some(p)) => refine::alpha(image, p, cell),
            (Edge::Refined | Edge::Soft, None) => {
                Err(error!(Usage, "a soft edge needs the probabilities of the kept classes")
                    .advice("request them with OutputOptions::foreground, or use Edge::Hard"))
            }
            (edge, p) => {
                let mut alpha = with_capacity(labels.labels.len(), "the cut-out's opacity")?;
                match p.filter(|_| edge == Edge::Soft) {
                    Some(p) => alpha.extend(p.iter().map(|&p| soft(p))),
                    None => {
                        let hard = |&label| if is_kept(label) { 255 } else { 0 };
                        alpha.extend(labels.labels.iter().map(hard));
                    }
                }
                Ok(alpha)
            }
        }
    }
}

/// Returns the opacity of a pixel of a soft edge.
fn soft(p: f32) -> u8 {
    (255.0 * smooth_step((p - 0.2) / 0.6)).round() as u8
}

/// Returns 0 up to `t` = 0, 1 from `t` = 1 on, and `3 t^2 - 2 t^3` between.
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

/// Sums the probabilities of the kept classes over `[pixels, channels]`, as the `foreground`
/// argument of [`CutOut::draw`].
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
    crate::memory::collect(probabilities.len() / channels, sums)
}
