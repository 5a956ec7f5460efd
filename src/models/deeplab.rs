//! Building the graph of a network from its config.

use super::aspp::aspp;
use super::config::{Config, Decoder, Head, OutputActivation, Preprocessing};
use super::decoder::decoder;
use super::layer::{Builder, Layer};
use super::spec::Features;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{Graph, InputId, OutputId, Place, Scope, ValueId};
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
    fn new(graph: Graph, stages: Vec<(String, ValueId)>, input: InputId, logits: OutputId) -> Self {
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

    /// Adds the outputs at the size of the labels.
    fn add_upsampled(
        &mut self,
        logits: ValueId,
        size: Size,
        head: &Head,
        outputs: &Outputs,
    ) -> Result<()> {
        let align_corners = head.align_corners;
        if outputs.logits_full {
            let full = self.graph.root().resize("logits_full", logits, size, align_corners)?;
            self.logits_full = Some(self.graph.output("logits_full", full));
        }
        if outputs.labels || outputs.confidence {
            let upsampling = Upsampling { size, align_corners, window: None, rows: None };
            let sigmoid = head.sigmoid();
            let op = UpsampleArgmax { upsampling, confidence: outputs.confidence, sigmoid };
            let logits = if outputs.background {
                logits
            } else {
                with_background(&mut self.graph.root(), head, logits)?
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

    fn verified(self) -> Result<Self> {
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

/// Builds the graph of a network for an input `input` of shape `[N, H, W, C]`. Its only output is
/// `logits` (before the final upsampling), or `features` for a bare backbone.
///
/// # Errors
/// Returns an error if the config is inconsistent, if the input has a different number of channels,
/// or if it is too small for the network.
pub fn build(config: &Config, input: Shape) -> Result<Graph> {
    Ok(build_network(config, input, &Outputs::default())?.graph)
}

/// Like [`build`], with additional outputs and the values of the stages.
///
/// # Errors
/// Returns an error under the same conditions as [`build`].
pub fn build_network(config: &Config, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
    check_input(config, input)?;
    let mut graph = Graph::new();
    let (input_id, x) = match outputs.image {
        None => graph.input_with_id("input", TensorType::f32(input)),
        Some(size) => image_input(&mut graph, input, size, &config.preprocess)?,
    };
    let conventions = config.conventions();
    let mut b = Builder { conventions, eps: config.eps.backbone, stages: Vec::new() };
    let mut root = graph.root();
    let mut backbone = root.scope("backbone").at(Place::Backbone);
    let features = config.backbone.build(&mut b, &mut backbone, x, config.low_level())?;
    let Some(head) = &config.head else {
        let output = graph.output("features", features.last);
        return NetworkGraph::new(graph, b.stages, input_id, output).verified();
    };
    b.eps = config.eps.head;
    let mut logits = segmentation_head(&mut b, &mut root, &features, head)?;
    let mut aux = auxiliary(&mut b, &mut root, features.aux, head)?;
    if outputs.background {
        logits = with_background(&mut root, head, logits)?;
        let mut scope = root.scope("aux");
        aux = aux.map(|aux| with_background(&mut scope, head, aux)).transpose()?;
    }
    if let Some(aux) = aux {
        b.stage("aux_logits", aux);
    }
    let output = graph.output("logits", logits);
    let mut network = NetworkGraph::new(graph, b.stages, input_id, output);
    network.aux_logits =
        aux.filter(|_| outputs.aux).map(|aux| network.graph.output("aux_logits", aux));
    let size = outputs.size.unwrap_or(input.size());
    network.add_upsampled(logits, size, head, outputs)?;
    network.verified()
}

/// Adds a channel of zeros in front of the logits of sigmoids.
fn with_background(scope: &mut Scope, head: &Head, logits: ValueId) -> Result<ValueId> {
    match head.activation {
        OutputActivation::Softmax => Ok(logits),
        OutputActivation::Sigmoid => scope.prepend("background", 0.0, logits),
    }
}

fn check_input(config: &Config, input: Shape) -> Result<()> {
    config.validate()?;
    if input.is_empty() {
        return Err(error!(Config, "the input {input} is empty"));
    }
    if input.c != config.input_channels {
        return Err(error!(
            Config,
            "the network expects {} input channels, the input is {input}", config.input_channels
        )
        .advice("adapt the first convolution with `import --input-channels`"));
    }
    Ok(())
}

/// Adds ASPP, decoder and classifier, and returns the logits.
fn segmentation_head(
    b: &mut Builder,
    root: &mut Scope,
    features: &Features,
    head: &Head,
) -> Result<ValueId> {
    let align_corners = head.align_corners;
    let x = aspp(b, &mut root.scope("aspp"), features.last, &head.aspp, align_corners)?;
    let x = match &head.decoder {
        Decoder::None => x,
        Decoder::Conv => {
            let conv = Layer::new(3, head.aspp.channels).relu();
            let y = b.layer(&mut root.scope("head"), "conv", x, conv)?;
            b.stage("head", y)
        }
        Decoder::Plus(plus) => {
            let mut scope = root.scope("decoder");
            let y = decoder(b, &mut scope, x, features.low_level, plus, align_corners)?;
            b.stage("decoder", y)
        }
    };
    let mut classifier = root.scope("").at(Place::Classifier);
    b.layer(&mut classifier, "logits", x, Layer::pointwise(head.channels()).biased())
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

/// Adds the auxiliary classifier, if the head has one.
fn auxiliary(
    b: &mut Builder,
    root: &mut Scope,
    x: ValueId,
    head: &Head,
) -> Result<Option<ValueId>> {
    let Some(aux) = &head.aux else { return Ok(None) };
    let mut scope = root.scope("aux").at(Place::Aux);
    let inner = scope.shape(x).c / 4;
    let y = b.layer(&mut scope, "conv", x, Layer::new(3, inner).relu())?;
    let y = if aux.dropout > 0.0 { scope.dropout("dropout", y, aux.dropout)? } else { y };
    Ok(Some(b.layer(&mut scope, "logits", y, Layer::pointwise(head.channels()).biased())?))
}
