//! Prepared graphs whose outputs stay where they run.

use super::backend::Program;
use super::runner::{AnyProgram, ordered, prepare};
use super::selector::KernelSelector;
use super::store::Store;
use super::value::{self, Input, Value};
use crate::error::Result;
use crate::graph::Graph;
use std::sync::Arc;

/// A graph prepared for a device, whose outputs are inputs of other graphs. It can run any number
/// of times, also on several threads: every run has outputs of its own.
pub struct Producer {
    graph: Arc<Graph>,
    program: AnyProgram,
}

impl Producer {
    /// Prepares a graph on the store's device (see [`Runner::with_store`](super::Runner)).
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::with_store`](super::Runner::with_store).
    pub fn new(store: &Store, graph: Graph, selector: &mut dyn KernelSelector) -> Result<Self> {
        let (graph, program) = prepare(store, graph, selector)?;
        Ok(Self { graph, program })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs once, with the graph's inputs by name, and returns its outputs in order. Natively the
    /// first poll blocks until the run is done.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has the wrong type, or if the device fails.
    pub async fn run_async(&self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<Value>> {
        let inputs = ordered(&self.graph, inputs, Input::ty)?;
        match &self.program {
            AnyProgram::Cpu(program) => {
                let inputs = value::on_host(&inputs).await?;
                let inputs = inputs.iter().map(Into::into).collect::<Vec<_>>();
                Ok(program.produce(&inputs).await?.into_iter().map(Value::from).collect())
            }
            AnyProgram::Gpu(program) => {
                let inputs = value::on_device(program.gpu(), &inputs).await?;
                let inputs = inputs.iter().map(Into::into).collect::<Vec<_>>();
                Ok(program.produce(&inputs).await?.into_iter().map(Value::from).collect())
            }
        }
    }
}
