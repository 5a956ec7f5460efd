//! The high-level interface: a model on a device that segments images.

mod finish;
#[cfg(feature = "training")]
mod loss;
mod model;
mod network;

pub use finish::Strip;
pub(crate) use finish::cell;
#[cfg(feature = "training")]
pub(crate) use loss::{LossTarget, loss_graph};
pub use model::Model;
pub use network::Network;

use crate::error::{ErrorKind, Result, error};
use crate::exec::{Device, Runner};
use crate::geometry::Size;
use crate::gpu::DeviceChoice;
use crate::image::{CutOut, Fit, Image, LabelMap, SizeRule};
use crate::models::{Labeling, Outputs};
use crate::ops::{Rows, Threshold};
use crate::pipeline::{Computed, Inference};
use crate::tensor::{Data, Shape, Tensor};
use crate::thread::block_on;
use crate::tune::Tuning;
use finish::{Finish, Results, Values};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Number of image sizes for which prepared networks are cached; the least recently used one is
/// evicted first.
const CACHE_SIZE: usize = 3;

/// Outputs to compute besides the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OutputOptions {
    /// The softmax probability of each pixel's class: four bytes per pixel.
    pub confidence: bool,
    /// The softmax probabilities of all classes: four bytes per class and pixel, 961 MiB for 21
    /// classes at 12 megapixels. Running out of memory for them is an error;
    /// [`Segmenter::segment_in_strips`] needs memory only for some rows at a time.
    pub probabilities: bool,
    /// The summed softmax probability of these classes, by number: four bytes per pixel. Of sigmoids
    /// it is the largest, on the scale where the threshold is one half
    /// ([`Threshold::centered`](crate::engine::ops::Threshold::centered)).
    /// [`Segmentation::cut_out`] needs it, unless the edge is hard.
    pub foreground: Option<Vec<usize>>,
}

/// The result for one image, at the image's own size.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// The class of each pixel.
    pub labels: LabelMap,
    /// `[height * width]`, if requested.
    pub confidence: Option<Vec<f32>>,
    /// `[1, height, width, classes]`, if requested.
    pub probabilities: Option<Tensor>,
    /// `[height * width]`, if requested.
    pub foreground: Option<Vec<f32>>,
    /// The sizes of the image on its way through the network.
    pub fit: Fit,
    /// Side of a cell of the network's output in pixels of the image, the longer of the two: borders
    /// are known to about this.
    pub cell: f32,
    /// Time from the upload of the image to the scores.
    pub network_time: Duration,
    /// Time of the final upsampling and argmax, without their preparation for a new size.
    pub labels_time: Duration,
}

impl Segmentation {
    /// Cuts classes out of the image that was segmented. Draws in the image's memory.
    ///
    /// ```no_run
    /// use atrous::image::{BACKDROP, Background, CutOut, Edge, decode};
    /// use atrous::{DeviceChoice, Model, OutputOptions, Segmenter};
    ///
    /// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
    /// let (image, table) = (decode("portrait.jpg")?, segmenter.model().class_table());
    /// let keep: Vec<usize> = table.names.iter().position(|name| name == "person").into_iter().collect();
    /// let options = OutputOptions { foreground: Some(keep.clone()), ..OutputOptions::default() };
    /// let segmentation = segmenter.segment_with(&image, segmenter.default_size(), options)?;
    /// let background = Background::color([255; 3]);
    /// let cut_out = CutOut {
    ///     table: &table,
    ///     keep: &keep,
    ///     edge: Edge::Refined,
    ///     background: Some(&background), // `None` for transparency
    ///     backdrop: BACKDROP,
    /// };
    /// segmentation.cut_out(image, &cut_out)?.save("portrait-on-white.jpg")?;
    /// # Ok::<(), atrous::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`CutOut::draw`].
    pub fn cut_out(self, image: Image, cut_out: &CutOut<'_>) -> Result<Image> {
        cut_out.draw(image, &self.labels, self.foreground, self.cell)
    }
}

/// A model on a device, ready for images of any size.
///
/// ```no_run
/// use atrous::image::decode;
/// use atrous::{DeviceChoice, Model, Segmenter};
///
/// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
/// let image = decode("street.jpg")?;
/// let segmentation = segmenter.segment(&image, segmenter.default_size())?;
/// segmentation.labels.write("street.png", &segmenter.model().class_table())?;
/// # Ok::<(), atrous::Error>(())
/// ```
pub struct Segmenter {
    model: Model,
    /// How to reopen a lost device; `None` if the caller opened it.
    choice: Option<DeviceChoice>,
    tuning: Tuning,
    /// The prepared graphs on the device; replaced if the device is lost.
    graphs: Mutex<Arc<Graphs>>,
    /// Maximum size of a strip of results in bytes; `None` for the device's default.
    strip_bytes: Option<usize>,
}

/// Networks by padded and scaled size, and the graphs for all rows of an image.
type Graphs = Inference<(Size, Size), (Shape, Fit, Finish)>;

/// The logits of one image.
type Scores<'g> = Computed<'g, (Size, Size), (Shape, Fit, Finish)>;

/// Callback for strips of probabilities.
type OnStrip<'a> = &'a mut (dyn FnMut(&Strip) -> Result<()> + Send);

impl Segmenter {
    /// Creates a segmenter on a newly opened device. A lost device is reopened automatically.
    ///
    /// # Errors
    /// Returns an error if no adapter matches, or the model has no classes (a backbone only).
    pub fn new(model: Model, choice: &DeviceChoice) -> Result<Self> {
        Self::build(model, Device::open(choice)?, Some(choice.clone()))
    }

    /// Creates a segmenter on an open device. The caller must handle device loss.
    ///
    /// # Errors
    /// Returns an error if the model has no classes (a backbone only).
    pub fn with_device(model: Model, device: &Device) -> Result<Self> {
        Self::build(model, device.clone(), None)
    }

    fn build(model: Model, device: Device, choice: Option<DeviceChoice>) -> Result<Self> {
        if model.network.labeling().is_none() {
            return Err(error!(Weights, "the model is a backbone without a segmentation head")
                .file(&model.path));
        }
        let tuning = Tuning::default();
        let graphs = Mutex::new(Arc::new(Graphs::new(&device, &tuning, CACHE_SIZE)));
        Ok(Self { model, choice, tuning, graphs, strip_bytes: None })
    }

    /// Sets how kernels are chosen: a [`TuningMode`](crate::tune::TuningMode), or a [`Tuning`] that also
    /// reports its progress. By default, kernels measured earlier on this device are used,
    /// otherwise those expected to be fastest. Cached networks are dropped. It has no effect on the
    /// CPU executor.
    #[must_use]
    pub fn with_tuning(mut self, tuning: impl Into<Tuning>) -> Self {
        self.tuning = tuning.into();
        self.graphs = Mutex::new(self.graphs_on(&self.device()));
        self
    }

    /// Sets the threshold of sigmoid outputs, as [`Model::with_threshold`] does before. Cached
    /// networks are dropped.
    ///
    /// # Errors
    /// Returns an error if the outputs are no sigmoids.
    pub fn set_threshold(&mut self, threshold: Threshold) -> Result<()> {
        self.model.network.set_threshold(threshold)?;
        self.graphs = Mutex::new(self.graphs_on(&self.device()));
        Ok(())
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns how kernels are chosen.
    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Returns the current device.
    pub fn device(&self) -> Device {
        self.graphs().pipeline().device()
    }

    /// Returns the input size that the model was made for; see [`Model::default_size`].
    pub fn default_size(&self) -> SizeRule {
        self.model.default_size()
    }

    /// Segments an image. A lost device is reopened once.
    ///
    /// # Errors
    /// Returns an error if the image is too large for the device or too small for the network,
    /// memory for the results runs out, or the device fails.
    pub fn segment(&self, image: &Image, size: SizeRule) -> Result<Segmentation> {
        self.segment_with(image, size, OutputOptions::default())
    }

    /// Like [`Segmenter::segment`], with additional outputs.
    ///
    /// # Errors
    /// As for [`Segmenter::segment`], or if a class in `options` is out of range.
    pub fn segment_with(
        &self,
        image: &Image,
        size: SizeRule,
        options: OutputOptions,
    ) -> Result<Segmentation> {
        self.segment_blocking(image, size, &options, None)
    }

    /// Like [`Segmenter::segment_with`], but passes the probabilities of all classes to `on_strip`,
    /// some rows at a time from top to bottom, so that memory use stays small for images of any
    /// size. If a lost device is reopened, the strips start over at the top.
    ///
    /// # Errors
    /// As for [`Segmenter::segment_with`]. An error returned by `on_strip` stops the segmentation.
    pub fn segment_in_strips(
        &self,
        image: &Image,
        size: SizeRule,
        options: OutputOptions,
        mut on_strip: impl FnMut(&Strip) -> Result<()> + Send,
    ) -> Result<Segmentation> {
        self.segment_blocking(image, size, &options, Some(&mut on_strip))
    }

    fn segment_blocking(
        &self,
        image: &Image,
        size: SizeRule,
        options: &OutputOptions,
        mut on_strip: Option<OnStrip>,
    ) -> Result<Segmentation> {
        let first: Option<OnStrip> = match &mut on_strip {
            Some(on_strip) => Some(&mut **on_strip),
            None => None,
        };
        let graphs = self.graphs();
        match (block_on(self.compute(&graphs, image, size, options, first)), &self.choice) {
            (Err(e), Some(choice)) if e.kind() == ErrorKind::DeviceLost => {
                log::warn!("{e}; reopening the device");
                let graphs = self.reopen(choice, &graphs)?;
                block_on(self.compute(&graphs, image, size, options, on_strip))
            }
            (result, _) => result,
        }
    }

    /// Drops the graphs of a lost device and opens another one, unless another thread has done so.
    fn reopen(&self, choice: &DeviceChoice, lost: &Arc<Graphs>) -> Result<Arc<Graphs>> {
        let mut graphs = lock(&self.graphs);
        if Arc::ptr_eq(&graphs, lost) {
            *graphs = self.graphs_on(&Device::open(choice)?);
        }
        Ok(graphs.clone())
    }

    /// Like [`Segmenter::segment_with`], for browsers, where blocking on a device is impossible;
    /// see [`Runner::run_async`](crate::exec::Runner::run_async). The caller must handle device
    /// loss.
    /// # Errors
    /// As for [`Segmenter::segment_with`].
    pub async fn segment_async(
        &self,
        image: &Image,
        size: SizeRule,
        options: OutputOptions,
    ) -> Result<Segmentation> {
        self.compute(&self.graphs(), image, size, &options, None).await
    }

    async fn compute(
        &self,
        graphs: &Graphs,
        image: &Image,
        size: SizeRule,
        options: &OutputOptions,
        on_strip: Option<OnStrip<'_>>,
    ) -> Result<Segmentation> {
        let fit = size.fit(image.size());
        let mut scores = self.scores(graphs, image, fit).await?;
        let device = graphs.pipeline().device();
        self.results(&device, &mut scores, fit, options, on_strip).await
    }

    /// Runs the network on an image.
    async fn scores<'g>(&self, graphs: &'g Graphs, image: &Image, fit: Fit) -> Result<Scores<'g>> {
        let network = graphs.network((fit.padded, fit.scaled), || {
            let outputs =
                Outputs { image: Some(fit.scaled), background: true, ..Outputs::default() };
            Ok(vec![self.model.graph(Shape::images(1, fit.padded, 3), &outputs)?])
        })?;
        let pixels = Data::U8(fit.scale(image)?.into_owned());
        let input = Tensor::from_data(Shape::images(1, fit.scaled, 3), pixels)?;
        graphs.compute(network, &input).await
    }

    /// Computes the labels and the other outputs from the scores.
    async fn results(
        &self,
        device: &Device,
        scores: &mut Scores<'_>,
        fit: Fit,
        options: &OutputOptions,
        mut on_strip: Option<OnStrip<'_>>,
    ) -> Result<Segmentation> {
        let logits = scores.shapes()[0];
        let values = Values::new(options, on_strip.is_some());
        let weights = options.foreground.as_ref().map(|keep| finish::class_weights(keep, logits.c));
        let weights = weights.transpose()?;
        let weights: Vec<_> = weights.iter().map(|weights| (finish::WEIGHTS, weights)).collect();
        let mut results = Results::new(fit.source, logits.c, options)?;
        let height = fit.source.height;
        let strip = self.strip_rows(device, logits, fit, values);
        let mut labels_time = Duration::ZERO;
        for first in (0..height).step_by(strip) {
            let rows = Rows { first, count: strip.min(height - first) };
            // Prepared before the clock starts, like the network. Otherwise a new size would look
            // slow.
            let finisher = self.finisher(scores, fit, values, rows)?;
            let started = Instant::now();
            let outputs = scores.finish(&finisher, &[finish::LOGITS], &weights).await?;
            let probabilities = results.add(outputs, values)?;
            labels_time += started.elapsed();
            if let (Some(on_strip), Some(probabilities)) = (&mut on_strip, probabilities) {
                on_strip(&Strip { first_row: first, probabilities: &probabilities })?;
            }
        }
        let sigmoid = self.model.network.labeling().as_ref().and_then(Labeling::sigmoid);
        results.finish(sigmoid, fit, logits, scores.time(), labels_time)
    }

    /// Returns the graph from the scores to some rows of labels and other outputs at the image's
    /// own size: one interpolation from the grid of the scores directly to source pixels, without
    /// the padding. Only a graph for all rows is cached.
    fn finisher(
        &self,
        scores: &mut Scores<'_>,
        fit: Fit,
        values: Values,
        rows: Rows,
    ) -> Result<Arc<Runner>> {
        let labeling = self.model.network.labeling();
        let labeling = labeling.expect("invariant: a segmenter's model has a head");
        let logits = scores.shapes()[0];
        let is_whole = rows.count == fit.source.height;
        let key = is_whole.then_some((logits, fit, Finish::Values(values)));
        let rows = (!is_whole).then_some(rows);
        scores.finisher(key, || finish::graph(logits, fit, labeling, values, rows))
    }

    /// Returns the number of rows in a strip of results.
    fn strip_rows(&self, device: &Device, logits: Shape, fit: Fit, values: Values) -> usize {
        let max = self.strip_bytes.unwrap_or_else(|| finish::strip_bytes(device, values));
        let row = values.bytes(device, logits.c).saturating_mul(fit.source.width);
        (max / row.max(1)).clamp(1, fit.source.height)
    }

    /// Returns the prepared graphs, and those that are prepared on the same device later.
    fn graphs(&self) -> Arc<Graphs> {
        lock(&self.graphs).clone()
    }

    /// Returns a place for graphs on `device`, of which none is prepared.
    fn graphs_on(&self, device: &Device) -> Arc<Graphs> {
        Arc::new(Graphs::new(device, &self.tuning, CACHE_SIZE))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::models::mobilenet_v2::MobileNetV2;
    use crate::models::{Backbone, Config, random_weights};

    /// Returns a segmenter with three classes and an image.
    pub(crate) fn tiny(choice: &DeviceChoice) -> Result<(Segmenter, Image)> {
        let config =
            Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), 3);
        let weights = random_weights(&config, 1).unwrap();
        let model = Model::new(config, weights, "random.safetensors");
        let rgb = (0..33 * 33 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Ok((Segmenter::new(model, choice)?, Image::new(Size::square(33), rgb).unwrap()))
    }

    /// Like [`tiny`] on a GPU. `None` if there is no GPU and none is required.
    pub(crate) fn tiny_on_gpu() -> Option<(Segmenter, Image)> {
        let Ok(pair) = tiny(&DeviceChoice::Gpu) else {
            assert!(std::env::var("ATROUS_REQUIRE_GPU").is_err(), "no GPU adapter");
            println!("skipped: no GPU adapter");
            return None;
        };
        Some(pair)
    }

    #[test]
    fn the_time_of_the_labels_is_without_making_them_ready() {
        const BLOCKED: Duration = Duration::from_millis(400);
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        segmenter.segment(&image, SizeRule::Native).unwrap();
        let segmentation = std::thread::scope(|scope| {
            // While this lock is held, the graph for the labels cannot be prepared.
            let graphs = segmenter.graphs();
            let guard = graphs.finishers().block();
            let thread = scope.spawn(|| segmenter.segment(&image, SizeRule::Native).unwrap());
            std::thread::sleep(BLOCKED);
            drop(guard);
            thread.join().unwrap()
        });
        assert!(segmentation.labels_time < BLOCKED / 2, "{:?}", segmentation.labels_time);
    }

    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
    fn a_lost_device_is_opened_again_once_and_the_image_comes_out() {
        let Some((segmenter, image)) = tiny_on_gpu() else { panic!("no GPU adapter was found") };
        let before = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("expected a GPU") };
        lost.device.destroy();
        let after = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        assert_eq!(before, after);
        let Device::Gpu(new) = segmenter.device() else { panic!("expected a GPU") };
        assert!(!Arc::ptr_eq(&lost, &new), "the device was reopened");
    }

    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
    fn a_device_that_is_lost_while_threads_have_work_on_it_is_told_to_be_lost() {
        let Some((segmenter, image)) = tiny_on_gpu() else { panic!("no GPU adapter was found") };
        let before = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("expected a GPU") };
        // Until the device is replaced, so that it is lost while work is pending, however fast it
        // is.
        let is_old = || matches!(segmenter.device(), Device::Gpu(now) if Arc::ptr_eq(&now, &lost));
        let work = || {
            while is_old() {
                assert_eq!(segmenter.segment(&image, SizeRule::Native).unwrap().labels, before);
            }
        };
        std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work)];
            std::thread::sleep(std::time::Duration::from_millis(30));
            lost.device.destroy();
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
    }
}
