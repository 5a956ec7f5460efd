//! Conversion of host tensors to and from device layout (see [`TensorLayout`]).

use super::Packing;
use super::kernel::TensorLayout;
use crate::error::Result;
use crate::memory;
use crate::tensor::{DType, Data, Elements, Shape, Tensor};
use std::borrow::Cow;
use std::ops::Deref;

/// The bytes of a tensor in device layout, without a copy if the tensor has this layout already.
#[derive(Debug)]
pub enum Packed<'t> {
    /// Padded numbers.
    F32(Cow<'t, [f32]>),
    /// Integers.
    Bytes(Cow<'t, [u8]>),
}

impl Deref for Packed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::F32(numbers) => bytemuck::cast_slice(numbers),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Returns a tensor in device layout.
///
/// # Errors
/// Returns an error if a copy is needed and cannot be allocated.
pub fn pack(tensor: &Tensor, packing: Packing) -> Result<Packed<'_>> {
    Ok(match tensor.data() {
        Elements::U8(v) if v.len().is_multiple_of(4) => Packed::Bytes(Cow::Borrowed(v)),
        Elements::U8(v) => {
            let mut bytes = memory::with_capacity(v.len().next_multiple_of(4))?;
            bytes.extend_from_slice(v);
            bytes.resize(v.len().next_multiple_of(4), 0);
            Packed::Bytes(Cow::Owned(bytes))
        }
        Elements::U32(v) => Packed::Bytes(Cow::Borrowed(bytemuck::cast_slice(v))),
        Elements::F32(v) => Packed::F32(pack_f32(v, tensor.shape(), packing)?),
    })
}

/// Returns the elements of a tensor of shape `s` in device layout: zero-padded if its channels (for
/// a matrix, also its rows) are not a multiple of four.
///
/// # Errors
/// Returns an error if the copy cannot be allocated.
pub fn pack_f32(numbers: &[f32], s: Shape, packing: Packing) -> Result<Cow<'_, [f32]>> {
    let (rows, pitch) = (rows(s, packing), 4 * s.c4());
    if (rows, pitch) == (s.w, s.c) {
        return Ok(Cow::Borrowed(numbers));
    }
    let mut out = memory::zeros::<f32>(s.n * s.h * rows * pitch)?;
    for (line, from) in numbers.chunks_exact(s.w * s.c).enumerate() {
        for (column, pixel) in from.chunks_exact(s.c).enumerate() {
            let at = (line * rows + column) * pitch;
            out[at..at + s.c].copy_from_slice(pixel);
        }
    }
    Ok(Cow::Owned(out))
}

/// Returns the tensor of shape `s` that [`pack_f32`] packed. The tensor reuses the allocation of
/// `memory` and discards its contents.
pub fn unpack_f32(packed: &[f32], s: Shape, packing: Packing, memory: Vec<f32>) -> Tensor {
    let (rows, pitch) = (rows(s, packing), 4 * s.c4());
    let mut tensor = Tensor::from_buffer(s, memory);
    let out = tensor.f32_mut();
    if (rows, pitch) == (s.w, s.c) {
        out.copy_from_slice(&packed[..s.len()]);
    } else {
        for (line, out) in packed.chunks_exact(rows * pitch).zip(out.chunks_exact_mut(s.w * s.c)) {
            let pixels = line.chunks_exact(pitch).zip(out.chunks_exact_mut(s.c));
            for (pixel, out) in pixels {
                out.copy_from_slice(&pixel[..s.c]);
            }
        }
    }
    tensor
}

/// Returns the padded length of axis `w` in device layout.
fn rows(s: Shape, packing: Packing) -> usize {
    if packing == Packing::Matrix { s.w.next_multiple_of(4) } else { s.w }
}

/// Returns the tensor that is stored in `bytes` with layout `layout`.
///
/// # Errors
/// Returns an error if the tensor cannot be allocated.
#[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
pub fn unpack(bytes: &[u8], layout: TensorLayout) -> Result<Tensor> {
    let s = layout.ty.shape;
    let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let data = match layout.ty.dtype {
        DType::U8 => Data::U8(memory::copy(&bytes[..s.len()])?),
        DType::U32 => {
            let mut out = memory::with_capacity(s.len())?;
            out.extend(words().take(s.len()).map(u32::from_le_bytes));
            Data::U32(out)
        }
        DType::F32 => {
            let (pitch, offset) = (16 * layout.pitch as usize, 16 * layout.offset as usize);
            let mut out = memory::with_capacity(s.len())?;
            for pixel in bytes.chunks_exact(pitch).take(s.positions()) {
                let lanes = pixel[offset..offset + 4 * s.c].chunks_exact(4);
                out.extend(lanes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Data::F32(out)
        }
    };
    Ok(Tensor::from_data(s, data).expect("invariant: a buffer has the size of its value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorType;

    #[test]
    fn pack_pads_and_unpack_reads_it_back() {
        let tensor = Tensor::from_fn(Shape::new(2, 3, 5, 7), |n, y, x, c| {
            (n * 1000 + y * 100 + x * 10 + c) as f32
        });
        let bytes = pack(&tensor, Packing::Channels).unwrap();
        assert_eq!(bytes.len() as u64, TensorLayout::bytes(tensor.ty(), Packing::Channels));
        assert_eq!(unpack(&bytes, TensorLayout::contiguous(tensor.ty())).unwrap(), tensor);
        let matrix = pack(&tensor, Packing::Matrix).unwrap();
        assert_eq!(matrix.len() as u64, TensorLayout::bytes(tensor.ty(), Packing::Matrix));
        for packing in [Packing::Channels, Packing::Matrix] {
            let packed = pack_f32(tensor.f32(), tensor.shape(), packing).unwrap();
            assert_eq!(unpack_f32(&packed, tensor.shape(), packing, Vec::new()), tensor);
        }
    }

    #[test]
    fn unpack_reads_a_channel_range() {
        let whole = Tensor::from_fn(Shape::new(1, 1, 2, 8), |_, _, x, c| (x * 10 + c) as f32);
        let layout =
            TensorLayout { ty: TensorType::f32(Shape::new(1, 1, 2, 3)), pitch: 2, offset: 1 };
        assert_eq!(
            unpack(&pack(&whole, Packing::Channels).unwrap(), layout).unwrap().f32(),
            [4.0, 5.0, 6.0, 14.0, 15.0, 16.0]
        );
    }
}
