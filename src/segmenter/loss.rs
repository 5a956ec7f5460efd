//! The loss of an image's scores against its true labels, beside its labels: one run of the network
//! for both.

use super::finish::{Finish, LOGITS};
use super::{OutputOptions, Segmentation, Segmenter};
use crate::error::{Result, error};
use crate::graph::Graph;
use crate::image::{Fit, Image, LabelMap, SizeRule};
use crate::memory;
use crate::models::Labeling;
use crate::ops::{PixelAlignment, PixelLoss, SegmentationLoss};
use crate::tensor::{Data, Shape, Tensor, TensorType};
use crate::thread::block_on;

const LABELS: &str = "labels";
const CLASS_WEIGHTS: &str = "class_weights";

/// Label of padding: no class, so that it does not count.
const PADDING: u32 = u32::MAX;

/// What the scores of an image are compared with.
#[derive(Clone, Copy)]
pub(crate) struct LossTarget<'a> {
    /// The loss; not of hard pixels only.
    pub(crate) pixel: PixelLoss,
    /// `[1, 1, 1, classes]`, if the loss is weighted.
    pub(crate) class_weights: Option<&'a Tensor>,
    /// True labels, of the image's size.
    pub(crate) truth: &'a LabelMap,
}

impl Segmenter {
    /// Segments an image at its own size, and returns the loss of its scores as well.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], or if the labels have a different size than the image.
    pub(crate) fn segment_scored(
        &self,
        image: &Image,
        target: LossTarget,
    ) -> Result<(Segmentation, f64)> {
        if target.truth.size() != image.size() {
            let (labels, image) = (target.truth.size(), image.size());
            return Err(error!(Data, "the labels have {labels} pixels, but the image has {image}"));
        }
        let (graphs, fit) = (self.graphs(), SizeRule::Native.fit(image.size()));
        let labeling = self.model.network.labeling();
        let labeling = labeling.expect("invariant: a segmenter's model has a head");
        block_on(async {
            let mut scores = self.scores(&graphs, image, fit).await?;
            let device = graphs.pipeline().device();
            let options = OutputOptions::default();
            let segmentation = self.results(&device, &mut scores, fit, &options, None).await?;
            let logits = scores.shapes()[0];
            let key = (logits, fit, Finish::Loss(target.pixel));
            let graph = || loss_graph(logits, fit, &labeling, target.pixel);
            let finisher = scores.finisher(Some(key), graph)?;
            let labels = padded(target.truth, fit)?;
            let mut inputs = vec![(LABELS, &labels)];
            inputs.extend(target.class_weights.map(|weights| (CLASS_WEIGHTS, weights)));
            let outputs = scores.finish(&finisher, &[LOGITS], &inputs).await?;
            Ok((segmentation, f64::from(outputs[0].f32()[0])))
        })
    }
}

/// Builds the graph from the scores of an image at its own size, and its labels, to the loss.
///
/// # Errors
/// Returns an error if the loss is invalid.
pub(crate) fn loss_graph(
    logits: Shape,
    fit: Fit,
    labeling: &Labeling,
    pixel: PixelLoss,
) -> Result<Graph> {
    let mut graph = Graph::new();
    let scores = graph.input(LOGITS, TensorType::f32(logits));
    let labels = graph.input(LABELS, TensorType::u32(Shape::images(1, fit.padded, 1)));
    let weights = pixel
        .weighted
        .then(|| graph.input(CLASS_WEIGHTS, TensorType::f32(Shape::vector(logits.c))));
    let inputs: Vec<_> = [scores, labels].into_iter().chain(weights).collect();
    let align_corners = labeling.alignment == PixelAlignment::Corners;
    let op = SegmentationLoss { pixel, factor: 1.0, align_corners };
    let (loss, _) = graph.root().segmentation_loss("loss", op, &inputs)?;
    graph.output("loss", loss);
    Ok(graph)
}

/// Labels at the size of the network's input, padded at the bottom and on the right.
fn padded(truth: &LabelMap, fit: Fit) -> Result<Tensor> {
    let padded = fit.padded;
    let mut labels = memory::with_capacity(padded.pixels())?;
    for row in truth.labels.chunks_exact(truth.width.max(1)) {
        labels.extend(row.iter().map(|&label| u32::from(label)));
        labels.resize(labels.len() + padded.width - row.len(), PADDING);
    }
    labels.resize(padded.pixels(), PADDING);
    Tensor::from_data(Shape::images(1, padded, 1), Data::U32(labels))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{tiny, tiny_on_gpu};
    use super::*;
    use crate::gpu::DeviceChoice;

    /// Cross entropy from the probabilities of all classes, in double precision.
    fn expected(segmenter: &Segmenter, image: &Image, truth: &LabelMap, weights: &[f64]) -> f64 {
        let options = OutputOptions { probabilities: true, ..OutputOptions::default() };
        let segmentation = segmenter.segment_with(image, SizeRule::Native, options).unwrap();
        let probabilities = segmentation.probabilities.unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for (p, &label) in probabilities.f32().chunks_exact(3).zip(&truth.labels) {
            if let Some(&p) = p.get(usize::from(label)) {
                sum -= weights[usize::from(label)] * f64::from(p).ln();
                count += weights[usize::from(label)];
            }
        }
        sum / count
    }

    fn check((segmenter, image): (Segmenter, Image)) {
        let labels = (0..33 * 33u16).map(|i| if i % 7 == 0 { 255 } else { i % 3 }).collect();
        let truth = LabelMap::new(image.size(), labels).unwrap();
        let weights = Tensor::new(Shape::vector(3), vec![1.0, 0.5, 4.0]).unwrap();
        for class_weights in [None, Some(&weights)] {
            let pixel = PixelLoss { weighted: class_weights.is_some(), ..PixelLoss::default() };
            let target = LossTarget { pixel, class_weights, truth: &truth };
            let (segmentation, loss) = segmenter.segment_scored(&image, target).unwrap();
            assert_eq!(
                segmentation.labels,
                segmenter.segment(&image, SizeRule::Native).unwrap().labels
            );
            let each = if class_weights.is_some() { [1.0, 0.5, 4.0] } else { [1.0; 3] };
            let expected = expected(&segmenter, &image, &truth, &each);
            assert!((loss - expected).abs() < 1e-4 * expected, "{loss}, expected {expected}");
        }
        let other = LabelMap::new(crate::Size::square(2), vec![0; 4]).unwrap();
        let target = LossTarget { pixel: PixelLoss::default(), class_weights: None, truth: &other };
        assert!(segmenter.segment_scored(&image, target).is_err());
    }

    #[test]
    fn the_loss_is_the_cross_entropy_of_the_probabilities() {
        check(tiny(&DeviceChoice::Cpu).unwrap());
    }

    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
    fn the_loss_on_a_gpu_is_the_cross_entropy_of_the_probabilities() {
        check(tiny_on_gpu().expect("a GPU adapter"));
    }
}
