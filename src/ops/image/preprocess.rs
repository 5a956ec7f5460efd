//! Normalization and padding of image bytes for a network.

use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{OnnxAttribute, OnnxElements, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Images u8 `[N, h0, w0, 3]` to f32 `[N, h, w, 3]`: `byte * scale + shift` per channel, padded at
/// the bottom and right with `pad_value`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocess {
    /// Size of the output, at least that of the image.
    pub size: Size,
    /// Factor of each channel: `1 / (255 * std)` for statistics of values in 0 to 1.
    pub scale: [f32; 3],
    /// Addend of each channel: `-mean / std`.
    pub shift: [f32; 3],
    /// Value of the padding rows and columns, already normalized.
    pub pad_value: [f32; 3],
}

/// Sets the factor, the addend and the padding value of each channel.
pub(super) fn channels(
    dispatch: Dispatch,
    scale: [f32; 3],
    shift: [f32; 3],
    pad_value: [f32; 3],
) -> Dispatch {
    dispatch
        .param_struct("scale", &scale)
        .param_struct("shift", &shift)
        .param_struct("pad", &pad_value)
}

impl Op for Preprocess {
    fn signature(&self) -> Signature {
        Signature::new("preprocess").u8("image of three u8 channels")
    }

    fn attributes(&self) -> String {
        let Size { width, height } = self.size;
        format!("{height}x{width}")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        if shape.c != 3 {
            return Err(error!(Graph, "expected an image of three u8 channels, got {shape}"));
        }
        if shape.is_empty() {
            return Err(error!(Graph, "an image of {} has no pixels", shape.size()));
        }
        if !shape.size().fits_into(self.size) {
            return Err(error!(
                Graph,
                "an image of {} does not fit into {}",
                shape.size(),
                self.size
            )
            .advice("resize the image first"));
        }
        Ok(vec![TensorType::f32(shape.with_size(self.size))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].u8(), inputs[0].shape());
        let Size { width, height } = self.size;
        outputs[0].f32_mut().par_chunks_mut(width * 3).enumerate().for_each(|(line, y)| {
            let (n, oy) = (line / height, line % height);
            let inside = if oy < from.h { from.w } else { 0 };
            let (image, padding) = y.split_at_mut(inside * 3);
            if inside > 0 {
                let x = &x[from.index(n, oy, 0, 0)..][..inside * 3];
                for (y, x) in image.chunks_exact_mut(3).zip(x.chunks_exact(3)) {
                    for c in 0..3 {
                        y[c] = f32::from(x[c]) * self.scale[c] + self.shift[c];
                    }
                }
            }
            padding.chunks_exact_mut(3).for_each(|y| y.copy_from_slice(&self.pad_value));
        });
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        // Known sizes differ where the image is padded; an open size never is.
        let (from, to) = (form.shape(0), form.output_shape(0));
        let vector = |values: [f32; 3]| OnnxElements::F32(values.to_vec());
        let scale = form.constant("scale", &[3], vector(self.scale));
        let shift = form.constant("shift", &[3], vector(self.shift));
        let x = form.node("Cast", vec![form.input(0)], vec![("to", OnnxAttribute::Int(1))]);
        let x = form.node("Mul", vec![x, scale], Vec::new());
        let x = form.node("Add", vec![x, shift], Vec::new());
        let order = OnnxAttribute::Ints(vec![0, 3, 1, 2]);
        if from.size() == to.size() {
            form.output("Transpose", vec![x], vec![("perm", order)]);
            return Ok(());
        }
        if self.pad_value.iter().any(|&value| value != self.pad_value[0]) {
            return form.refuse("padding with another value in each channel");
        }
        let x = form.node("Transpose", vec![x], vec![("perm", order)]);
        let (rows, columns) = (to.h - from.h, to.w - from.w);
        let pads = form.integers("pads", &[0, 0, 0, 0, 0, 0, rows as i64, columns as i64]);
        let value = form.number("pad_value", self.pad_value[0]);
        form.output("Pad", vec![x, pads, value], Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (from, y) = (cx.inputs[0].ty.shape, cx.outputs[0]);
        let dispatch = Dispatch::new("image/preprocess")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", y.ty.shape.positions())
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", self.size.height)
            .param("w_out", self.size.width)
            .layout("y", y)
            .threads(y.ty.shape.positions());
        vec![Kernel::single("pixel", channels(dispatch, self.scale, self.shift, self.pad_value))]
    }
}

impl Scope<'_> {
    /// Adds normalization and padding of an image of bytes.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn preprocess(&mut self, name: &str, image: ValueId, op: Preprocess) -> Result<ValueId> {
        self.op(name, op, &[image])
    }
}
