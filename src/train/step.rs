//! Builds the graph of a training step from a network: loss, gradients and batch statistics.

use super::recompute::recompute;
use crate::error::{Result, error};
use crate::graph::{Graph, Rewrite, ValueId, rewrite};
use crate::models::is_trained;
use crate::ops::{
    Add, BatchNorm, BatchNormTrain, Dropout, DropoutTrain, PixelLoss, Resize, SegmentationLoss,
};
use crate::random::fnv1a_32;
use crate::tensor::{Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which batch norms use the statistics of the batch. The rest use their running statistics, as
/// in inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum NormMode {
    /// All batch norms.
    #[default]
    Train,
    /// None.
    Frozen,
    /// Those outside the backbone.
    BackboneFrozen,
}

/// Options of the graph of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Loss of the logits at the size of the labels.
    pub loss: PixelLoss,
    /// Whether the last upsampling of the logits is fused into the loss, forward and backward, so
    /// that logits at the size of the labels are never stored. Results differ only by rounding.
    pub fused: bool,
    /// Factor of the auxiliary head's loss (0.5 in torchvision's recipes). `None` leaves the head
    /// untrained.
    pub aux: Option<f32>,
    /// Mode of the batch norms.
    pub norm: NormMode,
    /// Seed of dropout.
    pub seed: u32,
    /// Whether activations are recomputed for the backward pass if that saves memory. Loss and
    /// gradients are bit-identical.
    pub recompute: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            loss: PixelLoss::default(),
            fused: true,
            aux: None,
            norm: NormMode::Train,
            seed: 0,
            recompute: false,
        }
    }
}

/// The graph of one training step.
///
/// Its inputs are those of the network, `labels` u32 `[N, H, W, 1]`, `class_weights`
/// `[1, 1, 1, classes]` if the loss is weighted, `mining` `[1, 1, 1, 4]` if only hard pixels are
/// kept (the first element is their fraction, see [`super::Mining`]), and `step` u32
/// `[1, 1, 1, 1]` if the network has dropout.
///
/// Its outputs are `loss` `[1, 1, 1, 1]`, with an auxiliary head `aux_loss` (its contribution to
/// `loss`, including the factor), `grad.P` for each trained parameter `P`, and for each norm `N` of
/// [`TrainingStep::norms`] the batch's `N.batch_mean` and (biased) `N.batch_variance`.
#[derive(Debug, Clone)]
pub struct TrainingStep {
    /// The graph, verified.
    pub graph: Graph,
    /// Parameters that have a gradient, in network order.
    pub trained: Vec<String>,
    /// Norms that use the statistics of the batch, with the number of values per channel.
    pub norms: Vec<(String, usize)>,
    /// Norms that use running statistics because a batch has a single value per channel. One is
    /// the norm of ASPP's pooled branch, if a batch has one image.
    pub single_value_norms: Vec<String>,
}

/// Builds the step of a network with the output `logits_full`, and `aux_logits` if the auxiliary
/// head is trained. Other outputs are dropped.
///
/// # Errors
/// Returns an error if the network lacks an output, or an operation has no gradient.
pub fn training_step(network: Graph, options: &StepOptions) -> Result<TrainingStep> {
    let mut network = network;
    let find = |name: &str| network.outputs().iter().find(|(n, _)| n == name).map(|&(_, v)| v);
    let Some(full) = find("logits_full") else {
        return Err(error!(Graph, "the network has no output `logits_full` to train on"));
    };
    let aux = match options.aux {
        None => None,
        Some(factor) => Some((
            find("aux_logits").ok_or_else(|| {
                error!(Graph, "the network has no output `aux_logits` for the auxiliary loss")
                    .advice("train without an auxiliary loss, or build the network with an auxiliary head")
            })?,
            factor,
        )),
    };
    let shape = network.shape(full);
    // The upsampling before `logits_full`, which is fused into the loss if possible.
    let last = network
        .producer(full)
        .and_then(|node| Some((*node.op.downcast_ref::<Resize>()?, node.inputs[0])));
    let last = last.filter(|(resize, _)| resize.window.is_none());
    let align_corners = last.is_some_and(|(resize, _)| resize.align_corners);
    let scores = last.filter(|_| options.fused).map_or(full, |(_, small)| small);
    network.clear_outputs();
    network.output("scores", scores);
    if let Some((logits, _)) = aux {
        network.output("aux_scores", logits);
    }
    // Remove an auxiliary head without a loss, or a last backbone layer that only a classifier
    // reads: their norms would be listed without having outputs. (`passes::dead_code` would also
    // remove dropout.)
    let network = rewrite(network, |_, _, _| Ok(None))?;

    let (mut graph, norms) = with_training_ops(network, options)?;
    let values: Vec<ValueId> = graph.outputs().iter().map(|&(_, v)| v).collect();
    graph.clear_outputs();
    let mut losses = Losses { pixel: options.loss, fused: options.fused, read: Vec::new() };
    losses.read.push(graph.input("labels", TensorType::u32(shape.with_c(1))));
    if options.loss.weighted {
        losses.read.push(graph.input("class_weights", TensorType::f32(Shape::vector(shape.c))));
    }
    if options.loss.mined {
        losses.read.push(graph.input("mining", TensorType::f32(Shape::vector(4))));
    }
    let (main, seed) = losses.add(&mut graph, "loss", values[0], align_corners, 1.0)?;
    let (mut loss, mut seeds) = (main, vec![seed]);
    if let Some((_, factor)) = aux {
        let (value, seed) = losses.add(&mut graph, "aux_loss", values[1], align_corners, factor)?;
        loss = graph.push("loss_with_aux", Arc::new(Add), &[main, value])?[0];
        seeds.push(seed);
        graph.output("aux_loss", value);
    }
    graph.output("loss", loss);

    let params: Vec<(String, ValueId)> = graph
        .params()
        .filter(|(name, _)| is_trained(name))
        .map(|(name, id)| (name.to_owned(), id))
        .collect();
    let ids: Vec<ValueId> = params.iter().map(|&(_, id)| id).collect();
    let forward = graph.nodes().len();
    let gradients = graph.gradients(&seeds, &ids)?;
    let mut trained = Vec::with_capacity(params.len());
    for ((name, _), gradient) in params.into_iter().zip(gradients) {
        if let Some(gradient) = gradient {
            graph.output(&format!("grad.{name}"), gradient);
            trained.push(name);
        }
    }
    for (name, _) in &norms.batch {
        let node = graph.find_node(name).expect("invariant: norms are named after their nodes");
        let (mean, variance) = (node.outputs[1], node.outputs[2]);
        graph.output(&format!("{name}.batch_mean"), mean);
        graph.output(&format!("{name}.batch_variance"), variance);
    }
    let graph = if options.recompute { recompute(graph, forward)? } else { graph };
    graph.verify()?;
    Ok(TrainingStep { graph, trained, norms: norms.batch, single_value_norms: norms.single_value })
}

/// Adds losses that share the same labels.
struct Losses {
    pixel: PixelLoss,
    fused: bool,
    /// Inputs of each loss besides the logits.
    read: Vec<ValueId>,
}

impl Losses {
    /// Returns the loss, and the logits with their gradient.
    fn add(
        &self,
        graph: &mut Graph,
        name: &str,
        scores: ValueId,
        align_corners: bool,
        factor: f32,
    ) -> Result<(ValueId, (ValueId, ValueId))> {
        let labels = graph.shape(self.read[0]);
        let scores = if self.fused {
            scores
        } else {
            let name = format!("{name}.scores");
            graph.root().resize(&name, scores, labels.size(), align_corners)?
        };
        let inputs: Vec<ValueId> =
            std::iter::once(scores).chain(self.read.iter().copied()).collect();
        let op = SegmentationLoss { pixel: self.pixel, factor, align_corners };
        let (loss, gradient) = graph.root().segmentation_loss(name, op, &inputs)?;
        Ok((loss, (scores, gradient)))
    }
}

/// Batch norms of the step.
#[derive(Default)]
struct Norms {
    /// Norms that use batch statistics, with the number of values per channel.
    batch: Vec<(String, usize)>,
    /// Norms that have a single value per channel.
    single_value: Vec<String>,
}

/// Replaces the batch norms and dropouts of inference by those of training.
fn with_training_ops(network: Graph, options: &StepOptions) -> Result<(Graph, Norms)> {
    let mut norms = Norms::default();
    let mut step = None;
    let graph = rewrite(network, |new, node, inputs| {
        if let Some(&Dropout { p }) = node.op.downcast_ref() {
            if p == 0.0 {
                return Ok(Some(inputs.to_vec()));
            }
            let step = *step.get_or_insert_with(|| step_input(new));
            // Each dropout gets its own key, from its name and the seed.
            let op = DropoutTrain { p, key: fnv1a_32(options.seed, &node.name) };
            return new.graph.push(&node.name, Arc::new(op), &[inputs[0], step]).map(Some);
        }
        let Some(&BatchNorm { eps }) = node.op.downcast_ref() else { return Ok(None) };
        let frozen = match options.norm {
            NormMode::Train => false,
            NormMode::Frozen => true,
            NormMode::BackboneFrozen => node.name.starts_with("backbone."),
        };
        let values = new.graph.shape(inputs[0]).positions();
        if frozen {
            return Ok(None);
        }
        if values < 2 {
            norms.single_value.push(node.name.clone());
            return Ok(None);
        }
        norms.batch.push((node.name.clone(), values));
        let outputs = new.graph.push(&node.name, Arc::new(BatchNormTrain { eps }), &inputs[..3])?;
        Ok(Some(outputs[..1].to_vec()))
    })?;
    Ok((graph, norms))
}

fn step_input(new: &mut Rewrite) -> ValueId {
    new.graph.input("step", TensorType::u32(Shape::vector(1)))
}
