//! Computing labels, probabilities and their sums from the scores, at the image's own size, in
//! strips of rows.
//!
//! The probabilities of all classes at full size are by far the largest result: 961 MiB for 21
//! classes at 12 megapixels. So they are computed for one strip at a time, and results with one
//! value per pixel are assembled from the strips. The results are bit-identical to computing all
//! rows at once.

use super::{OutputOptions, Segmentation};
use crate::error::{Error, ErrorKind, Result, error};
use crate::exec::Device;
use crate::geometry::Size;
use crate::graph::Graph;
use crate::image::alloc::with_capacity;
use crate::image::{Fit, LabelMap, append_labels};
use crate::models::Labeling;
use crate::ops::{Rows, Threshold, UpsampleArgmax, UpsampleProbabilities, Upsampling};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;
use std::time::Duration;

/// Name of the graph input with the scores.
pub(super) const LOGITS: &str = "logits";
/// Name of the graph input with 1 for foreground classes and 0 for the rest.
pub(super) const WEIGHTS: &str = "weights";

/// Strip size in bytes on the CPU: enough work for every core, but small compared to the image.
const HOST_STRIP: usize = 16 << 20;
/// Strip size in bytes on a device: every device can bind it, and the labels of images up to 33
/// megapixels fit.
const DEVICE_STRIP: usize = 128 << 20;
/// Strip size in bytes on a device if the strip includes the probabilities of all classes, which
/// are read back.
const DEVICE_PROBABILITIES: usize = 32 << 20;

/// Probabilities of all classes for some rows, at the image's own size.
#[derive(Debug)]
pub struct Strip<'a> {
    /// Index of the first row.
    pub first_row: usize,
    /// `[1, rows, width, classes]`.
    pub probabilities: &'a Tensor,
}

/// The values computed for each pixel besides the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Values {
    confidence: bool,
    probabilities: bool,
    foreground: bool,
}

/// What a graph computes from the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finish {
    /// Labels and other values of each pixel.
    Values(Values),
    /// The loss.
    #[cfg(feature = "training")]
    Loss(crate::ops::PixelLoss),
}

impl Values {
    pub(super) fn new(options: &OutputOptions, in_strips: bool) -> Self {
        Self {
            confidence: options.confidence,
            probabilities: options.probabilities || in_strips,
            foreground: options.foreground.is_some(),
        }
    }

    /// Returns the bytes per pixel during computation. Devices store channels in groups of four.
    pub(super) fn bytes(self, device: &Device, classes: usize) -> usize {
        let channels = |n: usize| 4 * if device.is_cpu() { n } else { n.next_multiple_of(4) };
        let scalar = |is_computed: bool| if is_computed { channels(1) } else { 0 };
        let probabilities = if self.probabilities { channels(classes) } else { 0 };
        4 + scalar(self.confidence) + scalar(self.foreground) + probabilities
    }
}

/// Returns the maximum strip size in bytes.
pub(super) fn strip_bytes(device: &Device, values: Values) -> usize {
    let Some(limit) = device.max_buffer_bytes() else { return HOST_STRIP };
    let max = if values.probabilities { DEVICE_PROBABILITIES } else { DEVICE_STRIP };
    usize::try_from(limit).unwrap_or(usize::MAX).min(max)
}

/// Builds the graph from the scores to the labels and other values, in the order that
/// [`Results::add`] expects.
pub(super) fn graph(
    logits: Shape,
    fit: Fit,
    labeling: Labeling,
    values: Values,
    rows: Option<Rows>,
) -> Result<Graph> {
    let (alignment, sigmoid) = (labeling.alignment, labeling.sigmoid());
    let mut graph = Graph::new();
    let input = graph.input(LOGITS, TensorType::f32(logits));
    let upsampling = Upsampling { size: fit.source, alignment, window: Some(fit.into()), rows };
    let op = UpsampleArgmax { upsampling, confidence: values.confidence, sigmoid };
    let probabilities =
        UpsampleProbabilities { upsampling, weighted: false, sigmoid: sigmoid.is_some() };
    let mut outputs = graph.root().upsample_argmax("labels", input, op)?;
    if values.foreground {
        let weights = graph.input(WEIGHTS, TensorType::f32(Shape::vector(logits.c)));
        outputs.push(graph.root().op(
            "foreground",
            UpsampleProbabilities { weighted: true, ..probabilities },
            &[input, weights],
        )?);
    }
    if values.probabilities {
        outputs.push(graph.root().op("probabilities", probabilities, &[input])?);
    }
    for (index, value) in outputs.into_iter().enumerate() {
        graph.output(&index.to_string(), value);
    }
    Ok(graph)
}

/// Returns 1 for foreground classes and 0 for the rest, or an error if a class is out of range.
pub(super) fn class_weights(keep: &[usize], classes: usize) -> Result<Tensor> {
    let mut weights = vec![0.0; classes];
    for &class in keep {
        let weight = weights.get_mut(class);
        *weight.ok_or_else(|| {
            error!(Usage, "class {class} is out of range: the network has {classes} classes")
        })? = 1.0;
    }
    Tensor::new(Shape::vector(classes), weights)
}

/// The results computed so far.
pub(super) struct Results {
    size: Size,
    classes: usize,
    labels: Vec<u16>,
    confidence: Option<Vec<f32>>,
    probabilities: Option<Vec<f32>>,
    foreground: Option<Vec<f32>>,
}

impl Results {
    /// Allocates the memory of all results.
    pub(super) fn new(size: Size, classes: usize, options: &OutputOptions) -> Result<Self> {
        let pixels = size.pixels();
        let per_pixel = |is_requested: bool, what| {
            is_requested.then(|| with_capacity(pixels, what)).transpose()
        };
        let out_of_memory = |e: Error| {
            let message = format!(
                "not enough memory for the probabilities of {classes} classes at {size} pixels"
            );
            Error::new(ErrorKind::OutOfMemory, message)
                .source(e)
                .advice("compute them in strips, or scale the image down first")
        };
        let probabilities = options.probabilities.then(|| {
            with_capacity(pixels.saturating_mul(classes), "the probabilities")
                .map_err(out_of_memory)
        });
        Ok(Self {
            size,
            classes,
            labels: with_capacity(pixels, "the labels")?,
            confidence: per_pixel(options.confidence, "the confidence")?,
            probabilities: probabilities.transpose()?,
            foreground: per_pixel(options.foreground.is_some(), "the foreground")?,
        })
    }

    /// Appends the outputs of a [`graph`]. Returns the probabilities, if computed, for the strip
    /// callback.
    pub(super) fn add(&mut self, outputs: Vec<Tensor>, values: Values) -> Result<Option<Tensor>> {
        let mut outputs = outputs.into_iter();
        let mut next = |is_computed: bool| {
            is_computed
                .then(|| outputs.next().expect("invariant: the graph has an output for each value"))
        };
        append_labels(
            &mut self.labels,
            &next(true).expect("invariant: labels are always computed"),
            0,
        )?;
        let confidence = next(values.confidence);
        let foreground = next(values.foreground);
        let probabilities = next(values.probabilities);
        for (all, some) in [
            (&mut self.confidence, &confidence),
            (&mut self.foreground, &foreground),
            (&mut self.probabilities, &probabilities),
        ] {
            if let (Some(all), Some(some)) = (all, some) {
                all.extend_from_slice(some.f32());
            }
        }
        Ok(probabilities)
    }

    /// Returns the results. With the threshold of a sigmoid the foreground is on the scale where the
    /// threshold is one half, so that a cut-out follows it.
    pub(super) fn finish(
        self,
        sigmoid: Option<Threshold>,
        fit: Fit,
        logits: Shape,
        network_time: Duration,
        labels_time: Duration,
    ) -> Result<Segmentation> {
        let labels = LabelMap::new(self.size, self.labels)?;
        let probabilities = self
            .probabilities
            .map(|all| Tensor::new(Shape::images(1, self.size, self.classes), all))
            .transpose()?;
        let (confidence, mut foreground) = (self.confidence, self.foreground);
        if let (Some(threshold), Some(foreground)) = (sigmoid, &mut foreground) {
            foreground.par_iter_mut().for_each(|p| *p = threshold.centered(*p));
        }
        Ok(Segmentation {
            labels,
            confidence,
            probabilities,
            foreground,
            fit,
            cell: cell(fit, logits),
            network_time,
            labels_time,
        })
    }
}

/// Returns the side of a cell of the logits in pixels of the source.
pub(crate) fn cell(fit: Fit, logits: Shape) -> f32 {
    let side = |source: usize, scaled: usize, padded: usize, cells: usize| {
        padded as f32 / cells as f32 * source as f32 / scaled as f32
    };
    let Fit { source, scaled, padded } = fit;
    let wide = side(source.width, scaled.width, padded.width, logits.w);
    wide.max(side(source.height, scaled.height, padded.height, logits.h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceChoice;
    use crate::image::{SizeRule, foreground};
    use crate::segmenter::Segmenter;
    use crate::segmenter::tests::{tiny, tiny_on_gpu};

    fn all_outputs() -> OutputOptions {
        OutputOptions { confidence: true, probabilities: true, foreground: Some(vec![1, 2]) }
    }

    /// Compares strips of one row up to all rows with the whole.
    fn check(mut segmenter: Segmenter, image: &crate::image::Image) {
        for size in [SizeRule::Native, SizeRule::LongSide(65)] {
            segmenter.strip_bytes = None;
            let whole = segmenter.segment_with(image, size, all_outputs()).unwrap();
            for bytes in [1, 5_000, 20_000] {
                segmenter.strip_bytes = Some(bytes);
                let (mut rows, mut probabilities) = (0, Vec::new());
                let strips = segmenter.segment_in_strips(image, size, all_outputs(), |strip| {
                    assert_eq!(strip.first_row, rows, "from the top down");
                    rows += strip.probabilities.shape().h;
                    probabilities.extend_from_slice(strip.probabilities.f32());
                    Ok(())
                });
                let strips = strips.unwrap();
                assert_eq!(strips.labels, whole.labels, "{bytes}");
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                let (all, again) =
                    (whole.probabilities.as_ref().unwrap(), strips.probabilities.as_ref().unwrap());
                assert_eq!(
                    (bits(all.f32()), bits(all.f32())),
                    (bits(&probabilities), bits(again.f32()))
                );
                for (strips, whole) in [
                    (&strips.confidence, &whole.confidence),
                    (&strips.foreground, &whole.foreground),
                ] {
                    assert_eq!(bits(strips.as_ref().unwrap()), bits(whole.as_ref().unwrap()));
                }
            }
        }
    }

    #[test]
    fn strips_have_the_bits_of_the_whole() {
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        check(segmenter, &image);
        if let Some((segmenter, image)) = tiny_on_gpu() {
            check(segmenter, &image);
        }
    }

    /// The graph divides the sum once instead of each term. With `n` classes both are within `n +
    /// 1` roundings of half a unit in the last place of the true value, and they share the
    /// exponentials. Three classes: 2 * 4 * 2^-24 < 5e-7.
    #[test]
    fn the_foreground_is_the_sum_of_the_kept_classes_probabilities() {
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        for keep in [vec![], vec![0], vec![2, 1], vec![1, 1], vec![0, 1, 2]] {
            let options = OutputOptions {
                probabilities: true,
                foreground: Some(keep.clone()),
                ..OutputOptions::default()
            };
            let segmentation =
                segmenter.segment_with(&image, SizeRule::LongSide(65), options).unwrap();
            let mut unique = keep.clone();
            unique.dedup();
            let sums = foreground(segmentation.probabilities.unwrap().f32(), 3, &unique).unwrap();
            let got = segmentation.foreground.unwrap();
            assert_eq!(got.len(), sums.len());
            assert!(got.iter().zip(&sums).all(|(a, b)| (a - b).abs() <= 5e-7), "{keep:?}");
            assert!(got.iter().all(|p| (0.0..=1.0).contains(p)));
        }
        let options = OutputOptions { foreground: Some(vec![3]), ..OutputOptions::default() };
        let error = segmenter.segment_with(&image, SizeRule::Native, options).unwrap_err();
        assert!(
            error.to_string().contains("class 3 is out of range: the network has 3 classes"),
            "{error}"
        );
    }

    #[test]
    fn an_error_of_the_caller_ends_the_strips() {
        let (mut segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        segmenter.strip_bytes = Some(1);
        let mut calls = 0;
        let result =
            segmenter.segment_in_strips(&image, SizeRule::Native, OutputOptions::default(), |_| {
                calls += 1;
                if calls == 3 { Err(error!(Io, "the disk is full")) } else { Ok(()) }
            });
        assert_eq!((result.unwrap_err().kind(), calls), (ErrorKind::Io, 3));
    }

    #[test]
    fn probabilities_beyond_all_memory_are_an_error_and_no_abort() {
        let options = OutputOptions { probabilities: true, ..OutputOptions::default() };
        let error = Results::new(Size::square(1 << 10), 1 << 40, &options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(
            error.to_string().contains("classes at 1024x1024")
                && error.to_string().contains("in strips"),
            "{error}"
        );
    }
}
