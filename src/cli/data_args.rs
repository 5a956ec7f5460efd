//! Options that say where a data set is.

use super::registries::data_help;
use crate::data::{DataSource, Patterns};
use crate::error::{Result, error};
use std::path::PathBuf;

/// Where a data set is, as an option; required, unless the command says otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[arg(long, value_name = "DIR", required_unless_present = "images", help = data_help())]
    data: Vec<PathBuf>,

    #[command(flatten)]
    patterns: PatternArgs,
}

impl DataArgs {
    /// Returns the data sets that are named.
    pub(super) fn sources(&self) -> Vec<DataSource> {
        let directories = self.data.iter().map(DataSource::from);
        directories.chain(self.patterns.source()).collect()
    }

    /// Returns the data set.
    ///
    /// # Errors
    /// Returns an error if none or several are named.
    pub(super) fn source(&self) -> Result<DataSource> {
        let mut sources = self.sources();
        match sources.len() {
            1 => Ok(sources.remove(0)),
            0 => Err(error!(Usage, "`--data` is required")),
            n => {
                Err(error!(Usage, "expected one data set, got {n}")
                    .advice("name one with `--data`"))
            }
        }
    }
}

/// Where a data set without a known layout is.
#[derive(Debug, clap::Args)]
pub(super) struct PatternArgs {
    /// Images of a data set in another layout: a pattern with `*`, `**` for any directories, and
    /// `{split}` for the names of splits. Image and mask have the same name, the text that the
    /// wildcards match: 'scans/*/photo.jpg' with 'scans/*/labels.png'
    #[arg(long, value_name = "PATTERN", requires = "masks", conflicts_with = "data")]
    images: Option<String>,

    /// Masks of these images: PNG, TIFF, BMP, GIF or .npy
    #[arg(long, value_name = "PATTERN", requires = "images")]
    masks: Option<String>,
}

impl PatternArgs {
    /// Returns the data set, if patterns are given.
    pub(super) fn source(&self) -> Option<DataSource> {
        let (images, masks) = (self.images.clone()?, self.masks.clone()?);
        Some(Patterns { images, masks }.into())
    }
}
