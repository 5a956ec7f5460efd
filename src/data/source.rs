//! Where a data set is.

use super::layout::DatasetLayout;
use super::patterns::Patterns;
use crate::error::{Error, Result};
use crate::files::json_path;
use crate::text::{self, excerpt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf, absolute};

/// Where a data set is: in a directory, or where patterns match.
///
/// In JSON a directory is its path, and patterns are an object with `images` and `masks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", from = "Stored")]
pub struct DataSource {
    directory: PathBuf,
    patterns: Option<Patterns>,
}

impl DataSource {
    /// Returns the directory of the data set, or the one that contains all that its patterns match.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the patterns, if the data set is no directory.
    pub fn patterns(&self) -> Option<&Patterns> {
        self.patterns.as_ref()
    }

    /// Returns the same place for a program in another directory.
    ///
    /// # Errors
    /// Returns an error if a path is empty or the current directory is not known.
    pub fn absolute(&self) -> Result<Self> {
        let absolute =
            |path: &Path| absolute(path).map_err(|e| Error::io(path, "is not a valid path", e));
        let Some(Patterns { images, masks }) = &self.patterns else {
            return Ok(absolute(&self.directory)?.into());
        };
        let pattern = |text: &str| Ok(absolute(Path::new(text))?.to_string_lossy().into_owned());
        Ok(Patterns { images: pattern(images)?, masks: pattern(masks)? }.into())
    }

    pub(super) fn layout(&self) -> Result<DatasetLayout> {
        match &self.patterns {
            Some(patterns) => Ok(DatasetLayout::of_patterns(patterns.clone())),
            None => DatasetLayout::of(&self.directory),
        }
    }
}

impl From<Patterns> for DataSource {
    fn from(patterns: Patterns) -> Self {
        Self { directory: patterns.directory(), patterns: Some(patterns) }
    }
}

impl From<PathBuf> for DataSource {
    fn from(directory: PathBuf) -> Self {
        Self { directory, patterns: None }
    }
}

impl From<&Path> for DataSource {
    fn from(directory: &Path) -> Self {
        directory.to_owned().into()
    }
}

impl From<&PathBuf> for DataSource {
    fn from(directory: &PathBuf) -> Self {
        directory.clone().into()
    }
}

impl From<&str> for DataSource {
    fn from(directory: &str) -> Self {
        PathBuf::from(directory).into()
    }
}

impl From<String> for DataSource {
    fn from(directory: String) -> Self {
        PathBuf::from(directory).into()
    }
}

impl fmt::Display for DataSource {
    /// The directory, or `IMAGES with MASKS`, without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.patterns {
            Some(Patterns { images, masks }) => {
                write!(f, "{} with {}", excerpt(images), excerpt(masks))
            }
            None => write!(f, "{}", text::path(&self.directory)),
        }
    }
}

/// What JSON has.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Patterns(Patterns),
    Directory(#[serde(with = "json_path")] PathBuf),
}

impl From<DataSource> for Stored {
    fn from(source: DataSource) -> Self {
        match source.patterns {
            Some(patterns) => Self::Patterns(patterns),
            None => Self::Directory(source.directory),
        }
    }
}

impl From<Stored> for DataSource {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Patterns(patterns) => patterns.into(),
            Stored::Directory(directory) => directory.into(),
        }
    }
}
