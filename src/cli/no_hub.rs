//! The same as `src/cli/weights.rs` in a build without the feature `hub`: names are refused.

use crate::error::{Result, error};
use std::path::PathBuf;

/// Refuses a name of a hub. Any other text is a path.
pub(super) fn resolve(weights: &mut PathBuf, _quiet: bool) -> Result<()> {
    match weights.to_str() {
        Some(name) if name.starts_with("hf:") => {
            Err(error!(Usage, "this build cannot download weights: it lacks the feature `hub`")
                .at(name.to_owned())
                .advice("download the file and pass its path"))
        }
        _ => Ok(()),
    }
}

/// Refuses to choose weights.
pub(super) fn default_network(_yes: bool, _quiet: bool) -> Result<PathBuf> {
    Err(error!(Usage, "`--weights` is required: this build lacks the feature `hub`")
        .advice("pass a weight file"))
}
