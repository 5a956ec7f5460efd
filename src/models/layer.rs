//! Building blocks of networks: convolution, batch norm and activation as one layer, and the
//! schedule of strides and dilations.

use super::conventions::{ConvKind, Conventions, DilationRule, Norm, PaddingRule};
use crate::error::Result;
use crate::geometry::{Size, Spacing};
use crate::graph::{Part, Scope, ValueId};
use crate::ops::{Activation, Conv2d, Padding};

/// Name of a layer's batch norm below the layer's own.
const NORM: &str = "norm";

/// Returns the name of a parameter of the layer at the path `layer`, as [`Scope`] composes it.
pub fn parameter_name(layer: &str, part: Part) -> String {
    let field = part.field();
    if part.is_norm() { format!("{layer}.{NORM}.{field}") } else { format!("{layer}.{field}") }
}

/// Adds layers to a graph with the conventions of a network, and collects the stages.
pub(super) struct Builder<'c> {
    pub conventions: Conventions<'c>,
    /// Batch norm epsilon of the part being built: backbone or head.
    pub eps: f32,
    /// Names and values of the stages, in execution order.
    pub stages: Vec<(String, ValueId)>,
}

/// A convolution with its batch norm or bias, and its activation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    kernel: usize,
    channels: usize,
    stride: usize,
    dilation: usize,
    groups: Groups,
    padding: Option<Padding>,
    affine: Affine,
    activation: Activation,
}

/// Groups of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    Number(usize),
    /// One group for each channel.
    Depthwise,
}

/// Per-channel operation between a convolution and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affine {
    BatchNorm,
    Bias,
    None,
}

impl Layer {
    /// Creates a convolution with a square kernel and `channels` output channels, followed by a
    /// batch norm.
    pub fn new(kernel: usize, channels: usize) -> Self {
        Self {
            kernel,
            channels,
            stride: 1,
            dilation: 1,
            groups: Groups::Number(1),
            padding: None,
            affine: Affine::BatchNorm,
            activation: Activation::Identity,
        }
    }

    /// Creates a 1x1 convolution with `channels` output channels, followed by a batch norm.
    pub fn pointwise(channels: usize) -> Self {
        Self::new(1, channels)
    }

    /// Creates a depthwise convolution of `channels`, followed by a batch norm.
    pub fn depthwise(kernel: usize, channels: usize) -> Self {
        Self { groups: Groups::Depthwise, ..Self::new(kernel, channels) }
    }

    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Splits the channels into groups: each output channel reads the input channels of its group.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups: Groups::Number(groups), ..self }
    }

    /// Overrides the padding rule of the network.
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding: Some(padding), ..self }
    }

    pub fn act(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    pub fn relu(self) -> Self {
        self.act(Activation::Relu)
    }

    /// Removes the batch norm (and the bias that a folded norm would add).
    pub fn bare(self) -> Self {
        Self { affine: Affine::None, ..self }
    }

    /// Uses a bias instead of a batch norm.
    pub fn biased(self) -> Self {
        Self { affine: Affine::Bias, ..self }
    }
}

impl Builder<'_> {
    /// Adds `NAME` (the convolution), `NAME.norm`, and the activation, such as `NAME.relu`.
    pub fn layer(
        &mut self,
        scope: &mut Scope,
        name: &str,
        x: ValueId,
        layer: Layer,
    ) -> Result<ValueId> {
        let padding = layer.padding.unwrap_or_else(|| match self.conventions.padding {
            PaddingRule::TfSame => {
                Padding::tf_same(scope.shape(x).size(), layer.kernel, layer.stride, layer.dilation)
            }
            PaddingRule::Symmetric | PaddingRule::BeforeExpansion { .. } => {
                Padding::same(layer.kernel, layer.dilation)
            }
        });
        let conv = Conv2d {
            stride: Spacing::square(layer.stride),
            dilation: Spacing::square(layer.dilation),
            padding,
            groups: match layer.groups {
                Groups::Depthwise => scope.shape(x).c,
                Groups::Number(groups) => groups,
            },
            bias: layer.affine == Affine::Bias
                || (layer.affine == Affine::BatchNorm && self.conventions.norm == Norm::Folded),
            ..Conv2d::default()
        };
        let mut y = scope.conv2d(name, conv, x, Size::square(layer.kernel), layer.channels)?;
        let mut scope = scope.scope(name);
        if layer.affine == Affine::BatchNorm && self.conventions.norm == Norm::Separate {
            y = scope.batch_norm(NORM, y, self.eps)?;
        }
        scope.activate(layer.activation.feature(), layer.activation, y)
    }

    /// Adds a 3x3 convolution of the head with batch norm and ReLU: `NAME`, or `NAME.depthwise` and
    /// `NAME.pointwise`.
    pub fn head_conv(
        &mut self,
        scope: &mut Scope,
        name: &str,
        x: ValueId,
        kind: ConvKind,
        dilation: usize,
        channels: usize,
    ) -> Result<ValueId> {
        let depthwise = Layer::depthwise(3, scope.shape(x).c).dilation(dilation);
        let depthwise = match kind {
            ConvKind::Plain => {
                let conv = Layer::new(3, channels).dilation(dilation).relu();
                return self.layer(scope, name, x, conv);
            }
            ConvKind::Separable => depthwise.bare(),
            ConvKind::SeparableNorm => depthwise.relu(),
        };
        let mut scope = scope.scope(name);
        let y = self.layer(&mut scope, "depthwise", x, depthwise)?;
        self.layer(&mut scope, "pointwise", y, Layer::pointwise(channels).relu())
    }

    /// Records a stage, for comparison with other implementations, and returns its value.
    pub fn stage(&mut self, name: impl Into<String>, value: ValueId) -> ValueId {
        self.stages.push((name.into(), value));
        value
    }
}

/// Schedule of the strides of a backbone's units: strides beyond the output stride become
/// dilations.
#[derive(Debug, Clone)]
pub(super) struct StrideSchedule {
    output_stride: usize,
    rule: DilationRule,
    /// Stride of the current features with respect to the image.
    total_stride: usize,
    dilation: usize,
}

/// Stride and dilations of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnitStride {
    pub stride: usize,
    /// Dilation of the strided layer.
    pub dilation: usize,
    /// Dilation of the layers after it.
    pub next_dilation: usize,
}

impl StrideSchedule {
    /// Creates a schedule that starts at `total_stride`, the stride of the first unit's input.
    pub fn new(conventions: &Conventions, total_stride: usize) -> Self {
        Self {
            output_stride: conventions.output_stride,
            rule: conventions.dilation,
            total_stride,
            dilation: 1,
        }
    }

    /// Advances to the next unit, which has `stride` in the undilated network.
    pub fn advance(&mut self, stride: usize) -> UnitStride {
        if self.total_stride * stride <= self.output_stride {
            self.total_stride *= stride;
            return UnitStride { stride, dilation: self.dilation, next_dilation: self.dilation };
        }
        let previous = self.dilation;
        self.dilation *= stride;
        let dilation = match self.rule {
            DilationRule::WholeStage => self.dilation,
            DilationRule::AfterStride | DilationRule::AfterGroup => previous,
        };
        UnitStride { stride: 1, dilation, next_dilation: self.dilation }
    }

    /// Returns the stride of the current features with respect to the image.
    pub fn total_stride(&self) -> usize {
        self.total_stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Place;
    use crate::models::config::Aux;
    use crate::models::{Backbone, Config, parameters};

    #[test]
    fn layer_and_role_of_a_parameter_determine_its_name() {
        for family in Backbone::families() {
            let backbone = Backbone::named(family.names[0]).unwrap();
            let mut config = Config::deeplab_v3plus(backbone, 3);
            let head = config.head.as_mut().unwrap();
            head.aux = Some(Aux { dropout: 0.1 });
            head.aspp.kind = ConvKind::SeparableNorm;
            for (info, _) in parameters(&config).unwrap() {
                assert_eq!(parameter_name(&info.layer, info.role.part), info.name);
                let place = match info.layer.split('.').next() {
                    Some("backbone") => Place::Backbone,
                    Some("logits") => Place::Classifier,
                    Some("aux") => Place::Aux,
                    _ => Place::Head,
                };
                assert_eq!(info.role.place, place, "{}", info.name);
                let depthwise = info.layer.ends_with("depthwise") && !info.role.part.is_norm();
                assert_eq!(info.role.depthwise, depthwise, "{}", info.name);
            }
        }
    }
}
