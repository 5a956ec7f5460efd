//! The tuner, which selects the fastest kernel of each operation on a device.
//!
//! Operations list their kernels with the one expected to be fastest first. On a given device, for
//! a given shape, another kernel may be faster. The tuner benchmarks them: the outputs of every
//! candidate are checked against the operation's CPU function before its time counts, so a kernel
//! that a driver miscompiles is never selected. Results are cached, also on disk (see
//! [`table_path`]), per adapter, driver and version of this crate.
//!
//! ```no_run
//! use atrous::tune::{TuningMode, Tuning};
//! use atrous::{DeviceChoice, Model, Segmenter};
//!
//! let tuning = Tuning::new(TuningMode::On).reporting(|p| eprintln!("{} of {}", p.done, p.total));
//! let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?.with_tuning(tuning);
//! # Ok::<(), atrous::Error>(())
//! ```

mod compare;
mod random;
mod rate;
mod stage;
mod table;

pub use rate::{CHAINS, multiply_add, multiply_add_rate};
pub use stage::{Candidate, Stage};
pub use table::table_path;

use crate::error::{Error, ErrorKind, Result, error};
use crate::exec::{Device, FirstKernel, KernelSelector, Producer, Runner, Store};
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::ops::Op;
use crate::ops::kernel::{Kernel, KernelContext, TensorLayout};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use table::{Choice, Table};

/// Mode of a tuner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TuningMode {
    /// Use the kernels that operations expect to be fastest; do not read the cache.
    Off,
    /// Use cached results, else the kernels that operations expect to be fastest.
    #[default]
    Cached,
    /// Benchmark shapes that are not cached, and cache the results.
    On,
}

/// Progress of the tuning of a graph. Reported before each measurement, and once at the end if
/// there were any.
#[derive(Debug, Clone, Copy)]
pub struct TuningProgress<'a> {
    /// Number of nodes whose kernel is selected.
    pub done: usize,
    /// Total number of nodes.
    pub total: usize,
    /// The current measurement: the operation with its attributes and shapes. `None` at the end.
    pub measuring: Option<&'a str>,
}

type Report = Arc<dyn Fn(&TuningProgress) + Send + Sync>;

/// Configuration of tuners: mode, cache file and progress callback, shared by all graphs that a
/// caller prepares.
#[derive(Clone, Default)]
pub struct Tuning {
    mode: TuningMode,
    /// `None` for the file in the user's cache directory, `Some(None)` for no file.
    table: Option<Option<PathBuf>>,
    report: Option<Report>,
}

impl Tuning {
    /// Creates a configuration with the cache file in the user's cache directory.
    pub fn new(mode: TuningMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Sets the cache file; `None` caches in memory only.
    #[must_use]
    pub fn with_table(self, path: Option<PathBuf>) -> Self {
        Self { table: Some(path), ..self }
    }

    /// Sets a callback for progress during measurements.
    #[must_use]
    pub fn reporting(self, report: impl Fn(&TuningProgress) + Send + Sync + 'static) -> Self {
        Self { report: Some(Arc::new(report)), ..self }
    }

    /// Returns the mode.
    pub fn mode(&self) -> TuningMode {
        self.mode
    }

    /// Prepares a graph for a device with tuned kernels. The CPU executor has no kernels to select.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::with_kernels`], and an error if no kernel of a node
    /// computes correct results.
    pub fn runner(&self, device: &Device, graph: Graph) -> Result<Runner> {
        self.runner_in(&Store::new(device), graph)
    }

    /// Like [`Tuning::runner`], for a graph with values in a store.
    ///
    /// # Errors
    /// Returns the same errors as [`Tuning::runner`].
    pub fn runner_in(&self, store: &Store, graph: Graph) -> Result<Runner> {
        Runner::with_store(store, graph, &mut *self.selector(&store.device()))
    }

    /// Like [`Tuning::runner_in`], for a graph whose outputs are inputs of other graphs.
    ///
    /// # Errors
    /// Returns the same errors as [`Tuning::runner`].
    pub fn producer_in(&self, store: &Store, graph: Graph) -> Result<Producer> {
        Producer::new(store, graph, &mut *self.selector(&store.device()))
    }

    /// Returns what selects the kernels on a device. The CPU executor has none to select.
    fn selector(&self, device: &Device) -> Box<dyn KernelSelector> {
        match device.gpu() {
            Some(gpu) if self.mode != TuningMode::Off => {
                Box::new(Tuner::new(gpu.clone(), self.clone()))
            }
            _ => Box::new(FirstKernel),
        }
    }
}

impl From<TuningMode> for Tuning {
    fn from(mode: TuningMode) -> Self {
        Self::new(mode)
    }
}

impl fmt::Debug for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuning")
            .field("mode", &self.mode)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Selects kernels by measurement.
pub struct Tuner {
    gpu: Arc<Gpu>,
    tuning: Tuning,
    table: Table,
    progress: Progress,
}

#[derive(Default)]
struct Progress {
    done: usize,
    total: usize,
    measured: usize,
}

impl Tuner {
    /// Creates a tuner for a device. Its table is read now, and written after each measurement.
    pub fn new(gpu: Arc<Gpu>, tuning: Tuning) -> Self {
        let path = match &tuning.table {
            _ if tuning.mode == TuningMode::Off => None,
            Some(path) => path.clone(),
            None => table_path(gpu.summary()),
        };
        let table = Table::open(gpu.summary(), path);
        Self { gpu, tuning, table, progress: Progress::default() }
    }

    fn report(&self, measuring: Option<&str>) {
        if let Some(report) = &self.tuning.report {
            // There may be more calls than announced: tests and benchmarks announce none.
            let (done, total) = (self.progress.done, self.progress.total.max(self.progress.done));
            report(&TuningProgress { done, total, measuring });
        }
    }

    fn select(
        &mut self,
        op: &dyn Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize> {
        if self.tuning.mode == TuningMode::Off || kernels.len() == 1 {
            return Ok(0);
        }
        let key = key(op, context);
        let cached = self
            .table
            .get(&key)
            .and_then(|choice| kernels.iter().position(|k| k.label == choice.kernel));
        match (cached, self.tuning.mode) {
            (Some(index), _) => Ok(index),
            (None, TuningMode::On) => {
                self.report(Some(&key));
                self.progress.measured += 1;
                let (index, time) = match measure(&self.gpu, op, context, kernels) {
                    Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                        log::warn!("{key}: could not be measured: {e}");
                        return Ok(0);
                    }
                    result => result?,
                };
                let kernel = &kernels[index].label;
                log::info!("{key}: `{kernel}` of {} takes {time:.1?}", kernels.len());
                self.table.insert(
                    key,
                    Choice { kernel: kernel.clone(), microseconds: time.as_secs_f64() * 1e6 },
                );
                Ok(index)
            }
            (None, _) => Ok(0),
        }
    }
}

impl KernelSelector for Tuner {
    fn begin(&mut self, calls: usize) {
        self.progress = Progress { total: calls, ..Progress::default() };
    }

    fn choose(
        &mut self,
        op: &dyn Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize> {
        let selected = self.select(op, context, kernels);
        self.progress.done += 1;
        if self.progress.measured > 0 && self.progress.done == self.progress.total {
            self.report(None);
        }
        selected
    }
}

/// Checks and times all kernels of a call. Returns the position of the fastest correct one and its
/// time.
fn measure(
    gpu: &Gpu,
    op: &dyn Op,
    context: &KernelContext,
    kernels: &[Kernel],
) -> Result<(usize, Duration)> {
    // Threads that prepare graphs at the same time must not measure at the same time.
    let _guard = gpu.pause_measurements();
    let stage = Stage::new(gpu, op, context)?;
    let mut best: Option<(usize, Duration)> = None;
    for (index, kernel) in kernels.iter().enumerate() {
        match attempt(&stage, kernel, best.map(|(_, time)| time)) {
            Ok(Outcome::Correct(time)) => {
                log::debug!(
                    "{} {}: `{}` takes {time:.1?}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
                if best.is_none_or(|(_, fastest)| time < fastest) {
                    best = Some((index, time));
                }
            }
            Ok(Outcome::TooSlow(time)) => {
                log::debug!(
                    "{} {}: `{}` is too slow: {time:.1?}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            Ok(Outcome::Wrong(report)) => {
                log::warn!(
                    "{} {}: skipping kernel `{}`: {report}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            // An error of one shader does not affect the others.
            Err(e) if e.kind() == ErrorKind::Shader => {
                log::warn!("{}: skipping kernel `{}`: {e}", op.name(), kernel.label)
            }
            Err(e) => return Err(e),
        }
    }
    best.ok_or_else(|| no_correct_kernel(op))
}

/// Result of a candidate.
enum Outcome {
    Correct(Duration),
    TooSlow(Duration),
    Wrong(String),
}

fn attempt(stage: &Stage, kernel: &Kernel, best: Option<Duration>) -> Result<Outcome> {
    let candidate = stage.candidate(kernel)?;
    if let Some(best) = best {
        let once = candidate.once(best)?;
        if stage::is_too_slow(once, best) {
            return Ok(Outcome::TooSlow(once));
        }
    }
    match candidate.check()? {
        Some(report) => Ok(Outcome::Wrong(report)),
        None => Ok(Outcome::Correct(candidate.time(best)?)),
    }
}

fn no_correct_kernel(op: &dyn Op) -> Error {
    error!(
        Shader,
        "no kernel of {} {} computes correct results on this device",
        op.name(),
        op.attributes()
    )
    .advice("use `--device cpu`, and report this with the output of `atrous devices`")
}

/// Returns the cache key of a call: the operation, its attributes, and the layouts of its operands.
fn key(op: &dyn Op, context: &KernelContext) -> String {
    let layout = |l: &TensorLayout| {
        let contiguous = *l == TensorLayout::contiguous(l.ty);
        let place = if contiguous { String::new() } else { format!("+{}/{}", l.offset, l.pitch) };
        format!("{}{place}", l.ty.shape)
    };
    let all = |layouts: &[TensorLayout]| layouts.iter().map(layout).collect::<Vec<_>>().join(" ");
    format!(
        "{} {}: {} -> {}",
        op.name(),
        op.attributes(),
        all(context.inputs),
        all(context.outputs)
    )
}
