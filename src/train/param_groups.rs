//! Parameter groups: learning-rate factors and weight decay by part of the network.

use super::arena::Entry;
use crate::error::{Result, error};
use serde::{Deserialize, Serialize};

/// Learning-rate factors by part of the network, and the weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParamGroups {
    /// Learning-rate factor of the backbone.
    pub backbone: f64,
    /// Learning-rate factor of ASPP, decoder and auxiliary head.
    pub head: f64,
    /// Learning-rate factor of the classifier; 10 in TensorFlow's recipes.
    pub last_layer: f64,
    /// Learning-rate factor of the classifier's bias, on top of `last_layer`; 2 in TensorFlow's
    /// recipes.
    pub last_bias: f64,
    /// Weight decay.
    #[serde(alias = "decay")]
    pub weight_decay: f64,
    /// Whether scale and shift of batch norms decay.
    pub decay_norms: bool,
    /// Whether biases of convolutions decay.
    pub decay_biases: bool,
    /// Whether kernels of depthwise convolutions decay; not in TensorFlow's recipes.
    pub decay_depthwise: bool,
}

impl Default for ParamGroups {
    /// The same learning rate everywhere, and a weight decay of 1e-4 of the kernels.
    fn default() -> Self {
        Self {
            backbone: 1.0,
            head: 1.0,
            last_layer: 1.0,
            last_bias: 1.0,
            weight_decay: 1e-4,
            decay_norms: false,
            decay_biases: false,
            decay_depthwise: true,
        }
    }
}

/// Settings of the parameters of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ParamGroup {
    /// Learning-rate factor.
    pub factor: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl ParamGroups {
    /// Checks the fields.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field.
    pub fn validate(&self) -> Result<()> {
        let fields = [
            ("backbone", self.backbone),
            ("head", self.head),
            ("last_layer", self.last_layer),
            ("last_bias", self.last_bias),
            ("weight_decay", self.weight_decay),
        ];
        match fields.into_iter().find(|(_, x)| !x.is_finite() || *x < 0.0) {
            Some((name, x)) => Err(error!(Config, "`{name}` must be 0 or more, got {x}")),
            None => Ok(()),
        }
    }

    /// Group of a parameter. `depthwise`: whether it is the kernel of a depthwise convolution.
    pub(super) fn of(&self, entry: &Entry, depthwise: bool) -> ParamGroup {
        let name = entry.name.as_str();
        let (norm, bias) = (is_norm(name), name.ends_with(".bias"));
        let factor = if name.starts_with("backbone.") {
            self.backbone
        } else if name.starts_with("logits.") {
            self.last_layer * if bias { self.last_bias } else { 1.0 }
        } else {
            self.head
        };
        let exempt = (norm && !self.decay_norms)
            || (!norm && bias && !self.decay_biases)
            || (depthwise && !self.decay_depthwise);
        ParamGroup { factor, weight_decay: if exempt { 0.0 } else { self.weight_decay } }
    }
}

/// Whether a parameter belongs to a batch norm, judging by its name.
fn is_norm(name: &str) -> bool {
    name.rsplit('.').nth(1) == Some("norm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Backbone, Config, Outputs, build_network, parameters};
    use crate::ops::Packing;
    use crate::tensor::Shape;
    use crate::train::arena::ParameterArena;
    use crate::train::step_layout;
    use std::collections::HashSet;

    fn depthwise(config: &Config) -> HashSet<String> {
        let outputs = Outputs { logits_full: true, ..Outputs::default() };
        let shape = Shape::new(1, 65, 65, config.input_channels);
        step_layout::depthwise(&build_network(config, shape, &outputs).unwrap().graph)
    }

    #[test]
    fn a_dense_kernel_on_one_channel_decays_as_any_other() {
        let gray = Config {
            input_channels: 1,
            ..Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 5)
        };
        let names = depthwise(&gray);
        let shapes: Vec<_> = parameters(&gray).unwrap();
        let one_channel = |shape: &Shape| shape.w == 1 && shape.n * shape.h > 1;
        let dense: Vec<_> = shapes
            .iter()
            .filter(|(name, shape)| one_channel(shape) && !names.contains(name))
            .collect();
        assert_eq!(dense.len(), 1, "the first convolution alone: {dense:?}");
        let groups = ParamGroups { decay_depthwise: false, ..ParamGroups::default() };
        let arena =
            ParameterArena::new([(dense[0].0.clone(), dense[0].1, Packing::Channels)], 1 << 30)
                .unwrap();
        assert_eq!(groups.of(&arena.entries()[0], false).weight_decay, 1e-4);
        assert_eq!(groups.of(&arena.entries()[0], true).weight_decay, 0.0);
    }

    #[test]
    fn parameters_of_a_network_find_their_groups() {
        let config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 5);
        let tensors = parameters(&config)
            .unwrap()
            .into_iter()
            .map(|(name, shape)| (name, shape, Packing::Channels));
        let arena = ParameterArena::new(tensors, 1 << 30).unwrap();
        let groups = ParamGroups {
            backbone: 0.1,
            head: 1.0,
            last_layer: 10.0,
            last_bias: 2.0,
            decay_depthwise: false,
            ..ParamGroups::default()
        };
        let depthwise_kernels = depthwise(&config);
        let of = |name: &str| {
            let entry = arena
                .entries()
                .iter()
                .find(|e| e.name == name)
                .unwrap_or_else(|| panic!("there is no {name}"));
            let group = groups.of(entry, depthwise_kernels.contains(name));
            (group.factor, group.weight_decay)
        };
        assert_eq!(of("logits.weight"), (10.0, 1e-4));
        assert_eq!(of("logits.bias"), (20.0, 0.0));
        let (mut depthwise, mut norms) = (0, 0);
        for entry in arena.entries() {
            let (factor, decay) = of(&entry.name);
            assert_eq!(factor == 0.1, entry.name.starts_with("backbone."), "{}", entry.name);
            norms += usize::from(entry.name.ends_with(".norm.weight") && decay == 0.0);
            depthwise += usize::from(
                !entry.name.contains(".norm.") && entry.name.ends_with(".weight") && decay == 0.0,
            );
        }
        // 52 norms in the backbone, six in ASPP and its projection, three in the decoder; 17 blocks
        // with a depthwise convolution.
        assert_eq!((norms, depthwise), (60, 17));
        assert!(ParamGroups { weight_decay: f64::NAN, ..groups }.validate().is_err());
    }
}
