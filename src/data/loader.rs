//! Batches for training, made ahead by worker threads.

use super::Pair;
use super::augment::Augmentation;
use super::draw::{Draw, Purpose};
use super::samples::Samples;
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::models::Preprocessing;
use crate::tensor::{Data, Shape, Tensor};
use crate::thread;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Images and labels of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The batch's number, from 0.
    pub index: u64,
    /// `[N, h, w, 3]`, normalized.
    pub images: Tensor,
    /// `[N, h, w, 1]` of u32: classes, or [`LoaderOptions::ignore`].
    pub labels: Tensor,
    /// The images' names, N of them.
    pub names: Vec<String>,
}

/// How often a thread that waits looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// How long workers are waited for when a loader is dropped: longer than a sample takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most worker threads of a loader.
pub const MOST_WORKERS: usize = 1024;

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images in a batch.
    pub batch: usize,
    /// Worker threads; 0 takes one less than there are cores, at least one. [`MOST_WORKERS`] at
    /// most.
    pub workers: usize,
    /// Batches that are made ahead, at least one.
    pub prefetch: usize,
    /// Decides about order and augmentation.
    pub seed: u64,
    /// Number of the first batch.
    pub start: u64,
    /// Label of pixels that count in no loss: padding, and what is no class. No less than the
    /// number of classes.
    pub ignore: u32,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self { batch: 8, workers: 0, prefetch: 3, seed: 0, start: 0, ignore: 255 }
    }
}

/// Batches in order, without end.
///
/// Sample `i` is place `i % len` of epoch `i / len`'s order, which depends on the seed and the
/// epoch alone, and what is done to it depends on the seed and `i` alone. So a run that is resumed
/// at any batch sees what an unbroken run would have seen, whatever the number of workers. Epochs
/// follow each other without a gap: a batch may hold the end of one and the beginning of the next.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The batch that is handed out next.
    next: u64,
    waited: Duration,
}

struct Shared {
    samples: Samples,
    preprocess: Preprocessing,
    augmentation: Augmentation,
    options: LoaderOptions,
    state: Mutex<State>,
    /// There is room for another sample, or it is time to stop.
    room: Condvar,
    /// A batch is done.
    done: Condvar,
    /// The order of the epoch that was asked for last: workers are next to each other.
    order: Mutex<(u64, Arc<Vec<u32>>)>,
}

#[derive(Default)]
struct State {
    /// The sample that is taken next.
    sample: u64,
    /// The first batch that is not to be begun yet.
    limit: u64,
    /// Batches of which some samples are still missing.
    open: BTreeMap<u64, Open>,
    finished: BTreeMap<u64, Result<Batch>>,
    stop: bool,
}

struct Open {
    parts: Vec<Option<Result<Part>>>,
    missing: usize,
}

/// One sample of a batch.
struct Part {
    image: Vec<f32>,
    labels: Vec<u32>,
    name: String,
}

impl Loader {
    /// Starts the workers. Labels that are `table`'s ignored ones, or not below `classes`, become
    /// [`LoaderOptions::ignore`].
    ///
    /// Errors where there are no pairs, the table has more classes than `classes`, or a setting is
    /// out of its range.
    pub fn new(
        pairs: Vec<Pair>,
        table: Option<ClassTable>,
        classes: usize,
        preprocess: Preprocessing,
        augmentation: Augmentation,
        options: LoaderOptions,
    ) -> Result<Self> {
        augmentation.check()?;
        if options.batch == 0 {
            return Err(error!(Config, "a batch of no images"));
        }
        if (options.ignore as usize) < classes {
            return Err(error!(Config, "label {} cannot be ignored: it is one of {classes} classes", options.ignore).advice(
                "labels that are no class are ignored whatever they are: `ignore` in `[loss]` only has to be none of the classes",
            ));
        }
        if options.workers > MOST_WORKERS {
            return Err(error!(
                Config,
                "{} worker threads; {MOST_WORKERS} at most", options.workers
            ));
        }
        let samples = Samples::new(pairs, table, classes)?;
        if samples.len() > u32::MAX as usize {
            return Err(error!(Data, "{} images are more than can be counted", samples.len()));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count =
            if options.workers == 0 { cores.saturating_sub(1).max(1) } else { options.workers };
        let sample = options.start.checked_mul(options.batch as u64);
        let sample = sample
            .ok_or_else(|| error!(Usage, "batch {} is past the end of counting", options.start))?;
        let limit = options.start + options.prefetch.max(1) as u64;
        let shared = Arc::new(Shared {
            samples,
            preprocess,
            augmentation,
            options,
            state: Mutex::new(State { sample, limit, ..State::default() }),
            room: Condvar::new(),
            done: Condvar::new(),
            order: Mutex::new((u64::MAX, Arc::default())),
        });
        let mut loader = Self {
            shared,
            workers: Vec::with_capacity(count),
            next: options.start,
            waited: Duration::ZERO,
        };
        for _ in 0..count {
            let shared = loader.shared.clone();
            // Where one cannot be started, Drop stops the others.
            loader.workers.push(thread::spawn("to make batches", move || shared.work())?);
        }
        Ok(loader)
    }

    /// The next batch; waits until it is made.
    ///
    /// Errors name the file that could not be read, when its batch's turn has come. The batch is
    /// lost then; the next call gives the one after it.
    #[expect(clippy::should_implement_trait, reason = "there is always a next one, so no Option")]
    pub fn next(&mut self) -> Result<Batch> {
        let never = AtomicBool::new(false);
        self.next_unless(&never).map(|batch| batch.expect("invariant: nobody stops this"))
    }

    /// As [`Loader::next`]; `None` once `stop` is set while the batch is not made, which it may
    /// never be: a disk may not answer any more.
    ///
    /// Errors as [`Loader::next`].
    pub fn next_unless(&mut self, stop: &AtomicBool) -> Result<Option<Batch>> {
        let began = Instant::now();
        let mut state = self.shared.lock();
        let batch = loop {
            match state.finished.remove(&self.next) {
                Some(batch) => break batch,
                None if stop.load(Ordering::Relaxed) => return Ok(None),
                None => {
                    state = self
                        .shared
                        .done
                        .wait_timeout(state, POLL)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            }
        };
        state.limit += 1;
        drop(state);
        self.shared.room.notify_all();
        self.next += 1;
        self.waited += began.elapsed();
        batch.map(Some)
    }

    /// Makes batch `index` once more, on this thread.
    ///
    /// Errors as [`Loader::next`].
    pub fn again(&self, index: u64) -> Result<Batch> {
        let first = index * self.shared.options.batch as u64;
        self.shared.assemble(
            index,
            (first..first + self.shared.options.batch as u64)
                .map(|sample| self.shared.part(sample)),
        )
    }

    /// Number of the batch that [`Loader::next`] gives.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// How long `next` has waited since the loader was made: beside the time that has passed, the
    /// share in which the device was idle for want of images.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Batches in which every image is seen once.
    pub fn batches_per_epoch(&self) -> f64 {
        self.shared.samples.len() as f64 / self.shared.options.batch as f64
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        let patience = Instant::now() + PATIENCE;
        for worker in self.workers.drain(..) {
            while !worker.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            // A worker that waits for a disk ends once the disk answers; it holds nothing that
            // another thread needs.
            if !worker.is_finished() {
                continue;
            }
            // A worker catches its panics; and while dropping there is nobody to tell.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does until it is told to stop.
    fn work(&self) {
        let size = self.options.batch as u64;
        loop {
            let sample = {
                let mut state = self.lock();
                while !state.stop && state.sample / size >= state.limit {
                    state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.stop {
                    return;
                }
                state.sample += 1;
                state.sample - 1
            };
            let part = catch_unwind(AssertUnwindSafe(|| self.part(sample)));
            let part =
                part.unwrap_or_else(|_| Err(error!(Data, "making sample {sample} panicked")));
            self.hand_in(sample, part);
        }
    }

    /// Puts a sample into its batch; whoever brings the last one makes the batch.
    fn hand_in(&self, sample: u64, part: Result<Part>) {
        let size = self.options.batch;
        let (index, place) = (sample / size as u64, (sample % size as u64) as usize);
        let mut state = self.lock();
        let empty = || Open { parts: (0..size).map(|_| None).collect(), missing: size };
        let open = state.open.entry(index).or_insert_with(empty);
        open.parts[place] = Some(part);
        open.missing -= 1;
        if open.missing > 0 {
            return;
        }
        let parts = state.open.remove(&index).map(|open| open.parts).unwrap_or_default();
        drop(state);
        let batch = self.assemble(index, parts.into_iter().flatten());
        self.lock().finished.insert(index, batch);
        self.done.notify_all();
    }

    fn assemble(&self, index: u64, parts: impl Iterator<Item = Result<Part>>) -> Result<Batch> {
        let (n, (h, w)) = (self.options.batch, self.augmentation.crop);
        let (mut images, mut labels) =
            (Vec::with_capacity(n * h * w * 3), Vec::with_capacity(n * h * w));
        let mut names = Vec::with_capacity(n);
        for part in parts {
            let part = part?;
            images.extend_from_slice(&part.image);
            labels.extend_from_slice(&part.labels);
            names.push(part.name);
        }
        let images = Tensor::new(Shape::new(n, h, w, 3), images)?;
        Ok(Batch {
            index,
            images,
            labels: Tensor::from_data(Shape::new(n, h, w, 1), Data::U32(labels))?,
            names,
        })
    }

    fn part(&self, number: u64) -> Result<Part> {
        let len = self.samples.len() as u64;
        let at = self.order(number / len)[(number % len) as usize] as usize;
        let sample = self.samples.get(at)?;
        let (h, w) = self.augmentation.crop;
        let (mut image, mut labels) = (vec![0.0; h * w * 3], vec![0; h * w]);
        let mut draw = Draw::new(self.options.seed, Purpose::Sample, number);
        let name = self.samples.name(at).to_owned();
        self.augmentation
            .apply(
                &sample,
                &mut draw,
                &self.preprocess,
                self.options.ignore,
                &mut image,
                &mut labels,
            )
            .map_err(|e| e.at(name.clone()))?;
        Ok(Part { image, labels, name })
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut held = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != epoch {
            let order =
                Draw::new(self.options.seed, Purpose::Order, epoch).permutation(self.samples.len());
            *held = (epoch, Arc::new(order));
        }
        held.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;

    fn loader(directory: &std::path::Path, batch: usize) -> Loader {
        let pair = |n: u8| {
            let [image, mask] = ["png", "mask.png"].map(|end| directory.join(format!("{n}.{end}")));
            image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([n, x as u8, y as u8]))
                .save(&image)
                .unwrap();
            image::GrayImage::from_pixel(8, 8, image::Luma([n % 2])).save(&mask).unwrap();
            Pair { name: n.to_string(), image, mask, ids: MaskValues::Classes }
        };
        let augmentation = Augmentation { crop: (8, 8), ..Augmentation::default() };
        let options = LoaderOptions { batch, workers: 2, ..LoaderOptions::default() };
        Loader::new(
            (0..5).map(pair).collect(),
            None,
            2,
            Preprocessing::IMAGENET,
            augmentation,
            options,
        )
        .unwrap()
    }

    #[test]
    fn waiting_for_data_that_never_comes_ends_when_it_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut loader = loader(directory.path(), 2);
        // Whoever holds this keeps the workers waiting, as a disk does that does not answer.
        let shared = loader.shared.clone();
        let stalled = shared.order.lock().unwrap();
        // What was made before.
        let made = Instant::now() + Duration::from_millis(300);
        while Instant::now() < made && loader.next_unless(&AtomicBool::new(true)).unwrap().is_some()
        {
        }
        let stop = Arc::new(AtomicBool::new(false));
        let setter = stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            setter.store(true, Ordering::Relaxed);
        });
        let began = Instant::now();
        while loader.next_unless(&stop).unwrap().is_some() {}
        drop(loader);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(stalled);
    }

    #[test]
    fn a_batch_that_is_made_again_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut loader = loader(directory.path(), 3);
        for index in 0..4 {
            assert_eq!(loader.next().unwrap(), loader.again(index).unwrap());
        }
    }
}
