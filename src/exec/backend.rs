//! What an executor is: the CPU and devices implement the same two traits.

use super::selector::KernelSelector;
use super::store::Residents;
use crate::error::Result;
use crate::graph::Graph;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// An executor of graphs with its memory.
pub(super) trait Backend {
    /// A buffer of a store. Clones are the same buffer.
    type Buffer: Clone;
    /// A graph prepared for runs.
    type Program: Program;

    /// Allocates a buffer of `elements` zeros.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory, or if runs could not bind a buffer of this
    /// size.
    fn alloc(&self, name: &str, elements: usize) -> Result<Self::Buffer>;

    /// Reads the first `elements` elements of a buffer.
    ///
    /// # Errors
    /// Returns an error if memory runs out or the device fails.
    fn read(&self, buffer: &Self::Buffer, elements: usize) -> Result<Vec<f32>>;

    /// Writes all elements of a buffer.
    fn write(&self, buffer: &Self::Buffer, elements: &[f32]);

    /// Prepares a verified graph. `residents` are the buffers of its resident values.
    ///
    /// # Errors
    /// Returns an error if the graph cannot run here, or if there is not enough memory.
    fn prepare(
        &self,
        graph: &Arc<Graph>,
        residents: Residents<Self::Buffer>,
        selector: &mut dyn KernelSelector,
    ) -> Result<Self::Program>;

    /// Returns the bytes of a graph's values during a run, without parameters and values in a
    /// store.
    fn activation_bytes(&self, graph: &Graph) -> u64;

    /// Returns the maximum size of a buffer in bytes; `None` if there is no fixed limit.
    fn max_buffer_bytes(&self) -> Option<u64>;
}

/// A prepared graph. Inputs are in the graph's order and have its types.
pub(super) trait Program {
    /// An input that may have been computed by another graph.
    type Input<'t>;
    /// An output that stays where the graph ran.
    type Output;

    /// Returns the position of each node that runs with the label of its kernel; empty if there is
    /// only one way to compute a node.
    fn kernels(&self) -> Vec<(usize, &str)>;

    /// Allocates what [`Program::run`] needs to return outputs, so that missing memory is reported
    /// before the first run.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    fn prepare_readback(&self) -> Result<()>;

    /// Runs once and returns the outputs. Natively the first poll blocks until the run is done.
    async fn run(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<Tensor>>;

    /// Runs once, and leaves the outputs where they are. Natively the first poll blocks until the
    /// run is done.
    async fn produce(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<Self::Output>>;

    /// Starts a run without outputs. A device does not wait for its end.
    fn enqueue(&self, inputs: &[&Tensor]) -> Result<()>;

    /// Measures the indivisible pieces of a run without outputs.
    fn time_pieces(&self, inputs: &[&Tensor]) -> Result<Vec<Duration>>;

    /// Runs without outputs in groups of pieces, and waits for each before it starts the next.
    ///
    /// # Errors
    /// Returns an error if the device fails, or if the last group does not end with the last piece.
    fn run_pieces(&self, inputs: &[&Tensor], groups: &[Range<usize>]) -> Result<()>;

    /// Times each node that runs, in order, by its position in the graph.
    fn time_nodes(&self, inputs: &[&Tensor]) -> Result<Vec<(usize, Duration)>>;
}
