//! Results in each style. Overlays are drawn in place, in the memory of the image.

use super::inputs::Job;
use super::{Args, Style, Tools};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::alloc::with_capacity;
use crate::image::{BACKDROP, Image, LabelMap, Overlay, SideBySide, cut_out};
use crate::segmenter::Segmentation;
use crate::video::Content;
use std::path::Path;

/// Writes the result for one image.
pub(super) fn image(
    args: &Args,
    tools: &Tools,
    job: &Job,
    image: Image,
    segmentation: Segmentation,
) -> Result<()> {
    make_directory(&job.output)?;
    match args.style {
        Style::Mask => segmentation.labels.write(&job.output, &tools.table),
        Style::SideBySide => {
            let sheet = SideBySide { overlay: overlay(args), ..SideBySide::default() };
            sheet.draw(&image, &segmentation.labels, &tools.table)?.save(&job.output)
        }
        _ => draw(args, tools, image, segmentation)?.save(&job.output),
    }
}

/// Creates the parent directory of a file.
pub(super) fn make_directory(file: &Path) -> Result<()> {
    match file.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(directory) => std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "could not create the directory", e)),
        None => Ok(()),
    }
}

/// Returns the result for a frame of a video. All frames have one size, so side-by-side frames have
/// no legend.
pub(super) fn frame(
    args: &Args,
    tools: &Tools,
    image: Image,
    segmentation: Segmentation,
) -> Result<Content> {
    Ok(match args.style {
        Style::Mask => Content::Mask(segmentation.labels),
        Style::SideBySide => Content::Image(beside(args, tools, image, &segmentation.labels)?),
        _ => Content::Image(draw(args, tools, image, segmentation)?),
    })
}

/// Returns the size of the result for frames of size `frame`.
pub(super) fn frame_size(args: &Args, frame: Size) -> Size {
    if args.style == Style::SideBySide { Size { width: 2 * frame.width, ..frame } } else { frame }
}

fn overlay(args: &Args) -> Overlay {
    Overlay { opacity: args.opacity, ..Overlay::default() }
}

/// Draws a cut-out or an overlay.
fn draw(args: &Args, tools: &Tools, mut image: Image, segmentation: Segmentation) -> Result<Image> {
    if args.style == Style::Cutout {
        return cut_out(
            image,
            &segmentation.labels,
            &tools.table,
            &tools.keep,
            segmentation.foreground.as_deref(),
            BACKDROP,
        );
    }
    overlay(args).draw_over(&mut image, &segmentation.labels, &tools.table)?;
    Ok(image)
}

/// Draws an image on the left, its overlay on the right.
fn beside(args: &Args, tools: &Tools, mut image: Image, labels: &LabelMap) -> Result<Image> {
    let (width, height, row) = (image.width, image.height, 3 * image.width);
    let mut rgb = with_capacity(2 * image.rgb.len(), "the side-by-side image")?;
    for row in image.rgb.chunks_exact(row) {
        // The right half is overwritten below.
        rgb.extend_from_slice(row);
        rgb.extend_from_slice(row);
    }
    overlay(args).draw_over(&mut image, labels, &tools.table)?;
    for (both, row) in rgb.chunks_exact_mut(2 * row).zip(image.rgb.chunks_exact(row)) {
        both[row.len()..].copy_from_slice(row);
    }
    Image::new(Size::new(2 * width, height), rgb)
}
