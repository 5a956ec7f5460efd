//! The way in for programs: a model, a device, images in, labels out.

mod finish;
mod model;

pub use finish::Strip;
pub use model::Model;

use crate::error::{ErrorKind, Result, error};
use crate::exec::{Device, Runner};
use crate::gpu::{DeviceChoice, block_on_device};
use crate::graph::Graph;
use crate::image::{Fit, Image, LabelMap, SizeRule};
use crate::models::Outputs;
use crate::ops::Rows;
use crate::tensor::{Data, Shape, Tensor};
use crate::tune::Tuning;
use finish::{Results, Values};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Prepared networks are kept for so many image sizes; the one that was not used for longest goes
/// first.
const KEPT: usize = 3;

/// What [`Segmenter::segment`] is to compute besides the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OutputOptions {
    /// The softmax probability of each pixel's class: four bytes for each pixel.
    pub confidence: bool,
    /// The softmax probabilities of all classes: four bytes for each class and pixel, 961 MiB for
    /// 21 classes at 12 megapixels. They are an error where there is no such memory;
    /// [`Segmenter::segment_in_strips`] never has more than some rows of them.
    pub probabilities: bool,
    /// The summed softmax probability of these classes, by number: four bytes for each pixel. It is
    /// what [`cut_out`](crate::image::cut_out) takes for a soft edge.
    pub foreground: Option<Vec<usize>>,
}

/// The result for one image, at the image's own size.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// The class of each pixel.
    pub labels: LabelMap,
    /// `[height * width]`, where asked for.
    pub confidence: Option<Vec<f32>>,
    /// `[1, height, width, classes]`, where asked for.
    pub probabilities: Option<Tensor>,
    /// `[height * width]`, where asked for.
    pub foreground: Option<Vec<f32>>,
    /// The sizes that the image passed through.
    pub fit: Fit,
    /// Time from the upload of the image to the scores.
    pub network_time: Duration,
    /// Time of the last upsampling and the choice of classes; making them ready for a new size is
    /// not in it.
    pub labels_time: Duration,
}

/// A bounded list of prepared graphs, least recently used first.
type Prepared<K> = Mutex<VecDeque<(K, Arc<Runner>)>>;

/// A model on a device, ready for images of any size.
///
/// ```no_run
/// use atrous::image::{SizeRule, decode};
/// use atrous::{DeviceChoice, Model, Segmenter};
///
/// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
/// let image = decode("street.jpg")?;
/// let found = segmenter.segment(&image, SizeRule::Native)?;
/// found.labels.write("street.png", &segmenter.model().class_table())?;
/// # Ok::<(), atrous::Error>(())
/// ```
pub struct Segmenter {
    model: Model,
    /// How the device is opened again when it is lost; none where the caller opened it.
    choice: Option<DeviceChoice>,
    device: Mutex<Device>,
    tuning: Tuning,
    /// By the sizes that the network sees: padded, and scaled.
    networks: Prepared<((usize, usize), (usize, usize))>,
    finishers: Prepared<(Shape, Fit, Values)>,
    /// The most memory of a strip of results on the device, where it is not the device's own
    /// choice.
    strip_bytes: Option<usize>,
}

/// Whoever takes strips of probabilities.
type OnStrip<'a> = &'a mut (dyn FnMut(&Strip) -> Result<()> + Send);

impl Segmenter {
    /// Opens the device that `choice` names.
    ///
    /// # Errors
    /// Where no adapter fits, or the model has no classes (a bare backbone).
    pub fn new(model: Model, choice: &DeviceChoice) -> Result<Self> {
        Self::with_device(model, Device::open(choice)?, Some(choice.clone()))
    }

    /// Takes a device that is open already. Where it is lost, that is the caller's to mend.
    ///
    /// # Errors
    /// Where the model has no classes (a bare backbone).
    pub fn on(model: Model, device: &Device) -> Result<Self> {
        Self::with_device(model, device.clone(), None)
    }

    fn with_device(model: Model, device: Device, choice: Option<DeviceChoice>) -> Result<Self> {
        if model.config.head.is_none() {
            return Err(
                error!(Weights, "holds a bare backbone, which does not segment").file(&model.path)
            );
        }
        let (device, networks, finishers) =
            (Mutex::new(device), Mutex::default(), Mutex::default());
        Ok(Self {
            model,
            choice,
            device,
            tuning: Tuning::default(),
            networks,
            finishers,
            strip_bytes: None,
        })
    }

    /// Says how kernels are chosen: a [`TuningMode`](crate::tune::Mode), or a [`Tuning`] that also
    /// reports its progress. Without it, those are taken that were once measured on this device,
    /// else those expected to be fastest. Networks that are ready already are let go. On the CPU
    /// executor it has no effect.
    #[must_use]
    pub fn with_tuning(self, tuning: impl Into<Tuning>) -> Self {
        lock(&self.networks).clear();
        lock(&self.finishers).clear();
        Self { tuning: tuning.into(), ..self }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device in use.
    pub fn device(&self) -> Device {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Model::usual_size`].
    pub fn usual_size(&self) -> SizeRule {
        self.model.usual_size()
    }

    /// Segments one image. A lost device is opened again once.
    ///
    /// # Errors
    /// Where the image is too large for the device or too small for the network, there is no memory
    /// for the results, or the device fails.
    pub fn segment(&self, image: &Image, size: SizeRule) -> Result<Segmentation> {
        self.segment_with(image, size, OutputOptions::default())
    }

    /// As [`Segmenter::segment`], with more results.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and where the network has no class that `wants` names.
    pub fn segment_with(
        &self,
        image: &Image,
        size: SizeRule,
        wants: OutputOptions,
    ) -> Result<Segmentation> {
        self.segment_at_once(image, size, &wants, None)
    }

    /// As [`Segmenter::segment_with`]. The probabilities of all classes go to `on_strip`, some rows
    /// at a time from the top down, so that little memory is taken however large the image is.
    /// Where a lost device is opened again, they start over at the top.
    ///
    /// # Errors
    /// As [`Segmenter::segment_with`], and those of `on_strip`, which end the work.
    pub fn segment_in_strips(
        &self,
        image: &Image,
        size: SizeRule,
        wants: OutputOptions,
        mut on_strip: impl FnMut(&Strip) -> Result<()> + Send,
    ) -> Result<Segmentation> {
        self.segment_at_once(image, size, &wants, Some(&mut on_strip))
    }

    fn segment_at_once(
        &self,
        image: &Image,
        size: SizeRule,
        wants: &OutputOptions,
        mut on_strip: Option<OnStrip>,
    ) -> Result<Segmentation> {
        let first: Option<OnStrip> = match &mut on_strip {
            Some(on_strip) => Some(&mut **on_strip),
            None => None,
        };
        match (block_on_device(self.compute(image, size, wants, first)), &self.choice) {
            (Err(e), Some(choice)) if e.kind() == ErrorKind::DeviceLost => {
                log::warn!("{e}; opening the device again");
                lock(&self.networks).clear();
                lock(&self.finishers).clear();
                *lock(&self.device) = Device::open(choice)?;
                block_on_device(self.compute(image, size, wants, on_strip))
            }
            (done, _) => done,
        }
    }

    /// As [`Segmenter::segment_with`], for browsers, where nothing can wait for a device; see
    /// [`Runner::run_async`](crate::exec::Runner::run_async). A lost device is the caller's to
    /// mend.
    ///
    /// # Errors
    /// As [`Segmenter::segment_with`].
    pub async fn segment_async(
        &self,
        image: &Image,
        size: SizeRule,
        wants: OutputOptions,
    ) -> Result<Segmentation> {
        self.compute(image, size, &wants, None).await
    }

    async fn compute(
        &self,
        image: &Image,
        size: SizeRule,
        wants: &OutputOptions,
        mut on_strip: Option<OnStrip<'_>>,
    ) -> Result<Segmentation> {
        let fit = size.fit(image.width, image.height);
        let network = match self.network(fit) {
            // What was made ready for other sizes may be in the way.
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                lock(&self.finishers).clear();
                self.network(fit)
            }
            made => made,
        }?;
        let pixels = Data::U8(fit.scale(image)?.into_owned());
        let input = Tensor::from_data(Shape::new(1, fit.scaled.1, fit.scaled.0, 3), pixels)?;
        let started = Instant::now();
        let logits = network.run_async(&[("image", &input)]).await?.swap_remove(0);
        let network_time = started.elapsed();
        drop(input);

        let values = Values::new(wants, on_strip.is_some());
        let weights = wants
            .foreground
            .as_ref()
            .map(|keep| finish::class_weights(keep, logits.shape().c))
            .transpose()?;
        let mut results = Results::new(fit.source, logits.shape().c, wants)?;
        let height = fit.source.1;
        let strip = self.strip_rows(logits.shape(), fit, values);
        let mut labels_time = Duration::ZERO;
        let mut network = Some(network);
        for first in (0..height).step_by(strip) {
            let rows = Rows { first, count: strip.min(height - first) };
            // Made ready before the clock starts, as the network was: a new size would else look
            // slow.
            let finisher = match self.finisher(logits.shape(), fit, values, rows) {
                // The network has done its part, and goes where both do not fit.
                Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                    drop(network.take());
                    lock(&self.networks).clear();
                    self.finisher(logits.shape(), fit, values, rows)
                }
                made => made,
            }?;
            let started = Instant::now();
            let inputs = [
                Some(("logits", &logits)),
                weights.as_ref().map(|weights| (finish::WEIGHTS, weights)),
            ];
            let inputs: Vec<_> = inputs.into_iter().flatten().collect();
            let outputs = finisher.run_async(&inputs).await?;
            let probabilities = results.add(outputs, values)?;
            labels_time += started.elapsed();
            if let (Some(on_strip), Some(probabilities)) = (&mut on_strip, probabilities) {
                on_strip(&Strip { first_row: first, probabilities: &probabilities })?;
            }
        }
        results.finish(fit, network_time, labels_time)
    }

    /// Makes a graph ready on the device in use, with the kernels that the tuning picks.
    pub(crate) fn prepare(&self, graph: Graph) -> Result<Runner> {
        self.tuning.runner(&self.device(), graph)
    }

    /// As [`Segmenter::prepare`], for graphs that end at an image's full size: those past the
    /// device's limits run on the processor.
    pub(crate) fn prepare_end(&self, graph: Graph) -> Result<Runner> {
        match self.prepare(graph.clone()) {
            Err(e)
                if !self.device().is_cpu()
                    && matches!(e.kind(), ErrorKind::OutOfMemory | ErrorKind::Shader) =>
            {
                log::info!("{e}; the labels are computed on the processor");
                Runner::new(&Device::Cpu, graph)
            }
            done => done,
        }
    }

    /// Image to scores, for one pair of sizes.
    fn network(&self, fit: Fit) -> Result<Arc<Runner>> {
        cached(&self.networks, (fit.padded, fit.scaled), || {
            let ((w, h), (scaled_w, scaled_h)) = (fit.padded, fit.scaled);
            let outputs = Outputs { image: Some((scaled_h, scaled_w)), ..Outputs::default() };
            self.prepare(self.model.graph(Shape::new(1, h, w, 3), &outputs)?)
        })
    }

    /// Scores to some rows of the labels, and more, at the image's own size: one interpolation from
    /// the scores' grid straight to the source's pixels, padding left out. Only what makes all rows
    /// is kept for the next image.
    fn finisher(&self, logits: Shape, fit: Fit, values: Values, rows: Rows) -> Result<Arc<Runner>> {
        let align_corners = self.model.config.head.as_ref().is_some_and(|h| h.align_corners);
        let make =
            |rows| self.prepare_end(finish::graph(logits, fit, align_corners, values, rows)?);
        match rows.count == fit.source.1 {
            true => cached(&self.finishers, (logits, fit, values), || make(None)),
            false => make(Some(rows)).map(Arc::new),
        }
    }

    /// Rows of the results that are computed at a time.
    fn strip_rows(&self, logits: Shape, fit: Fit, values: Values) -> usize {
        let device = self.device();
        let most = self.strip_bytes.unwrap_or_else(|| finish::strip_bytes(&device, values));
        let row = values.bytes(&device, logits.c).saturating_mul(fit.source.0);
        (most / row.max(1)).clamp(1, fit.source.1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cached<K: PartialEq + Copy>(
    table: &Prepared<K>,
    key: K,
    make: impl Fn() -> Result<Runner>,
) -> Result<Arc<Runner>> {
    let mut table = lock(table);
    if let Some(at) = table.iter().position(|(k, _)| *k == key) {
        let found = table.remove(at).expect("invariant: just found there");
        table.push_back(found);
    } else {
        // Room is made first, so that the memory of both is never needed at once.
        while table.len() >= KEPT {
            table.pop_front();
        }
        let made = match make() {
            Err(e) if e.kind() == ErrorKind::OutOfMemory && !table.is_empty() => {
                table.clear();
                make()
            }
            made => made,
        };
        table.push_back((key, Arc::new(made?)));
    }
    Ok(table.back().expect("invariant: just pushed").1.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::models::mobilenet_v2::MobileNetV2;
    use crate::models::{Backbone, Config, random_weights};

    /// A segmenter of three classes, and an image.
    pub(crate) fn tiny(choice: &DeviceChoice) -> Result<(Segmenter, Image)> {
        let config =
            Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), 3);
        let weights = random_weights(&config, 1).unwrap();
        let model = Model { config, weights, dialect: "atrous", path: "random.safetensors".into() };
        let rgb = (0..33 * 33 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Ok((Segmenter::new(model, choice)?, Image::new(33, 33, rgb).unwrap()))
    }

    /// The same on a device; nothing where there is no device and none is asked for.
    pub(crate) fn ready() -> Option<(Segmenter, Image)> {
        let Ok(ready) = tiny(&DeviceChoice::Gpu) else {
            assert!(std::env::var("ATROUS_REQUIRE_GPU").is_err(), "no GPU adapter");
            println!("skipped: no GPU adapter");
            return None;
        };
        Some(ready)
    }

    #[test]
    fn the_time_of_the_labels_is_without_making_them_ready() {
        const HELD: Duration = Duration::from_millis(400);
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        segmenter.segment(&image, SizeRule::Native).unwrap();
        let found = std::thread::scope(|scope| {
            // While this is held, nothing can be made ready for the labels, however fast that is
            // otherwise.
            let held = lock(&segmenter.finishers);
            let found = scope.spawn(|| segmenter.segment(&image, SizeRule::Native).unwrap());
            std::thread::sleep(HELD);
            drop(held);
            found.join().unwrap()
        });
        assert!(found.labels_time < HELD / 2, "{:?}", found.labels_time);
    }

    #[test]
    fn a_lost_device_is_opened_again_once_and_the_image_comes_out() {
        let Some((segmenter, image)) = ready() else { return };
        let before = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("a GPU was asked for") };
        lost.device.destroy();
        let after = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        assert_eq!(before, after);
        let Device::Gpu(new) = segmenter.device() else { panic!("a GPU was asked for") };
        assert!(!Arc::ptr_eq(&lost, &new), "the device was opened again");
    }

    #[test]
    fn a_device_that_is_lost_while_threads_have_work_on_it_is_told_to_be_lost() {
        let Some((segmenter, image)) = ready() else { return };
        let before = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("a GPU was asked for") };
        // Until the device is another: however fast it is, it is lost under somebody's work.
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
