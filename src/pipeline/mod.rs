//! Prepared graphs on one device and the values that stay there between their runs.
//!
//! Values stay in two ways. A [`Pipeline`] has named buffers, which exist as long as it does: the
//! frame and the scores of a camera, the parameters of a training. An [`Inference`] passes the
//! outputs of a network to the graphs that finish them, in buffers of one run, so that threads can
//! run the same graphs at the same time.

mod cache;
mod inference;

pub(crate) use cache::Cache;
pub(crate) use inference::{Computed, Inference};

use crate::error::{ErrorKind, Result};
use crate::exec::{Device, Producer, Runner, Store};
use crate::graph::Graph;
use crate::tune::Tuning;

/// A device with named buffers, for which graphs are prepared.
pub(crate) struct Pipeline {
    store: Store,
    tuning: Tuning,
}

impl Pipeline {
    /// Creates a pipeline without buffers.
    pub(crate) fn new(device: &Device, tuning: &Tuning) -> Self {
        Self { store: Store::new(device), tuning: tuning.clone() }
    }

    /// Returns the device.
    pub(crate) fn device(&self) -> Device {
        self.store.device()
    }

    /// Returns the buffers.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Adds a buffer of zeros; see [`Store::add`].
    ///
    /// # Errors
    /// Returns the same errors as [`Store::add`].
    pub(crate) fn add(&mut self, name: &str, elements: usize) -> Result<()> {
        self.store.add(name, elements)
    }

    /// Prepares a graph that returns its outputs, or writes them to buffers.
    ///
    /// # Errors
    /// Returns the same errors as [`Tuning::runner_in`].
    pub(crate) fn runner(&self, graph: Graph) -> Result<Runner> {
        self.tuning.runner_in(&self.store, graph)
    }

    /// Prepares a graph whose outputs stay on the device.
    ///
    /// # Errors
    /// Returns the same errors as [`Tuning::producer_in`].
    pub(crate) fn producer(&self, graph: Graph) -> Result<Producer> {
        self.tuning.producer_in(&self.store, graph)
    }

    /// Prepares a graph without buffers whose outputs have the full size of an image: on the CPU
    /// if it exceeds the limits of the device.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::new`].
    pub(crate) fn finisher(&self, graph: Graph) -> Result<Runner> {
        match self.runner(graph.clone()) {
            Err(e)
                if !self.device().is_cpu()
                    && matches!(e.kind(), ErrorKind::OutOfMemory | ErrorKind::Shader) =>
            {
                log::info!("{e}; computing the labels on the CPU");
                Runner::new(&Device::Cpu, graph)
            }
            result => result,
        }
    }
}
