//! The tuner: which of an operation's kernels is the fastest on this device.
//!
//! Operations list their kernels with the one first that they expect to be fastest. On a given
//! device, for a given shape, another one may be. The tuner runs them: every candidate's numbers
//! are checked against the operation's CPU function before its time counts, so a driver that
//! miscompiles one kernel costs time and nothing else. What was measured is remembered, on disk too
//! (see [`table_path`]), for each adapter, driver and version of this crate.
//!
//! ```no_run
//! use atrous::tune::{TuningMode, Tuning};
//! use atrous::{DeviceChoice, Model, Segmenter};
//!
//! let tuning = Tuning::new(TuningMode::On).reporting(|p| eprintln!("{} of {}", p.done, p.of));
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
use crate::exec::{Device, FirstKernel, KernelSelector, Runner, Store};
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::ops::Op;
use crate::ops::kernel::{Kernel, KernelContext, TensorLayout};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use table::{Choice, Table};

/// How much a tuner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TuningMode {
    /// Takes what operations expect to be fastest; no table is read.
    Off,
    /// Takes what was once measured, else what operations expect.
    #[default]
    Cached,
    /// Measures what was never measured, and remembers it.
    On,
}

/// How far the tuning of a graph has come. It is reported before each measurement, and once more at
/// the end of one in which there was any.
#[derive(Debug, Clone, Copy)]
pub struct TuningProgress<'a> {
    /// Nodes whose kernel is known.
    pub done: usize,
    /// Nodes in all.
    pub of: usize,
    /// What is measured now: the operation with its attributes and shapes. `None` at the end.
    pub measuring: Option<&'a str>,
}

type Report = Arc<dyn Fn(&TuningProgress) + Send + Sync>;

/// Mode, table and reports of tuners: what a caller decides once for all the graphs that it makes
/// ready.
#[derive(Clone, Default)]
pub struct Tuning {
    mode: TuningMode,
    /// `None` stands for the user's cache directory, `Some(None)` for no file at all.
    table: Option<Option<PathBuf>>,
    report: Option<Report>,
}

impl Tuning {
    /// Tuning with the table of the user's cache directory.
    pub fn new(mode: TuningMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Keeps the table in a file of its own, or in memory only.
    #[must_use]
    pub fn with_table(self, path: Option<PathBuf>) -> Self {
        Self { table: Some(path), ..self }
    }

    /// Calls `report` while something is measured.
    #[must_use]
    pub fn reporting(self, report: impl Fn(&TuningProgress) + Send + Sync + 'static) -> Self {
        Self { report: Some(Arc::new(report)), ..self }
    }

    /// How much is done.
    pub fn mode(&self) -> TuningMode {
        self.mode
    }

    /// Makes a graph ready on a device with the kernels of this tuning. The CPU executor has
    /// nothing to choose.
    ///
    /// # Errors
    /// As [`Runner::with_kernels`]; and where none of the kernels of a node gives the right
    /// numbers.
    pub fn runner(&self, device: &Device, graph: Graph) -> Result<Runner> {
        self.runner_in(&Arc::new(Store::new(device)), graph)
    }

    /// As [`Tuning::runner`], for a graph with values that lie in a store.
    ///
    /// # Errors
    /// As [`Tuning::runner`].
    pub fn runner_in(&self, store: &Arc<Store>, graph: Graph) -> Result<Runner> {
        match store.device() {
            Device::Gpu(gpu) if self.mode != TuningMode::Off => {
                Runner::with_store(store, graph, &mut Tuner::new(gpu.clone(), self.clone()))
            }
            _ => Runner::with_store(store, graph, &mut FirstKernel),
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

/// Picks kernels by measurement.
pub struct Tuner {
    gpu: Arc<Gpu>,
    tuning: Tuning,
    table: Table,
    progress: Count,
}

#[derive(Default)]
struct Count {
    done: usize,
    of: usize,
    measured: usize,
}

impl Tuner {
    /// A tuner for a device. Its table is read now, and written after each measurement.
    pub fn new(gpu: Arc<Gpu>, tuning: Tuning) -> Self {
        let path = match &tuning.table {
            _ if tuning.mode == TuningMode::Off => None,
            Some(path) => path.clone(),
            None => table_path(gpu.summary()),
        };
        let table = Table::open(gpu.summary(), path);
        Self { gpu, tuning, table, progress: Count::default() }
    }

    fn report(&self, measuring: Option<&str>) {
        if let Some(report) = &self.tuning.report {
            // A tuner may be asked about more calls than were announced: tests and benchmarks
            // announce none.
            let (done, of) = (self.progress.done, self.progress.of.max(self.progress.done));
            report(&TuningProgress { done, of, measuring });
        }
    }

    fn pick(&mut self, op: &dyn Op, context: &KernelContext, kernels: &[Kernel]) -> Result<usize> {
        if self.tuning.mode == TuningMode::Off || kernels.len() == 1 {
            return Ok(0);
        }
        let key = key(op, context);
        let known = self
            .table
            .get(&key)
            .and_then(|choice| kernels.iter().position(|k| k.label == choice.kernel));
        match (known, self.tuning.mode) {
            (Some(index), _) => Ok(index),
            (None, TuningMode::On) => {
                self.report(Some(&key));
                self.progress.measured += 1;
                let (index, time) = match measure(&self.gpu, op, context, kernels) {
                    Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                        log::warn!("{key}: not measured: {e}");
                        return Ok(0);
                    }
                    measured => measured?,
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
        self.progress = Count { of: calls, ..Count::default() };
    }

    fn choose(
        &mut self,
        op: &dyn Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize> {
        let picked = self.pick(op, context, kernels);
        self.progress.done += 1;
        if self.progress.measured > 0 && self.progress.done == self.progress.of {
            self.report(None);
        }
        picked
    }
}

/// Checks and times all the kernels of a call; the position of the fastest right one and its time.
fn measure(
    gpu: &Gpu,
    op: &dyn Op,
    context: &KernelContext,
    kernels: &[Kernel],
) -> Result<(usize, Duration)> {
    let stage = Stage::new(gpu, op, context)?;
    let mut best: Option<(usize, Duration)> = None;
    for (index, kernel) in kernels.iter().enumerate() {
        match attempt(&stage, kernel, best.map(|(_, time)| time)) {
            Ok(Outcome::Right(time)) => {
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
            Ok(Outcome::Hopeless(time)) => {
                log::debug!(
                    "{} {}: `{}` is too slow: {time:.1?}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            Ok(Outcome::Wrong(report)) => {
                log::warn!(
                    "{} {}: `{}` is left out: {report}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            // What one shader does is no fault of the others.
            Err(e) if e.kind() == ErrorKind::Shader => {
                log::warn!("{}: `{}` is left out: {e}", op.name(), kernel.label)
            }
            Err(e) => return Err(e),
        }
    }
    best.ok_or_else(|| none_right(op))
}

/// What became of a candidate.
enum Outcome {
    Right(Duration),
    Hopeless(Duration),
    Wrong(String),
}

fn attempt(stage: &Stage, kernel: &Kernel, best: Option<Duration>) -> Result<Outcome> {
    let candidate = stage.candidate(kernel)?;
    if let Some(best) = best {
        let once = candidate.once(best)?;
        if stage::is_hopeless(once, best) {
            return Ok(Outcome::Hopeless(once));
        }
    }
    match candidate.check()? {
        Some(report) => Ok(Outcome::Wrong(report)),
        None => Ok(Outcome::Right(candidate.time(best)?)),
    }
}

fn none_right(op: &dyn Op) -> Error {
    error!(
        Shader,
        "no kernel of {} {} gives the right numbers on this device",
        op.name(),
        op.attributes()
    )
    .advice("take `--device cpu`, and report it with the output of `atrous devices`")
}

/// What a choice depends on besides the device: the operation, its attributes, and how its operands
/// lie.
fn key(op: &dyn Op, context: &KernelContext) -> String {
    let layout = |l: &TensorLayout| {
        let plain = *l == TensorLayout::contiguous(l.ty);
        let place = if plain { String::new() } else { format!("+{}/{}", l.offset, l.pitch) };
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
