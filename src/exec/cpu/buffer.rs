//! Buffers of a store in main memory.

use crate::error::Result;
use crate::exec::store::elements;
use crate::graph::{Resident, pack_f32, unpack_f32};
use crate::tensor::{DType, Data, Elements, Shape, Tensor, TensorType};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A flat vector. Runs share its tensor, so that a value that covers the whole buffer need not be
/// copied.
#[derive(Clone)]
pub(in crate::engine::exec) struct HostBuffer(Arc<Mutex<Arc<Tensor>>>);

impl HostBuffer {
    /// Allocates zeros.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub(super) fn new(elements: usize) -> Result<Self> {
        let zeros = Tensor::try_zeros(TensorType::f32(Shape::vector(elements)))?;
        Ok(Self(Arc::new(Mutex::new(Arc::new(zeros)))))
    }

    /// Returns the contents; later writes do not change them.
    pub(super) fn tensor(&self) -> Arc<Tensor> {
        Arc::clone(&self.lock())
    }

    /// Replaces the contents by as many elements.
    pub(super) fn write(&self, elements: &[f32]) {
        Arc::make_mut(&mut self.lock()).f32_mut().copy_from_slice(elements);
    }

    /// Returns the value of type `ty` at `resident`. A copy uses the allocation that `memory`
    /// returns.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub(super) fn load(
        &self,
        ty: TensorType,
        resident: &Resident,
        memory: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Arc<Tensor>> {
        let buffer = self.lock();
        if buffer.ty() == ty {
            return Ok(Arc::clone(&buffer));
        }
        let packed = &buffer.f32()[resident.first..][..elements(ty, resident)];
        let tensor = match ty.dtype {
            DType::U32 => {
                Tensor::from_data(ty.shape, Data::U32(bytemuck::cast_slice(packed).to_vec()))?
            }
            _ => unpack_f32(packed, ty.shape, resident.packing, memory()?),
        };
        Ok(Arc::new(tensor))
    }

    /// Stores a value at `resident`.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub(super) fn save(&self, resident: &Resident, tensor: &Arc<Tensor>) -> Result<()> {
        let mut buffer = self.lock();
        if buffer.ty() == tensor.ty() {
            *buffer = Arc::clone(tensor);
            return Ok(());
        }
        let packed = match tensor.data() {
            Elements::U32(numbers) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            _ => pack_f32(tensor.f32(), tensor.shape(), resident.packing)?,
        };
        Arc::make_mut(&mut buffer).f32_mut()[resident.first..][..packed.len()]
            .copy_from_slice(&packed);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
