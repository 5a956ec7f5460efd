//! A network that is the graph of an ONNX file.

use super::definition::Definition;
use super::emit::{Emitter, Params};
use super::scores::{Scores, scores};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{Graph, ValueId};
use crate::image::SizeRule;
use crate::models::{Labeling, NetworkGraph, Outputs, Preprocessing, add_input, with_background};
use crate::ops::Threshold;
use crate::tensor::Shape;

/// A segmentation network as the graph of an ONNX file states it.
///
/// It is built for every size of the image anew: sizes that the graph computes while it runs are
/// constants then. What the file does with the scores at the end (enlarging, softmax, the choice of
/// classes) is left to this crate's pipeline.
#[derive(Debug, Clone)]
pub struct OnnxNetwork {
    pub(super) definition: Definition,
    /// Name of the program that wrote the file.
    pub(super) producer: String,
    pub(super) labeling: Labeling,
    pub(super) class_names: Vec<String>,
    pub(super) class_colors: Vec<[u8; 3]>,
    pub(super) preprocess: Preprocessing,
    /// Number that the sides of an image must be multiples of.
    pub(super) multiple: usize,
}

impl OnnxNetwork {
    /// Returns a description in a few words: `ONNX graph of 166 nodes`.
    pub fn title(&self) -> String {
        format!("ONNX graph of {} nodes", self.definition.nodes.len())
    }

    /// Returns name and version of the program that wrote the file. Empty if it states none.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// Returns the version of the operators.
    pub fn opset(&self) -> i64 {
        self.definition.opset
    }

    /// Returns the size of the image, if the file fixes it.
    pub fn fixed_size(&self) -> Option<Size> {
        self.definition.input.size
    }

    /// Returns the channels of the input.
    pub fn input_channels(&self) -> usize {
        self.definition.input.channels
    }

    /// Returns the preprocessing of an image.
    pub fn preprocess(&self) -> &Preprocessing {
        &self.preprocess
    }

    /// Returns how labels follow from the outputs.
    pub fn labeling(&self) -> Labeling {
        self.labeling
    }

    /// Returns the names of the classes. Empty if the file states none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns the display colors of the classes. Empty if the file states none.
    pub fn class_colors(&self) -> &[[u8; 3]] {
        &self.class_colors
    }

    /// Sets the threshold of sigmoid outputs.
    pub fn set_threshold(&mut self, threshold: Threshold) {
        self.labeling.threshold = threshold;
    }

    /// Returns the size of the input for an image: the one that the file fixes; a multiple of the
    /// number that it must be a multiple of; otherwise that of the preprocessing.
    pub fn default_size(&self) -> SizeRule {
        match (self.fixed_size(), self.multiple) {
            (Some(size), _) => SizeRule::Exact(size),
            (None, 0 | 1) => self.preprocess.default_size(),
            (None, multiple) => SizeRule::Multiple(multiple),
        }
    }

    /// Builds the graph for an input `input` of shape `[N, H, W, C]`, without the weights.
    ///
    /// # Errors
    /// Returns an error if the input has another number of channels or another size than the file
    /// fixes, or if the graph does not take its size.
    pub fn build(&self, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
        self.check_input(input)?;
        let mut graph = Graph::new();
        let (input_id, x) = add_input(&mut graph, input, outputs, &self.preprocess)?;
        let (mut graph, found) = emit(&self.definition, graph, x, input.size(), Params::Known)
            .map_err(|e| match self.multiple {
                0 | 1 => e,
                n => e.advice(format!("use sizes that are multiples of {n}: --size multiple:{n}")),
            })?;
        let mut logits = found.id;
        if outputs.background {
            logits = with_background(&mut graph.root(), &self.labeling, logits)?;
        }
        let output = graph.output("logits", logits);
        let mut network = NetworkGraph::new(graph, Vec::new(), input_id, output);
        let size = outputs.size.unwrap_or(input.size());
        network.add_upsampled(logits, size, &self.labeling, outputs)?;
        network.verified()
    }

    fn check_input(&self, input: Shape) -> Result<()> {
        if input.is_empty() {
            return Err(error!(Usage, "the input {input} is empty"));
        }
        let channels = self.input_channels();
        if input.c != channels {
            return Err(error!(
                Usage,
                "the network expects {channels} input channels, the input is {input}"
            ));
        }
        match self.fixed_size() {
            Some(size) if size != input.size() => Err(error!(
                Usage,
                "the file is for images of {size} pixels only, got {}",
                input.size()
            )
            .advice(format!("use --size {size}, or export the network with a dynamic size"))),
            _ => Ok(()),
        }
    }
}

/// Adds the graph of a file to `graph`, on the image `x` of a size, and returns it with its scores.
///
/// # Errors
/// Returns an error that names the node if one is not supported, or its inputs do not fit.
pub(super) fn emit(
    definition: &Definition,
    graph: Graph,
    x: ValueId,
    image: Size,
    params: Params,
) -> Result<(Graph, Scores)> {
    let mut emitter = Emitter::new(definition, graph, x, params);
    let output = emitter.run()?;
    let found = scores(&mut emitter, output, image)?;
    Ok((emitter.graph, found))
}
