//! Test-time augmentation: views of an image at several scales, and flipped.

use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Graph, ValueId};
use crate::image::Fit;
use crate::models::{Labeling, Outputs};
use crate::ops::{Argmax, Preprocess, Resize, Slice, UpsampleProbabilities, Upsampling};
use crate::segmenter::Model;
use crate::tensor::{Shape, TensorType};

/// Size of the network's input at a scale.
pub(super) fn scaled_size(size: Size, scale: f64, align_corners: bool) -> Size {
    size.map(|side| scaled_side(side, scale, align_corners))
}

/// Side of the network's input at a scale.
///
/// With aligned corners, the distance between the corner pixels is scaled, as in TensorFlow's
/// DeepLab: a side of the form 16k + 1 keeps this form.
fn scaled_side(side: usize, scale: f64, align_corners: bool) -> usize {
    let scaled = if align_corners { (side - 1) as f64 * scale + 1.0 } else { side as f64 * scale };
    (scaled.round() as usize).max(1)
}

/// How labels follow from the outputs of a segmenter's network.
pub(super) fn labeling(model: &Model) -> Labeling {
    model.network.labeling().expect("invariant: a segmenter's model has a head")
}

/// Graph from the bytes of an image `[1, h, w, 3]` (`fit.scaled`) to the network's logits at one
/// scale, and with `flip` also to those of the flipped image, flipped back. The image is normalized
/// and padded first, then resized.
pub(super) fn network_graph(model: &Model, fit: Fit, scale: f64, flip: bool) -> Result<Graph> {
    let labeling = labeling(model);
    let preprocessing = model.network.preprocess();
    let (factor, shift) = preprocessing.scale_shift();
    let mut graph = Graph::new();
    let image = graph.input("image", TensorType::u8(Shape::images(1, fit.scaled, 3)));
    let mut root = graph.root();
    let pad_value = preprocessing.pad_value;
    let preprocess = Preprocess { size: fit.padded, scale: factor, shift, pad_value };
    let x = root.preprocess("preprocess", image, preprocess)?;
    let size = scaled_size(fit.padded, scale, labeling.aligns_corners());
    let x = root.resize("scaled", x, size, labeling.alignment)?;
    let outputs = Outputs { background: true, ..Outputs::default() };
    let network = model.network(root.shape(x), &outputs)?;
    let logits = network.embed_in(&mut graph, "plain", x)?;
    graph.output("logits", logits);
    if flip {
        let x = graph.root().flip("mirror", x)?;
        let logits = network.embed_in(&mut graph, "mirrored", x)?;
        let logits = graph.root().flip("back", logits)?;
        graph.output("flipped", logits);
    }
    crate::passes::optimize(graph)
}

/// Output of the graph that sums several views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SumOutput {
    /// `labels`, u32 `[1, h, w, 1]`.
    Labels,
    /// `probabilities` `[1, h, w, classes]`: the sum of the views, not divided by their number.
    Probabilities,
    /// Both, the labels first.
    LabelsAndProbabilities,
}

/// Graph from the views' logits (inputs `0`, `1`, ...) to the pixels of the original image: each is
/// upsampled, converted to probabilities, and summed.
///
/// The mean is not computed: its largest class is that of the sum. Sums of sigmoids are compared
/// with the threshold times the number of views.
pub(super) fn sum_graph(
    logits: &[Shape],
    fit: Fit,
    labeling: Labeling,
    output: SumOutput,
) -> Result<Graph> {
    let (alignment, threshold) = (labeling.alignment, labeling.sigmoid());
    // The sizes at scale 1 are valid for all scales: only their ratios matter.
    let resize = Resize { size: fit.source, alignment, window: Some(fit.into()) };
    let mut graph = Graph::new();
    let mut sum: Option<ValueId> = None;
    for (i, &shape) in logits.iter().enumerate() {
        let x = graph.input(&i.to_string(), TensorType::f32(shape));
        let mut root = graph.root();
        let mut scope = root.scope(format!("view{i}"));
        let probabilities = if threshold.is_some() {
            let Resize { size, window, .. } = resize;
            let upsampling = Upsampling { size, alignment, window, rows: None };
            let op = UpsampleProbabilities { upsampling, weighted: false, sigmoid: true };
            scope.op("probabilities", op, &[x])?
        } else {
            let full = scope.op("scores", resize, &[x])?;
            scope.softmax("probabilities", full)?
        };
        sum = Some(match sum {
            Some(sum) => scope.add("sum", sum, probabilities)?,
            None => probabilities,
        });
    }
    let sum = sum.expect("invariant: there is a view");
    if output != SumOutput::Probabilities {
        let threshold = threshold.map(|t| t.probability() * logits.len() as f32);
        let compared = with_threshold(&mut graph, threshold, sum)?;
        let labels = graph.root().op("labels", Argmax, &[compared])?;
        graph.output("labels", labels);
    }
    if output != SumOutput::Labels {
        graph.output("probabilities", sum);
    }
    Ok(graph)
}

/// Replaces the background's channel of sums of sigmoids by the value that the others are compared
/// with.
pub(super) fn with_threshold(
    graph: &mut Graph,
    threshold: Option<f32>,
    probabilities: ValueId,
) -> Result<ValueId> {
    let Some(threshold) = threshold else { return Ok(probabilities) };
    let channels = graph.shape(probabilities).c - 1;
    let mut root = graph.root();
    let outputs = root.op("outputs", Slice { first: 1, channels }, &[probabilities])?;
    root.prepend("threshold", threshold, outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_sides_keep_their_form() {
        let sides = |align| [0.5, 0.75, 1.0, 1.25, 1.5, 1.75].map(|s| scaled_side(513, s, align));
        assert_eq!(sides(true), [257, 385, 513, 641, 769, 897]);
        assert_eq!(sides(false), [257, 385, 513, 641, 770, 898]);
        assert_eq!(scaled_side(1, 0.25, false), 1);
    }
}
