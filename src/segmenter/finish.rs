//! From scores to labels, probabilities and sums of them at the image's own size, some rows at a
//! time.
//!
//! Probabilities of all classes at full size are larger than everything else by far: 961 MiB for 21
//! classes at 12 megapixels. So they exist for some rows only, and what has one number for each
//! pixel is put together from these. The bits are those of all rows at once.

use super::{OutputOptions, Segmentation};
use crate::error::{Error, ErrorKind, Result, error};
use crate::exec::Device;
use crate::graph::Graph;
use crate::image::alloc::with_capacity;
use crate::image::{Fit, LabelMap, append_labels};
use crate::ops::{ResampleWindow, Rows, UpsampleArgmax, UpsampleSoftmax};
use crate::tensor::{Shape, Tensor, TensorType};
use std::time::Duration;

/// The graph's input that has 1 for the classes of the foreground, 0 for the others.
pub(super) const WEIGHTS: &str = "weights";

/// Bytes of a strip on the processor: enough work for every core, and little beside the image.
const HOST_STRIP: usize = 16 << 20;
/// Bytes of a strip on a device: what every device can bind, and a whole image's labels up to 33
/// megapixels.
const DEVICE_STRIP: usize = 128 << 20;
/// Bytes of a strip on a device that has the probabilities of all classes in it, which are read
/// back.
const DEVICE_PROBABILITIES: usize = 32 << 20;

/// Some rows of the probabilities of all classes, at the image's own size.
#[derive(Debug)]
pub struct Strip<'a> {
    /// The first of the rows.
    pub first_row: usize,
    /// `[1, rows, width, classes]`.
    pub probabilities: &'a Tensor,
}

/// What is computed of each pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Values {
    confidence: bool,
    probabilities: bool,
    foreground: bool,
}

impl Values {
    pub(super) fn new(wants: &OutputOptions, in_strips: bool) -> Self {
        Self {
            confidence: wants.confidence,
            probabilities: wants.probabilities || in_strips,
            foreground: wants.foreground.is_some(),
        }
    }

    /// Bytes of a pixel where it is computed: devices keep numbers in groups of four.
    pub(super) fn bytes(self, device: &Device, classes: usize) -> usize {
        let numbers = |n: usize| 4 * if device.is_cpu() { n } else { n.next_multiple_of(4) };
        let one = |is_wanted: bool| if is_wanted { numbers(1) } else { 0 };
        let all = if self.probabilities { numbers(classes) } else { 0 };
        4 + one(self.confidence) + one(self.foreground) + all
    }
}

/// The most bytes of a strip.
pub(super) fn strip_bytes(device: &Device, values: Values) -> usize {
    let Device::Gpu(gpu) = device else { return HOST_STRIP };
    let most = if values.probabilities { DEVICE_PROBABILITIES } else { DEVICE_STRIP };
    usize::try_from(gpu.caps().max_binding.min(gpu.caps().max_buffer))
        .unwrap_or(usize::MAX)
        .min(most)
}

/// From the scores to the labels and the other values, in the order of [`Results::add`].
pub(super) fn graph(
    logits: Shape,
    fit: Fit,
    align_corners: bool,
    values: Values,
    rows: Option<Rows>,
) -> Result<Graph> {
    let mut graph = Graph::new();
    let input = graph.input("logits", TensorType::f32(logits));
    let (w, h) = fit.source;
    let window = Some(ResampleWindow {
        padded: (fit.padded.1, fit.padded.0),
        scaled: (fit.scaled.1, fit.scaled.0),
    });
    let op = UpsampleArgmax { h, w, align_corners, window, rows, confidence: values.confidence };
    let softmax = UpsampleSoftmax { h, w, align_corners, window, rows, weighted: false };
    let mut outputs = graph.root().upsample_argmax("labels", input, op)?;
    if values.foreground {
        let weights = graph.input(WEIGHTS, TensorType::f32(Shape::vector(logits.c)));
        outputs.push(graph.root().op(
            "foreground",
            UpsampleSoftmax { weighted: true, ..softmax },
            &[input, weights],
        )?);
    }
    if values.probabilities {
        outputs.push(graph.root().op("probabilities", softmax, &[input])?);
    }
    for (index, value) in outputs.into_iter().enumerate() {
        graph.output(&index.to_string(), value);
    }
    Ok(graph)
}

/// 1 for the classes of the foreground, 0 for the others. Errors where the network has no such
/// class.
pub(super) fn class_weights(keep: &[usize], classes: usize) -> Result<Tensor> {
    let mut weights = vec![0.0; classes];
    for &class in keep {
        let weight = weights.get_mut(class);
        *weight.ok_or_else(|| {
            error!(Usage, "the network has {classes} classes, none with the number {class}")
        })? = 1.0;
    }
    Tensor::new(Shape::vector(classes), weights)
}

/// The results, as far as they are computed.
pub(super) struct Results {
    size: (usize, usize),
    classes: usize,
    labels: Vec<u16>,
    confidence: Option<Vec<f32>>,
    probabilities: Option<Vec<f32>>,
    foreground: Option<Vec<f32>>,
}

impl Results {
    /// Takes the memory of all results. Errors where there is none.
    pub(super) fn new(size: (usize, usize), classes: usize, wants: &OutputOptions) -> Result<Self> {
        let pixels = size.0.saturating_mul(size.1);
        let one =
            |is_wanted: bool, what| is_wanted.then(|| with_capacity(pixels, what)).transpose();
        let no_room = |e: Error| {
            let what = format!(
                "the probabilities of {classes} classes at {} x {} pixels do not fit into memory",
                size.0, size.1
            );
            Error::new(ErrorKind::OutOfMemory, what)
                .source(e)
                .advice("take them in strips, or scale the image down first")
        };
        let all = wants.probabilities.then(|| {
            with_capacity(pixels.saturating_mul(classes), "the probabilities").map_err(no_room)
        });
        Ok(Self {
            size,
            classes,
            labels: with_capacity(pixels, "the labels")?,
            confidence: one(wants.confidence, "the confidence")?,
            probabilities: all.transpose()?,
            foreground: one(wants.foreground.is_some(), "the foreground")?,
        })
    }

    /// Adds the outputs of a [`graph`]. Returns the probabilities, where there are any, for whoever
    /// takes them in strips.
    pub(super) fn add(&mut self, outputs: Vec<Tensor>, values: Values) -> Result<Option<Tensor>> {
        let mut outputs = outputs.into_iter();
        let mut next = |is_there: bool| {
            is_there
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

    pub(super) fn finish(
        self,
        fit: Fit,
        network_time: Duration,
        labels_time: Duration,
    ) -> Result<Segmentation> {
        let (w, h) = self.size;
        let labels = LabelMap::new(w, h, self.labels)?;
        let probabilities = self
            .probabilities
            .map(|all| Tensor::new(Shape::new(1, h, w, self.classes), all))
            .transpose()?;
        let (confidence, foreground) = (self.confidence, self.foreground);
        Ok(Segmentation {
            labels,
            confidence,
            probabilities,
            foreground,
            fit,
            network_time,
            labels_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceChoice;
    use crate::image::{SizeRule, foreground};
    use crate::segmenter::Segmenter;
    use crate::segmenter::tests::{ready, tiny};

    fn everything() -> OutputOptions {
        OutputOptions { confidence: true, probabilities: true, foreground: Some(vec![1, 2]) }
    }

    /// Cut into strips of one row up to all rows.
    fn check(mut segmenter: Segmenter, image: &crate::image::Image) {
        for size in [SizeRule::Native, SizeRule::LongSide(65)] {
            segmenter.strip_bytes = None;
            let whole = segmenter.segment_with(image, size, everything()).unwrap();
            for bytes in [1, 5_000, 20_000] {
                segmenter.strip_bytes = Some(bytes);
                let (mut rows, mut probabilities) = (0, Vec::new());
                let strips = segmenter.segment_in_strips(image, size, everything(), |strip| {
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
        if let Some((segmenter, image)) = ready() {
            check(segmenter, &image);
        }
    }

    /// The sum is divided once instead of each of its terms: with `n` classes both are within
    /// `n + 1` roundings of the true value, of half a unit in the last place each, and they share
    /// the exponentials. Three classes: 2 * 4 * 2^-24 < 5e-7.
    #[test]
    fn the_foreground_is_the_sum_of_the_kept_classes_probabilities() {
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        for keep in [vec![], vec![0], vec![2, 1], vec![1, 1], vec![0, 1, 2]] {
            let wants = OutputOptions {
                probabilities: true,
                foreground: Some(keep.clone()),
                ..OutputOptions::default()
            };
            let found = segmenter.segment_with(&image, SizeRule::LongSide(65), wants).unwrap();
            let mut once = keep.clone();
            once.dedup();
            let sums = foreground(found.probabilities.unwrap().f32(), 3, &once).unwrap();
            let got = found.foreground.unwrap();
            assert_eq!(got.len(), sums.len());
            assert!(got.iter().zip(&sums).all(|(a, b)| (a - b).abs() <= 5e-7), "{keep:?}");
            assert!(got.iter().all(|p| (0.0..=1.0).contains(p)));
        }
        let wants = OutputOptions { foreground: Some(vec![3]), ..OutputOptions::default() };
        let error = segmenter.segment_with(&image, SizeRule::Native, wants).unwrap_err();
        assert!(error.to_string().contains("3 classes, none with the number 3"), "{error}");
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
        let wants = OutputOptions { probabilities: true, ..OutputOptions::default() };
        let error = Results::new((1 << 10, 1 << 10), 1 << 40, &wants).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(
            error.to_string().contains("classes at 1024 x 1024")
                && error.to_string().contains("in strips"),
            "{error}"
        );
    }
}
