//! How a network is asked about an image: once, at several scales, mirrored, or window by window.

use super::views::{Wanted, align_corners, network_graph, scaled_side, sum_graph};
use crate::error::{ErrorKind, Result, error};
use crate::exec::Runner;
use crate::graph::Graph;
use crate::image::{Fit, Image, LabelMap, SizeRule};
use crate::memory::{self, Reservation};
use crate::models::Outputs;
use crate::ops::UpsampleArgmax;
use crate::passes;
use crate::segmenter::Segmenter;
use crate::tensor::{Data, Shape, Tensor, TensorType};
use std::collections::HashMap;
use std::time::Duration;
use web_time::Instant;

/// Scales past this are a slip of the keyboard.
const LARGEST_SCALE: f64 = 16.0;

/// Windows of an image past this are a slip of the keyboard: at a millisecond each they take
/// minutes.
const MOST_WINDOWS: usize = 100_000;

/// Windows that are laid over an image, so that the network sees a part at a time. Width and height
/// in pixels of the scaled image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Size of a window.
    pub size: (usize, usize),
    /// From the corner of one to that of the next; at most the size, or pixels would be left out.
    pub stride: (usize, usize),
}

impl Windows {
    /// How many there are over an image of this size.
    fn count(&self, width: usize, height: usize) -> usize {
        let along = |side: usize, window: usize, stride: usize| {
            side.saturating_sub(window).div_ceil(stride) + 1
        };
        along(width, self.size.0, self.stride.0).saturating_mul(along(
            height,
            self.size.1,
            self.stride.1,
        ))
    }
}

/// How a network is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// The size at which the image enters; `None` takes that for which the network was made.
    pub size: Option<SizeRule>,
    /// Scales of that size whose probabilities are averaged.
    pub scales: Vec<f64>,
    /// Whether each is also seen in a mirror.
    pub flip: bool,
    /// Windows, instead of the whole image at once.
    pub windows: Option<Windows>,
}

impl Default for Method {
    /// The whole image, once.
    fn default() -> Self {
        Self { size: None, scales: vec![1.0], flip: false, windows: None }
    }
}

impl Method {
    /// Forward passes for an image, or for a window of it.
    pub fn views(&self) -> usize {
        self.scales.len() * if self.flip { 2 } else { 1 }
    }

    fn is_plain(&self) -> bool {
        self.scales == [1.0] && !self.flip && self.windows.is_none()
    }

    fn check(&self) -> Result<()> {
        if self.scales.is_empty() {
            return Err(error!(Usage, "no scale is named"));
        }
        if let Some(scale) = self.scales.iter().find(|s| !(**s > 0.0 && **s <= LARGEST_SCALE)) {
            return Err(error!(
                Usage,
                "a scale of {scale} is not above 0 and at most {LARGEST_SCALE}"
            ));
        }
        if let Some(Windows { size, stride }) = self.windows {
            let ((w, h), (x, y)) = (size, stride);
            if w == 0 || h == 0 || x == 0 || y == 0 || x > w || y > h {
                return Err(error!(
                    Usage,
                    "windows of {w} x {h} every {x} x {y} pixels do not cover an image"
                ));
            }
        }
        Ok(())
    }
}

/// Called with the windows of an image that are done, and with how many it has.
type OnWindow<'s> = Box<dyn FnMut(usize, usize) + 's>;

/// What was found, and how long it took.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The class of each pixel, at the image's own size.
    pub labels: LabelMap,
    /// Time of the runs on the device; making graphs ready for a new size is not in it.
    pub time: Duration,
}

/// Width and height.
type Size = (usize, usize);

/// What was made ready last, and for what.
type Ready<K, R> = Option<(K, R)>;

/// Logits of the views, the image's sizes, and what is wanted of them.
type End = (Vec<Shape>, Fit, Wanted);

/// What is in `slot`, made anew where it is there for another `key`. What is not needed any more
/// makes room first.
fn ready<K: PartialEq, R>(
    slot: &mut Ready<K, R>,
    key: K,
    make: impl FnOnce(&K) -> Result<R>,
) -> Result<&R> {
    if slot.as_ref().is_none_or(|(k, _)| *k != key) {
        *slot = None;
        let made = make(&key)?;
        *slot = Some((key, made));
    }
    Ok(&slot.as_ref().expect("invariant: just made").1)
}

/// A segmenter that is asked by a [`Method`]. Probabilities are averaged on its device.
///
/// ```no_run
/// use atrous::eval::{Method, Predictor};
/// use atrous::{DeviceChoice, Model, Segmenter, image};
///
/// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
/// let method = Method { scales: vec![0.75, 1.0, 1.25], flip: true, ..Method::default() };
/// let found = Predictor::new(&segmenter, method)?.predict(&image::decode("street.jpg")?)?;
/// found.labels.write("street.png", &segmenter.model().class_table())?;
/// # Ok::<(), atrous::Error>(())
/// ```
pub struct Predictor<'s> {
    segmenter: &'s Segmenter,
    method: Method,
    /// Of all scales, by the sizes that the network sees: padded, and scaled.
    networks: Ready<(Size, Size), Vec<Runner>>,
    end: Ready<End, Runner>,
    labels: Ready<(Shape, Size), Runner>,
    costs: HashMap<Size, u64>,
    on_window: OnWindow<'s>,
}

impl<'s> Predictor<'s> {
    /// A way to ask `segmenter`.
    ///
    /// # Errors
    /// Where scales or windows make no sense.
    pub fn new(segmenter: &'s Segmenter, method: Method) -> Result<Self> {
        method.check()?;
        if let Some(Windows { size: (w, h), .. }) = method.windows {
            // A smaller window is less than one of the positions that the network scores.
            let least = segmenter.model().config.output_stride;
            if w < least || h < least {
                return Err(error!(Usage, "a window of {w} x {h} pixels is smaller than the network's output stride of {least}")
                    .advice("take the size that the network was trained on, such as 513"));
            }
        }
        let on_window = Box::new(|_, _| ());
        Ok(Self {
            segmenter,
            method,
            networks: None,
            end: None,
            labels: None,
            costs: HashMap::new(),
            on_window,
        })
    }

    /// Calls `report` after each window with the windows of the image that are done, and with how
    /// many it has.
    #[must_use]
    pub fn on_window(mut self, report: impl FnMut(usize, usize) + 's) -> Self {
        self.on_window = Box::new(report);
        self
    }

    /// Windows that an image of this size is seen through; 1 where it is seen as a whole.
    pub fn windows(&self, width: usize, height: usize) -> usize {
        let (w, h) = self.fit(width, height).scaled;
        self.method.windows.map_or(1, |windows| windows.count(w, h))
    }

    /// How it asks.
    pub fn method(&self) -> &Method {
        &self.method
    }

    fn fit(&self, width: usize, height: usize) -> Fit {
        self.method.size.unwrap_or_else(|| self.segmenter.default_size()).fit(width, height)
    }

    /// The classes of an image's pixels.
    ///
    /// # Errors
    /// Where the image is too large for the device or too small for the network at a scale, or the
    /// device fails.
    pub fn predict(&mut self, image: &Image) -> Result<Prediction> {
        let fit = self.fit(image.width, image.height);
        if self.method.is_plain() {
            let size = self.method.size.unwrap_or_else(|| self.segmenter.default_size());
            let found = self.segmenter.segment(image, size)?;
            return Ok(Prediction {
                labels: found.labels,
                time: found.network_time + found.labels_time,
            });
        }
        match self.method.windows {
            None => {
                // What does not fit into memory is refused before the image is scaled.
                self.networks(fit)?;
                let (labels, time) =
                    self.views(fit, fit.scale(image)?.into_owned(), Wanted::Labels)?;
                Ok(Prediction { labels: LabelMap::from_tensor(&labels, 0)?, time })
            }
            Some(windows) => self.window_by_window(fit, image, windows),
        }
    }

    /// The networks of all scales.
    fn networks(&mut self, fit: Fit) -> Result<&[Runner]> {
        let (segmenter, method) = (self.segmenter, &self.method);
        let make = |_: &(Size, Size)| {
            let graphs = method
                .scales
                .iter()
                .map(|&s| network_graph(segmenter.model(), fit, s, method.flip));
            graphs.map(|g| segmenter.prepare(g?)).collect::<Result<Vec<Runner>>>()
        };
        let key = (fit.padded, fit.scaled);
        let made = ready(&mut self.networks, key, make).map(drop);
        if made.is_err_and(|e| e.kind() == ErrorKind::OutOfMemory) {
            // What was made for the image before may be in the way.
            (self.end, self.labels) = (None, None);
        }
        ready(&mut self.networks, key, make).map(Vec::as_slice)
    }

    /// Runs every view of an image that was scaled, and their end.
    fn views(&mut self, fit: Fit, pixels: Vec<u8>, wanted: Wanted) -> Result<(Tensor, Duration)> {
        let segmenter = self.segmenter;
        let networks = self.networks(fit)?;
        let image =
            Tensor::from_data(Shape::new(1, fit.scaled.1, fit.scaled.0, 3), Data::U8(pixels))?;
        let started = Instant::now();
        let mut logits = Vec::new();
        for network in networks {
            logits.extend(network.run(&[("image", &image)])?);
        }
        let time = started.elapsed();

        let shapes: Vec<Shape> = logits.iter().map(Tensor::shape).collect();
        let end = ready(&mut self.end, (shapes, fit, wanted), |(shapes, ..)| {
            prepare_sum(segmenter, shapes, fit, wanted)
        })?;
        let names: Vec<String> = (0..logits.len()).map(|i| i.to_string()).collect();
        let inputs: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&logits).collect();
        let started = Instant::now();
        let result = end.run(&inputs)?.swap_remove(0);
        Ok((result, time + started.elapsed()))
    }

    /// Adds up the windows' probabilities at the scaled image's size; the classes are chosen at the
    /// image's own.
    fn window_by_window(
        &mut self,
        fit: Fit,
        image: &Image,
        windows: Windows,
    ) -> Result<Prediction> {
        let (w, h) = fit.scaled;
        let classes = self.segmenter.model().config.classes().unwrap_or(0);
        let count = windows.count(w, h);
        if count > MOST_WINDOWS {
            return Err(error!(Usage, "an image of {w} x {h} pixels has {count} windows, at most {MOST_WINDOWS} are computed")
                .advice("take a larger `--stride` or a larger `--window`"));
        }
        // Graphs that cannot be prepared are reported before time goes into windows.
        let numbers = numbers_of_sum(fit.scaled, classes)?;
        self.chooser(Shape::new(1, h, w, classes), fit.source)?;
        let reserved = reserve_sum(fit.scaled, classes)?;
        let mut sum = memory::zeros::<f32>(numbers)?;
        let mut counts = memory::zeros::<u32>(w * h)?;
        let scaled = fit.scale(image)?;
        let pixels = &scaled[..];
        let (seen_w, seen_h) = (windows.size.0.min(w), windows.size.1.min(h));
        let part = Fit { source: (seen_w, seen_h), scaled: (seen_w, seen_h), padded: windows.size };
        let mut time = Duration::ZERO;
        let mut done = 0;
        for y in offsets(h, windows.size.1, windows.stride.1) {
            for x in offsets(w, windows.size.0, windows.stride.0) {
                let rows =
                    (y..y + seen_h).flat_map(|row| &pixels[3 * (row * w + x)..][..3 * seen_w]);
                let (found, took) = self.views(part, rows.copied().collect(), Wanted::Sum)?;
                time += took;
                for (row, found) in found.f32().chunks_exact(seen_w * classes).enumerate() {
                    let at = (y + row) * w + x;
                    sum[at * classes..][..seen_w * classes]
                        .iter_mut()
                        .zip(found)
                        .for_each(|(s, f)| *s += f);
                    counts[at..][..seen_w].iter_mut().for_each(|c| *c += 1);
                }
                done += 1;
                (self.on_window)(done, count);
            }
        }
        reserved.mark_used();
        // Neighbors that were seen by different numbers of windows are made comparable before the
        // interpolation between them.
        for (pixel, &count) in sum.chunks_exact_mut(classes).zip(&counts) {
            pixel.iter_mut().for_each(|p| *p /= count as f32);
        }
        let mean = Tensor::from_data(Shape::new(1, h, w, classes), Data::F32(sum))?;
        let runner = self.chooser(mean.shape(), fit.source)?;
        let started = Instant::now();
        let labels = LabelMap::from_tensor(&runner.run(&[("probabilities", &mean)])?[0], 0)?;
        Ok(Prediction { labels, time: time + started.elapsed() })
    }

    /// What chooses the classes at the image's own size from the windows' probabilities.
    fn chooser(&mut self, probabilities: Shape, size: Size) -> Result<&Runner> {
        let segmenter = self.segmenter;
        ready(&mut self.labels, (probabilities, size), |&(shape, size)| {
            segmenter.prepare_finisher(labels_graph(shape, size)?)
        })
    }

    /// Multi-Adds of all forward passes for an image of this size, as papers count them.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn multi_adds(&mut self, width: usize, height: usize) -> Result<u64> {
        let fit = self.fit(width, height);
        let (input, times) = match self.method.windows {
            None => (fit.padded, 1),
            Some(windows) => (windows.size, windows.count(fit.scaled.0, fit.scaled.1)),
        };
        let mirrored = if self.method.flip { 2 } else { 1 };
        let mut sum = 0;
        for scale in self.method.scales.clone() {
            let side = |side| scaled_side(side, scale, align_corners(self.segmenter.model()));
            sum += self.network_cost((side(input.0), side(input.1)))?;
        }
        Ok(sum.saturating_mul(mirrored).saturating_mul(times as u64))
    }

    fn network_cost(&mut self, (w, h): Size) -> Result<u64> {
        if let Some(&cost) = self.costs.get(&(w, h)) {
            return Ok(cost);
        }
        let model = self.segmenter.model();
        let input = Shape::new(1, h, w, model.config.input_channels);
        let graph = passes::dead_code(model.network(input, &Outputs::default())?.graph)?;
        let types =
            |ids: &[crate::graph::ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
        let cost = graph
            .nodes()
            .iter()
            .map(|n| n.op.cost(&types(&n.inputs), &types(&n.outputs)).multi_adds)
            .sum();
        self.costs.insert((w, h), cost);
        Ok(cost)
    }
}

/// The end of the views, from their logits on.
fn prepare_sum(
    segmenter: &Segmenter,
    logits: &[Shape],
    fit: Fit,
    wanted: Wanted,
) -> Result<Runner> {
    let graph = sum_graph(logits, fit, align_corners(segmenter.model()), wanted)?;
    segmenter.prepare_finisher(passes::optimize(graph)?)
}

/// Numbers in the sum of the windows' probabilities.
fn numbers_of_sum((w, h): Size, classes: usize) -> Result<usize> {
    let numbers = w.checked_mul(h).and_then(|pixels| pixels.checked_mul(classes));
    numbers.filter(|n| n.checked_mul(size_of::<f32>()).is_some()).ok_or_else(|| {
        let what =
            format!("{classes} probabilities at {w} x {h} pixels are more than any memory holds");
        error!(OutOfMemory, "{what}").advice(SMALLER_SUM)
    })
}

const SMALLER_SUM: &str = "take smaller images or a smaller `--size`, or leave out `--window`";

/// Memory for the sum of the windows' probabilities, for the number of windows at each pixel, and
/// for the scaled image.
fn reserve_sum((w, h): Size, classes: usize) -> Result<Reservation> {
    let pixels = (w as u64).saturating_mul(h as u64);
    let bytes = pixels.saturating_mul(4 * (classes as u64 + 1));
    Reservation::new(bytes, pixels.saturating_mul(3)).map_err(|room| {
        let what = format!(
            "the sum of {classes} probabilities at {w} x {h} pixels takes {}",
            memory::mib(bytes)
        );
        error!(OutOfMemory, "{what}, but {room}").advice(SMALLER_SUM)
    })
}

fn labels_graph(probabilities: Shape, (w, h): Size) -> Result<Graph> {
    let mut graph = Graph::new();
    let x = graph.input("probabilities", TensorType::f32(probabilities));
    let op =
        UpsampleArgmax { h, w, align_corners: false, window: None, rows: None, confidence: false };
    let labels = graph.root().upsample_argmax("labels", x, op)?[0];
    graph.output("labels", labels);
    Ok(graph)
}

/// Where windows begin along a side: every `stride` pixels, and the last one at the end.
fn offsets(side: usize, window: usize, stride: usize) -> impl Iterator<Item = usize> {
    let last = side.saturating_sub(window);
    (0..last).step_by(stride).chain([last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Device;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn windows_over_more_than_memory_holds_are_refused_by_their_size() {
        assert_eq!(numbers_of_sum((5_000, 4_000), 150).unwrap(), 3_000_000_000);
        let fails = [
            numbers_of_sum((usize::MAX, 2), 21).map(drop),
            numbers_of_sum((1 << 31, 1 << 31), 21).map(drop),
        ];
        #[cfg(target_os = "linux")]
        let fails = fails.into_iter().chain([reserve_sum((1 << 24, 1 << 24), 21).map(drop)]);
        for error in fails.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("21 probabilities at") && text.contains("`--window`"), "{text}");
        }
    }

    #[test]
    fn windows_are_counted_as_they_are_laid() {
        for (side, window, stride) in
            [(96, 33, 1), (33, 33, 7), (20, 33, 5), (100, 33, 33), (1, 33, 33), (99, 33, 20)]
        {
            let windows = Windows { size: (window, window), stride: (stride, stride) };
            let laid = offsets(side, window, stride).count();
            assert_eq!(windows.count(side, side), laid * laid, "{side} {window} {stride}");
        }
        let one = Windows { size: (1, 1), stride: (1, 1) };
        assert_eq!(one.count(usize::MAX, usize::MAX), usize::MAX);
    }

    /// Nothing is allocated for it: the device's limits are looked at before the first buffer, and
    /// the processor waits for a run.
    #[test]
    fn scales_and_windows_past_the_devices_limits_end_on_the_processor() {
        let Some((segmenter, _)) = crate::segmenter::tests::tiny_on_gpu() else { return };
        let Device::Gpu(gpu) = segmenter.device() else { panic!("a GPU was asked for") };
        // Three channels are one vec4 of 16 bytes.
        let side =
            ((gpu.caps().max_binding.min(gpu.caps().max_buffer) / 16) as f64).sqrt() as usize + 64;
        // Runners on the processor have no kernels.
        let on_processor = |runner: &Runner| runner.kernels().is_empty();
        let small = Shape::new(1, 4, 4, 3);
        for (side, past) in [(side, true), (8, false)] {
            let fit = Fit { source: (side, side), scaled: (side, side), padded: (side, side) };
            for wanted in [Wanted::Labels, Wanted::Sum] {
                let runner = prepare_sum(&segmenter, &[small, small], fit, wanted).unwrap();
                assert_eq!(on_processor(&runner), past, "{wanted:?} at {side}");
            }
            let mut predictor = Predictor::new(&segmenter, Method::default()).unwrap();
            let runner = predictor.chooser(Shape::new(1, side, side, 3), (4, 4)).unwrap();
            assert_eq!(on_processor(runner), past, "windows at {side}");
        }
    }
}
