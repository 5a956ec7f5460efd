//! Training batches, prefetched by worker threads.

use super::Pair;
use super::augment::Augmentation;
use super::rng::{KeyedRng, Purpose};
use super::sample_cache::SampleCache;
use crate::error::{Result, error};
use crate::geometry::Size;
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

/// Images and labels for one forward and backward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of the batch, from 0.
    pub index: u64,
    /// `[N, h, w, 3]`, normalized.
    pub images: Tensor,
    /// `[N, h, w, 1]`, u32: classes, or [`LoaderOptions::ignore`].
    pub labels: Tensor,
    /// Names of the N images.
    pub names: Vec<String>,
}

/// Interval at which a waiting thread checks for a stop request.
const POLL: Duration = Duration::from_millis(50);

/// Timeout for joining the workers when a loader is dropped: longer than a sample takes.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of worker threads of a loader.
pub const MAX_WORKERS: usize = 1024;

/// Options of a [`Loader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch: usize,
    /// Number of worker threads, up to `MAX_WORKERS`. 0 uses one less than the number of cores,
    /// but at least one.
    pub workers: usize,
    /// Number of batches to prefetch; at least one.
    pub prefetch: usize,
    /// Random seed of order and augmentation.
    pub seed: u64,
    /// Number of the first batch.
    pub start: u64,
    /// Label of pixels that count in no loss: padding, and pixels that belong to no class. At least
    /// the number of classes.
    pub ignore: u32,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self { batch: 8, workers: 0, prefetch: 3, seed: 0, start: 0, ignore: 255 }
    }
}

/// An endless sequence of batches.
///
/// Sample `i` is the entry `i % len` of a permutation for epoch `i / len`. The permutation depends
/// on the seed and the epoch alone, the augmentation on the seed and `i` alone. A resumed run thus
/// gets the same batches as an uninterrupted one, independent of the number of workers. Epochs are
/// contiguous: a batch may contain the end of one and the start of the next.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Number of the next batch to return.
    next: u64,
    waited: Duration,
}

struct Shared {
    samples: SampleCache,
    preprocess: Preprocessing,
    augmentation: Augmentation,
    options: LoaderOptions,
    state: Mutex<State>,
    /// Signaled when another sample may be started, or the loader is dropped.
    not_full: Condvar,
    /// Signaled when a batch is finished.
    done: Condvar,
    /// Permutation of the epoch used last. Workers are usually in the same epoch.
    order: Mutex<(u64, Arc<Vec<u32>>)>,
}

#[derive(Default)]
struct State {
    /// Number of the next sample to start.
    sample: u64,
    /// Number of the first batch that must not be started yet.
    limit: u64,
    /// Batches with missing samples.
    pending: BTreeMap<u64, PendingBatch>,
    finished: BTreeMap<u64, Result<Batch>>,
    stop: bool,
}

struct PendingBatch {
    items: Vec<Option<Result<BatchItem>>>,
    missing: usize,
}

/// One augmented sample of a batch.
struct BatchItem {
    image: Vec<f32>,
    labels: Vec<u32>,
    name: String,
}

impl Loader {
    /// Starts the workers. Labels that `table` ignores, or that are not below `classes`, become
    /// [`LoaderOptions::ignore`].
    ///
    /// # Errors
    /// Returns an error if there are no pairs, the table has more classes than `classes`, or an
    /// option is out of range.
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
            return Err(error!(Config, "`batch` must be at least 1"));
        }
        if (options.ignore as usize) < classes {
            return Err(error!(Config, "label {} cannot be ignored: it is one of {classes} classes", options.ignore).advice(
                "`ignore` in `[loss]` must not be a class; labels that are not a class are always ignored",
            ));
        }
        if options.workers > MAX_WORKERS {
            return Err(error!(
                Config,
                "the number of worker threads must be at most {MAX_WORKERS}, got {}",
                options.workers
            ));
        }
        let samples = SampleCache::new(pairs, table, classes)?;
        if samples.len() > u32::MAX as usize {
            return Err(error!(Data, "too many images: {}", samples.len()));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count =
            if options.workers == 0 { cores.saturating_sub(1).max(1) } else { options.workers };
        let sample = options.start.checked_mul(options.batch as u64);
        let sample = sample
            .ok_or_else(|| error!(Usage, "the batch number {} is too large", options.start))?;
        let limit = options.start + options.prefetch.max(1) as u64;
        let shared = Arc::new(Shared {
            samples,
            preprocess,
            augmentation,
            options,
            state: Mutex::new(State { sample, limit, ..State::default() }),
            not_full: Condvar::new(),
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
            // If a thread cannot be started, `Drop` stops the rest.
            loader.workers.push(thread::spawn("to prepare batches", move || shared.work())?);
        }
        Ok(loader)
    }

    /// Returns the next batch; waits until it is ready.
    ///
    /// # Errors
    /// Returns an error that names the file if an image or mask of the batch cannot be read. The
    /// batch is skipped then; the next call returns the one after it.
    #[expect(clippy::should_implement_trait, reason = "there is always a next one, so no Option")]
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn next(&mut self) -> Result<Batch> {
        let never = AtomicBool::new(false);
        self.next_unless(&never).map(|batch| batch.expect("invariant: the flag is never set"))
    }

    /// As [`Loader::next`]. Returns `None` once `stop` is set while the batch is not ready; it may
    /// never be, if a disk does not respond.
    ///
    /// # Errors
    /// As [`Loader::next`].
    pub fn next_unless(&mut self, stop: &AtomicBool) -> Result<Option<Batch>> {
        let start = Instant::now();
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
        self.shared.not_full.notify_all();
        self.next += 1;
        self.waited += start.elapsed();
        batch.map(Some)
    }

    /// Prepares batch `index` again, on this thread.
    ///
    /// # Errors
    /// As [`Loader::next`].
    pub fn replay(&self, index: u64) -> Result<Batch> {
        let size = self.shared.options.batch as u64;
        let samples = index * size..(index + 1) * size;
        self.shared.assemble(index, samples.map(|sample| self.shared.item(sample)))
    }

    /// Number of the batch that [`Loader::next`] returns.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Total time that `next` has waited since the loader was created. Divided by the elapsed time,
    /// it is the fraction in which the device was idle for lack of images.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Number of batches per epoch.
    pub fn batches_per_epoch(&self) -> f64 {
        self.shared.samples.len() as f64 / self.shared.options.batch as f64
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.not_full.notify_all();
        let deadline = Instant::now() + JOIN_TIMEOUT;
        for worker in self.workers.drain(..) {
            while !worker.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            // A worker blocked on a disk ends once the disk responds. It has no resource that
            // another thread needs.
            if !worker.is_finished() {
                continue;
            }
            // Workers catch their panics, so this does not fail.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares samples until stopped.
    fn work(&self) {
        let size = self.options.batch as u64;
        loop {
            let sample = {
                let mut state = self.lock();
                while !state.stop && state.sample / size >= state.limit {
                    state = self.not_full.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.stop {
                    return;
                }
                state.sample += 1;
                state.sample - 1
            };
            let item = catch_unwind(AssertUnwindSafe(|| self.item(sample)));
            let item = item
                .unwrap_or_else(|_| Err(error!(Data, "the worker of sample {sample} panicked")));
            self.submit(sample, item);
        }
    }

    /// Adds a sample to its batch. The worker that adds the last one assembles the batch.
    fn submit(&self, sample: u64, item: Result<BatchItem>) {
        let size = self.options.batch;
        let (index, position) = (sample / size as u64, (sample % size as u64) as usize);
        let mut state = self.lock();
        let empty = || PendingBatch { items: (0..size).map(|_| None).collect(), missing: size };
        let pending = state.pending.entry(index).or_insert_with(empty);
        pending.items[position] = Some(item);
        pending.missing -= 1;
        if pending.missing > 0 {
            return;
        }
        let items = state.pending.remove(&index).map(|pending| pending.items).unwrap_or_default();
        drop(state);
        let batch = self.assemble(index, items.into_iter().flatten());
        self.lock().finished.insert(index, batch);
        self.done.notify_all();
    }

    fn assemble(
        &self,
        index: u64,
        items: impl Iterator<Item = Result<BatchItem>>,
    ) -> Result<Batch> {
        let (n, Size { width: w, height: h }) = (self.options.batch, self.augmentation.crop);
        let (mut images, mut labels) =
            (Vec::with_capacity(n * h * w * 3), Vec::with_capacity(n * h * w));
        let mut names = Vec::with_capacity(n);
        for item in items {
            let item = item?;
            images.extend_from_slice(&item.image);
            labels.extend_from_slice(&item.labels);
            names.push(item.name);
        }
        let images = Tensor::new(Shape::new(n, h, w, 3), images)?;
        Ok(Batch {
            index,
            images,
            labels: Tensor::from_data(Shape::new(n, h, w, 1), Data::U32(labels))?,
            names,
        })
    }

    fn item(&self, number: u64) -> Result<BatchItem> {
        let len = self.samples.len() as u64;
        let at = self.order(number / len)[(number % len) as usize] as usize;
        let sample = self.samples.get(at)?;
        let Size { width: w, height: h } = self.augmentation.crop;
        let (mut image, mut labels) = (vec![0.0; h * w * 3], vec![0; h * w]);
        let mut rng = KeyedRng::new(self.options.seed, Purpose::Sample, number);
        let name = self.samples.name(at).to_owned();
        self.augmentation
            .apply(
                &sample,
                &mut rng,
                &self.preprocess,
                self.options.ignore,
                &mut image,
                &mut labels,
            )
            .map_err(|e| e.at(name.clone()))?;
        Ok(BatchItem { image, labels, name })
    }

    /// The permutation of an epoch.
    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != epoch {
            let mut rng = KeyedRng::new(self.options.seed, Purpose::Order, epoch);
            *last = (epoch, Arc::new(rng.permutation(self.samples.len())));
        }
        last.1.clone()
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
            Pair { name: n.to_string(), image, mask: mask.into(), values: MaskValues::CLASSES }
        };
        let augmentation = Augmentation { crop: Size::square(8), ..Augmentation::default() };
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
        // Blocks the workers, as a disk does that does not respond.
        let shared = loader.shared.clone();
        let stalled = shared.order.lock().unwrap();
        // Drain the batches that are ready.
        let drained = Instant::now() + Duration::from_millis(300);
        while Instant::now() < drained
            && loader.next_unless(&AtomicBool::new(true)).unwrap().is_some()
        {}
        let stop = Arc::new(AtomicBool::new(false));
        let setter = stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            setter.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        while loader.next_unless(&stop).unwrap().is_some() {}
        drop(loader);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(stalled);
    }

    #[test]
    fn a_replayed_batch_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut loader = loader(directory.path(), 3);
        for index in 0..4 {
            assert_eq!(loader.next().unwrap(), loader.replay(index).unwrap());
        }
    }
}
