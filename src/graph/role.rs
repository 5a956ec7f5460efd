//! What a parameter is and where in a network it belongs, as data: nothing has to guess it from
//! names.

/// What a parameter is in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Part {
    /// The convolution's kernel, and any parameter of an operation from outside.
    #[default]
    Kernel,
    /// The convolution's bias.
    Bias,
    /// The batch norm's scale.
    Gamma,
    /// The batch norm's shift.
    Beta,
    /// The batch norm's running mean.
    RunningMean,
    /// The batch norm's running variance.
    RunningVar,
}

impl Part {
    /// The parts of a batch norm, in the order of its inputs.
    pub const NORM: [Self; 4] = [Self::Gamma, Self::Beta, Self::RunningMean, Self::RunningVar];

    /// Returns the last component of the names of such parameters, the same as in PyTorch.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Kernel | Self::Gamma => "weight",
            Self::Bias | Self::Beta => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
        }
    }

    /// Returns whether the parameter belongs to a batch norm.
    pub const fn is_norm(self) -> bool {
        !matches!(self, Self::Kernel | Self::Bias)
    }

    /// Returns whether gradients train the parameter. Running means and variances are not trained;
    /// parameter counts in papers exclude them.
    pub const fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

/// The part of a network that a layer belongs to. Training treats them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Place {
    /// The feature extractor.
    Backbone,
    /// ASPP and decoder, and every layer of a graph that does not specify a place.
    #[default]
    Head,
    /// The last layer, which computes the logits.
    Classifier,
    /// The auxiliary classifier, which only training uses.
    Aux,
}

/// What a parameter is, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Role {
    /// What it is in its layer.
    pub part: Part,
    /// Part of the network that its layer belongs to.
    pub place: Place,
    /// Whether it is the kernel of a depthwise convolution. The shape alone is ambiguous: a dense
    /// kernel on an input of one channel has the same.
    pub depthwise: bool,
}

impl From<Part> for Role {
    fn from(part: Part) -> Self {
        Self { part, ..Self::default() }
    }
}

/// Name and role of a parameter.
///
/// A plain name converts into one with the default role: a trained kernel of the head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParamInfo {
    /// Unique name in this crate's convention, for example `backbone.layer1.0.conv1.norm.weight`.
    pub name: String,
    /// Path of its layer, for example `backbone.layer1.0.conv1`: a convolution and its batch norm
    /// are one layer.
    pub layer: String,
    /// What it is, and where.
    pub role: Role,
}

impl From<&str> for ParamInfo {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), layer: name.to_owned(), role: Role::default() }
    }
}

impl From<&String> for ParamInfo {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}
