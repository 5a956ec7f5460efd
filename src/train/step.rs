//! From a network to one step of its training: loss, gradients and the batch's statistics, in one
//! graph.

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

/// Which batch norms take the statistics of the batch. The others take their running statistics, as
/// a trained network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum NormMode {
    /// All.
    #[default]
    Train,
    /// None.
    Frozen,
    /// Those outside of the backbone.
    BackboneFrozen,
}

/// How a step is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// The loss of the scores at the labels' size.
    pub loss: PixelLoss,
    /// Whether the last interpolation of the scores is part of the loss's operation, in both
    /// directions: then scores of the labels' size are never stored. The numbers are the same but
    /// for rounding.
    pub fused: bool,
    /// Factor of the auxiliary head's loss (torchvision's recipes take 0.5). None leaves the head
    /// untrained.
    pub aux: Option<f32>,
    /// The batch norms.
    pub norm: NormMode,
    /// Tells the dropouts of one run from those of another.
    pub seed: u32,
    /// Whether activations are computed again for the backward part where that saves memory. Loss
    /// and gradients are the same to the bit.
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

/// One step of training.
///
/// Inputs of the graph are the network's, `labels` u32 `[N, H, W, 1]`, `class_weights`
/// `[1, 1, 1, classes]` where the loss has weights, `mining` `[1, 1, 1, 4]` where only hard pixels
/// are kept (the first number is their share, see [`super::Mining`]), and `step` u32 `[1, 1, 1, 1]`
/// where something is dropped.
///
/// Outputs are `loss` `[1, 1, 1, 1]`, with an auxiliary head `aux_loss` (its part of `loss`, the
/// factor included), `grad.P` for each trained parameter `P`, and for each norm `N` of
/// [`TrainingStep::norms`] the batch's `N.batch_mean` and (biased) `N.batch_variance`.
#[derive(Debug, Clone)]
pub struct TrainingStep {
    /// The graph, verified.
    pub graph: Graph,
    /// Parameters that have a gradient, in the order of the network.
    pub trained: Vec<String>,
    /// Norms that take the statistics of the batch, with the number of values that those are of.
    pub norms: Vec<(String, usize)>,
    /// Norms that were to take the statistics of the batch, but see one value for each channel:
    /// they take the running ones. The norm of ASPP's pooled branch is one, with one image in a
    /// batch.
    pub too_small: Vec<String>,
}

/// Builds the step of a network that has the output `logits_full`, and where its auxiliary head is
/// to be trained `aux_logits`. Other outputs are left out.
///
/// # Errors
/// Where the network lacks an output, or an operation on the way has no gradient.
pub fn training_step(network: Graph, options: &StepOptions) -> Result<TrainingStep> {
    let mut network = network;
    let find = |name: &str| network.outputs().iter().find(|(n, _)| n == name).map(|&(_, v)| v);
    let Some(full) = find("logits_full") else {
        return Err(error!(Graph, "there is no output `logits_full` to train on"));
    };
    let aux = match options.aux {
        None => None,
        Some(factor) => {
            match find("aux_logits") {
                Some(logits) => Some((logits, factor)),
                None => {
                    return Err(error!(Graph, "there is no output `aux_logits`, which the auxiliary loss is of")
                    .advice("train without an auxiliary loss, or build the network with an auxiliary head"));
                }
            }
        }
    };
    let shape = network.shape(full);
    // The operation before the scores of the labels' size, which is the loss's own where it can be.
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
    // An auxiliary head without a loss, or a backbone's last layer that only a classifier reads, is
    // no part of the step: its norms would be noted, and then not be found. (The pass for this
    // takes dropout away as well.)
    let network = rewrite(network, |_, _, _| Ok(None))?;

    let (mut graph, norms) = for_training(network, options)?;
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
    Ok(TrainingStep { graph, trained, norms: norms.batch, too_small: norms.too_small })
}

/// Adds losses of scores that are compared with the same labels.
struct Losses {
    pixel: PixelLoss,
    fused: bool,
    /// What each loss reads besides the scores.
    read: Vec<ValueId>,
}

impl Losses {
    /// The loss, and the scores with their gradient.
    fn add(
        &self,
        graph: &mut Graph,
        name: &str,
        scores: ValueId,
        align_corners: bool,
        factor: f32,
    ) -> Result<(ValueId, (ValueId, ValueId))> {
        let labels = graph.shape(self.read[0]);
        let scores = match self.fused {
            true => scores,
            false => graph.root().resize(
                &format!("{name}.scores"),
                scores,
                (labels.h, labels.w),
                align_corners,
            )?,
        };
        let inputs: Vec<ValueId> =
            std::iter::once(scores).chain(self.read.iter().copied()).collect();
        let op = SegmentationLoss { pixel: self.pixel, factor, align_corners };
        let (loss, gradient) = graph.root().segmentation_loss(name, op, &inputs)?;
        Ok((loss, (scores, gradient)))
    }
}

/// Norms with the number of values that their statistics are of, and norms that see too few.
#[derive(Default)]
struct Norms {
    batch: Vec<(String, usize)>,
    too_small: Vec<String>,
}

/// Puts training's norms and dropouts in the place of those that do nothing new.
fn for_training(network: Graph, options: &StepOptions) -> Result<(Graph, Norms)> {
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
            norms.too_small.push(node.name.clone());
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
