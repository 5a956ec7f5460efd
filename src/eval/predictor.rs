//! Inference on an image: as a whole, at several scales, flipped, or with a sliding window.

use super::options::{PredictOptions, SlidingWindow};
use super::views::{SumOutput, labeling, network_graph, scaled_size, sum_graph, with_threshold};
use crate::error::{ErrorKind, Result, error};
use crate::exec::{Producer, Runner};
use crate::geometry::Size;
use crate::graph::Graph;
use crate::image::{Fit, Image, LabelMap};
use crate::memory::{self, Reservation};
use crate::models::Outputs;
use crate::ops::{PixelAlignment, Threshold, UpsampleArgmax, Upsampling};
use crate::passes;
use crate::pipeline::{Cache, Inference};
use crate::segmenter::{Segmenter, cell};
use crate::tensor::{Data, Shape, Tensor, TensorType};
use crate::thread::block_on;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use web_time::Instant;

/// Maximum number of windows of an image; more are typos: at a millisecond each they take minutes.
const MAX_WINDOWS: usize = 100_000;

/// Callback with the number of finished windows and the total.
type OnWindow<'s> = Box<dyn FnMut(usize, usize) + Send + 's>;

/// Result of inference on an image.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Class of each pixel, at the size of the original image.
    pub labels: LabelMap,
    /// Time of the runs on the device, without the preparation of graphs for a new size.
    pub time: Duration,
}

/// Key of the runner that sums the views: their logits, the sizes of the image, and the output.
type SumKey = (Vec<Shape>, Fit, SumOutput);

/// The graphs of the last image: networks of all scales by padded and scaled size, and the runner
/// that sums the views.
type Graphs = Inference<(Size, Size), SumKey>;

/// Inference of a segmenter with [`PredictOptions`]. Probabilities are averaged on its device.
///
/// ```no_run
/// use atrous::eval::{PredictOptions, Predictor};
/// use atrous::{DeviceChoice, Model, Segmenter, image};
///
/// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
/// let options =
///     PredictOptions { scales: vec![0.75, 1.0, 1.25], flip: true, ..PredictOptions::default() };
/// let prediction = Predictor::new(&segmenter, options)?.predict(&image::decode("street.jpg")?)?;
/// prediction.labels.write("street.png", &segmenter.model().class_table())?;
/// # Ok::<(), atrous::Error>(())
/// ```
pub struct Predictor<'s> {
    pub(super) segmenter: &'s Segmenter,
    options: PredictOptions,
    graphs: Graphs,
    /// The runner that chooses classes from the windows' probabilities.
    labels: Cache<(Shape, Size), Arc<Runner>>,
    costs: HashMap<Size, u64>,
    on_window: OnWindow<'s>,
}

/// The sum of all views of an image.
pub(super) struct Viewed {
    pub outputs: Vec<Tensor>,
    /// Side of a cell of the coarsest view in pixels of the image.
    pub cell: f32,
    /// Time on the device.
    pub time: Duration,
}

impl<'s> Predictor<'s> {
    /// Creates a predictor.
    ///
    /// # Errors
    /// Returns an error if scales or windows are invalid.
    pub fn new(segmenter: &'s Segmenter, options: PredictOptions) -> Result<Self> {
        options.check()?;
        if let Some(SlidingWindow { size, .. }) = options.window {
            // A smaller window does not cover a single position of the output.
            let output_stride = segmenter.model().network.output_stride().unwrap_or(1);
            if !Size::square(output_stride).fits_into(size) {
                return Err(error!(Usage, "a window of {size} pixels is smaller than the network's output stride of {output_stride}")
                    .advice("use the size that the network was trained with, such as 513"));
            }
        }
        let on_window = Box::new(|_, _| ());
        Ok(Self {
            segmenter,
            options,
            graphs: Graphs::new(&segmenter.device(), segmenter.tuning(), 1),
            labels: Cache::new(1),
            costs: HashMap::new(),
            on_window,
        })
    }

    /// Calls `callback` after each window, with the number of finished windows and the total for
    /// the image.
    #[must_use]
    pub fn on_window(mut self, callback: impl FnMut(usize, usize) + Send + 's) -> Self {
        self.on_window = Box::new(callback);
        self
    }

    /// Number of windows for an image of this size; 1 without a sliding window.
    pub fn window_count(&self, image: Size) -> usize {
        let scaled = self.fit(image).scaled;
        self.options.window.map_or(1, |window| window.count(scaled))
    }

    /// Options of the predictor.
    pub fn options(&self) -> &PredictOptions {
        &self.options
    }

    pub(super) fn fit(&self, image: Size) -> Fit {
        self.options.size.unwrap_or_else(|| self.segmenter.default_size()).fit(image)
    }

    /// Predicts the classes of an image's pixels.
    ///
    /// # Errors
    /// Returns an error if the image is too large for the device or too small for the network at a
    /// scale, or the device fails.
    pub fn predict(&mut self, image: &Image) -> Result<Prediction> {
        let fit = self.fit(image.size());
        if self.options.is_plain() {
            let size = self.options.size.unwrap_or_else(|| self.segmenter.default_size());
            let segmentation = self.segmenter.segment(image, size)?;
            return Ok(Prediction {
                labels: segmentation.labels,
                time: segmentation.network_time + segmentation.labels_time,
            });
        }
        match self.options.window {
            None => {
                // Check that everything fits into memory before scaling the image.
                self.networks(fit)?;
                let viewed = self.views(fit, fit.scale(image)?.into_owned(), SumOutput::Labels)?;
                let labels = LabelMap::from_tensor(&viewed.outputs[0], 0)?;
                Ok(Prediction { labels, time: viewed.time })
            }
            Some(window) => self.sliding_window(fit, image, window),
        }
    }

    /// Prepares the networks of all scales.
    pub(super) fn networks(&self, fit: Fit) -> Result<Arc<[Producer]>> {
        let (model, options) = (self.segmenter.model(), &self.options);
        let graphs = || {
            let graph = |&scale| network_graph(model, fit, scale, options.flip);
            options.scales.iter().map(graph).collect()
        };
        let key = (fit.padded, fit.scaled);
        match self.graphs.network(key, graphs) {
            // Free the runner of the previous image and try again.
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                self.labels.clear();
                self.graphs.network(key, graphs)
            }
            result => result,
        }
    }

    /// Runs all views of a scaled image, and sums them.
    pub(super) fn views(&self, fit: Fit, pixels: Vec<u8>, output: SumOutput) -> Result<Viewed> {
        let networks = self.networks(fit)?;
        let image = Tensor::from_data(Shape::images(1, fit.scaled, 3), Data::U8(pixels))?;
        let mut views = block_on(self.graphs.compute(networks, &image))?;
        let shapes = views.shapes();
        let cell = shapes.iter().map(|&shape| cell(fit, shape)).fold(0.0, f32::max);
        let labeling = labeling(self.segmenter.model());
        let sum = views.finisher(Some((shapes.clone(), fit, output)), || {
            passes::optimize(sum_graph(&shapes, fit, labeling, output)?)
        })?;
        let names: Vec<String> = (0..shapes.len()).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let start = Instant::now();
        let outputs = block_on(views.finish(&sum, &names, &[]))?;
        Ok(Viewed { outputs, cell, time: views.time() + start.elapsed() })
    }

    /// Averages the windows' probabilities at the size of the scaled image, and chooses the classes
    /// at the size of the original image.
    fn sliding_window(
        &mut self,
        fit: Fit,
        image: &Image,
        window: SlidingWindow,
    ) -> Result<Prediction> {
        let Size { width: w, height: h } = fit.scaled;
        let classes = self.segmenter.model().network.classes().unwrap_or(0);
        let count = checked_count(window, fit.scaled)?;
        // Prepare all graphs first, so that errors are reported before any window is computed.
        let elements = sum_elements(fit.scaled, classes)?;
        self.labels_runner(Shape::images(1, fit.scaled, classes), fit.source)?;
        let reserved = reserve_sum(fit.scaled, classes)?;
        let mut sum = memory::zeros::<f32>(elements)?;
        let mut counts = memory::zeros::<u32>(w * h)?;
        let scaled = fit.scale(image)?;
        let pixels = &scaled[..];
        let visible = window.size.zip(fit.scaled, usize::min);
        let window_fit = Fit { source: visible, scaled: visible, padded: window.size };
        let mut time = Duration::ZERO;
        let mut done = 0;
        for y in offsets(h, window.size.height, window.stride.y) {
            for x in offsets(w, window.size.width, window.stride.x) {
                let rows = (y..y + visible.height)
                    .flat_map(|row| &pixels[3 * (row * w + x)..][..3 * visible.width]);
                let viewed =
                    self.views(window_fit, rows.copied().collect(), SumOutput::Probabilities)?;
                time += viewed.time;
                let rows = viewed.outputs[0].f32().chunks_exact(visible.width * classes);
                for (row, probabilities) in rows.enumerate() {
                    let at = (y + row) * w + x;
                    for (s, p) in
                        sum[at * classes..][..visible.width * classes].iter_mut().zip(probabilities)
                    {
                        *s += p;
                    }
                    for c in &mut counts[at..][..visible.width] {
                        *c += 1;
                    }
                }
                done += 1;
                (self.on_window)(done, count);
            }
        }
        reserved.mark_used();
        // Divide by the number of windows at each pixel before interpolating between pixels.
        for (pixel, &count) in sum.chunks_exact_mut(classes).zip(&counts) {
            for p in pixel {
                *p /= count as f32;
            }
        }
        let mean = Tensor::from_data(Shape::images(1, fit.scaled, classes), Data::F32(sum))?;
        let runner = self.labels_runner(mean.shape(), fit.source)?;
        let start = Instant::now();
        let labels = LabelMap::from_tensor(&runner.run(&[("probabilities", &mean)])?[0], 0)?;
        Ok(Prediction { labels, time: time + start.elapsed() })
    }

    /// The runner that chooses the classes at the size of the original image from probabilities.
    fn labels_runner(&self, probabilities: Shape, size: Size) -> Result<Arc<Runner>> {
        self.labels.get((probabilities, size), || {
            let threshold = labeling(self.segmenter.model()).sigmoid();
            let graph = labels_graph(probabilities, threshold, size)?;
            self.graphs.pipeline().finisher(graph).map(Arc::new)
        })
    }

    /// Multi-Adds of all forward passes for an image of this size, as papers report them.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn multi_adds(&mut self, image: Size) -> Result<u64> {
        let fit = self.fit(image);
        let (input, windows) = match self.options.window {
            None => (fit.padded, 1),
            Some(window) => (window.size, window.count(fit.scaled)),
        };
        let flips = if self.options.flip { 2 } else { 1 };
        let mut sum = 0;
        for scale in self.options.scales.clone() {
            let align_corners = labeling(self.segmenter.model()).aligns_corners();
            sum += self.network_cost(scaled_size(input, scale, align_corners))?;
        }
        Ok(sum.saturating_mul(flips).saturating_mul(windows as u64))
    }

    fn network_cost(&mut self, size: Size) -> Result<u64> {
        if let Some(&cost) = self.costs.get(&size) {
            return Ok(cost);
        }
        let model = self.segmenter.model();
        let input = Shape::images(1, size, model.network.input_channels());
        let graph = passes::dead_code(model.network(input, &Outputs::default())?.graph)?;
        let types =
            |ids: &[crate::graph::ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
        let cost = graph
            .nodes()
            .iter()
            .map(|n| n.op.cost(&types(&n.inputs), &types(&n.outputs)).multi_adds)
            .sum();
        self.costs.insert(size, cost);
        Ok(cost)
    }
}

/// Number of windows of an image of size `scaled`, unless it has too many.
fn checked_count(window: SlidingWindow, scaled: Size) -> Result<usize> {
    let count = window.count(scaled);
    if count > MAX_WINDOWS {
        return Err(error!(
            Usage,
            "an image of {scaled} pixels has {count} windows; the maximum is {MAX_WINDOWS}"
        )
        .advice("use a larger `--stride` or a larger `--window`"));
    }
    Ok(count)
}

/// Number of elements in the sum of the windows' probabilities.
fn sum_elements(size: Size, classes: usize) -> Result<usize> {
    let elements = size.pixels().checked_mul(classes);
    elements.filter(|n| n.checked_mul(size_of::<f32>()).is_some()).ok_or_else(|| {
        error!(OutOfMemory, "{classes} probabilities at {size} pixels exceed any memory")
            .advice(SMALLER_SUM)
    })
}

const SMALLER_SUM: &str = "use smaller images or a smaller `--size`, or omit `--window`";

/// Reserves memory for the sum of the windows' probabilities, the number of windows at each pixel,
/// and the scaled image.
fn reserve_sum(size: Size, classes: usize) -> Result<Reservation> {
    let pixels = size.pixels() as u64;
    let bytes = pixels.saturating_mul(4 * (classes as u64 + 1));
    Reservation::new(bytes, pixels.saturating_mul(3)).map_err(|shortage| {
        let need = memory::mib(bytes);
        error!(
            OutOfMemory,
            "the sum of {classes} probabilities at {size} pixels takes {need}, but {shortage}"
        )
        .advice(SMALLER_SUM)
    })
}

fn labels_graph(probabilities: Shape, threshold: Option<Threshold>, size: Size) -> Result<Graph> {
    let mut graph = Graph::new();
    let x = graph.input("probabilities", TensorType::f32(probabilities));
    let upsampling =
        Upsampling { size, alignment: PixelAlignment::HalfPixel, window: None, rows: None };
    let op = UpsampleArgmax { upsampling, confidence: false, sigmoid: None };
    let x = with_threshold(&mut graph, threshold.map(Threshold::probability), x)?;
    let labels = graph.root().upsample_argmax("labels", x, op)?[0];
    graph.output("labels", labels);
    Ok(graph)
}

/// Offsets of windows along a side: every `stride` pixels, the last one flush with the end.
fn offsets(side: usize, window: usize, stride: usize) -> impl Iterator<Item = usize> {
    let last = side.saturating_sub(window);
    (0..last).step_by(stride).chain([last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Device;
    use crate::geometry::Spacing;
    use crate::image::SizeRule;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn windows_over_more_than_memory_holds_are_refused_by_their_size() {
        assert_eq!(sum_elements(Size::new(5_000, 4_000), 150).unwrap(), 3_000_000_000);
        let fails = [
            sum_elements(Size::new(usize::MAX, 2), 21).map(drop),
            sum_elements(Size::square(1 << 31), 21).map(drop),
        ];
        #[cfg(target_os = "linux")]
        let fails = fails.into_iter().chain([reserve_sum(Size::square(1 << 24), 21).map(drop)]);
        for error in fails.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("21 probabilities at") && text.contains("`--window`"), "{text}");
        }
    }

    #[test]
    fn the_window_count_is_that_of_the_offsets() {
        for (side, window, stride) in
            [(96, 33, 1), (33, 33, 7), (20, 33, 5), (100, 33, 33), (1, 33, 33), (99, 33, 20)]
        {
            let windows =
                SlidingWindow { size: Size::square(window), stride: Spacing::square(stride) };
            let count = offsets(side, window, stride).count();
            assert_eq!(
                windows.count(Size::square(side)),
                count * count,
                "{side} {window} {stride}"
            );
        }
        let one = SlidingWindow { size: Size::square(1), stride: Spacing::ONE };
        assert_eq!(one.count(Size::square(usize::MAX)), usize::MAX);
    }

    /// Allocates nothing: the limits of the device are checked before the first buffer, and the CPU
    /// allocates when a graph is run.
    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
    fn scales_and_windows_past_the_devices_limits_run_on_the_cpu() {
        let Some((segmenter, _)) = crate::segmenter::tests::tiny_on_gpu() else {
            panic!("no GPU adapter was found")
        };
        let Device::Gpu(gpu) = segmenter.device() else { panic!("a GPU was asked for") };
        // Three channels are one vec4 of 16 bytes.
        let side =
            ((gpu.caps().max_binding.min(gpu.caps().max_buffer) / 16) as f64).sqrt() as usize + 64;
        let small = Shape::new(1, 4, 4, 3);
        let predictor = Predictor::new(&segmenter, PredictOptions::default()).unwrap();
        let labeling = labeling(segmenter.model());
        for (side, exceeds) in [(side, true), (8, false)] {
            let fit = SizeRule::Native.fit(Size::square(side));
            for output in [SumOutput::Labels, SumOutput::Probabilities] {
                let graph = sum_graph(&[small, small], fit, labeling, output).unwrap();
                let graph = passes::optimize(graph).unwrap();
                let runner = predictor.graphs.pipeline().finisher(graph).unwrap();
                assert_eq!(runner.is_on_cpu(), exceeds, "{output:?} at {side}");
            }
            let runner =
                predictor.labels_runner(Shape::new(1, side, side, 3), Size::square(4)).unwrap();
            assert_eq!(runner.is_on_cpu(), exceeds, "windows at {side}");
        }
    }
}
