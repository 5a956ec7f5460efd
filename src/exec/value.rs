//! Values that one graph computes and another one reads.

use super::gpu::{DeviceValue, Feed};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::{Tensor, TensorType};
use std::sync::Arc;

/// An output of a [`Producer`](super::Producer), where it was computed: in main memory or on a
/// device.
pub struct Value(Place);

enum Place {
    Host(Tensor),
    Gpu(DeviceValue),
}

impl Value {
    /// Returns the shape and the element type.
    pub fn ty(&self) -> TensorType {
        match &self.0 {
            Place::Host(tensor) => tensor.ty(),
            Place::Gpu(value) => value.ty(),
        }
    }

    /// Moves the value to main memory. Natively the first poll blocks until that is done.
    ///
    /// # Errors
    /// Returns an error if the device fails or memory runs out.
    pub async fn move_to_host(&mut self) -> Result<()> {
        if let Place::Gpu(value) = &self.0 {
            self.0 = Place::Host(value.read().await?);
        }
        Ok(())
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self(Place::Host(tensor))
    }
}

impl From<DeviceValue> for Value {
    fn from(value: DeviceValue) -> Self {
        Self(Place::Gpu(value))
    }
}

/// An input of a run: a tensor, or what another graph has computed.
#[derive(Clone, Copy)]
pub enum Input<'t> {
    /// A tensor in main memory.
    Tensor(&'t Tensor),
    /// An output of a [`Producer`](super::Producer). It is read back if the run is on another
    /// device.
    Value(&'t Value),
}

impl<'t> Input<'t> {
    /// Returns the shape and the element type.
    pub fn ty(self) -> TensorType {
        match self {
            Self::Tensor(tensor) => tensor.ty(),
            Self::Value(value) => value.ty(),
        }
    }

    async fn on_host(self) -> Result<OnHost<'t>> {
        Ok(match self {
            Self::Tensor(tensor) | Self::Value(Value(Place::Host(tensor))) => {
                OnHost::Borrowed(tensor)
            }
            Self::Value(Value(Place::Gpu(value))) => OnHost::Read(value.read().await?),
        })
    }
}

/// An input in main memory.
pub(super) enum OnHost<'t> {
    Borrowed(&'t Tensor),
    /// Read back from a device.
    Read(Tensor),
}

impl<'t> From<&'t OnHost<'_>> for &'t Tensor {
    fn from(input: &'t OnHost<'_>) -> Self {
        match input {
            OnHost::Borrowed(tensor) => tensor,
            OnHost::Read(tensor) => tensor,
        }
    }
}

/// An input for a device.
pub(super) enum OnDevice<'t> {
    Host(OnHost<'t>),
    Device(&'t DeviceValue),
}

impl<'t> From<&'t OnDevice<'_>> for Feed<'t> {
    fn from(input: &'t OnDevice<'_>) -> Self {
        match input {
            OnDevice::Host(host) => Feed::Host(host.into()),
            OnDevice::Device(value) => Feed::Device(value),
        }
    }
}

/// Reads back the inputs that are on a device.
///
/// # Errors
/// Returns an error if a device fails or memory runs out.
pub(super) async fn on_host<'t>(inputs: &[Input<'t>]) -> Result<Vec<OnHost<'t>>> {
    let mut converted = Vec::with_capacity(inputs.len());
    for input in inputs {
        converted.push(input.on_host().await?);
    }
    Ok(converted)
}

/// Reads back the inputs that are on other devices than `gpu`.
///
/// # Errors
/// Returns an error if a device fails or memory runs out.
pub(super) async fn on_device<'t>(
    gpu: &Arc<Gpu>,
    inputs: &[Input<'t>],
) -> Result<Vec<OnDevice<'t>>> {
    let mut converted = Vec::with_capacity(inputs.len());
    for input in inputs {
        converted.push(match input {
            Input::Value(Value(Place::Gpu(value))) if value.is_on(gpu) => OnDevice::Device(value),
            input => OnDevice::Host(input.on_host().await?),
        });
    }
    Ok(converted)
}
