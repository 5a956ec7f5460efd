//! Parameter groups: learning-rate factors and weight decay by part of the network.

use crate::error::{Result, error};
use crate::graph::{Part, Place, Role};
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

    /// Group of a parameter.
    pub(super) fn of(&self, role: Role) -> ParamGroup {
        let is_bias = role.part == Part::Bias;
        let factor = match role.place {
            Place::Backbone => self.backbone,
            Place::Classifier => self.last_layer * if is_bias { self.last_bias } else { 1.0 },
            Place::Head | Place::Aux => self.head,
        };
        let exempt = (role.part.is_norm() && !self.decay_norms)
            || (is_bias && !self.decay_biases)
            || (role.depthwise && !self.decay_depthwise);
        ParamGroup { factor, weight_decay: if exempt { 0.0 } else { self.weight_decay } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ParamInfo;
    use crate::models::{Backbone, Config, parameters};
    use crate::tensor::{KernelShape, Shape};

    #[test]
    fn a_dense_kernel_on_one_channel_decays_as_any_other() {
        let gray = Config {
            input_channels: 1,
            ..Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 5)
        };
        let one_channel = |shape: &Shape| {
            let kernel = KernelShape::of(*shape);
            kernel.in_channels == 1 && kernel.taps() > 1
        };
        let all: Vec<_> = parameters(&gray).unwrap();
        let dense: Vec<_> =
            all.iter().filter(|(info, shape)| one_channel(shape) && !info.role.depthwise).collect();
        assert_eq!(dense.len(), 1, "the first convolution alone: {dense:?}");
        let groups = ParamGroups { decay_depthwise: false, ..ParamGroups::default() };
        let role = dense[0].0.role;
        assert_eq!(groups.of(role).weight_decay, 1e-4);
        assert_eq!(groups.of(Role { depthwise: true, ..role }).weight_decay, 0.0);
    }

    #[test]
    fn parameters_of_a_network_find_their_groups() {
        let config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 5);
        let all: Vec<ParamInfo> =
            parameters(&config).unwrap().into_iter().map(|(info, _)| info).collect();
        let groups = ParamGroups {
            backbone: 0.1,
            head: 1.0,
            last_layer: 10.0,
            last_bias: 2.0,
            decay_depthwise: false,
            ..ParamGroups::default()
        };
        let of = |name: &str| {
            let info = all
                .iter()
                .find(|info| info.name == name)
                .unwrap_or_else(|| panic!("there is no {name}"));
            let group = groups.of(info.role);
            (group.factor, group.weight_decay)
        };
        assert_eq!(of("logits.weight"), (10.0, 1e-4));
        assert_eq!(of("logits.bias"), (20.0, 0.0));
        let (mut depthwise, mut norms) = (0, 0);
        for ParamInfo { name, .. } in &all {
            let (factor, decay) = of(name);
            assert_eq!(factor == 0.1, name.starts_with("backbone."), "{name}");
            norms += usize::from(name.ends_with(".norm.weight") && decay == 0.0);
            depthwise +=
                usize::from(!name.contains(".norm.") && name.ends_with(".weight") && decay == 0.0);
        }
        // 52 norms in the backbone, six in ASPP and its projection, three in the decoder; 17 blocks
        // with a depthwise convolution.
        assert_eq!((norms, depthwise), (60, 17));
        assert!(ParamGroups { weight_decay: f64::NAN, ..groups }.validate().is_err());
    }
}
