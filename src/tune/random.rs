//! Pseudo-random, reproducible operands for measurements.

use crate::error::Result;
use crate::graph::{pack, unpack};
use crate::ops::Packing;
use crate::ops::kernel::TensorLayout;
use crate::random::SplitMix64;
use crate::tensor::{DType, Data, Tensor};

/// The generator of the operands.
pub(super) struct Random(SplitMix64);

impl Random {
    /// Creates a generator from a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.0.unit()).collect()
    }

    /// Returns a tensor of numbers in [-1, 1) (small integers if it is not f32), and the buffer
    /// that contains it. The buffer's other lanes contain random numbers too, which must not affect
    /// the results of kernels.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub(super) fn operand(
        &mut self,
        layout: TensorLayout,
        packing: Packing,
    ) -> Result<(Tensor, Vec<u8>)> {
        let shape = layout.ty.shape;
        if layout.ty.dtype == DType::F32 && packing == Packing::Channels {
            let floats = self.floats(buffer_bytes(layout) as usize / 4);
            let bytes = bytemuck::cast_slice(&floats).to_vec();
            return Ok((unpack(&bytes, layout)?, bytes));
        }
        let data = match layout.ty.dtype {
            DType::F32 => Data::F32(self.floats(shape.len())),
            DType::U32 => Data::U32((0..shape.len()).map(|_| (self.0.bits() % 4) as u32).collect()),
            DType::U8 => Data::U8((0..shape.len()).map(|_| self.0.bits() as u8).collect()),
        };
        let tensor = Tensor::from_data(shape, data)
            .expect("invariant: the data has the length of the shape");
        let bytes = pack(&tensor, packing)?.to_vec();
        Ok((tensor, bytes))
    }
}

/// Returns the bytes of the buffer of a layout, including other channels of its pixels.
pub(super) fn buffer_bytes(layout: TensorLayout) -> u64 {
    match layout.ty.dtype {
        DType::F32 => 16 * u64::from(layout.pitch) * layout.ty.shape.positions() as u64,
        _ => TensorLayout::bytes(layout.ty, Packing::Channels),
    }
}
