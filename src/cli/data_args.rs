//! Options that say where a data set is.

use super::registries::data_help;
use crate::data::{DataSource, Patterns};
use std::path::PathBuf;

/// Where a data set is, as an option; required, unless the command says otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[arg(long, value_name = "DIR", required_unless_present = "images", help = data_help())]
    data: Option<PathBuf>,

    #[command(flatten)]
    patterns: PatternArgs,
}

impl DataArgs {
    /// Returns the data set, if one is named.
    pub(super) fn source(&self) -> Option<DataSource> {
        let directory = self.data.clone().map(DataSource::from);
        directory.or_else(|| self.patterns.source())
    }
}

/// Where a data set without a known layout is.
#[derive(Debug, clap::Args)]
pub(super) struct PatternArgs {
    /// Images of a data set in another layout: a pattern with `*`, `**` for any directories, and
    /// `{split}` for the names of splits. Image and mask have the same name, which is what the
    /// wildcards stand for: 'scans/*/photo.jpg' with 'scans/*/labels.png'
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
