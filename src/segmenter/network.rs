//! The architecture of a network: a config, or the graph of an ONNX file.

use crate::error::{Result, error};
use crate::graph::Weights;
use crate::image::SizeRule;
use crate::models::{
    Config, Labeling, NetworkGraph, OutputActivation, Outputs, Preprocessing, build_network,
};
#[cfg(feature = "onnx")]
use crate::onnx::OnnxNetwork;
use crate::ops::Threshold;
use crate::tensor::Shape;
#[cfg(feature = "onnx")]
use std::sync::Arc;

/// The architecture of a network: everything except its weights.
#[derive(Debug, Clone)]
pub enum Network {
    /// A DeepLab, or a bare backbone, by its config. It can be trained, and written in the names of
    /// every code base that has it.
    DeepLab(Box<Config>),
    /// The graph of an ONNX file, which can only run.
    #[cfg(feature = "onnx")]
    Onnx(Arc<OnnxNetwork>),
}

impl From<Config> for Network {
    fn from(config: Config) -> Self {
        Self::DeepLab(Box::new(config))
    }
}

impl Network {
    /// Returns the config. `None` for the graph of an ONNX file.
    pub fn config(&self) -> Option<&Config> {
        match self {
            Self::DeepLab(config) => Some(config),
            #[cfg(feature = "onnx")]
            Self::Onnx(_) => None,
        }
    }

    /// Returns the architecture in a few words, such as `MobileNetV2`.
    pub fn title(&self) -> String {
        match self {
            Self::DeepLab(config) => config.backbone.title(),
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.title(),
        }
    }

    /// Returns the channels of the input.
    pub fn input_channels(&self) -> usize {
        match self {
            Self::DeepLab(config) => config.input_channels,
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.input_channels(),
        }
    }

    /// Returns the preprocessing of an image.
    pub fn preprocess(&self) -> &Preprocessing {
        match self {
            Self::DeepLab(config) => &config.preprocess,
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.preprocess(),
        }
    }

    /// Returns the ratio of the image's size to that of the smallest features. `None` for the graph
    /// of an ONNX file, which does not state it.
    pub fn output_stride(&self) -> Option<usize> {
        self.config().map(|config| config.output_stride)
    }

    /// Returns how labels follow from the outputs. `None` for a bare backbone.
    pub fn labeling(&self) -> Option<Labeling> {
        match self {
            Self::DeepLab(config) => config.head.as_ref().map(|head| head.labeling()),
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => Some(network.labeling()),
        }
    }

    /// Returns the number of classes that a label can have. `None` for a bare backbone.
    pub fn classes(&self) -> Option<usize> {
        self.labeling().map(|labeling| labeling.classes)
    }

    /// Returns the names of the classes that the file states. Empty if it states none.
    pub fn class_names(&self) -> &[String] {
        match self {
            Self::DeepLab(config) => config.head.as_ref().map_or(&[], |head| &head.class_names),
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.class_names(),
        }
    }

    /// Returns the colors of the classes that the file states. Empty if it states none.
    pub fn class_colors(&self) -> &[[u8; 3]] {
        match self {
            Self::DeepLab(config) => config.head.as_ref().map_or(&[], |head| &head.class_colors),
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.class_colors(),
        }
    }

    /// Returns the input size that the network was made for: the one stored with the weights,
    /// otherwise the preset of the weights' code base (torchvision scales the short side to 520),
    /// otherwise the image's own size.
    pub fn default_size(&self) -> SizeRule {
        #[cfg(feature = "onnx")]
        if let Self::Onnx(network) = self {
            return network.default_size();
        }
        self.preprocess().default_size()
    }

    /// Builds the graph for an input `[N, H, W, C]`, with the weights bound.
    ///
    /// # Errors
    /// Returns an error if the input or the weights do not fit the network.
    pub fn build(
        &self,
        input: Shape,
        outputs: &Outputs,
        weights: &Weights,
    ) -> Result<NetworkGraph> {
        let mut network = match self {
            Self::DeepLab(config) => build_network(config, input, outputs)?,
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => network.build(input, outputs)?,
        };
        network.graph.bind(weights)?;
        Ok(network)
    }

    /// Sets the output stride to 8, 16 or 32.
    ///
    /// # Errors
    /// Returns an error if the network does not support it.
    pub fn set_output_stride(&mut self, output_stride: usize) -> Result<()> {
        match self {
            Self::DeepLab(config) => {
                **config = config.as_ref().clone().with_output_stride(output_stride)?;
                Ok(())
            }
            #[cfg(feature = "onnx")]
            Self::Onnx(_) => {
                Err(error!(Usage, "the graph of an ONNX file fixes its output stride")
                    .advice("export the network again, or open its weights instead"))
            }
        }
    }

    /// Sets the threshold of sigmoid outputs.
    ///
    /// # Errors
    /// Returns an error if the outputs are no sigmoids.
    pub fn set_threshold(&mut self, threshold: Threshold) -> Result<()> {
        match self.labeling() {
            Some(Labeling { activation: OutputActivation::Sigmoid, .. }) => {}
            Some(Labeling { classes, .. }) => {
                return Err(error!(
                    Usage,
                    "a threshold applies to sigmoid outputs; the network has a softmax over {classes} classes"
                ));
            }
            None => {
                return Err(error!(
                    Usage,
                    "a bare backbone has no outputs to compare with a threshold"
                ));
            }
        }
        match self {
            Self::DeepLab(config) => {
                if let Some(head) = &mut config.head {
                    head.threshold = threshold;
                }
            }
            #[cfg(feature = "onnx")]
            Self::Onnx(network) => Arc::make_mut(network).set_threshold(threshold),
        }
        Ok(())
    }
}
