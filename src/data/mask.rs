//! Where the labels of a pair are stored.

use super::annotations::Annotation;
use crate::error::Result;
use crate::image::{ClassTable, LabelMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The labels of a pair: a file, or shapes that are drawn whenever they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Path of a PNG, TIFF, BMP, GIF or `.npy` file.
    File(PathBuf),
    /// Shapes of an annotation file.
    Shapes(Arc<Annotation>),
}

impl Mask {
    /// Returns the path of the mask file, or of the file with the shapes.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Shapes(annotation) => annotation.file(),
        }
    }

    /// Returns the path of the mask file, if it is one.
    pub fn stored(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Shapes(_) => None,
        }
    }

    /// Reads or draws the labels. Also returns whether they were looked up by color in `table`;
    /// these are classes, whatever a data set's mask values mean.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read, or if shapes are malformed or
    /// were made for an image of another size.
    pub(crate) fn read(&self, table: Option<&ClassTable>) -> Result<(LabelMap, bool)> {
        match self {
            Self::File(path) => LabelMap::read_by_value_or_color(path, table),
            Self::Shapes(annotation) => annotation.draw().map(|map| (map, false)),
        }
    }
}

impl From<PathBuf> for Mask {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}
