//! Problems of data sets, with advice.

use crate::files::json_path;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training would fail, or learn something wrong.
    Fault,
    /// Should be reviewed.
    Warning,
}

/// Kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A file cannot be read.
    Unreadable,
    /// Image and mask have different sizes.
    SizeDiffers,
    /// An image has no mask.
    NoMask,
    /// A mask has no image.
    NoImage,
    /// Two files have the same name, except for the extension.
    SameName,
    /// A mask has values that are not a class.
    OutOfRange,
    /// A mask contains colors, or colors converted to gray, instead of classes.
    ColoredMask,
    /// A mask contains colors that belong to no class.
    UnknownColors,
    /// A mask has a palette with the classes' colors in a different order.
    PaletteOrder,
    /// A mask has intermediate values along the borders of regions.
    Smoothed,
    /// All masks contain only 0 and 255.
    #[serde(rename = "zero_and_255")]
    ZeroAnd255,
    /// All masks contain only 0 and 255, where two classes make 255 the foreground.
    #[serde(rename = "foreground_is_255")]
    ForegroundIs255,
    /// A mask has no labeled pixels.
    AllIgnored,
    /// A class is in no mask.
    EmptyClass,
    /// Two classes have the same color, and masks contain colors.
    SameColor,
    /// The same image is in two splits.
    InTwoSplits,
    /// The same image is in a split twice.
    Duplicate,
    /// An image is very small.
    Tiny,
    /// An image has an EXIF orientation, so it is rotated when it is read.
    Rotated,
    /// The classes are not defined.
    NoClasses,
}

impl Problem {
    /// Heading for findings of this kind.
    pub fn title(self) -> &'static str {
        match self {
            Problem::Unreadable => "unreadable files",
            Problem::SizeDiffers => "masks with a different size than their image",
            Problem::NoMask => "images without a mask",
            Problem::NoImage => "masks without an image",
            Problem::SameName => "files with the same name",
            Problem::OutOfRange => "masks with values that are not a class",
            Problem::ColoredMask => "masks that contain colors instead of classes",
            Problem::UnknownColors => "masks with colors that belong to no class",
            Problem::PaletteOrder => {
                "masks whose palette has the classes' colors in a different order"
            }
            Problem::Smoothed => "masks with smoothed borders",
            Problem::ZeroAnd255 => "masks with only 0 and 255",
            Problem::ForegroundIs255 => "masks whose foreground is 255",
            Problem::AllIgnored => "masks without labeled pixels",
            Problem::EmptyClass => "classes that are in no mask",
            Problem::SameColor => "classes with the same color",
            Problem::InTwoSplits => "images that are in two splits",
            Problem::Duplicate => "duplicate images",
            Problem::Tiny => "tiny images",
            Problem::Rotated => {
                "images with an EXIF orientation, which does not apply to their masks"
            }
            Problem::NoClasses => "no class definitions",
        }
    }

    /// What the user can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Problem::Unreadable => "copy or export the files again, or remove them",
            Problem::SizeDiffers => {
                "check whether one of them was rotated or resized: turn masks like their images, and resize them with nearest-neighbor interpolation only"
            }
            Problem::NoMask => {
                "add the mask, or remove the image; masks are PNG, TIFF, BMP, GIF or .npy files with the image's name"
            }
            Problem::NoImage => "remove the mask, or check the image's name for typos",
            Problem::SameName => {
                "masks are matched by name without extension: rename one of the files, or remove it"
            }
            Problem::OutOfRange => {
                "correct the masks, or add the class or an `ignore` line to classes.txt; otherwise the loss ignores these pixels"
            }
            Problem::ColoredMask => {
                "export masks with class numbers, or list the classes' colors in classes.txt"
            }
            Problem::UnknownColors => {
                "export again without antialiasing or JPEG compression, or add the colors to classes.txt"
            }
            Problem::PaletteOrder => {
                "the class is the index, not the color: save as RGB, or with the palette in class order"
            }
            Problem::Smoothed => {
                "intermediate values are read as other classes: draw without antialiasing, resize masks with nearest-neighbor interpolation"
            }
            Problem::ZeroAnd255 => {
                "255 is ignored: use 1 for the foreground, or list two classes and no ignored 255"
            }
            Problem::ForegroundIs255 => {
                "255 is read as class 1: if it marks pixels to ignore, list both classes and the line `255 ignore` in classes.txt"
            }
            Problem::AllIgnored => "remove them: they take time without contributing to the loss",
            Problem::EmptyClass => {
                "remove the class from classes.txt, or label images that contain it"
            }
            Problem::SameColor => {
                "only the first class of a color is recognized in masks: give each class a different color, and export the masks again"
            }
            Problem::InTwoSplits => {
                "remove them from one split: scores on training images are meaningless"
            }
            Problem::Duplicate => "remove one of them, unless it is meant to count twice",
            Problem::Tiny => "most of a crop will be padding; use smaller crops or larger images",
            Problem::Rotated => {
                "masks are not rotated: check on the contact sheet (-o) whether they fit"
            }
            Problem::NoClasses => {
                "add a classes.txt: a line with number, name and, if you like, color for each class, such as `0 sky 128 128 128`"
            }
        }
    }
}

/// A problem and its location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// Kind of problem.
    pub problem: Problem,
    /// Split, if the data set has splits.
    pub split: Option<String>,
    /// The file, or the data set's directory if no single file is affected.
    #[serde(serialize_with = "json_path::serialize")]
    pub file: PathBuf,
    /// Details for people; may be empty.
    pub detail: String,
}

impl Finding {
    pub(super) fn fault(problem: Problem, file: &Path, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fault,
            problem,
            split: None,
            file: file.into(),
            detail: detail.into(),
        }
    }

    pub(super) fn warning(problem: Problem, file: &Path, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(problem, file, detail) }
    }

    pub(super) fn in_split(self, split: Option<&str>) -> Self {
        Self { split: split.map(str::to_owned), ..self }
    }
}
