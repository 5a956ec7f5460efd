//! Kernel layouts of the dialects, and their conversion to and from the native layout.

use crate::error::Result;
use crate::graph::Part;
use crate::memory;
use crate::tensor::{KernelShape, Shape, Tensor};

/// Axis order of kernels in a file. Vectors have one axis in every layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelLayout {
    /// `[c_out, c_in / groups, kh, kw]`: PyTorch.
    Oihw,
    /// `[kh, kw, c_in, c_out]`, depthwise `[kh, kw, c, 1]`: TensorFlow.
    Hwio,
    /// `[kh, kw, c_in / groups, c_out]`: native.
    Native,
}

impl KernelLayout {
    /// Returns the dimensions, in a file, of a parameter with the native `shape`.
    pub fn dims(self, shape: Shape, part: Part, depthwise: bool) -> Vec<usize> {
        let KernelShape { height: kh, width: kw, in_channels: c_in, out_channels: c_out } =
            KernelShape::of(shape);
        match (part, self) {
            (Part::Kernel, KernelLayout::Oihw) => vec![c_out, c_in, kh, kw],
            (Part::Kernel, KernelLayout::Hwio) if depthwise => vec![kh, kw, c_out, c_in],
            (Part::Kernel, _) => vec![kh, kw, c_in, c_out],
            _ => vec![c_out],
        }
    }

    /// Converts elements of a file to a native tensor of `shape`.
    ///
    /// # Errors
    /// Returns an error if the number of elements does not match the shape, or if the allocation
    /// fails.
    pub fn read(self, shape: Shape, part: Part, data: Vec<f32>) -> Result<Tensor> {
        if part != Part::Kernel || self != KernelLayout::Oihw || data.len() != shape.len() {
            // A depthwise kernel has the same element order in `[kh, kw, c, 1]` and `[kh, kw, 1,
            // c]`.
            return Tensor::new(shape, data);
        }
        let kernel = KernelShape::of(shape);
        let mut out = memory::zeros(data.len())?;
        for (o, filter) in data.chunks_exact(kernel.reduction()).enumerate() {
            for (i, plane) in filter.chunks_exact(kernel.taps()).enumerate() {
                for (tap, &value) in plane.iter().enumerate() {
                    out[(tap * kernel.in_channels + i) * kernel.out_channels + o] = value;
                }
            }
        }
        Tensor::new(shape, out)
    }

    /// Converts a native tensor to elements of a file.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn write(self, tensor: &Tensor, part: Part) -> Result<Vec<f32>> {
        let (shape, data) = (tensor.shape(), tensor.f32());
        if part != Part::Kernel || self != KernelLayout::Oihw {
            return memory::copy(data);
        }
        let kernel = KernelShape::of(shape);
        let at = |tap, i, o| data[(tap * kernel.in_channels + i) * kernel.out_channels + o];
        let mut out = memory::with_capacity(data.len())?;
        for o in 0..kernel.out_channels {
            for i in 0..kernel.in_channels {
                out.extend((0..kernel.taps()).map(|tap| at(tap, i, o)));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_survive_conversion_to_pytorchs_layout_and_back() {
        let native = Tensor::from_fn(Shape::new(2, 3, 4, 5), |y, x, i, o| {
            (1000 * y + 100 * x + 10 * i + o) as f32
        });
        let oihw = KernelLayout::Oihw.write(&native, Part::Kernel).unwrap();
        // Element [o = 3, i = 2, y = 1, x = 0] of [5, 4, 2, 3].
        assert_eq!(oihw[((3 * 4 + 2) * 2 + 1) * 3], 1023.0);
        assert_eq!(KernelLayout::Oihw.read(native.shape(), Part::Kernel, oihw).unwrap(), native);
        assert_eq!(KernelLayout::Oihw.dims(native.shape(), Part::Kernel, false), [5, 4, 2, 3]);
    }
}
