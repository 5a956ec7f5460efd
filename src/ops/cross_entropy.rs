//! Softmax and cross entropy in one: the loss, and its gradient by the logits.

use super::channel_sum::{block, blocks, sum_positions, sums};
use super::kernel::{Dispatch, Kernel, KernelContext, Layout, Operand};
use super::{Cost, Op, Packing, bytes, expect_f32};
use crate::error::{Result, error};
use crate::tensor::{DType, Shape, Tensor, TensorType};
use rayon::prelude::*;
use std::any::Any;

/// By what the sum of the pixels' losses is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// The sum of the weights of the pixels' classes: PyTorch's `cross_entropy`.
    Weights,
    /// The number of pixels that count: TensorFlow's DeepLab.
    Pixels,
}

/// `[logits, labels]` or `[logits, labels, weights]` to `[loss, dlogits]`: logits `[N, H, W, C]`, labels u32 `[N, H, W, 1]`, weights
/// `[1, 1, 1, C]`, loss `[1, 1, 1, 1]`, and its gradient.
///
/// With `p` the softmax of a pixel, `t` its label, `w` the weights and `s` the smoothing, the pixel's loss is
/// `-(1 - s) * w[t] * ln p[t] - s / C * sum(w[c] * ln p[c])`, as PyTorch has it. Pixels whose label is `ignore` or no class do not count.
/// Where no pixel counts, loss and gradient are 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// The label that does not count; 255 in most data sets.
    pub ignore: u32,
    /// Label smoothing, 0 to 1.
    pub smoothing: f32,
    /// Whether there are weights of classes.
    pub weighted: bool,
    /// By what the sum is divided.
    pub denominator: Denominator,
}

impl Default for CrossEntropy {
    /// PyTorch's, with 255 ignored.
    fn default() -> Self {
        Self { ignore: 255, smoothing: 0.0, weighted: false, denominator: Denominator::Weights }
    }
}

impl CrossEntropy {
    /// Loss and weight of a pixel; writes the gradient of the loss.
    fn pixel(&self, logits: &[f32], label: u32, weights: Option<&[f32]>, gradient: &mut [f32]) -> (f32, f32) {
        let classes = logits.len();
        let target = label as usize;
        if label == self.ignore || target >= classes {
            gradient.fill(0.0);
            return (0.0, 0.0);
        }
        let weight = |c: usize| weights.map_or(1.0, |w| w[c]);
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
        let log_sum = sum.ln();
        let (hard, soft) = ((1.0 - self.smoothing) * weight(target), self.smoothing / classes as f32);
        let mut loss = hard * (log_sum - (logits[target] - top));
        let mut all = 0.0;
        if soft > 0.0 {
            for (c, x) in logits.iter().enumerate() {
                loss += soft * weight(c) * (log_sum - (x - top));
                all += weight(c);
            }
        }
        for (c, (g, x)) in gradient.iter_mut().zip(logits).enumerate() {
            let p = (x - top).exp() / sum;
            let own = if c == target { 1.0 } else { 0.0 };
            *g = hard * (p - own) + soft * (all * p - weight(c));
        }
        let counted = match self.denominator {
            Denominator::Weights => weight(target),
            Denominator::Pixels => 1.0,
        };
        (loss, counted)
    }
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn attributes(&self) -> String {
        let mut text = format!("ignore {}, by {:?}", self.ignore, self.denominator).to_lowercase();
        if self.smoothing > 0.0 {
            text += &format!(", smoothing {}", self.smoothing);
        }
        if self.weighted { text + ", weighted" } else { text }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let count = 2 + usize::from(self.weighted);
        if inputs.len() != count {
            return Err(error!(Graph, "takes {count} inputs, got {}", inputs.len()));
        }
        expect_f32(&inputs[..1], 1)?;
        let logits = inputs[0].shape;
        if inputs[1] != TensorType::u32(logits.with_c(1)) {
            let got = inputs[1];
            return Err(error!(Graph, "expected labels u32 {}, got {:?} {}", logits.with_c(1), got.dtype, got.shape));
        }
        if self.weighted && inputs[2] != TensorType::f32(Shape::vector(logits.c)) {
            return Err(error!(Graph, "expected one weight for each of {} classes, got {}", logits.c, inputs[2].shape));
        }
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(error!(Graph, "the smoothing must be 0 to 1, got {}", self.smoothing));
        }
        Ok(vec![TensorType::f32(Shape::vector(1)), inputs[0]])
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        Cost { multi_adds: 0, bytes: bytes(inputs) + 2 * bytes(outputs) }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (logits, labels) = (inputs[0].f32(), inputs[1].u32());
        let weights = self.weighted.then(|| inputs[2].f32());
        let c = inputs[0].shape().c;
        let gradient = outputs[1].f32_mut();
        let mut pixels = vec![(0.0, 0.0); labels.len()];
        let rows = pixels.par_iter_mut().zip(gradient.par_chunks_exact_mut(c)).zip(logits.par_chunks_exact(c).zip(labels));
        rows.with_min_len(256).for_each(|((pixel, g), (x, &label))| *pixel = self.pixel(x, label, weights, g));
        let sums = sum_positions(labels.len(), 2, |p, sum| {
            sum[0] += pixels[p].0;
            sum[1] += pixels[p].1;
        });
        let scale = if sums[1] > 0.0 { 1.0 / sums[1] } else { 0.0 };
        gradient.par_iter_mut().with_min_len(1 << 14).for_each(|g| *g *= scale);
        outputs[0].f32_mut()[0] = sums[0] * scale;
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, g) = (cx.inputs[0], cx.outputs[1]);
        let shape = x.ty.shape;
        let pixels = shape.positions();
        let row = |positions: usize| Layout::contiguous(TensorType::f32(Shape::new(1, 1, positions, 4)));
        let mut first = Dispatch::new("cross_entropy")
            .when("weighted", self.weighted)
            .when("smoothed", self.smoothing > 0.0)
            .when("by_pixels", self.denominator == Denominator::Pixels)
            .read("x", 0)
            .read("labels", 1)
            .write("gradient", 1)
            .bind("losses", Operand::Scratch(0))
            .param("pixels", pixels)
            .param("classes", shape.c)
            .param("ignored", self.ignore)
            .param("smoothing", self.smoothing)
            .param("x_pitch", x.pitch)
            .param("x_offset", x.offset)
            .param("g_pitch", g.pitch)
            .param("g_offset", g.offset)
            .threads(pixels);
        if self.weighted {
            first = first.read("weights", 2);
        }
        let last = Dispatch::new("cross_entropy_scale")
            .bind("sums", Operand::Scratch(2))
            .write("loss", 0)
            .write("gradient", 1)
            .param("pixels", pixels)
            .param("c4", shape.c4())
            .param("g_pitch", g.pitch)
            .param("g_offset", g.offset)
            .threads(pixels * shape.c4());
        let parts = blocks(pixels);
        let dispatches = vec![
            first,
            sums(Operand::Scratch(0), row(pixels), Operand::Scratch(1), row(parts), block(pixels), 1.0),
            sums(Operand::Scratch(1), row(parts), Operand::Scratch(2), row(1), parts, 1.0),
            last,
        ];
        let scratch = [pixels, parts, 1].map(|n| Layout::bytes(row(n).ty, Packing::Channels)).to_vec();
        debug_assert!(cx.inputs[1].ty.dtype == DType::U32);
        vec![Kernel { label: "pixel".to_owned(), dispatches, scratch }]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
