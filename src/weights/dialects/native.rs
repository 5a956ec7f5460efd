//! Our own names, layout, and the config in the metadata.

use super::{Dialect, KernelLayout, ParameterPart, Tensors};
use crate::error::{Result, error};
use crate::models::{CONFIG_KEY, Config, STEM_WEIGHT};

/// Our dialect.
pub struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "atrous"
    }

    fn about(&self) -> &'static str {
        "this crate's own: any network, with its config in the metadata"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.has(STEM_WEIGHT) || tensors.any("backbone.stem.")
    }

    fn infer(&self, _tensors: &Tensors) -> Result<Config> {
        Err(error!(Weights, "the metadata has no `{CONFIG_KEY}`, which says what the network is")
            .advice("the file was written anew by a program that drops metadata: import the original again"))
    }

    fn rename(&self, _config: &Config, path: &str, part: ParameterPart) -> Option<String> {
        Some(format!("{path}{}", part.suffix()))
    }

    fn layout(&self, _tensors: &Tensors) -> KernelLayout {
        KernelLayout::Native
    }
}
