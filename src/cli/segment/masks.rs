//! One mask for each class of a network whose classes can overlap.

use super::inputs::{Job, claimed};
use super::stream::is_stream;
use super::{Args, Style, Tools};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::alloc::filled;
use crate::image::{ClassTable, save_gray};
use crate::models::Labeling;
use crate::segmenter::Strip;
use crate::text;
use std::path::{Path, PathBuf};

/// The masks of the classes from 1 on, 0 or 255 for each pixel.
pub(super) struct ClassMasks {
    size: Size,
    threshold: f32,
    planes: Vec<Vec<u8>>,
}

/// A written mask.
#[derive(Debug, serde::Serialize)]
pub(super) struct MaskFile {
    /// Name of the class.
    class: String,
    #[serde(serialize_with = "crate::files::json_path::serialize")]
    file: PathBuf,
    /// Share of the image's pixels, 0 to 1. Those of all classes can add up to more than 1.
    share: f64,
}

/// Checks that no mask of a class would replace a file that is read, or another result.
///
/// # Errors
/// Returns an error that names the file.
pub(super) fn check(args: &Args, tools: &Tools, jobs: &[Job]) -> Result<()> {
    if wanted(args, tools).is_none() {
        return Ok(());
    }
    let mut outputs = claimed(args);
    jobs.iter().for_each(|job| outputs.reads(&job.input, "an input"));
    for job in jobs {
        if is_stream(&job.output) {
            return Err(error!(
                Usage,
                "classes can overlap: the mask of each is a file beside the result, not beside \
                 standard output"
            )
            .advice("name a file with -o, or unite classes with --binary"));
        }
        let of = job.input.display();
        outputs.writes(&job.output, format!("the mask of {of}"))?;
        for class in tools.table.names.iter().skip(1) {
            let what = format!("the mask of the class {} of {of}", text::excerpt(class));
            outputs.writes(&path(&job.output, class), what)?;
        }
    }
    Ok(())
}

/// Returns how labels follow from the outputs, if each class gets a mask.
fn wanted(args: &Args, tools: &Tools) -> Option<Labeling> {
    let labeling = tools.segmenter.model().network.labeling();
    let has_masks = args.style == Style::Mask && !args.results.binary;
    labeling.filter(|labeling| labeling.is_multi_label() && has_masks)
}

/// Returns the path of the mask of a class beside the result.
fn path(output: &Path, class: &str) -> PathBuf {
    /// File systems take names of 255 bytes, of up to 4 for each character.
    const MAX_CHARS: usize = 40;
    let letter = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name: String = class.chars().take(MAX_CHARS).map(letter).collect();
    output.with_extension(format!("{name}.png"))
}

impl ClassMasks {
    /// Allocates the masks, if the network has several sigmoid outputs and masks were asked for.
    pub(super) fn create(args: &Args, tools: &Tools, size: Size) -> Result<Option<Self>> {
        let Some(labeling) = wanted(args, tools) else { return Ok(None) };
        let plane = || filled(0, size.pixels(), "the masks of all classes");
        let planes = (0..labeling.channels()).map(|_| plane()).collect::<Result<_>>()?;
        Ok(Some(Self { size, threshold: labeling.threshold.probability(), planes }))
    }

    /// Adds some rows.
    pub(super) fn add(&mut self, strip: &Strip) {
        let classes = strip.probabilities.shape().c;
        let first = strip.first_row * self.size.width;
        for (i, pixel) in strip.probabilities.f32().chunks_exact(classes).enumerate() {
            for (plane, &p) in self.planes.iter_mut().zip(&pixel[1..]) {
                plane[first + i] = if p > self.threshold { 255 } else { 0 };
            }
        }
    }

    /// Writes each mask beside `output`: `photo-mask.NAME.png`.
    pub(super) fn write(self, output: &Path, table: &ClassTable) -> Result<Vec<MaskFile>> {
        let mut files = Vec::with_capacity(self.planes.len());
        for (class, plane) in table.names.iter().skip(1).zip(self.planes) {
            let file = path(output, class);
            let pixels = plane.iter().filter(|&&p| p != 0).count();
            save_gray(&file, self.size, &plane)?;
            let share = pixels as f64 / self.size.pixels() as f64;
            files.push(MaskFile { class: class.clone(), file, share });
        }
        Ok(files)
    }
}

/// Describes the files in one line.
pub(super) fn note(files: &[MaskFile]) -> Option<String> {
    let (first, last) = (files.first()?, files.last()?);
    Some(format!(
        "classes can overlap: the mask of each is in {} to {}",
        text::path(&first.file),
        text::path(&last.file)
    ))
}
