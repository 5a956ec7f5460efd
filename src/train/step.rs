//! Builds the graph of a training step from a network: loss, gradients and batch statistics.

use super::recompute::recompute;
use super::step_loss::{Losses, Scores};
use crate::error::Result;
use crate::graph::{
    Graph, InputId, Node, OutputId, Place, Rewrite, Role, TrainForm, ValueId, rewrite,
};
use crate::models::NetworkGraph;
use crate::ops::{Add, PixelLoss};
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

/// Part of the network that is not trained: its parameters are not updated, its batch norms use
/// their running statistics, which do not move, and the backward pass ends before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// The feature extractor.
    Backbone,
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
    /// Part of the network that is not trained.
    pub freeze: Option<Freeze>,
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
            freeze: None,
            seed: 0,
            recompute: false,
        }
    }
}

impl StepOptions {
    /// Whether a parameter with this role is not trained.
    pub(super) fn freezes(&self, role: Role) -> bool {
        match self.freeze {
            Some(Freeze::Backbone) => role.place == Place::Backbone,
            None => false,
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
    /// Handles of the inputs.
    pub inputs: StepInputs,
    /// Output `loss`.
    pub loss: OutputId,
    /// Output `aux_loss`, if the auxiliary head is trained.
    pub aux_loss: Option<OutputId>,
    /// Parameters that have a gradient, in network order.
    pub trained: Vec<String>,
    /// Outputs `grad.P`, in the order of `trained`.
    pub gradients: Vec<OutputId>,
    /// Norms that use the statistics of the batch, with the number of values per channel.
    pub norms: Vec<(String, usize)>,
    /// Outputs `N.batch_mean` and `N.batch_variance`, in the order of `norms`.
    pub statistics: Vec<[OutputId; 2]>,
    /// Norms that use running statistics because a batch has a single value per channel. One is
    /// the norm of ASPP's pooled branch, if a batch has one image.
    pub single_value_norms: Vec<String>,
}

/// Handles of the inputs of a [`TrainingStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInputs {
    /// The network's own input.
    pub images: InputId,
    /// `labels`.
    pub labels: InputId,
    /// `class_weights`, if the loss is weighted.
    pub class_weights: Option<InputId>,
    /// `mining`, if only hard pixels are kept.
    pub mining: Option<InputId>,
    /// `step`, if the network has dropout.
    pub step: Option<InputId>,
}

/// Builds the step of a network with the output `logits_full`, and `aux_logits` if the auxiliary
/// head is trained. Other outputs are dropped.
///
/// # Errors
/// Returns an error if the network lacks an output, or an operation has no gradient.
#[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
pub fn training_step(network: NetworkGraph, options: &StepOptions) -> Result<TrainingStep> {
    let images = network.input;
    let Scores { graph, full, align_corners } = Scores::of(network, options)?;
    let (mut graph, norms, step) = with_training_ops(graph, options)?;
    let scores: Vec<ValueId> = graph.outputs().iter().map(|&(_, v)| v).collect();
    graph.clear_outputs();
    let losses = Losses::new(&mut graph, full, align_corners, options);
    let (main, seed) = losses.add(&mut graph, "loss", scores[0], 1.0)?;
    let (mut loss, mut seeds, mut aux) = (main, vec![seed], None);
    if let (Some(factor), Some(&scores)) = (options.aux, scores.get(1)) {
        let (value, seed) = losses.add(&mut graph, "aux_loss", scores, factor)?;
        loss = graph.push("loss_with_aux", Arc::new(Add), &[main, value])?[0];
        seeds.push(seed);
        aux = Some(value);
    }
    let loss = graph.output("loss", loss);
    let aux_loss = aux.map(|value| graph.output("aux_loss", value));

    let forward = graph.nodes().len();
    let (trained, gradients) = add_gradients(&mut graph, &seeds, options)?;
    let statistics = norms
        .batch
        .iter()
        .map(|(name, _)| {
            let node = graph.find_node(name).expect("invariant: norms are named after their nodes");
            let (mean, variance) = (node.outputs[1], node.outputs[2]);
            [
                graph.output(&format!("{name}.batch_mean"), mean),
                graph.output(&format!("{name}.batch_variance"), variance),
            ]
        })
        .collect();
    let graph = if options.recompute { recompute(graph, forward)? } else { graph };
    graph.verify()?;
    let Losses { labels, class_weights, mining, .. } = losses;
    Ok(TrainingStep {
        graph,
        inputs: StepInputs { images, labels, class_weights, mining, step },
        loss,
        aux_loss,
        trained,
        gradients,
        norms: norms.batch,
        statistics,
        single_value_norms: norms.single_value,
    })
}

/// Adds the gradients of everything that is trained as outputs `grad.P`. Returns the names and the
/// handles.
fn add_gradients(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    options: &StepOptions,
) -> Result<(Vec<String>, Vec<OutputId>)> {
    let params: Vec<(String, ValueId)> = graph
        .params()
        .filter(|(info, _)| info.role.part.is_trained() && !options.freezes(info.role))
        .map(|(info, id)| (info.name.clone(), id))
        .collect();
    let ids: Vec<ValueId> = params.iter().map(|&(_, id)| id).collect();
    let gradients = graph.gradients(seeds, &ids)?;
    let named = params.into_iter().zip(gradients);
    Ok(named
        .filter_map(|((name, _), gradient)| {
            let output = graph.output(&format!("grad.{name}"), gradient?);
            Some((name, output))
        })
        .unzip())
}

/// Batch norms of the step.
#[derive(Default)]
struct Norms {
    /// Norms that use batch statistics, with the number of values per channel.
    batch: Vec<(String, usize)>,
    /// Norms that have a single value per channel.
    single_value: Vec<String>,
}

/// Replaces operations by their forms in training, norms only where the options say so. Returns
/// the input `step` as well, if an operation reads it.
fn with_training_ops(
    network: Graph,
    options: &StepOptions,
) -> Result<(Graph, Norms, Option<InputId>)> {
    let mut norms = Norms::default();
    let mut step = None;
    let graph = rewrite(network, |new, node, inputs| {
        // Each random operation gets its own key, from its name and the seed.
        match node.op.train_form(fnv1a_32(options.seed, &node.name)) {
            None => Ok(None),
            Some(TrainForm::Identity) => Ok(Some(inputs[..1].to_vec())),
            Some(TrainForm::Random(op)) => {
                let (_, step) = *step.get_or_insert_with(|| step_input(new));
                new.graph.push(&node.name, op, &[inputs, &[step]].concat()).map(Some)
            }
            Some(TrainForm::BatchStatistics(op)) => {
                if !norms.uses_batch(&new.graph, node, inputs, options) {
                    return Ok(None);
                }
                let outputs = new.graph.push(&node.name, op, &inputs[..3])?;
                Ok(Some(outputs[..1].to_vec()))
            }
        }
    })?;
    Ok((graph, norms, step.map(|(id, _)| id)))
}

impl Norms {
    /// Returns whether a norm uses the statistics of the batch, and records it.
    fn uses_batch(
        &mut self,
        graph: &Graph,
        node: &Node,
        inputs: &[ValueId],
        options: &StepOptions,
    ) -> bool {
        let role = graph.param_info(inputs[1]).map(|info| info.role);
        let frozen = match options.norm {
            NormMode::Train => false,
            NormMode::Frozen => true,
            NormMode::BackboneFrozen => role.is_some_and(|role| role.place == Place::Backbone),
        };
        let frozen = frozen || role.is_some_and(|role| options.freezes(role));
        let values = graph.shape(inputs[0]).positions();
        if frozen {
            return false;
        }
        if values < 2 {
            self.single_value.push(node.name.clone());
            return false;
        }
        self.batch.push((node.name.clone(), values));
        true
    }
}

fn step_input(new: &mut Rewrite) -> (InputId, ValueId) {
    new.graph.input_with_id("step", TensorType::u32(Shape::vector(1)))
}
