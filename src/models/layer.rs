//! What networks are made of: convolution, batch norm and activation as one layer, and the walk of
//! strides and rates.

use super::config::{Config, ConvKind, DilationRule, Norm, PaddingRule};
use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::ops::{Activation, Conv2d, Padding};

/// Carries the config through the building of a part, and collects the stages.
pub(super) struct Builder<'c> {
    pub config: &'c Config,
    /// Added to variances in the part being built.
    pub eps: f32,
    /// Names of stages, with their values, in the order of computation.
    pub stages: Vec<(String, ValueId)>,
}

/// A convolution with what follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    kernel: usize,
    channels: usize,
    stride: usize,
    dilation: usize,
    depthwise: bool,
    padding: Option<Padding>,
    follows: Follows,
    activation: Activation,
}

/// What stands between a convolution and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Norm,
    Bias,
    Nothing,
}

impl Layer {
    /// A square kernel to so many channels, followed by a batch norm.
    pub fn new(kernel: usize, channels: usize) -> Self {
        Self {
            kernel,
            channels,
            stride: 1,
            dilation: 1,
            depthwise: false,
            padding: None,
            follows: Follows::Norm,
            activation: Activation::Identity,
        }
    }

    /// A 1x1 kernel to so many channels, followed by a batch norm.
    pub fn pointwise(channels: usize) -> Self {
        Self::new(1, channels)
    }

    /// One kernel for each of `channels`, followed by a batch norm.
    pub fn depthwise(kernel: usize, channels: usize) -> Self {
        Self { depthwise: true, ..Self::new(kernel, channels) }
    }

    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Instead of what the config's rule gives.
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding: Some(padding), ..self }
    }

    pub fn act(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    pub fn relu(self) -> Self {
        self.act(Activation::Relu)
    }

    /// Without a batch norm (and without a bias where norms are folded).
    pub fn bare(self) -> Self {
        Self { follows: Follows::Nothing, ..self }
    }

    /// With a bias instead of a batch norm.
    pub fn biased(self) -> Self {
        Self { follows: Follows::Bias, ..self }
    }
}

impl Builder<'_> {
    /// Adds `NAME` (the convolution), `NAME.norm` and `NAME.relu` (or as the activation is called).
    pub fn layer(
        &mut self,
        scope: &mut Scope,
        name: &str,
        x: ValueId,
        layer: Layer,
    ) -> Result<ValueId> {
        let padding = layer.padding.unwrap_or_else(|| match self.config.padding {
            PaddingRule::TfSame => {
                Padding::tf_same(scope.shape(x), layer.kernel, layer.stride, layer.dilation)
            }
            PaddingRule::Symmetric | PaddingRule::BeforeExpansion { .. } => {
                Padding::same(layer.kernel, layer.dilation)
            }
        });
        let conv = Conv2d {
            stride: (layer.stride, layer.stride),
            dilation: (layer.dilation, layer.dilation),
            padding,
            groups: if layer.depthwise { scope.shape(x).c } else { 1 },
            bias: layer.follows == Follows::Bias
                || (layer.follows == Follows::Norm && self.config.norm == Norm::Folded),
            ..Conv2d::default()
        };
        let mut y = scope.conv2d(name, conv, x, (layer.kernel, layer.kernel), layer.channels)?;
        let mut here = scope.scope(name);
        if layer.follows == Follows::Norm && self.config.norm == Norm::Separate {
            y = here.batch_norm("norm", y, self.eps)?;
        }
        here.activate(layer.activation.feature(), layer.activation, y)
    }

    /// A 3x3 convolution of the head with batch norm and ReLU: `NAME`, or `NAME.depthwise` and
    /// `NAME.pointwise`.
    pub fn head_conv(
        &mut self,
        scope: &mut Scope,
        name: &str,
        x: ValueId,
        kind: ConvKind,
        rate: usize,
        channels: usize,
    ) -> Result<ValueId> {
        let depthwise = Layer::depthwise(3, scope.shape(x).c).dilation(rate);
        let depthwise = match kind {
            ConvKind::Plain => {
                return self.layer(scope, name, x, Layer::new(3, channels).dilation(rate).relu());
            }
            ConvKind::Separable => depthwise.bare(),
            ConvKind::SeparableNorm => depthwise.relu(),
        };
        let mut here = scope.scope(name);
        let y = self.layer(&mut here, "depthwise", x, depthwise)?;
        self.layer(&mut here, "pointwise", y, Layer::pointwise(channels).relu())
    }

    /// Records a stage, to be compared with other implementations.
    pub fn stage(&mut self, name: impl Into<String>, value: ValueId) -> ValueId {
        self.stages.push((name.into(), value));
        value
    }
}

/// Strides of a backbone's units under an output stride: those past it become rates.
#[derive(Debug, Clone)]
pub(super) struct Strides {
    output_stride: usize,
    rule: DilationRule,
    reached: usize,
    rate: usize,
}

/// What a unit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub stride: usize,
    /// Of the layer that had the stride.
    pub dilation: usize,
    /// Of the layers after it.
    pub after: usize,
}

impl Strides {
    /// `reached`: the stride before the first unit.
    pub fn new(config: &Config, reached: usize) -> Self {
        Self { output_stride: config.output_stride, rule: config.dilation, reached, rate: 1 }
    }

    /// The next unit, which wants `stride`.
    pub fn step(&mut self, stride: usize) -> Step {
        if self.reached * stride <= self.output_stride {
            self.reached *= stride;
            return Step { stride, dilation: self.rate, after: self.rate };
        }
        let before = self.rate;
        self.rate *= stride;
        let dilation = if self.rule == DilationRule::WholeStage { self.rate } else { before };
        Step { stride: 1, dilation, after: self.rate }
    }

    /// Pixels of the image to a pixel here.
    pub fn reached(&self) -> usize {
        self.reached
    }
}
