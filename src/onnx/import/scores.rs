//! What follows the scores of a network in a file: enlargement to the size of the image, a softmax
//! or sigmoid, the choice of classes. This crate's pipeline has operations of its own for them,
//! which need less memory and return results at the size of the original image.

use super::emit::Emitter;
use super::value::{Map, Pending};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::ValueId;
use crate::models::OutputActivation;
use crate::ops::PixelAlignment;

/// The scores of a network, and what the file says about them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scores {
    /// The scores `[N, h, w, channels]`.
    pub id: ValueId,
    /// How they become probabilities, if the file states it.
    pub activation: Option<OutputActivation>,
    /// How the file enlarges them to the size of the image, if it does.
    pub alignment: Option<PixelAlignment>,
    /// Whether the file enlarges the probabilities instead of the scores.
    pub enlarges_probabilities: bool,
}

/// Splits the operations at the end of a network for images of a size.
///
/// # Errors
/// Returns an error if the output is not a map of scores.
pub(super) fn scores(emitter: &mut Emitter, output: Map, image: Size) -> Result<Scores> {
    let start = first_of_end(&output, image);
    let Map { id, axes, mut pending } = output;
    let end = pending.split_off(start);
    let network = emitter.settle(Map { id, axes, pending })?;
    let mut scores =
        Scores { id: network.id, activation: None, alignment: None, enlarges_probabilities: false };
    for (_, op) in end {
        match op {
            // The largest sigmoid is that of the largest score, so labels are those of a softmax.
            Pending::Softmax | Pending::LogSoftmax | Pending::Argmax => {
                scores.activation = Some(OutputActivation::Softmax);
            }
            Pending::Sigmoid => scores.activation = Some(OutputActivation::Sigmoid),
            Pending::Resize { alignment, .. } => {
                scores.alignment = Some(alignment);
                scores.enlarges_probabilities = scores.activation.is_some();
            }
            Pending::Pad(_) => return Err(error!(Weights, "padding at the end of the network")),
        }
    }
    let shape = emitter.graph.shape(scores.id);
    if shape.h * shape.w == 1 && image.pixels() > 1024 {
        return Err(error!(
            Weights,
            "the output `{}` has {} values for the whole image: the network is no segmentation network",
            crate::text::excerpt(&emitter.definition.output),
            shape.c
        ));
    }
    if scores.activation == Some(OutputActivation::Softmax) && shape.c == 1 {
        return Err(error!(Weights, "the output has one channel, whose softmax is always 1"));
    }
    Ok(scores)
}

/// Returns the position of the first operation on the scores.
fn first_of_end(output: &Map, image: Size) -> usize {
    let (mut resizes, mut activations) = (0, 0);
    let mut start = output.pending.len();
    for (i, (_, op)) in output.pending.iter().enumerate().rev() {
        match op {
            Pending::Resize { size, .. } if *size == image && resizes == 0 => resizes += 1,
            Pending::Softmax | Pending::LogSoftmax | Pending::Sigmoid if activations == 0 => {
                activations += 1
            }
            Pending::Argmax if start == output.pending.len() => {}
            _ => break,
        }
        start = i;
    }
    start
}
