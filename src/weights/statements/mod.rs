//! What a weight file cannot state: tensors determine neither the output stride that a network was
//! trained at nor its atrous rates, multi-grid, padding, corner alignment, preprocessing and activation.
//!
//! In order of precedence these come from the caller ([`Statements`]), from the file itself (the
//! config in its metadata, or pickled modules), from a `config.json` beside the file
//! ([`ConfigFiles`]), and from the defaults of the code base. What was used, and from where, is a list of [`Setting`]s; what a
//! person should know about it is a list of notes.

#[cfg(feature = "onnx")]
mod beside_graph;
mod config_files;
mod huggingface;
mod library;
mod normalization;
mod resolve;
mod smp;
mod timm;

#[cfg(feature = "onnx")]
pub(crate) use beside_graph::BesideGraph;
pub use config_files::ConfigFiles;
pub use normalization::{Normalization, NormalizationName};
pub(crate) use resolve::{Resolved, assumptions, check_supported, overrides, resolve};

use crate::error::{Result, error};
use crate::models::{Config, OutputActivation, PaddingRule};
use crate::text::excerpt;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the caller states about a network, because its weight file cannot. `None` leaves it to
/// the file's metadata, a `config.json`, or the code base's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statements {
    /// Output stride that the network was trained at: 8, 16 or 32. Unlike
    /// [`Config::with_output_stride`] it leaves stated atrous rates as they are.
    pub trained_stride: Option<usize>,
    /// Atrous rates of the ASPP's 3x3 branches, at the trained output stride.
    pub rates: Option<Vec<usize>>,
    /// Multi-grid: factors of the dilations of the units of the backbone's last stage (DeepLabv3,
    /// section 3.2.1). All ones is none.
    pub multi_grid: Option<Vec<usize>>,
    /// Whether bilinear upsampling aligns the corner pixels.
    pub align_corners: Option<bool>,
    /// Padding of the backbone's convolutions.
    pub padding: Option<PaddingRule>,
    /// Mean and standard deviation of the input's normalization.
    pub preprocess: Option<Normalization>,
    /// How the classifier's outputs become probabilities.
    pub activation: Option<OutputActivation>,
}

/// A property of a network that weight files cannot state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// [`Statements::trained_stride`].
    TrainedStride,
    /// [`Statements::rates`].
    Rates,
    /// [`Statements::multi_grid`].
    MultiGrid,
    /// [`Statements::align_corners`].
    AlignCorners,
    /// [`Statements::padding`].
    Padding,
    /// [`Statements::preprocess`].
    Preprocess,
    /// [`Statements::activation`].
    Activation,
}

impl Property {
    const ALL: [Self; 7] = [
        Self::TrainedStride,
        Self::Rates,
        Self::MultiGrid,
        Self::AlignCorners,
        Self::Padding,
        Self::Preprocess,
        Self::Activation,
    ];

    /// Returns the option on the command line.
    pub fn option(self) -> &'static str {
        match self {
            Self::TrainedStride => "--trained-stride",
            Self::Rates => "--rates",
            Self::MultiGrid => "--multi-grid",
            Self::AlignCorners => "--align-corners",
            Self::Padding => "--padding",
            Self::Preprocess => "--preprocess",
            Self::Activation => "--activation",
        }
    }

    /// Returns the name in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainedStride => "trained output stride",
            Self::Rates => "atrous rates",
            Self::MultiGrid => "multi-grid",
            Self::AlignCorners => "aligned corners",
            Self::Padding => "padding",
            Self::Preprocess => "preprocessing",
            Self::Activation => "activation",
        }
    }

    /// Returns its value in a config, as the option takes it. `None` if the network has no such
    /// property, and for a multi-grid of ones.
    pub(crate) fn value(self, config: &Config) -> Option<String> {
        let head = config.head.as_ref();
        match self {
            Self::TrainedStride => Some(config.output_stride.to_string()),
            Self::Rates => head.map(|h| list(&h.aspp.rates)).filter(|rates| !rates.is_empty()),
            Self::MultiGrid => Some(list(&config.multi_grid)).filter(|grid| !grid.is_empty()),
            Self::AlignCorners => head.map(|h| h.align_corners.to_string()),
            Self::Padding => Some(padding(config.padding)),
            Self::Preprocess => Some(Normalization::of(&config.preprocess).to_string()),
            Self::Activation => head.map(|h| activation(h.activation).to_owned()),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a [`Setting`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatedBy {
    /// The caller: an option of the command line, or a field of [`Statements`].
    Option,
    /// The config in the metadata of the weight file.
    WeightFile,
    /// The pickled modules in the weight file (`torch.save(model)`).
    Modules,
    /// The `config.json` beside the weight file.
    ConfigFile,
    /// The `preprocessor_config.json` beside the weight file.
    PreprocessorFile,
    /// Nothing: the default of the code base.
    Assumed,
}

impl StatedBy {
    /// Returns the source in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Option => "option",
            Self::WeightFile => "the weight file",
            Self::Modules => "the pickled modules",
            Self::ConfigFile => "config.json",
            Self::PreprocessorFile => "preprocessor_config.json",
            Self::Assumed => "assumed",
        }
    }
}

/// A property as it was used, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The property.
    pub property: Property,
    /// Its value, as the option takes it.
    pub value: String,
    /// Where the value comes from.
    pub stated_by: StatedBy,
}

impl Statements {
    /// Returns the properties that are stated.
    pub fn properties(&self) -> Vec<Property> {
        Property::ALL.into_iter().filter(|&property| self.value(property).is_some()).collect()
    }

    /// States a property as text, as the option of the command line takes it.
    ///
    /// ```
    /// use atrous::engine::weights::statements::{Property, Statements};
    /// let mut statements = Statements::default();
    /// statements.set(Property::Rates, "12,24,36")?;
    /// assert_eq!(statements.rates, Some(vec![12, 24, 36]));
    /// # Ok::<(), atrous::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the text is not a value of the property.
    pub fn set(&mut self, property: Property, text: &str) -> Result<()> {
        let text = text.trim();
        let invalid = |expected: &str| {
            let shown = excerpt(text);
            error!(Usage, "invalid value `{shown}` of {property}: expected {expected}")
        };
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match property {
            Property::TrainedStride => {
                let stride = number(text).ok_or_else(|| invalid("8, 16 or 32"))?;
                self.trained_stride = Some(stride);
            }
            Property::Rates => {
                let rates: Option<Vec<usize>> = text.split(',').map(number).collect();
                self.rates = Some(rates.ok_or_else(|| invalid("integers such as 12,24,36"))?);
            }
            Property::MultiGrid => {
                let factors: Option<Vec<usize>> = text.split(',').map(number).collect();
                self.multi_grid = Some(factors.ok_or_else(|| invalid("integers such as 1,2,4"))?);
            }
            Property::AlignCorners => {
                self.align_corners = Some(text.parse().map_err(|_| invalid("true or false"))?);
            }
            Property::Padding => {
                let known = [PaddingRule::Symmetric, PaddingRule::TfSame];
                let rule = known.into_iter().find(|&rule| padding(rule) == text);
                self.padding = Some(rule.ok_or_else(|| invalid("symmetric or same"))?);
            }
            Property::Preprocess => self.preprocess = Some(text.parse()?),
            Property::Activation => {
                let known = [OutputActivation::Softmax, OutputActivation::Sigmoid];
                let found = known.into_iter().find(|&known| activation(known) == text);
                self.activation = Some(found.ok_or_else(|| invalid("softmax or sigmoid"))?);
            }
        }
        Ok(())
    }

    /// Returns the stated value of a property, as the option takes it.
    pub(crate) fn value(&self, property: Property) -> Option<String> {
        match property {
            Property::TrainedStride => self.trained_stride.map(|stride| stride.to_string()),
            Property::Rates => self.rates.as_deref().map(list),
            Property::MultiGrid => self.multi_grid.as_deref().map(list),
            Property::AlignCorners => self.align_corners.map(|aligned| aligned.to_string()),
            Property::Padding => self.padding.map(padding),
            Property::Preprocess => self.preprocess.map(|preprocess| preprocess.to_string()),
            Property::Activation => self.activation.map(|a| activation(a).to_owned()),
        }
    }

    /// Removes what is stated about a property.
    fn clear(&mut self, property: Property) {
        match property {
            Property::TrainedStride => self.trained_stride = None,
            Property::Rates => self.rates = None,
            Property::MultiGrid => self.multi_grid = None,
            Property::AlignCorners => self.align_corners = None,
            Property::Padding => self.padding = None,
            Property::Preprocess => self.preprocess = None,
            Property::Activation => self.activation = None,
        }
    }

    /// Sets what is stated in a config.
    ///
    /// # Errors
    /// Returns an error if the network has no such property, or cannot have the value.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<()> {
        if let Some(stride) = self.trained_stride {
            config.output_stride = stride;
        }
        if let Some(grid) = &self.multi_grid {
            let grid = Some(grid).filter(|grid| grid.iter().any(|&factor| factor != 1));
            config.multi_grid = grid.cloned().unwrap_or_default();
        }
        if let Some(padding) = self.padding {
            config.padding = padding;
        }
        if let Some(normalization) = self.preprocess {
            (config.preprocess.mean, config.preprocess.std) =
                (normalization.mean, normalization.std);
        }
        for property in [Property::Rates, Property::AlignCorners, Property::Activation] {
            if config.head.is_none() && self.value(property).is_some() {
                return Err(error!(
                    Config,
                    "the weights are a bare backbone, which has no {property}"
                )
                .advice(format!("leave out {}", property.option())));
            }
        }
        let Some(head) = &mut config.head else { return config.validate() };
        if let Some(rates) = &self.rates {
            let (got, expected) = (rates.len(), head.aspp.rates.len());
            if got != expected {
                return Err(error!(
                    Config,
                    "the network has {expected} dilated branches, got {got} atrous rates: {}",
                    list(rates)
                ));
            }
            head.aspp.rates.clone_from(rates);
        }
        if let Some(align_corners) = self.align_corners {
            head.align_corners = align_corners;
        }
        if let Some(activation) = self.activation {
            head.set_activation(activation)?;
        }
        config.validate()
    }
}

/// Formats rates as the option takes them: `6,12,18`.
fn list(rates: &[usize]) -> String {
    rates.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn padding(rule: PaddingRule) -> String {
    match rule {
        PaddingRule::Symmetric => "symmetric".to_owned(),
        PaddingRule::TfSame => "same".to_owned(),
        PaddingRule::BeforeExpansion { stem } => format!("before the expansion, stem {stem}"),
    }
}

fn activation(activation: OutputActivation) -> &'static str {
    match activation {
        OutputActivation::Softmax => "softmax",
        OutputActivation::Sigmoid => "sigmoid",
    }
}
