//! Networks: from a [`Config`] to a [`Graph`](crate::graph::Graph).
//!
//! Nodes and parameters are named by their place: `backbone.layer1.0.conv1`, `aspp.rate2`,
//! `decoder.low_level`, `logits`. A layer is a convolution `NAME` with its batch norm `NAME.norm`
//! and its activation `NAME.relu` (or `NAME.relu6`, ...).

mod aspp;
mod backbone;
mod config;
mod decoder;
mod deeplab;
mod fold_norms;
mod inflate;
mod layer;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
mod named;
mod random;
pub mod resnet;
pub mod xception;

pub use backbone::Backbone;
pub use config::{
    Aspp, Aux, CONFIG_KEY, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm,
    PadRule, PaddingRule, PlusDecoder, Pooling, Preprocessing,
};
pub use deeplab::{NetworkGraph, Outputs, build, build_network};
pub use fold_norms::fold_norms;
pub use inflate::{STEM_WEIGHT, inflate_stem};
pub use named::PaperHead;
pub use random::random_weights;

use crate::error::Result;
use crate::tensor::Shape;

/// Names and shapes of a network's parameters, in the order of the graph. They do not depend on the
/// image's size.
///
/// # Errors
/// Where the config contradicts itself.
pub fn parameters(config: &Config) -> Result<Vec<(String, Shape)>> {
    let graph = build(config, Shape::new(1, 33, 33, config.input_channels))?;
    Ok(graph.params().map(|(name, id)| (name.to_owned(), graph.shape(id))).collect())
}

/// Whether a parameter is trained: running means and variances are not, and papers do not count
/// them.
pub fn is_trained(name: &str) -> bool {
    !name.ends_with(".running_mean") && !name.ends_with(".running_var")
}

/// Whether a parameter is the auxiliary head's, which takes part in training alone.
pub fn is_auxiliary(name: &str) -> bool {
    name.starts_with("aux.")
}
