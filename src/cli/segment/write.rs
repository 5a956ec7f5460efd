//! Results in each style. Overlays are drawn in place, in the memory of the image.

use super::inputs::Job;
use super::stream::{self, is_stream};
use super::{Args, Style, Tools, cutout};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::alloc::with_capacity;
use crate::image::{
    BACKDROP, ClassTable, CutOut, FileFormat, Image, LabelMap, Overlay, SideBySide, encode_gray,
    save_gray,
};
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
    let result = match args.style {
        Style::Mask if args.results.binary => {
            Drawn::Binary(image.size(), binary(tools, segmentation)?)
        }
        Style::Mask => Drawn::Mask(segmentation.labels),
        Style::SideBySide => {
            let sheet = SideBySide { overlay: overlay(args), ..SideBySide::default() };
            Drawn::Image(sheet.draw(&image, &segmentation.labels, &tools.table)?)
        }
        _ => Drawn::Image(draw(args, tools, image, segmentation)?),
    };
    if is_stream(&job.output) {
        return stream::write(&result.encode(args.results.format(), &tools.table)?);
    }
    make_directory(&job.output)?;
    result.save(&job.output, &tools.table)
}

/// A result to encode.
enum Drawn {
    Image(Image),
    Mask(LabelMap),
    /// 0 or 255 for each pixel.
    Binary(Size, Vec<u8>),
}

impl Drawn {
    fn save(&self, path: &Path, table: &ClassTable) -> Result<()> {
        match self {
            Self::Image(image) => image.save(path),
            Self::Mask(labels) => labels.write(path, table),
            Self::Binary(size, pixels) => save_gray(path, *size, pixels),
        }
    }

    fn encode(&self, format: FileFormat, table: &ClassTable) -> Result<Vec<u8>> {
        match self {
            Self::Image(image) => image.encode(format),
            Self::Mask(labels) => labels.encode(format, table),
            Self::Binary(size, pixels) => encode_gray(format, *size, pixels),
        }
    }
}

/// Returns 255 for each pixel of a kept class, 0 for the others.
fn binary(tools: &Tools, segmentation: Segmentation) -> Result<Vec<u8>> {
    let Some(foreground) = segmentation.foreground else {
        return segmentation.labels.select(&tools.keep);
    };
    let mut pixels = with_capacity(foreground.len(), "the mask")?;
    pixels.extend(foreground.iter().map(|&p| if p > 0.5 { 255 } else { 0 }));
    Ok(pixels)
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
    let size = image.size();
    Ok(match args.style {
        Style::Mask if args.results.binary => {
            let pixels = binary(tools, segmentation)?;
            let mut labels = with_capacity(pixels.len(), "the mask")?;
            labels.extend(pixels.into_iter().map(u16::from));
            Content::Mask(LabelMap::new(size, labels)?)
        }
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
    let default = Overlay::default();
    Overlay { opacity: args.opacity.unwrap_or(default.opacity), ..default }
}

/// Draws a cut-out or an overlay.
fn draw(args: &Args, tools: &Tools, mut image: Image, segmentation: Segmentation) -> Result<Image> {
    if args.style == Style::Cutout {
        let cut_out = CutOut {
            table: &tools.table,
            keep: &tools.keep,
            edge: cutout::edge(args),
            background: tools.background.as_ref(),
            backdrop: BACKDROP,
        };
        return segmentation.cut_out(image, &cut_out);
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
