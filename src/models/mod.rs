//! Networks: building a [`Graph`](crate::graph::Graph) from a [`Config`].
//!
//! Nodes and parameters are named by their position in the network: `backbone.layer1.0.conv1`,
//! `aspp.rate2`, `decoder.low_level`, `logits`. A layer consists of a convolution `NAME`, its batch
//! norm `NAME.norm` and its activation `NAME.relu` (or `NAME.relu6`, ...).

mod aspp;
mod backbone;
mod card;
mod config;
mod conventions;
mod decoder;
mod deeplab;
mod fold_norms;
mod inflate;
mod labeling;
mod layer;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
mod network_graph;
mod paper;
mod random;
pub mod resnet;
mod resnet_units;
mod spec;
pub mod xception;

pub use backbone::Backbone;
pub use card::{CARD_KEY, CardScores, ModelCard};
pub(crate) use config::BACKGROUND;
pub use config::{
    Aspp, Aux, CONFIG_KEY, Config, Decoder, Head, OutputActivation, PadRule, PlusDecoder, Pooling,
    Preprocessing,
};
pub use conventions::{ConvKind, DilationRule, Eps, LowLevel, Norm, PaddingRule};
pub use deeplab::{build, build_network};
pub use fold_norms::fold_norms;
pub use inflate::{STEM_WEIGHT, inflate_stem};
pub use labeling::Labeling;
pub use layer::parameter_name;
pub use network_graph::{NetworkGraph, Outputs};
pub(crate) use network_graph::{add_input, with_background};
pub use paper::PaperHead;
pub use random::random_weights;
pub use spec::Family;

use crate::error::Result;
use crate::graph::ParamInfo;
use crate::tensor::Shape;

/// Returns the parameters of a network with their shapes, in graph order. They do not depend on the
/// image size.
///
/// # Errors
/// Returns an error if the config is inconsistent.
pub fn parameters(config: &Config) -> Result<Vec<(ParamInfo, Shape)>> {
    let graph = build(config, Shape::new(1, 33, 33, config.input_channels))?;
    Ok(graph.params().map(|(info, id)| (info.clone(), graph.shape(id))).collect())
}
