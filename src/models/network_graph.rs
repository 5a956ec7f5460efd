//! The graph of a network with its inputs, outputs and stages.

use super::config::{OutputActivation, Preprocessing};
use super::labeling::Labeling;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{Graph, InputId, OutputId, Scope, ValueId};
use crate::ops::{Preprocess, UpsampleArgmax, Upsampling};
use crate::tensor::{Shape, TensorType};

/// Additional outputs of a network graph, and its input format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Whether logits of sigmoids have a channel of zeros in front, for the background: one channel
    /// per label then, whatever the activation. What computes labels from logits reads them so.
    pub background: bool,
    /// Whether to output `logits_full` `[N, H, W, channels]`, the logits at the size of the labels.
    pub logits_full: bool,
    /// Whether to output `labels` u32 `[N, H, W, 1]`, the class with the largest logit.
    pub labels: bool,
    /// Whether to output `confidence` `[N, H, W, 1]`, the softmax probability of the label.
    pub confidence: bool,
    /// Whether to output `aux_logits`, if the network has an auxiliary classifier.
    pub aux: bool,
    /// Size of the labels. Defaults to the input size.
    pub size: Option<Size>,
    /// Size of an 8-bit image input, at most the input shape's. The input is then
    /// `image`, u8 `[N, h, w, 3]`, and the graph normalizes and pads it first.
    pub image: Option<Size>,
}

/// The graph of a network, with its stages.
#[derive(Debug, Clone)]
pub struct NetworkGraph {
    /// The verified graph, without parameter data. It includes the parameters of parts that no
    /// output needs (the auxiliary head) until `passes::dead_code` removes them.
    pub graph: Graph,
    /// The input: `input` f32 `[N, H, W, C]`, or `image` if [`Outputs::image`] is set.
    pub input: InputId,
    /// `logits` `[N, h, w, channels]`, before the final upsampling. `features` for a bare backbone.
    pub logits: OutputId,
    /// `aux_logits`, if requested and the network has an auxiliary classifier.
    pub aux_logits: Option<OutputId>,
    /// `logits_full`, if requested.
    pub logits_full: Option<OutputId>,
    /// `labels`, if labels or confidence were requested.
    pub labels: Option<OutputId>,
    /// `confidence`, if requested.
    pub confidence: Option<OutputId>,
    /// Names and values of the stages, in execution order: `stem`, `layer1`, ..., `aspp.rate1`,
    /// `decoder`, ... The ids are valid until a pass rewrites the graph; call
    /// [`NetworkGraph::keep_stages`] before to keep the stages as outputs.
    pub stages: Vec<(String, ValueId)>,
}

impl NetworkGraph {
    /// Creates the graph of a network with one output.
    pub(crate) fn new(
        graph: Graph,
        stages: Vec<(String, ValueId)>,
        input: InputId,
        logits: OutputId,
    ) -> Self {
        Self {
            graph,
            input,
            logits,
            aux_logits: None,
            logits_full: None,
            labels: None,
            confidence: None,
            stages,
        }
    }

    /// Adds the outputs at the size of the labels. `logits` have a channel for the background if
    /// [`Outputs::background`] is set.
    ///
    /// # Errors
    /// Returns an error if they cannot be enlarged to `size`.
    pub(crate) fn add_upsampled(
        &mut self,
        logits: ValueId,
        size: Size,
        labeling: &Labeling,
        outputs: &Outputs,
    ) -> Result<()> {
        let alignment = labeling.alignment;
        if outputs.logits_full {
            let full = self.graph.root().resize("logits_full", logits, size, alignment)?;
            self.logits_full = Some(self.graph.output("logits_full", full));
        }
        if outputs.labels || outputs.confidence {
            let upsampling = Upsampling { size, alignment, window: None, rows: None };
            let sigmoid = labeling.sigmoid();
            let op = UpsampleArgmax { upsampling, confidence: outputs.confidence, sigmoid };
            let logits = if outputs.background {
                logits
            } else {
                with_background(&mut self.graph.root(), labeling, logits)?
            };
            let results = self.graph.root().ops("labels", op, &[logits])?;
            self.labels = Some(self.graph.output("labels", results[0]));
            self.confidence = results.get(1).map(|&v| self.graph.output("confidence", v));
        }
        Ok(())
    }

    /// Adds the network to `graph`, on the value `x` of its input's type, and returns the logits. Its
    /// nodes and parameters are named below `name`; parameters keep their identities.
    ///
    /// # Errors
    /// Returns an error if `x` has another type.
    pub fn embed_in(&self, graph: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
        let (input, _) = self.graph.input_at(self.input);
        let outputs = graph.embed(name, &self.graph, &[(input, x)])?;
        Ok(outputs[self.logits.index()].1)
    }

    /// Verifies the graph.
    ///
    /// # Errors
    /// Returns the error of [`Graph::verify`].
    pub(crate) fn verified(self) -> Result<Self> {
        self.graph.verify()?;
        Ok(self)
    }

    /// Makes every stage an output with the stage's name, so that passes keep it and a run returns
    /// it.
    pub fn keep_stages(&mut self) {
        for (name, value) in &self.stages {
            self.graph.output(name, *value);
        }
    }
}

/// Adds the input of a network for inputs of shape `input`: the input itself, or an image and its
/// preprocessing.
///
/// # Errors
/// Returns an error if the network does not take images.
pub(crate) fn add_input(
    graph: &mut Graph,
    input: Shape,
    outputs: &Outputs,
    preprocess: &Preprocessing,
) -> Result<(InputId, ValueId)> {
    match outputs.image {
        None => Ok(graph.input_with_id("input", TensorType::f32(input))),
        Some(size) => image_input(graph, input, size, preprocess),
    }
}

/// Adds the image input and its preprocessing.
fn image_input(
    graph: &mut Graph,
    input: Shape,
    size: Size,
    preprocess: &Preprocessing,
) -> Result<(InputId, ValueId)> {
    if input.c != 3 {
        return Err(error!(
            Config,
            "the network expects {} input channels, an image has 3", input.c
        )
        .advice("pass the channels as a tensor, with `infer`"));
    }
    let (id, image) = graph.input_with_id("image", TensorType::u8(Shape::images(input.n, size, 3)));
    let (scale, shift) = preprocess.scale_shift();
    let op = Preprocess { size: input.size(), scale, shift, pad_value: preprocess.pad_value };
    Ok((id, graph.root().op("preprocess", op, &[image])?))
}

/// Adds a channel of zeros in front of the logits of sigmoids.
///
/// # Errors
/// Returns an error if their graph is invalid.
pub(crate) fn with_background(
    scope: &mut Scope,
    labeling: &Labeling,
    logits: ValueId,
) -> Result<ValueId> {
    match labeling.activation {
        OutputActivation::Softmax => Ok(logits),
        OutputActivation::Sigmoid => scope.prepend("background", 0.0, logits),
    }
}
