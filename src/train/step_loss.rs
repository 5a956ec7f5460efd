//! The losses of a training step, and the values of a network that they are computed from.

use super::step::StepOptions;
use crate::error::{Result, error};
use crate::graph::{Graph, InputId, ValueId, rewrite};
use crate::models::NetworkGraph;
use crate::ops::{PixelAlignment, PixelLoss, Resize, SegmentationLoss};
use crate::tensor::{Shape, TensorType};

/// A network cut at the values that losses are computed from.
pub(super) struct Scores {
    /// Its outputs are the scores of the network, then those of the auxiliary head if it is trained.
    pub graph: Graph,
    /// Shape of the logits at the size of the labels.
    pub full: Shape,
    /// Whether upsampling the scores aligns the corners.
    pub align_corners: bool,
}

impl Scores {
    /// Cuts a network at its logits.
    ///
    /// # Errors
    /// Returns an error if the network has no logits at the size of the labels.
    pub fn of(network: NetworkGraph, options: &StepOptions) -> Result<Self> {
        let NetworkGraph { mut graph, logits_full, aux_logits, .. } = network;
        let Some(full) = logits_full.map(|id| graph.output_at(id).1) else {
            return Err(error!(Graph, "the network has no output `logits_full` to train on"));
        };
        let aux = aux_logits.map(|id| graph.output_at(id).1);
        if options.aux.is_some() && aux.is_none() {
            return Err(error!(
                Graph,
                "the network has no output `aux_logits` for the auxiliary loss"
            )
            .advice(
                "remove `aux` from the recipe, or start from weights with an auxiliary head (torchvision's DeepLabv3)",
            ));
        }
        let shape = graph.shape(full);
        // The upsampling before `logits_full`, which is fused into the loss if possible.
        let last = graph
            .producer(full)
            .and_then(|node| Some((*node.op.downcast_ref::<Resize>()?, node.inputs[0])));
        let last = last.filter(|(resize, _)| resize.window.is_none());
        let align_corners =
            last.is_some_and(|(resize, _)| resize.alignment == PixelAlignment::Corners);
        let scores = last.filter(|_| options.fused).map_or(full, |(_, small)| small);
        graph.clear_outputs();
        graph.output("scores", scores);
        if let Some(logits) = aux.filter(|_| options.aux.is_some()) {
            graph.output("aux_scores", logits);
        }
        // Remove an auxiliary head without a loss, or a last backbone layer that only a classifier
        // reads: their norms would be listed without having outputs. (`passes::dead_code` would also
        // remove dropout.)
        let graph = rewrite(graph, |_, _, _| Ok(None))?;
        Ok(Self { graph, full: shape, align_corners })
    }
}

/// Adds losses that share the same labels.
pub(super) struct Losses {
    pixel: PixelLoss,
    fused: bool,
    align_corners: bool,
    /// Input `labels`.
    pub labels: InputId,
    /// Input `class_weights`, if the loss is weighted.
    pub class_weights: Option<InputId>,
    /// Input `mining`, if only hard pixels are kept.
    pub mining: Option<InputId>,
    /// Inputs of each loss besides the logits.
    read: Vec<ValueId>,
}

impl Losses {
    /// Adds the inputs. `full` is the shape of the logits at the size of the labels.
    pub fn new(graph: &mut Graph, full: Shape, align_corners: bool, options: &StepOptions) -> Self {
        let pixel = options.loss;
        let mut read = Vec::new();
        let mut input = |name: &str, ty: TensorType| {
            let (id, value) = graph.input_with_id(name, ty);
            read.push(value);
            id
        };
        let labels = input("labels", TensorType::u32(full.with_c(1)));
        let class_weights =
            pixel.weighted.then(|| input("class_weights", TensorType::f32(Shape::vector(full.c))));
        let mining = pixel.mined.then(|| input("mining", TensorType::f32(Shape::vector(4))));
        Self { pixel, fused: options.fused, align_corners, labels, class_weights, mining, read }
    }

    /// Returns the loss, and the logits with their gradient.
    pub fn add(
        &self,
        graph: &mut Graph,
        name: &str,
        scores: ValueId,
        factor: f32,
    ) -> Result<(ValueId, (ValueId, ValueId))> {
        let (labels, align_corners) = (graph.shape(self.read[0]), self.align_corners);
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
