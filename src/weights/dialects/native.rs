//! The native dialect: the names and layout of this crate, with the config in the metadata.

use super::{Dialect, KernelLayout, Tensors};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::{CONFIG_KEY, Config, STEM_WEIGHT, parameter_name};

/// The native dialect, this crate's own.
pub static NATIVE: &dyn Dialect = &Native;

/// See [`NATIVE`].
struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "atrous"
    }

    fn description(&self) -> &'static str {
        "the native dialect: any network, with its config in the metadata"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.has(STEM_WEIGHT) || tensors.any("backbone.stem.conv")
    }

    fn infer(&self, _tensors: &Tensors) -> Result<Config> {
        Err(error!(Weights, "the metadata lacks `{CONFIG_KEY}`, which describes the network")
            .advice(
                "another program rewrote the file without its metadata: import the original again",
            ))
    }

    fn rename(&self, _config: &Config, path: &str, part: Part) -> Option<String> {
        Some(parameter_name(path, part))
    }

    fn wrap_key(&self) -> Option<&'static str> {
        // The names need the metadata beside them.
        Some("state_dict")
    }

    fn layout(&self, _tensors: &Tensors) -> KernelLayout {
        KernelLayout::Native
    }
}
