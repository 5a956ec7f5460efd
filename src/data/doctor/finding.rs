//! What can be off with a data set, and what to do about it.

use crate::files::json_path;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training would stop, or learn something wrong.
    Fault,
    /// Worth a look.
    Warning,
}

/// What is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A file that cannot be read.
    Unreadable,
    /// Image and mask differ in size.
    SizeDiffers,
    /// An image without a mask.
    NoMask,
    /// A mask without an image.
    NoImage,
    /// Two files that differ in their endings alone.
    SameName,
    /// Values that are no class.
    OutOfRange,
    /// Colors, or the grays of colors, where classes are expected.
    ColoredMask,
    /// Colors that are in no class.
    UnknownColors,
    /// A palette that has the classes' colors in another order.
    PaletteOrder,
    /// Values in between along the borders of areas.
    Smoothed,
    /// Nothing but 0 and 255 in all masks.
    #[serde(rename = "zero_and_255")]
    ZeroAnd255,
    /// A mask without a pixel that counts.
    AllIgnored,
    /// A class that is in no mask.
    EmptyClass,
    /// Two classes of one color, where masks are in colors.
    SameColor,
    /// The same image in two parts.
    InTwoParts,
    /// The same image twice in one part.
    Twice,
    /// An image of few pixels.
    Tiny,
    /// An image that is turned when it is read.
    Turned,
    /// Nobody says which classes there are.
    NoClasses,
}

impl Problem {
    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Problem::Unreadable => "files that cannot be read",
            Problem::SizeDiffers => "masks of another size than their image",
            Problem::NoMask => "images without a mask",
            Problem::NoImage => "masks without an image",
            Problem::SameName => "files that share a name",
            Problem::OutOfRange => "masks with values that are no class",
            Problem::ColoredMask => "masks that hold colors instead of classes",
            Problem::UnknownColors => "masks with colors that are in no class",
            Problem::PaletteOrder => "masks whose palette has the classes' colors in another order",
            Problem::Smoothed => "masks whose borders are smoothed",
            Problem::ZeroAnd255 => "masks of 0 and 255 alone",
            Problem::AllIgnored => "masks in which nothing counts",
            Problem::EmptyClass => "classes that are in no mask",
            Problem::SameColor => "classes of the same color, where masks are in colors",
            Problem::InTwoParts => "images that are in two parts",
            Problem::Twice => "images that are there twice",
            Problem::Tiny => "tiny images",
            Problem::Turned => {
                "images that their EXIF orientation turns upright, and their masks not"
            }
            Problem::NoClasses => "no list of classes",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Problem::Unreadable => "copy or export the files again, or take them out",
            Problem::SizeDiffers => {
                "check whether one of them was turned or scaled; scale masks by the nearest pixel only"
            }
            Problem::NoMask => {
                "draw the mask, or take the image out; masks are PNG files of the image's name"
            }
            Problem::NoImage => "take the mask out, or look for an image that is misspelled",
            Problem::SameName => {
                "a mask belongs to the name without its ending: rename one of the files, or take it out"
            }
            Problem::OutOfRange => {
                "correct the masks, or add the class or an `ignore` line to classes.txt; as it is, these pixels count in no loss"
            }
            Problem::ColoredMask => {
                "export masks with class numbers, or list the classes' colors in classes.txt"
            }
            Problem::UnknownColors => {
                "export again without smoothing and JPEG in between, or add the colors to classes.txt"
            }
            Problem::PaletteOrder => {
                "the index counts, not its color: save as RGB, or with the palette in the order of the classes"
            }
            Problem::Smoothed => {
                "values in between are read as other classes: draw without antialiasing, scale masks by the nearest pixel"
            }
            Problem::ZeroAnd255 => "255 is ignored: write 1 for the foreground",
            Problem::AllIgnored => "take them out: they cost time and teach nothing",
            Problem::EmptyClass => {
                "take the class out of classes.txt, or label images that show it"
            }
            Problem::SameColor => {
                "only the first one is ever found: give each class a color of its own, and export the masks again"
            }
            Problem::InTwoParts => {
                "take them out of one part: a score on images that were trained on says nothing"
            }
            Problem::Twice => "take one of them out, unless it is meant to count twice",
            Problem::Tiny => {
                "most of a crop will be padding; take a smaller crop, or larger images"
            }
            Problem::Turned => {
                "masks are read as they lie: see on the sheet (--out) whether they fit"
            }
            Problem::NoClasses => {
                "write classes.txt: a line of number, name and color for each class, such as `0 sky 128 128 128`"
            }
        }
    }
}

/// Something that is off, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub problem: Problem,
    /// The part it was found in, where the data set has parts.
    pub part: Option<String>,
    /// The file; the data set's directory, where it is about no file.
    #[serde(serialize_with = "json_path::serialize")]
    pub file: PathBuf,
    /// What exactly, in words; may be empty.
    pub detail: String,
}

impl Finding {
    pub(super) fn fault(problem: Problem, file: &Path, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fault,
            problem,
            part: None,
            file: file.into(),
            detail: detail.into(),
        }
    }

    pub(super) fn warning(problem: Problem, file: &Path, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(problem, file, detail) }
    }

    pub(super) fn in_part(self, part: Option<&str>) -> Self {
        Self { part: part.map(str::to_owned), ..self }
    }
}
