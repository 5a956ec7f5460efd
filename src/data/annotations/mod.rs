//! Annotations: shapes with labels, drawn into label maps as the tools that made them do.
//!
//! Each tool's own rule decides which pixels a shape covers, so that masks equal those of its
//! converters: [`coco`] that of pycocotools, [`opencv`] that of `cv2.fillPoly`, [`pillow`] that of
//! `ImageDraw`, [`brush`] that of Label Studio.

pub(super) mod brush;
pub(super) mod canvas;
pub(super) mod coco;
pub(super) mod json;
pub(super) mod names;
pub(super) mod opencv;
pub(super) mod pillow;
#[cfg(test)]
mod tests;
mod yolo;

use super::MaskValues;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::{LabelMap, upright_dimensions};
use crate::text;
use canvas::Canvas;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Label of pixels that count in no loss.
pub(super) const IGNORED: u16 = 255;

/// Maximum number of classes besides the background: 255 is ignored.
pub(super) const MAX_CLASSES: usize = 254;

/// Labels that were drawn are classes, or 255. Distinct from [`MaskValues::CLASSES`], so that
/// labels of 0 and 255 alone are not taken for masks of a drawing program.
pub(super) const DRAWN: MaskValues = MaskValues::new("annotations", |value| value);

/// The shapes of an image, as stored in an annotation file.
#[derive(Debug)]
pub struct Annotation {
    /// The annotation file. One file may have the shapes of all images.
    pub(super) file: Arc<Path>,
    pub(super) image: PathBuf,
    /// Size of the image in pixels, if the file states it.
    pub(super) size: Option<Size>,
    /// What an entry is called in messages, before its number: "annotation".
    pub(super) noun: &'static str,
    pub(super) content: Content,
}

/// Shapes, or where to read them.
#[derive(Debug)]
pub(super) enum Content {
    /// Later shapes are drawn over earlier ones.
    Shapes(Vec<Shape>),
    /// Lines of a label file of YOLO with this number of classes, read whenever they are drawn.
    YoloLines { classes: usize },
}

/// An area with a label.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) label: u16,
    /// Number or id of the entry in its file.
    pub(super) id: u64,
    pub(super) outline: Outline,
}

/// The area of a shape. Points are x and y.
#[derive(Debug)]
pub(super) enum Outline {
    /// A polygon in pycocotools' fifths of a pixel.
    Coco(Box<[[i32; 2]]>),
    /// Lengths of runs without and with the label in turn, down the columns.
    Runs(Box<[u32]>),
    /// As `Runs`, in pycocotools' text form.
    Packed(Box<[u8]>),
    /// Label Studio's compressed pixels.
    Brush(Box<[u8]>),
    /// A polygon as Pillow draws it.
    Polygon(Box<[[i32; 2]]>),
    /// Left, top, right and bottom of an ellipse as Pillow draws it.
    Ellipse([i32; 4]),
    /// Left, top, right and bottom pixel.
    Rectangle([i32; 4]),
    /// A PNG, and the left, top, right and bottom pixel that it covers.
    Bitmap([i32; 4], Box<[u8]>),
}

impl Annotation {
    /// Returns the path of the file that contains the shapes.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Draws the shapes into a map of the image's size; other pixels have class 0.
    ///
    /// # Errors
    /// Returns an error that names the file, the image and the entry if the image's header cannot
    /// be read, the file states another size, or a shape is malformed.
    pub(crate) fn draw(&self) -> Result<LabelMap> {
        let size = upright_dimensions(&self.image)?;
        if let Some(stated) = self.size.filter(|stated| *stated != size) {
            let problem = error!(Data, "annotated for {stated} pixels, but the image has {size}");
            return Err(self.address(problem).advice(
                "check whether the image was rotated or resized after it was annotated; export again",
            ));
        }
        let mut canvas = Canvas::new(size)?;
        let drawn = match &self.content {
            Content::Shapes(shapes) => shapes.iter().try_for_each(|shape| {
                let id = shape.id;
                shape.draw(&mut canvas).map_err(|e| e.at(format!("{} {id}", self.noun)))
            }),
            Content::YoloLines { classes } => yolo::draw(&self.file, *classes, &mut canvas),
        };
        drawn.map_err(|e| self.address(e))?;
        canvas.finish()
    }

    /// Adds the file and the image to an error.
    fn address(&self, error: crate::Error) -> crate::Error {
        error.at(format!("image {}", text::path(&self.image))).file(&self.file)
    }
}

impl PartialEq for Annotation {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.image == other.image
    }
}

impl Eq for Annotation {}

impl Shape {
    fn draw(&self, canvas: &mut Canvas) -> Result<()> {
        let label = self.label;
        match &self.outline {
            Outline::Coco(points) => coco::polygon(canvas, points, label),
            Outline::Runs(runs) => coco::runs(canvas, runs.iter().map(|&run| Ok(run)), label),
            Outline::Packed(text) => coco::runs(canvas, coco::unpack(text), label),
            Outline::Brush(bytes) => brush::draw(canvas, bytes, label),
            Outline::Polygon(points) => pillow::polygon(canvas, points, label),
            Outline::Ellipse(frame) => pillow::ellipse(canvas, *frame, label),
            Outline::Rectangle(frame) => pillow::rectangle(canvas, *frame, label),
            Outline::Bitmap(frame, png) => pillow::bitmap(canvas, *frame, png, label),
        }
    }
}
