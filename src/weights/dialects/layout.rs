//! Kernel layouts of the dialects, and their conversion to and from the native layout.

use crate::error::Result;
use crate::memory;
use crate::tensor::{Shape, Tensor};

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

/// Role of a parameter in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterPart {
    /// The convolution's kernel.
    Kernel,
    /// The convolution's bias.
    Bias,
    /// The batch norm's weight.
    Gamma,
    /// The batch norm's bias.
    Beta,
    /// The batch norm's running mean.
    Mean,
    /// The batch norm's running variance.
    Variance,
}

/// Suffixes of native names. A suffix comes after the longer ones that end with it.
const SUFFIXES: [(&str, ParameterPart); 6] = [
    (".norm.weight", ParameterPart::Gamma),
    (".norm.bias", ParameterPart::Beta),
    (".norm.running_mean", ParameterPart::Mean),
    (".norm.running_var", ParameterPart::Variance),
    (".weight", ParameterPart::Kernel),
    (".bias", ParameterPart::Bias),
];

impl ParameterPart {
    /// Splits a native name into the path of the layer and the role of the parameter.
    pub fn split(name: &str) -> Option<(&str, ParameterPart)> {
        SUFFIXES.iter().find_map(|&(suffix, part)| Some((name.strip_suffix(suffix)?, part)))
    }

    /// Returns the suffix of native names.
    pub fn suffix(self) -> &'static str {
        SUFFIXES.iter().find(|(_, part)| *part == self).map_or("", |(suffix, _)| suffix)
    }
}

impl KernelLayout {
    /// Returns the dimensions, in a file, of a parameter with the native `shape`.
    pub fn dims(self, shape: Shape, part: ParameterPart, depthwise: bool) -> Vec<usize> {
        let Shape { n: kh, h: kw, w: c_in, c: c_out } = shape;
        match (part, self) {
            (ParameterPart::Kernel, KernelLayout::Oihw) => vec![c_out, c_in, kh, kw],
            (ParameterPart::Kernel, KernelLayout::Hwio) if depthwise => vec![kh, kw, c_out, c_in],
            (ParameterPart::Kernel, _) => vec![kh, kw, c_in, c_out],
            _ => vec![c_out],
        }
    }

    /// Converts elements of a file to a native tensor of `shape`.
    ///
    /// # Errors
    /// Returns an error if the number of elements does not match the shape, or if the allocation
    /// fails.
    pub fn read(self, shape: Shape, part: ParameterPart, data: Vec<f32>) -> Result<Tensor> {
        if part != ParameterPart::Kernel || self != KernelLayout::Oihw || data.len() != shape.len()
        {
            // A depthwise kernel has the same element order in `[kh, kw, c, 1]` and `[kh, kw, 1,
            // c]`.
            return Tensor::new(shape, data);
        }
        let taps = shape.n * shape.h;
        let mut out = memory::zeros(data.len())?;
        for (o, filter) in data.chunks_exact(shape.w * taps).enumerate() {
            for (i, plane) in filter.chunks_exact(taps).enumerate() {
                for (tap, &value) in plane.iter().enumerate() {
                    out[(tap * shape.w + i) * shape.c + o] = value;
                }
            }
        }
        Tensor::new(shape, out)
    }

    /// Converts a native tensor to elements of a file.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn write(self, tensor: &Tensor, part: ParameterPart) -> Result<Vec<f32>> {
        let (shape, data) = (tensor.shape(), tensor.f32());
        if part != ParameterPart::Kernel || self != KernelLayout::Oihw {
            return memory::copy(data);
        }
        let taps = shape.n * shape.h;
        let mut out = memory::with_capacity(data.len())?;
        for o in 0..shape.c {
            for i in 0..shape.w {
                out.extend((0..taps).map(|tap| data[(tap * shape.w + i) * shape.c + o]));
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
        let oihw = KernelLayout::Oihw.write(&native, ParameterPart::Kernel).unwrap();
        // Element [o = 3, i = 2, y = 1, x = 0] of [5, 4, 2, 3].
        assert_eq!(oihw[((3 * 4 + 2) * 2 + 1) * 3], 1023.0);
        assert_eq!(
            KernelLayout::Oihw.read(native.shape(), ParameterPart::Kernel, oihw).unwrap(),
            native
        );
        assert_eq!(
            KernelLayout::Oihw.dims(native.shape(), ParameterPart::Kernel, false),
            [5, 4, 2, 3]
        );
    }

    #[test]
    fn names_split_into_layer_and_part() {
        assert_eq!(
            ParameterPart::split("aspp.rate1.norm.weight"),
            Some(("aspp.rate1", ParameterPart::Gamma))
        );
        assert_eq!(ParameterPart::split("logits.bias"), Some(("logits", ParameterPart::Bias)));
        assert_eq!(ParameterPart::split("logits"), None);
        for (suffix, part) in SUFFIXES {
            assert_eq!(part.suffix(), suffix);
        }
    }
}
