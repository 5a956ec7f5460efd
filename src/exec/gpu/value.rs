//! Values that stay on a device between runs.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::unpack;
use crate::ops::kernel::TensorLayout;
use crate::tensor::{Tensor, TensorType};
use std::sync::Arc;

/// An output of a run in a buffer of its own, so that it outlives the program and its next runs.
pub(in crate::engine::exec) struct DeviceValue {
    pub(super) gpu: Arc<Gpu>,
    pub(super) buffer: wgpu::Buffer,
    pub(super) bytes: u64,
    pub(super) layout: TensorLayout,
}

impl DeviceValue {
    /// Returns the shape and the element type.
    pub(in crate::engine::exec) fn ty(&self) -> TensorType {
        self.layout.ty
    }

    /// Returns whether programs on `gpu` can read the buffer.
    pub(in crate::engine::exec) fn is_on(&self, gpu: &Arc<Gpu>) -> bool {
        Arc::ptr_eq(&self.gpu, gpu) && self.layout == TensorLayout::contiguous(self.layout.ty)
    }

    /// Reads the value back. Natively the first poll blocks until that is done.
    ///
    /// # Errors
    /// Returns an error if the device fails or memory runs out.
    pub(in crate::engine::exec) async fn read(&self) -> Result<Tensor> {
        unpack(&self.gpu.read_async(&self.buffer, 0, self.bytes).await?, self.layout)
    }
}

/// An input of a run on a device.
#[derive(Clone, Copy)]
pub(in crate::engine::exec) enum Feed<'t> {
    /// A tensor to upload.
    Host(&'t Tensor),
    /// A value on the program's device.
    Device(&'t DeviceValue),
}
