//! Building the graph of a network from its config.

use super::aspp::aspp;
use super::config::{Config, Decoder, Head};
use super::decoder::decoder;
use super::layer::{Builder, Layer};
use super::network_graph::{NetworkGraph, Outputs, add_input, with_background};
use super::spec::Features;
use crate::error::{Result, error};
use crate::graph::{Graph, Place, Scope, ValueId};
use crate::tensor::Shape;

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
    let (input_id, x) = add_input(&mut graph, input, outputs, &config.preprocess)?;
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
    let labeling = head.labeling();
    if outputs.background {
        logits = with_background(&mut root, &labeling, logits)?;
        let mut scope = root.scope("aux");
        aux = aux.map(|aux| with_background(&mut scope, &labeling, aux)).transpose()?;
    }
    if let Some(aux) = aux {
        b.stage("aux_logits", aux);
    }
    let output = graph.output("logits", logits);
    let mut network = NetworkGraph::new(graph, b.stages, input_id, output);
    network.aux_logits =
        aux.filter(|_| outputs.aux).map(|aux| network.graph.output("aux_logits", aux));
    let size = outputs.size.unwrap_or(input.size());
    network.add_upsampled(logits, size, &labeling, outputs)?;
    network.verified()
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
