//! The way in for programs: a model, a device, pictures in, labels out.

mod model;

pub use model::Model;

use crate::error::{ErrorKind, Result, error};
use crate::exec::{Device, Runner};
use crate::gpu::{DeviceChoice, at_once};
use crate::graph::Graph;
use crate::image::{Fit, LabelMap, Picture, SizeRule};
use crate::models::Outputs;
use crate::ops::{Resize, UpsampleArgmax, Window};
use crate::tensor::{Data, Shape, Tensor, TensorType};
use crate::tune::Tuning;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Prepared networks are kept for so many picture sizes; the one that was not used for longest goes first.
const KEPT: usize = 3;

/// What [`Segmenter::segment`] is to compute besides the labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// The softmax probability of each pixel's class.
    pub confidence: bool,
    /// The softmax probabilities of all classes: four bytes for each class and pixel.
    pub probabilities: bool,
}

/// The result for one picture, at the picture's own size.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// The class of each pixel.
    pub labels: LabelMap,
    /// `[height * width]`, where asked for.
    pub confidence: Option<Vec<f32>>,
    /// `[1, height, width, classes]`, where asked for.
    pub probabilities: Option<Tensor>,
    /// The sizes that the picture passed through.
    pub fit: Fit,
    /// Time from the upload of the picture to the scores.
    pub network_time: Duration,
    /// Time of the last upsampling and the choice of classes; making them ready for a new size is not in it.
    pub labels_time: Duration,
}

/// A bounded list of prepared graphs, least recently used first.
type Prepared<K> = Mutex<VecDeque<(K, Arc<Runner>)>>;

/// A model on a device, ready for pictures of any size.
///
/// ```no_run
/// use atrous::image::{SizeRule, decode};
/// use atrous::{DeviceChoice, Model, Segmenter};
///
/// let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
/// let picture = decode("street.jpg")?;
/// let found = segmenter.segment(&picture, SizeRule::Native)?;
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
    finishers: Prepared<(Shape, Fit, Wants)>,
}

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
            return Err(error!(Weights, "holds a bare backbone, which does not segment").file(&model.path));
        }
        let (device, networks, finishers) = (Mutex::new(device), Mutex::default(), Mutex::default());
        Ok(Self { model, choice, device, tuning: Tuning::default(), networks, finishers })
    }

    /// Says how kernels are chosen: a [`Mode`](crate::tune::Mode), or a [`Tuning`] that also reports its progress. Without it, those are
    /// taken that were once measured on this device, else those expected to be fastest. Networks that are ready already are let go. On the
    /// CPU executor it has no effect.
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

    /// Segments one picture. A lost device is opened again once.
    ///
    /// # Errors
    /// Where the picture is too large for the device or too small for the network, or the device fails.
    pub fn segment(&self, picture: &Picture, size: SizeRule) -> Result<Segmentation> {
        self.segment_with(picture, size, Wants::default())
    }

    /// As [`Segmenter::segment`], with more results.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn segment_with(&self, picture: &Picture, size: SizeRule, wants: Wants) -> Result<Segmentation> {
        match (at_once(self.segment_async(picture, size, wants)), &self.choice) {
            (Err(e), Some(choice)) if e.kind() == ErrorKind::DeviceLost => {
                log::warn!("{e}; opening the device again");
                lock(&self.networks).clear();
                lock(&self.finishers).clear();
                *lock(&self.device) = Device::open(choice)?;
                at_once(self.segment_async(picture, size, wants))
            }
            (done, _) => done,
        }
    }

    /// As [`Segmenter::segment_with`], for browsers, where nothing can wait for a device; see
    /// [`Runner::run_async`](crate::exec::Runner::run_async). A lost device is the caller's to mend.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn segment_async(&self, picture: &Picture, size: SizeRule, wants: Wants) -> Result<Segmentation> {
        let fit = size.fit(picture.width, picture.height);
        let network = match self.network(fit) {
            // What was made ready for other sizes may be in the way.
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                lock(&self.finishers).clear();
                self.network(fit)
            }
            made => made,
        }?;
        let pixels = Data::U8(fit.scale(picture)?.into_owned());
        let input = Tensor::from_data(Shape::new(1, fit.scaled.1, fit.scaled.0, 3), pixels)?;
        let started = Instant::now();
        let logits = network.run_async(&[("picture", &input)]).await?.swap_remove(0);
        let network_time = started.elapsed();

        // Made ready before the clock starts, as the network was: a new size would else look slow.
        let finisher = match self.finisher(logits.shape(), fit, wants) {
            // The network has done its part, and goes where both do not fit.
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                drop(network);
                lock(&self.networks).clear();
                self.finisher(logits.shape(), fit, wants)
            }
            made => made,
        }?;
        let started = Instant::now();
        let mut results = finisher.run_async(&[("logits", &logits)]).await?.into_iter();
        let labels = LabelMap::from_tensor(&results.next().expect("invariant: the labels are the first output"), 0)?;
        let confidence = wants.confidence.then(|| results.next()).flatten().map(|t| t.f32().to_vec());
        let probabilities = wants.probabilities.then(|| results.next()).flatten();
        let labels_time = started.elapsed();
        Ok(Segmentation { labels, confidence, probabilities, fit, network_time, labels_time })
    }

    /// Makes a graph ready on the device in use, with the kernels that the tuning picks.
    pub(crate) fn prepare(&self, graph: Graph) -> Result<Runner> {
        self.tuning.runner(&self.device(), graph)
    }

    /// As [`Segmenter::prepare`], for graphs that end at a picture's full size: those past the device's limits run on the processor.
    pub(crate) fn prepare_end(&self, graph: Graph) -> Result<Runner> {
        match self.prepare(graph.clone()) {
            Err(e) if !self.device().is_cpu() && matches!(e.kind(), ErrorKind::OutOfMemory | ErrorKind::Shader) => {
                log::info!("{e}; the labels are computed on the processor");
                Runner::new(&Device::Cpu, graph)
            }
            done => done,
        }
    }

    /// Picture to scores, for one pair of sizes.
    fn network(&self, fit: Fit) -> Result<Arc<Runner>> {
        cached(&self.networks, (fit.padded, fit.scaled), || {
            let ((w, h), (scaled_w, scaled_h)) = (fit.padded, fit.scaled);
            let outputs = Outputs { picture: Some((scaled_h, scaled_w)), ..Outputs::default() };
            self.prepare(self.model.graph(Shape::new(1, h, w, 3), &outputs)?)
        })
    }

    /// Scores to labels at the picture's own size: one interpolation from the scores' grid straight to the source's pixels, padding
    /// left out.
    fn finisher(&self, logits: Shape, fit: Fit, wants: Wants) -> Result<Arc<Runner>> {
        cached(&self.finishers, (logits, fit, wants), || {
            let align_corners = self.model.config.head.as_ref().is_some_and(|h| h.align_corners);
            self.prepare_end(finishing_graph(logits, fit, align_corners, wants)?)
        })
    }
}

fn finishing_graph(logits: Shape, fit: Fit, align_corners: bool, wants: Wants) -> Result<Graph> {
    let mut graph = Graph::new();
    let input = graph.input("logits", TensorType::f32(logits));
    let (w, h) = fit.source;
    let window = Some(Window { padded: (fit.padded.1, fit.padded.0), scaled: (fit.scaled.1, fit.scaled.0) });
    let op = UpsampleArgmax { h, w, align_corners, window, confidence: wants.confidence };
    let mut root = graph.root();
    let results = root.upsample_argmax("labels", input, op)?;
    let probabilities = match wants.probabilities {
        true => {
            let full = root.op("scores", Resize { h, w, align_corners, window }, &[input])?;
            Some(root.softmax("probabilities", full)?)
        }
        false => None,
    };
    for (name, value) in ["labels", "confidence"].into_iter().zip(results) {
        graph.output(name, value);
    }
    if let Some(value) = probabilities {
        graph.output("probabilities", value);
    }
    Ok(graph)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cached<K: PartialEq + Copy>(table: &Prepared<K>, key: K, make: impl Fn() -> Result<Runner>) -> Result<Arc<Runner>> {
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

    /// A segmenter of three classes, and a picture.
    fn tiny(choice: &DeviceChoice) -> Result<(Segmenter, Picture)> {
        let config = Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), 3);
        let weights = random_weights(&config, 1).unwrap();
        let model = Model { config, weights, dialect: "atrous", path: "random.safetensors".into() };
        let rgb = (0..33 * 33 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Ok((Segmenter::new(model, choice)?, Picture::new(33, 33, rgb).unwrap()))
    }

    /// The same on a device; nothing where there is no device and none is asked for.
    pub(crate) fn ready() -> Option<(Segmenter, Picture)> {
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
        let (segmenter, picture) = tiny(&DeviceChoice::Cpu).unwrap();
        segmenter.segment(&picture, SizeRule::Native).unwrap();
        let found = std::thread::scope(|scope| {
            // While this is held, nothing can be made ready for the labels, however fast that is otherwise.
            let held = lock(&segmenter.finishers);
            let found = scope.spawn(|| segmenter.segment(&picture, SizeRule::Native).unwrap());
            std::thread::sleep(HELD);
            drop(held);
            found.join().unwrap()
        });
        assert!(found.labels_time < HELD / 2, "{:?}", found.labels_time);
    }

    #[test]
    fn a_lost_device_is_opened_again_once_and_the_picture_comes_out() {
        let Some((segmenter, picture)) = ready() else { return };
        let before = segmenter.segment(&picture, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("a GPU was asked for") };
        lost.device.destroy();
        let after = segmenter.segment(&picture, SizeRule::Native).unwrap().labels;
        assert_eq!(before, after);
        let Device::Gpu(new) = segmenter.device() else { panic!("a GPU was asked for") };
        assert!(!Arc::ptr_eq(&lost, &new), "the device was opened again");
    }

    #[test]
    fn a_device_that_is_lost_while_threads_have_work_on_it_is_told_to_be_lost() {
        let Some((segmenter, picture)) = ready() else { return };
        let before = segmenter.segment(&picture, SizeRule::Native).unwrap().labels;
        let Device::Gpu(lost) = segmenter.device() else { panic!("a GPU was asked for") };
        // Until the device is another: however fast it is, it is lost under somebody's work.
        let is_old = || matches!(segmenter.device(), Device::Gpu(now) if Arc::ptr_eq(&now, &lost));
        let work = || {
            while is_old() {
                assert_eq!(segmenter.segment(&picture, SizeRule::Native).unwrap().labels, before);
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
