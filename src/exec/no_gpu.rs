//! What remains of the device executor in builds without the feature `gpu`: types without values.

use super::backend::{Backend, Program};
use super::selector::KernelSelector;
use super::store::Residents;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::tensor::{Tensor, TensorType};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A graph prepared for a device.
pub(super) enum GpuProgram {}

/// An output of a run on a device.
pub(super) enum DeviceValue {}

/// An input of a run on a device.
#[derive(Clone, Copy)]
pub(super) enum Feed<'t> {
    /// A tensor to upload.
    Host(&'t Tensor),
    /// A value on the program's device.
    Device(&'t DeviceValue),
}

impl GpuProgram {
    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        match *self {}
    }
}

impl DeviceValue {
    pub(super) fn ty(&self) -> TensorType {
        match *self {}
    }

    pub(super) fn is_on(&self, _: &Arc<Gpu>) -> bool {
        match *self {}
    }

    pub(super) async fn read(&self) -> Result<Tensor> {
        match *self {}
    }
}

impl Backend for Arc<Gpu> {
    type Buffer = Gpu;
    type Program = GpuProgram;

    fn alloc(&self, _: &str, _: usize) -> Result<Gpu> {
        match **self {}
    }

    fn read(&self, _: &Gpu, _: usize) -> Result<Vec<f32>> {
        match **self {}
    }

    fn write(&self, _: &Gpu, _: &[f32]) {
        match **self {}
    }

    fn prepare(
        &self,
        _: &Arc<Graph>,
        _: Residents<Gpu>,
        _: &mut dyn KernelSelector,
    ) -> Result<GpuProgram> {
        match **self {}
    }

    fn activation_bytes(&self, _: &Graph) -> u64 {
        match **self {}
    }

    fn max_buffer_bytes(&self) -> Option<u64> {
        match **self {}
    }
}

impl Program for GpuProgram {
    type Input<'t> = Feed<'t>;
    type Output = DeviceValue;

    fn kernels(&self) -> Vec<(usize, &str)> {
        match *self {}
    }

    fn prepare_readback(&self) -> Result<()> {
        match *self {}
    }

    async fn run(&self, _: &[Self::Input<'_>]) -> Result<Vec<Tensor>> {
        match *self {}
    }

    async fn produce(&self, _: &[Self::Input<'_>]) -> Result<Vec<DeviceValue>> {
        match *self {}
    }

    fn enqueue(&self, _: &[&Tensor]) -> Result<()> {
        match *self {}
    }

    fn time_pieces(&self, _: &[&Tensor]) -> Result<Vec<Duration>> {
        match *self {}
    }

    fn run_pieces(&self, _: &[&Tensor], _: &[Range<usize>]) -> Result<()> {
        match *self {}
    }

    fn time_nodes(&self, _: &[&Tensor]) -> Result<Vec<(usize, Duration)>> {
        match *self {}
    }
}
