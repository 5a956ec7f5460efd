//! How a network is asked about a picture: once, at several scales, mirrored, or window by window.

use super::views::{Wanted, align_corners, network_graph, scaled_side, sum_graph};
use crate::error::{Result, error};
use crate::exec::Runner;
use crate::graph::Graph;
use crate::image::{Fit, LabelMap, Picture, SizeRule};
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

/// The most bytes of probabilities into which windows are added up: 150 classes at 5,300 x 5,300 pixels. Few machines have more to spare,
/// and memory that cannot be had would end the program without a word. Where addresses have 32 bits, there is far less of it.
const MOST_BYTES: u64 = if cfg!(target_pointer_width = "64") { 16 << 30 } else { 1 << 30 };

/// Windows that are laid over a picture, so that the network sees a part at a time. Width and height in pixels of the scaled picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Size of a window.
    pub size: (usize, usize),
    /// From the corner of one to that of the next; at most the size, or pixels would be left out.
    pub stride: (usize, usize),
}

/// How a network is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// The size at which the picture enters; `None` takes that for which the network was made.
    pub size: Option<SizeRule>,
    /// Scales of that size whose probabilities are averaged.
    pub scales: Vec<f64>,
    /// Whether each is also seen in a mirror.
    pub flip: bool,
    /// Windows, instead of the whole picture at once.
    pub windows: Option<Windows>,
}

impl Default for Method {
    /// The whole picture, once.
    fn default() -> Self {
        Self { size: None, scales: vec![1.0], flip: false, windows: None }
    }
}

impl Method {
    /// Forward passes for a picture, or for a window of it.
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
            return Err(error!(Usage, "a scale of {scale} is not above 0 and at most {LARGEST_SCALE}"));
        }
        if let Some(Windows { size, stride }) = self.windows {
            let ((w, h), (x, y)) = (size, stride);
            if w == 0 || h == 0 || x == 0 || y == 0 || x > w || y > h {
                return Err(error!(Usage, "windows of {w} x {h} every {x} x {y} pixels do not cover a picture"));
            }
        }
        Ok(())
    }
}

/// What was found, and how long it took.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The class of each pixel, at the picture's own size.
    pub labels: LabelMap,
    /// Time of the runs on the device; making graphs ready for a new size is not in it.
    pub time: Duration,
}

/// Width and height.
type Size = (usize, usize);

/// What was made ready last, and for what.
type Ready<K, R> = Option<(K, R)>;

/// Logits of the views, the picture's sizes, and what is wanted of them.
type End = (Vec<Shape>, Fit, Wanted);

/// What is in `slot`, made anew where it is there for another `key`. What is not needed any more makes room first.
fn ready<K: PartialEq, R>(slot: &mut Ready<K, R>, key: K, make: impl FnOnce(&K) -> Result<R>) -> Result<&R> {
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
}

impl<'s> Predictor<'s> {
    /// A way to ask `segmenter`.
    ///
    /// # Errors
    /// Where scales or windows make no sense.
    pub fn new(segmenter: &'s Segmenter, method: Method) -> Result<Self> {
        method.check()?;
        Ok(Self { segmenter, method, networks: None, end: None, labels: None, costs: HashMap::new() })
    }

    /// How it asks.
    pub fn method(&self) -> &Method {
        &self.method
    }

    fn fit(&self, width: usize, height: usize) -> Fit {
        self.method.size.unwrap_or_else(|| self.segmenter.usual_size()).fit(width, height)
    }

    /// The classes of a picture's pixels.
    ///
    /// # Errors
    /// Where the picture is too large for the device or too small for the network at a scale, or the device fails.
    pub fn predict(&mut self, picture: &Picture) -> Result<Prediction> {
        let fit = self.fit(picture.width, picture.height);
        if self.method.is_plain() {
            let size = self.method.size.unwrap_or_else(|| self.segmenter.usual_size());
            let found = self.segmenter.segment(picture, size)?;
            return Ok(Prediction { labels: found.labels, time: found.network_time + found.labels_time });
        }
        match self.method.windows {
            None => {
                let (labels, time) = self.views(fit, fit.scale(picture)?.into_owned(), Wanted::Labels)?;
                Ok(Prediction { labels: LabelMap::from_tensor(&labels, 0)?, time })
            }
            Some(windows) => self.window_by_window(fit, picture, windows),
        }
    }

    /// Runs every view of a picture that was scaled, and their end.
    fn views(&mut self, fit: Fit, pixels: Vec<u8>, wanted: Wanted) -> Result<(Tensor, Duration)> {
        let (segmenter, model) = (self.segmenter, self.segmenter.model());
        let networks = ready(&mut self.networks, (fit.padded, fit.scaled), |_| {
            let graphs = self.method.scales.iter().map(|&s| network_graph(model, fit, s, self.method.flip));
            graphs.map(|g| segmenter.prepare(g?)).collect()
        })?;
        let picture = Tensor::from_data(Shape::new(1, fit.scaled.1, fit.scaled.0, 3), Data::U8(pixels))?;
        let started = Instant::now();
        let mut logits = Vec::with_capacity(self.method.views());
        for network in networks {
            logits.extend(network.run(&[("picture", &picture)])?);
        }
        let time = started.elapsed();

        let shapes: Vec<Shape> = logits.iter().map(Tensor::shape).collect();
        let end = ready(&mut self.end, (shapes, fit, wanted), |(shapes, ..)| prepare_sum(segmenter, shapes, fit, wanted))?;
        let names: Vec<String> = (0..logits.len()).map(|i| i.to_string()).collect();
        let inputs: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&logits).collect();
        let started = Instant::now();
        let result = end.run(&inputs)?.swap_remove(0);
        Ok((result, time + started.elapsed()))
    }

    /// Adds up the windows' probabilities at the scaled picture's size; the classes are chosen at the picture's own.
    fn window_by_window(&mut self, fit: Fit, picture: &Picture, windows: Windows) -> Result<Prediction> {
        let (w, h) = fit.scaled;
        let classes = self.segmenter.model().config.classes().unwrap_or(0);
        let numbers = numbers_of_sum(fit.scaled, classes)?;
        let scaled = fit.scale(picture)?;
        let pixels = &scaled[..];
        // What cannot be made ready is told before the windows took their time.
        self.chooser(Shape::new(1, h, w, classes), fit.source)?;
        let (seen_w, seen_h) = (windows.size.0.min(w), windows.size.1.min(h));
        let part = Fit { source: (seen_w, seen_h), scaled: (seen_w, seen_h), padded: windows.size };
        let mut sum = vec![0.0f32; numbers];
        let mut counts = vec![0u32; w * h];
        let mut time = Duration::ZERO;
        for y in offsets(h, windows.size.1, windows.stride.1) {
            for x in offsets(w, windows.size.0, windows.stride.0) {
                let rows = (y..y + seen_h).flat_map(|row| &pixels[3 * (row * w + x)..][..3 * seen_w]);
                let (found, took) = self.views(part, rows.copied().collect(), Wanted::Sum)?;
                time += took;
                for (row, found) in found.f32().chunks_exact(seen_w * classes).enumerate() {
                    let at = (y + row) * w + x;
                    sum[at * classes..][..seen_w * classes].iter_mut().zip(found).for_each(|(s, f)| *s += f);
                    counts[at..][..seen_w].iter_mut().for_each(|c| *c += 1);
                }
            }
        }
        // Neighbours that were seen by different numbers of windows are made comparable before the interpolation between them.
        for (pixel, &count) in sum.chunks_exact_mut(classes).zip(&counts) {
            pixel.iter_mut().for_each(|p| *p /= count as f32);
        }
        let mean = Tensor::from_data(Shape::new(1, h, w, classes), Data::F32(sum))?;
        let runner = self.chooser(mean.shape(), fit.source)?;
        let started = Instant::now();
        let labels = LabelMap::from_tensor(&runner.run(&[("probabilities", &mean)])?[0], 0)?;
        Ok(Prediction { labels, time: time + started.elapsed() })
    }

    /// What chooses the classes at the picture's own size from the windows' probabilities.
    fn chooser(&mut self, probabilities: Shape, size: Size) -> Result<&Runner> {
        let segmenter = self.segmenter;
        ready(&mut self.labels, (probabilities, size), |&(shape, size)| segmenter.prepare_end(labels_graph(shape, size)?))
    }

    /// Multi-Adds of all forward passes for a picture of this size, as papers count them.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn multi_adds(&mut self, width: usize, height: usize) -> Result<u64> {
        let fit = self.fit(width, height);
        let (input, times) = match self.method.windows {
            None => (fit.padded, 1),
            Some(Windows { size, stride }) => {
                let count = |side, size, stride| offsets(side, size, stride).count();
                (size, count(fit.scaled.0, size.0, stride.0) * count(fit.scaled.1, size.1, stride.1))
            }
        };
        let mirrored = if self.method.flip { 2 } else { 1 };
        let mut sum = 0;
        for scale in self.method.scales.clone() {
            let side = |side| scaled_side(side, scale, align_corners(self.segmenter.model()));
            sum += self.network_cost((side(input.0), side(input.1)))?;
        }
        Ok(sum * mirrored * times as u64)
    }

    fn network_cost(&mut self, (w, h): Size) -> Result<u64> {
        if let Some(&cost) = self.costs.get(&(w, h)) {
            return Ok(cost);
        }
        let model = self.segmenter.model();
        let input = Shape::new(1, h, w, model.config.input_channels);
        let graph = passes::dead_code(model.network(input, &Outputs::default())?.graph)?;
        let types = |ids: &[crate::graph::ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
        let cost = graph.nodes().iter().map(|n| n.op.cost(&types(&n.inputs), &types(&n.outputs)).multi_adds).sum();
        self.costs.insert((w, h), cost);
        Ok(cost)
    }
}

/// The end of the views, from their logits on.
fn prepare_sum(segmenter: &Segmenter, logits: &[Shape], fit: Fit, wanted: Wanted) -> Result<Runner> {
    let graph = sum_graph(logits, fit, align_corners(segmenter.model()), wanted)?;
    segmenter.prepare_end(passes::optimise(graph)?)
}

/// Numbers in the sum of the windows' probabilities. Errors past [`MOST_BYTES`].
fn numbers_of_sum((w, h): Size, classes: usize) -> Result<usize> {
    let numbers = w.checked_mul(h).and_then(|pixels| pixels.checked_mul(classes));
    numbers.filter(|&n| n as u64 <= MOST_BYTES / 4).ok_or_else(|| {
        let gib = 4.0 * w as f64 * h as f64 * classes as f64 / f64::from(1 << 30);
        let most = MOST_BYTES >> 30;
        error!(OutOfMemory, "{classes} probabilities at {w} x {h} pixels take {gib:.0} GiB, windows add up at most {most} GiB")
            .advice("take smaller pictures or a smaller `--size`, or leave out `--window`")
    })
}

fn labels_graph(probabilities: Shape, (w, h): Size) -> Result<Graph> {
    let mut graph = Graph::new();
    let x = graph.input("probabilities", TensorType::f32(probabilities));
    let op = UpsampleArgmax { h, w, align_corners: false, window: None, rows: None, confidence: false };
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
        for size in [(70_000, 70_000), (usize::MAX, 2)] {
            let error = numbers_of_sum(size, 21).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::OutOfMemory);
            let (text, named) = (error.to_string(), format!("{} x {} pixels", size.0, size.1));
            assert!(text.contains(&named) && text.contains("at most 16 GiB") && text.contains("`--window`"), "{text}");
        }
    }

    /// Nothing is allocated for it: the device's limits are looked at before the first buffer, and the processor waits for a run.
    #[test]
    fn scales_and_windows_past_the_devices_limits_end_on_the_processor() {
        let Some((segmenter, _)) = crate::segmenter::tests::ready() else { return };
        let Device::Gpu(gpu) = segmenter.device() else { panic!("a GPU was asked for") };
        // Three channels are one vec4 of 16 bytes.
        let side = ((gpu.caps().max_binding.min(gpu.caps().max_buffer) / 16) as f64).sqrt() as usize + 64;
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
