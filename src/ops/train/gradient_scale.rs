//! Global norm of all gradients, and the factor that scales and clips them.

use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::ops::nn::channel_sum::{block, sum_positions, sums};
use crate::ops::{Op, Packing, Signature};
use crate::tensor::{Shape, Tensor, TensorType};

/// `[g, ..]`, flat vectors that together contain all gradients, to `[1, 1, 1, 4]`: the Euclidean
/// norm of `scale * g`, the factor that an update multiplies `g` by, 1 if the norm is finite and 0
/// otherwise, and 0.
///
/// The factor is `scale * min(1, max_norm / (norm + 1e-6))`, as in PyTorch's `clip_grad_norm_`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientScale {
    /// Factor of every gradient: one over the number of accumulated batches.
    pub scale: f32,
    /// The largest norm; `None` disables clipping.
    pub max_norm: Option<f32>,
}

/// Added to a norm before it divides.
const NORM_GUARD: f32 = 1e-6;

impl GradientScale {
    /// Returns the largest norm for the shader, which represents no limit by `f32::MAX`.
    fn limit(&self) -> f32 {
        self.max_norm.unwrap_or(f32::MAX)
    }
}

/// Returns the number of threads that sum the squares of `vectors` `vec4`s: each sums about the
/// square root of `vectors`.
fn parts(vectors: usize) -> usize {
    vectors.div_ceil(block(vectors))
}

impl Op for GradientScale {
    fn signature(&self) -> Signature {
        Signature::new("gradient_scale").f32("flat gradients").repeated()
    }

    fn attributes(&self) -> String {
        let clip =
            self.max_norm.map_or_else(|| "no limit".to_owned(), |max| format!("at most {max}"));
        if self.scale == 1.0 { clip } else { format!("{clip}, times {}", self.scale) }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let flat = |ty: &TensorType| {
            *ty == TensorType::f32(Shape::vector(ty.shape.c)) && ty.shape.c.is_multiple_of(4)
        };
        if !inputs.iter().all(flat) {
            return Err(error!(Graph, "expected flat vectors with a multiple of four elements"));
        }
        if self.max_norm.is_some_and(|max| max.is_nan() || max <= 0.0) {
            return Err(error!(Graph, "the largest norm must be above 0, got {:?}", self.max_norm));
        }
        Ok(vec![TensorType::f32(Shape::vector(4))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        // Four independent sums: a single one would be limited by the latency of the addition.
        let add =
            |sum: &mut [f32], g: &[f32]| sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += g * g);
        let squares = |g: &[f32]| {
            sum_positions(g.len() / 4, 4, |p, sum| add(sum, &g[4 * p..][..4])).iter().sum::<f32>()
        };
        let norm = inputs.iter().map(|g| squares(g.f32())).sum::<f32>().sqrt() * self.scale;
        let factor = self.scale * (self.limit() / (norm + NORM_GUARD)).min(1.0);
        outputs[0].f32_mut().copy_from_slice(&[
            norm,
            factor,
            f32::from(u8::from(norm.is_finite())),
            0.0,
        ]);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let mut dispatches = Vec::new();
        let mut total = 0;
        for (i, g) in cx.inputs.iter().enumerate() {
            let vectors = g.ty.shape.c4();
            let parts = parts(vectors);
            let squares = Dispatch::new("train/gradient_squares")
                .read("g", i)
                .bind("sums", Operand::Scratch(0))
                .param("vectors", vectors)
                .param("parts", parts)
                .param("first", total)
                .threads(parts);
            dispatches.push(squares);
            total += parts;
        }
        let row = |positions: usize| {
            TensorLayout::contiguous(TensorType::f32(Shape::new(1, 1, positions, 4)))
        };
        dispatches.push(sums(
            Operand::Scratch(0),
            row(total),
            Operand::Scratch(1),
            row(1),
            total,
            1.0,
        ));
        let last = Dispatch::new("train/gradient_scale")
            .constant("NORM_GUARD", NORM_GUARD)
            .bind("sum", Operand::Scratch(1))
            .write("scale", 0)
            .param("share", self.scale)
            .param("max_norm", self.limit())
            .threads(1);
        dispatches.push(last);
        let scratch =
            [total, 1].map(|n| TensorLayout::bytes(row(n).ty, Packing::Channels)).to_vec();
        vec![Kernel { label: "flat".to_owned(), dispatches, scratch }]
    }
}
