//! From a config to a graph.

use super::aspp::aspp;
use super::config::{Config, Decoder, Head, LowLevel, Preprocessing};
use super::decoder::decoder;
use super::layer::{Builder, Layer};
use crate::error::{Result, error};
use crate::graph::{Graph, Scope, ValueId};
use crate::ops::{Preprocess, UpsampleArgmax, Upsampling};
use crate::tensor::{Shape, TensorType};

/// What a graph is to compute besides the classifier's scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outputs {
    /// `logits_full` `[N, H, W, classes]`: the scores at the labels' size.
    pub logits_full: bool,
    /// `labels` u32 `[N, H, W, 1]`: the largest class.
    pub labels: bool,
    /// `confidence` `[N, H, W, 1]`: the largest class's softmax probability.
    pub confidence: bool,
    /// `aux_logits`: the auxiliary classifier's scores, where the network has one.
    pub aux: bool,
    /// Height and width of the labels; the input's where none is given.
    pub size: Option<(usize, usize)>,
    /// Reads an image: the input is then called `image`, u8 `[N, h, w, 3]` of this height and width
    /// (at most the input shape's), and is normalized and padded first.
    pub image: Option<(usize, usize)>,
}

/// A graph with marks in it.
#[derive(Debug, Clone)]
pub struct NetworkGraph {
    /// The graph, verified and without the numbers of its parameters. Parameters of parts that no
    /// output needs (the auxiliary head) are in it until `passes::dead_code` has run.
    pub graph: Graph,
    /// Names of stages and their values, in the order of computation: `stem`, `layer1` ...,
    /// `aspp.rate1`, `decoder`, ... These ids hold until a pass rewrites the graph: ask for a stage
    /// as an output ([`NetworkGraph::keep_stages`]) before.
    pub stages: Vec<(String, ValueId)>,
}

impl NetworkGraph {
    /// Makes every stage an output of its name, so that passes keep it and a run returns it.
    pub fn keep_stages(&mut self) {
        for (name, value) in &self.stages {
            self.graph.output(name, *value);
        }
    }
}

/// The graph of a network for an input `[N, H, W, C]` called `input`, with the one output `logits`
/// (before the last upsampling; for a bare backbone `features`).
///
/// # Errors
/// Where the config contradicts itself, the channels differ, or the input is too small for the
/// network.
pub fn build(config: &Config, input: Shape) -> Result<Graph> {
    Ok(build_network(config, input, &Outputs::default())?.graph)
}

/// As [`build`], with more outputs and the stages marked.
///
/// # Errors
/// As [`build`]; and where outputs are asked of a network that has no head.
pub fn build_network(config: &Config, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
    config.validate()?;
    if input.is_empty() {
        return Err(error!(Config, "the input {input} is empty"));
    }
    if input.c != config.input_channels {
        return Err(error!(
            Config,
            "the network takes {} channels, the input is {input}", config.input_channels
        )
        .advice("inflate the stem for other channels"));
    }
    let mut graph = Graph::new();
    let x = match outputs.image {
        None => graph.input("input", TensorType::f32(input)),
        Some(size) => image(&mut graph, input, size, &config.preprocess)?,
    };
    let mut b = Builder { config, eps: config.eps.backbone, stages: Vec::new() };
    let mut root = graph.root();
    let tap = match config.head.as_ref().map(|h| &h.decoder) {
        Some(Decoder::Plus(plus)) => plus.low_level,
        _ => LowLevel::Stage,
    };
    let features = config.backbone.build(&mut b, &mut root.scope("backbone"), x, tap)?;
    let Some(head) = &config.head else {
        graph.output("features", features.last);
        graph.verify()?;
        return Ok(NetworkGraph { graph, stages: b.stages });
    };
    b.eps = config.eps.head;
    let x = aspp(&mut b, &mut root.scope("aspp"), features.last, &head.aspp, head.align_corners)?;
    let x = match &head.decoder {
        Decoder::None => x,
        Decoder::Conv => {
            let y = b.layer(
                &mut root.scope("head"),
                "conv",
                x,
                Layer::new(3, head.aspp.channels).relu(),
            )?;
            b.stage("head", y)
        }
        Decoder::Plus(plus) => {
            let y = decoder(
                &mut b,
                &mut root.scope("decoder"),
                x,
                features.low_level,
                plus,
                head.align_corners,
            )?;
            b.stage("decoder", y)
        }
    };
    let logits = b.layer(&mut root, "logits", x, Layer::pointwise(head.classes).biased())?;
    let mut named = vec![("logits", logits)];
    if let Some(aux) = auxiliary(&mut b, &mut root, features.aux, head)? {
        b.stage("aux_logits", aux);
        if outputs.aux {
            named.push(("aux_logits", aux));
        }
    }
    let size = outputs.size.unwrap_or((input.h, input.w));
    if outputs.logits_full {
        named.push(("logits_full", root.resize("logits_full", logits, size, head.align_corners)?));
    }
    if outputs.labels || outputs.confidence {
        let upsampling = Upsampling {
            height: size.0,
            width: size.1,
            align_corners: head.align_corners,
            window: None,
            rows: None,
        };
        let op = UpsampleArgmax { upsampling, confidence: outputs.confidence };
        let results = root.ops("labels", op, &[logits])?;
        named.extend(["labels", "confidence"].into_iter().zip(results));
    }
    for (name, value) in named {
        graph.output(name, value);
    }
    graph.verify()?;
    Ok(NetworkGraph { graph, stages: b.stages })
}

fn image(
    graph: &mut Graph,
    input: Shape,
    (h, w): (usize, usize),
    how: &Preprocessing,
) -> Result<ValueId> {
    if input.c != 3 {
        return Err(error!(Config, "images have 3 channels, the network takes {}", input.c)
            .advice("give the network its channels as a tensor"));
    }
    let image = graph.input("image", TensorType::u8(Shape::new(input.n, h, w, 3)));
    let (scale, shift) = how.scale_shift();
    let op = Preprocess { h: input.h, w: input.w, scale, shift, pad_value: how.pad_value };
    graph.root().op("preprocess", op, &[image])
}

fn auxiliary(
    b: &mut Builder,
    root: &mut Scope,
    x: ValueId,
    head: &Head,
) -> Result<Option<ValueId>> {
    let Some(aux) = &head.aux else { return Ok(None) };
    let mut scope = root.scope("aux");
    let inner = scope.shape(x).c / 4;
    let y = b.layer(&mut scope, "conv", x, Layer::new(3, inner).relu())?;
    let y = if aux.dropout > 0.0 { scope.dropout("dropout", y, aux.dropout)? } else { y };
    Ok(Some(b.layer(&mut scope, "logits", y, Layer::pointwise(head.classes).biased())?))
}
