//! What is found, as the style shows it. Pictures are drawn on in their own memory.

use super::inputs::Job;
use super::{Args, Style, Tools};
use crate::error::{Error, Result};
use crate::image::room::room;
use crate::image::{BACKDROP, LabelMap, Overlay, Picture, SideBySide, cut_out};
use crate::segmenter::Segmentation;
use crate::video::Content;
use std::path::Path;

/// Writes the result for one picture.
pub(super) fn picture(args: &Args, tools: &Tools, job: &Job, picture: Picture, found: Segmentation) -> Result<()> {
    make_folder(&job.output)?;
    match args.style {
        Style::Mask => found.labels.write(&job.output, &tools.table),
        Style::SideBySide => {
            let sheet = SideBySide { overlay: overlay(args), ..SideBySide::default() };
            sheet.draw(&picture, &found.labels, &tools.table)?.save(&job.output)
        }
        _ => draw(args, tools, picture, found)?.save(&job.output),
    }
}

/// Makes the folder of a file.
pub(super) fn make_folder(file: &Path) -> Result<()> {
    match file.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e)),
        None => Ok(()),
    }
}

/// The result for a frame of a clip. All are of one size, so a picture beside its overlay has no legend there.
pub(super) fn frame(args: &Args, tools: &Tools, picture: Picture, found: Segmentation) -> Result<Content> {
    Ok(match args.style {
        Style::Mask => Content::Mask(found.labels),
        Style::SideBySide => Content::Picture(beside(args, tools, picture, &found.labels)?),
        _ => Content::Picture(draw(args, tools, picture, found)?),
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
fn draw(args: &Args, tools: &Tools, mut picture: Picture, found: Segmentation) -> Result<Picture> {
    if args.style == Style::Cutout {
        return cut_out(picture, &found.labels, &tools.table, &tools.keep, found.foreground.as_deref(), BACKDROP);
    }
    overlay(args).draw_over(&mut picture, &found.labels, &tools.table)?;
    Ok(picture)
}

/// A picture on the left, its overlay on the right.
fn beside(args: &Args, tools: &Tools, mut picture: Picture, labels: &LabelMap) -> Result<Picture> {
    let (width, height, row) = (picture.width, picture.height, 3 * picture.width);
    let mut rgb = room(2 * picture.rgb.len(), "the picture beside its overlay")?;
    for row in picture.rgb.chunks_exact(row) {
        // The right half is written over below.
        rgb.extend_from_slice(row);
        rgb.extend_from_slice(row);
    }
    overlay(args).draw_over(&mut picture, labels, &tools.table)?;
    for (both, row) in rgb.chunks_exact_mut(2 * row).zip(picture.rgb.chunks_exact(row)) {
        both[row.len()..].copy_from_slice(row);
    }
    Picture::new(2 * width, height, rgb)
}
