//! Buffers of a device by their purpose.

use super::Gpu;
use crate::error::Result;

/// A buffer of a device.
pub(crate) type Buffer = wgpu::Buffer;

impl Gpu {
    /// Allocates a storage buffer that only kernels access.
    ///
    /// # Errors
    /// Returns the same errors as [`Gpu::buffer`].
    pub(crate) fn kernel_storage(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer(label, bytes, wgpu::BufferUsages::STORAGE)
    }

    /// Allocates a storage buffer that the host writes and reads, too.
    ///
    /// # Errors
    /// Returns the same errors as [`Gpu::buffer`].
    pub(crate) fn shared_storage(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let copies = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.buffer(label, bytes, wgpu::BufferUsages::STORAGE | copies)
    }

    /// Allocates a buffer that only commands copy to and from.
    ///
    /// # Errors
    /// Returns the same errors as [`Gpu::buffer`].
    pub(crate) fn copy_target(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer(label, bytes, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC)
    }

    /// Allocates a buffer that commands copy to and that the host maps.
    ///
    /// # Errors
    /// Returns the same errors as [`Gpu::buffer`].
    pub(crate) fn readback(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer(label, bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }
}
