//! Gradient of a convolution with respect to its weights: for each tap a sum over all positions of
//! products of an input channel and an output channel.
//!
//! There are few weights and many positions, so the positions (lines of the output) are split into
//! parts, which a second step adds in order. There are no atomics, so results are bit-reproducible.

use super::{Conv2d, weight_grad_cpu};
use crate::error::Result;
use crate::geometry::Size;
use crate::ops::kernel::{Caps, Dispatch, Kernel, KernelContext, LayoutParams, Operand};
use crate::ops::{Cost, Op, Signature, bytes, expect_gradient};
use crate::tensor::{KernelShape, Shape, Tensor, TensorType};

/// `dw` `[kh, kw, C / groups, O]` from `[x, dy]`: the convolution's input `[N, H, W, C]`, and the
/// gradient of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dWeightGrad {
    /// The convolution. Its bias, residual and activation are ignored.
    pub conv: Conv2d,
    /// Columns and rows of the kernel's taps.
    pub kernel: Size,
}

/// `vec4`s of input and output channels that a thread computes.
#[derive(Debug, Clone, Copy)]
struct Tile {
    i: usize,
    o: usize,
}

const TILES: [Tile; 5] = [
    Tile { i: 2, o: 4 },
    Tile { i: 2, o: 2 },
    Tile { i: 1, o: 4 },
    Tile { i: 4, o: 1 },
    Tile { i: 1, o: 1 },
];

/// Largest buffer of partial sums, in bytes.
const MAX_SCRATCH: u64 = 64 << 20;

impl Tile {
    /// Returns the number of threads per tap, without splitting the positions.
    fn threads(&self, c4_in: usize, c4_out: usize) -> usize {
        c4_in.div_ceil(self.i) * c4_out.div_ceil(self.o)
    }

    /// Returns the cost of a position over all threads, in `vec4` multiply-adds.
    fn cost(&self, c4_in: usize, c4_out: usize) -> usize {
        // The same as for the forward pass in registers.
        const LOAD: usize = 11;
        self.threads(c4_in, c4_out) * (LOAD * (self.i + self.o) + 4 * self.i * self.o)
    }
}

/// Returns the number of lines per part: few enough that `threads` threads per part keep the device
/// busy, and enough that the parts fit into the scratch buffer.
fn lines_per_part(lines: usize, threads: usize, bytes: u64, caps: &Caps) -> usize {
    let enough_threads: usize = if caps.software { 1 << 10 } else { 1 << 16 };
    let fit = (MAX_SCRATCH.min(caps.max_binding) / bytes.max(1)).max(1);
    let parts =
        enough_threads.div_ceil(threads).min(usize::try_from(fit).unwrap_or(usize::MAX)).min(lines);
    lines.div_ceil(parts)
}

impl Conv2dWeightGrad {
    fn weights_shape(&self, x: Shape, dy: Shape) -> KernelShape {
        KernelShape::new(self.kernel, x.c / self.conv.groups.max(1), dy.c)
    }

    /// Returns the kernel whose threads compute a tile, or without a tile four output channels of
    /// one input channel of a group.
    fn kernel(&self, cx: &KernelContext, tile: Option<Tile>) -> Kernel {
        let (x, dy, dw) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
        let (xs, ys, ws) = (x.ty.shape, dy.ty.shape, KernelShape::of(dw.ty.shape));
        let depthwise = self.conv.is_depthwise(xs, ws);
        let (taps, lines) = (ws.taps(), ys.n * ys.h);
        let across = tile.map_or(ws.in_channels * ys.c4(), |tile| tile.threads(xs.c4(), ys.c4()));
        let size = taps * ws.in_channels * ws.c4_out();
        let per_part = lines_per_part(lines, taps * across, 16 * size as u64, cx.caps);
        let parts = lines.div_ceil(per_part);
        let single_part = parts == 1;
        let (to, pitch, offset) = if single_part {
            (Operand::Output(0), dw.pitch, dw.offset)
        } else {
            (Operand::Scratch(0), ws.c4_out() as u32, 0)
        };
        let sums = Dispatch::new("nn/conv2d/weight_grad")
            .when("tiled", tile.is_some())
            .when("depthwise", depthwise)
            .constant("TILE_I", tile.map_or(1, |t| t.i as u32))
            .constant("TILE_O", tile.map_or(1, |t| t.o as u32))
            .read("x", 0)
            .read("dy", 1)
            .bind("to", to)
            .param("h_in", xs.h)
            .param("w_in", xs.w)
            .param("h_out", ys.h)
            .param("w_out", ys.w)
            .param("c_in", xs.c)
            .param("c_out", ys.c)
            .param("rows", ws.in_channels)
            .param("c_out_group", ys.c / self.conv.groups)
            .window(ws.size(), self.conv.stride, self.conv.dilation, self.conv.padding)
            .param("lines", lines)
            .param("lines_per_part", per_part)
            .param("parts", parts)
            .layout("x", x)
            .layout("dy", dy)
            .param_struct("to", &LayoutParams { pitch, offset })
            .threads(parts * taps * across);
        let label = match tile {
            Some(tile) => format!("register {}x{}", 4 * tile.i, 4 * tile.o),
            None => if depthwise { "depthwise" } else { "grouped" }.to_owned(),
        };
        if single_part {
            return Kernel::single(label, sums);
        }
        let add = Dispatch::new("nn/conv2d/weight_grad_sum")
            .bind("part", Operand::Scratch(0))
            .write("dw", 0)
            .param("pixels", taps * ws.in_channels)
            .param("c4", ws.c4_out())
            .param("parts", parts)
            .layout("dw", dw)
            .threads(size);
        Kernel { label, dispatches: vec![sums, add], scratch: vec![16 * (size * parts) as u64] }
    }
}

impl Op for Conv2dWeightGrad {
    fn signature(&self) -> Signature {
        Signature::new("conv2d_weight_grad").f32("x").f32("dy")
    }

    fn attributes(&self) -> String {
        let Size { width, height } = self.kernel;
        format!("{height}x{width} {}", self.conv.plain().attributes())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (x, dy) = (inputs[0].shape, inputs[1].shape);
        let w = self.weights_shape(x, dy);
        expect_gradient(self.conv.output_shape(x, w)?, dy)?;
        Ok(vec![TensorType::f32(w.shape())])
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        let (dy, w) = (inputs[1].shape, KernelShape::of(outputs[0].shape));
        Cost {
            multi_adds: dy.len() as u64 * w.reduction() as u64,
            bytes: bytes(inputs) + bytes(outputs),
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        weight_grad_cpu::run(&self.conv, inputs[0], inputs[1], &mut outputs[0]);
        Ok(())
    }

    fn cpu_scratch(&self, inputs: &[TensorType], outputs: &[TensorType], threads: usize) -> u64 {
        weight_grad_cpu::scratch(
            &self.conv,
            inputs[0].shape,
            inputs[1].shape,
            KernelShape::of(outputs[0].shape),
            threads,
        )
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dw = KernelShape::of(cx.outputs[0].ty.shape);
        if self.conv.groups > 1 || self.conv.is_depthwise(cx.inputs[0].ty.shape, dw) {
            return vec![self.kernel(cx, None)];
        }
        let (c4_in, c4_out) = (cx.inputs[0].ty.shape.c4(), cx.inputs[1].ty.shape.c4());
        // Skip tiles larger than the matrix: a smaller tile computes the same with less waste.
        let mut tiles: Vec<Tile> =
            TILES.into_iter().filter(|t| t.i <= c4_in && t.o <= c4_out).collect();
        tiles.sort_by_key(|tile| tile.cost(c4_in, c4_out));
        tiles.into_iter().map(|tile| self.kernel(cx, Some(tile))).collect()
    }
}
