//! How dialects order a tensor's elements, and the way from there to ours.

use crate::error::Result;
use crate::memory;
use crate::tensor::{Shape, Tensor};

/// The order of a kernel's axes in a file. Vectors have one axis everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelLayout {
    /// `[c_out, c_in / groups, kh, kw]`: PyTorch.
    Oihw,
    /// `[kh, kw, c_in, c_out]`, depthwise `[kh, kw, c, 1]`: TensorFlow.
    Hwio,
    /// `[kh, kw, c_in / groups, c_out]`: ours.
    Native,
}

/// What a parameter is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterPart {
    /// The convolution's kernel.
    Kernel,
    /// The convolution's bias.
    Bias,
    /// The batch norm's factor.
    Gamma,
    /// The batch norm's summand.
    Beta,
    /// The batch norm's running mean.
    Mean,
    /// The batch norm's running variance.
    Variance,
}

/// Our endings of names, the longer before those they contain.
const SUFFIXES: [(&str, ParameterPart); 6] = [
    (".norm.weight", ParameterPart::Gamma),
    (".norm.bias", ParameterPart::Beta),
    (".norm.running_mean", ParameterPart::Mean),
    (".norm.running_var", ParameterPart::Variance),
    (".weight", ParameterPart::Kernel),
    (".bias", ParameterPart::Bias),
];

impl ParameterPart {
    /// One of our names as the layer's path and the part.
    pub fn split(name: &str) -> Option<(&str, ParameterPart)> {
        SUFFIXES.iter().find_map(|&(suffix, part)| Some((name.strip_suffix(suffix)?, part)))
    }

    /// The ending of our names.
    pub fn suffix(self) -> &'static str {
        SUFFIXES.iter().find(|(_, part)| *part == self).map_or("", |(suffix, _)| suffix)
    }
}

impl KernelLayout {
    /// Dimensions in a file of a parameter with our `shape`.
    pub fn dims(self, shape: Shape, part: ParameterPart, depthwise: bool) -> Vec<usize> {
        let Shape { n: kh, h: kw, w: c_in, c: c_out } = shape;
        match (part, self) {
            (ParameterPart::Kernel, KernelLayout::Oihw) => vec![c_out, c_in, kh, kw],
            (ParameterPart::Kernel, KernelLayout::Hwio) if depthwise => vec![kh, kw, c_out, c_in],
            (ParameterPart::Kernel, _) => vec![kh, kw, c_in, c_out],
            _ => vec![c_out],
        }
    }

    /// Our tensor of `shape` from a file's elements.
    ///
    /// # Errors
    /// Where the number of elements is not the shape's.
    pub fn read(self, shape: Shape, part: ParameterPart, data: Vec<f32>) -> Result<Tensor> {
        if part != ParameterPart::Kernel || self != KernelLayout::Oihw || data.len() != shape.len()
        {
            // A depthwise kernel's elements lie in the same order in `[kh, kw, c, 1]` and
            // `[kh, kw, 1, c]`.
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

    /// A file's elements from our tensor.
    ///
    /// # Errors
    /// Where memory runs out.
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
    fn kernels_survive_the_way_to_pytorchs_order_and_back() {
        let ours = Tensor::from_fn(Shape::new(2, 3, 4, 5), |y, x, i, o| {
            (1000 * y + 100 * x + 10 * i + o) as f32
        });
        let theirs = KernelLayout::Oihw.write(&ours, ParameterPart::Kernel).unwrap();
        // Element [o = 3, i = 2, y = 1, x = 0] of [5, 4, 2, 3].
        assert_eq!(theirs[((3 * 4 + 2) * 2 + 1) * 3], 1023.0);
        assert_eq!(
            KernelLayout::Oihw.read(ours.shape(), ParameterPart::Kernel, theirs).unwrap(),
            ours
        );
        assert_eq!(
            KernelLayout::Oihw.dims(ours.shape(), ParameterPart::Kernel, false),
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
