//! The same as `src/cli/weights.rs` in a build without the feature `hub`: names are refused.

use crate::error::{Result, error};
use std::path::PathBuf;

/// The same as with the feature `hub`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent {
    #[expect(dead_code, reason = "nothing is downloaded")]
    pub yes: bool,
    #[expect(dead_code, reason = "nothing is downloaded")]
    pub quiet: bool,
}

/// A network of a list that this build lacks.
#[derive(Debug)]
pub(super) struct KnownNetwork {
    pub license: &'static str,
}

/// Refuses a name of a hub. Any other text is a path.
#[expect(clippy::ptr_arg, reason = "the same signature as with the feature `hub`")]
pub(super) fn resolve(
    weights: &mut PathBuf,
    _consent: Consent,
) -> Result<Option<&'static KnownNetwork>> {
    match weights.to_str() {
        Some(name) if name.starts_with("hf:") => {
            Err(error!(Usage, "this build cannot download weights: it lacks the feature `hub`")
                .at(name.to_owned())
                .advice("download the file and pass its path"))
        }
        _ => Ok(None),
    }
}

/// Refuses to choose weights.
pub(super) fn default_network(_consent: Consent) -> Result<(PathBuf, &'static KnownNetwork)> {
    Err(error!(Usage, "`--weights` is required: this build lacks the feature `hub`")
        .advice("pass a weight file"))
}
