//! What is found, as the style shows it.

use super::inputs::Job;
use super::{Args, Style, Tools};
use crate::cli::tensors;
use crate::error::{Error, Result};
use crate::image::{BACKDROP, Overlay, Picture, SideBySide, cut_out, foreground};
use crate::segmenter::Segmentation;
use crate::video::Content;
use crate::weights::FloatDType;

/// Writes the result for one picture.
pub(super) fn picture(args: &Args, tools: &Tools, job: &Job, picture: &Picture, found: &Segmentation) -> Result<()> {
    if let Some(folder) = job.output.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e))?;
    }
    match args.style {
        Style::Mask => found.labels.write(&job.output, &tools.table)?,
        Style::SideBySide => {
            let sheet = SideBySide { overlay: overlay(args), ..SideBySide::default() };
            sheet.draw(picture, &found.labels, &tools.table)?.save(&job.output)?;
        }
        _ => draw(args, tools, picture, found)?.save(&job.output)?,
    }
    if args.probabilities
        && let Some(probabilities) = &found.probabilities
    {
        let path = job.output.with_extension("probabilities.safetensors");
        tensors::write(&path, &[("probabilities".to_owned(), probabilities.clone())], FloatDType::F32)?;
    }
    Ok(())
}

/// The result for a frame of a clip. All are of one size, so a picture beside its overlay has no legend there.
pub(super) fn frame(args: &Args, tools: &Tools, picture: &Picture, found: Segmentation) -> Result<Content> {
    Ok(match args.style {
        Style::Mask => Content::Mask(found.labels),
        Style::SideBySide => Content::Picture(beside(picture, &draw(args, tools, picture, &found)?)?),
        _ => Content::Picture(draw(args, tools, picture, &found)?),
    })
}

/// Columns and rows of a frame's result.
pub(super) fn frame_size(args: &Args, width: usize, height: usize) -> (usize, usize) {
    (if args.style == Style::SideBySide { 2 * width } else { width }, height)
}

fn overlay(args: &Args) -> Overlay {
    Overlay { opacity: args.opacity, ..Overlay::default() }
}

/// A cut-out, else the overlay.
fn draw(args: &Args, tools: &Tools, picture: &Picture, found: &Segmentation) -> Result<Picture> {
    if args.style != Style::Cutout {
        return overlay(args).draw(picture, &found.labels, &tools.table);
    }
    let soft = found.probabilities.as_ref().map(|p| foreground(p.f32(), p.shape().c, &tools.keep)).transpose()?;
    cut_out(picture, &found.labels, &tools.table, &tools.keep, soft.as_deref(), BACKDROP)
}

/// Two pictures of one size, left and right.
fn beside(left: &Picture, right: &Picture) -> Result<Picture> {
    let row = 3 * left.width;
    let rows = left.rgb.chunks_exact(row).zip(right.rgb.chunks_exact(row));
    Picture::new(2 * left.width, left.height, rows.flat_map(|(l, r)| l.iter().chain(r)).copied().collect())
}
