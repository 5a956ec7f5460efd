//! The tuner, which selects the fastest kernel of each operation on a device.
//!
//! Operations list their kernels with the one expected to be fastest first. On a given device, for
//! a given shape, another kernel may be faster. The tuner benchmarks them: the outputs of every
//! candidate are checked against the operation's CPU function before its time counts, so a kernel
//! that a driver miscompiles is never selected. Results are cached, also on disk (see
//! [`table_path`]), per adapter, driver and version of this crate.
//!
//! ```no_run
//! use atrous::engine::tune::{TuningMode, Tuning};
//! use atrous::{DeviceChoice, Model, Segmenter};
//!
//! let tuning = Tuning::new(TuningMode::On).reporting(|p| eprintln!("{} of {}", p.done, p.total));
//! let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?.with_tuning(tuning);
//! # Ok::<(), atrous::Error>(())
//! ```

mod rate;

#[cfg(feature = "gpu")]
mod compare;
#[cfg(feature = "gpu")]
mod device_rate;
#[cfg(feature = "gpu")]
mod random;
#[cfg(feature = "gpu")]
mod stage;
#[cfg(feature = "gpu")]
mod table;
#[cfg(feature = "gpu")]
mod tuner;

pub use rate::multiply_add_rate;
#[cfg(feature = "gpu")]
pub use {
    device_rate::{CHAINS, multiply_add},
    stage::{Candidate, Stage},
    table::table_path,
    tuner::Tuner,
};

use crate::error::Result;
use crate::exec::{Device, FirstKernel, KernelSelector, Producer, Runner, Store};
use crate::graph::Graph;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

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
            #[cfg(feature = "gpu")]
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
