//! Pseudo-random, reproducible operands for measurements.

use crate::error::Result;
use crate::gpu::{pack, unpack};
use crate::ops::Packing;
use crate::ops::kernel::TensorLayout;
use crate::tensor::{DType, Data, Tensor};

/// A splitmix64 generator with its state.
pub(super) struct Random(pub u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number uniform in [-1, 1).
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
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
            DType::U32 => Data::U32((0..shape.len()).map(|_| (self.bits() % 4) as u32).collect()),
            DType::U8 => Data::U8((0..shape.len()).map(|_| self.bits() as u8).collect()),
        };
        let tensor = Tensor::from_data(shape, data)
            .expect("invariant: the data has the length of the shape");
        let bytes = pack(&tensor, packing)?;
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
