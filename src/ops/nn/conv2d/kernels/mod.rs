//! Convolution kernels for devices.

mod depthwise;
mod lanes;
mod workgroup;

use super::Conv2d;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::tensor::{KernelShape, Shape};

/// Lists all candidates for a convolution, the one expected to be fastest first.
pub(super) fn list(conv: &Conv2d, cx: &KernelContext) -> Vec<Kernel> {
    let (x, w) = (cx.inputs[0].ty.shape, weights(cx));
    if conv.is_depthwise(x, w) {
        return depthwise::list(conv, cx);
    }
    let frame = Frame::of(cx);
    let (pixels, c4_out, c4_in) = (frame.y.positions(), frame.y.c4(), x.c4());
    let mut tiles: Vec<workgroup::Tile> = workgroup::TILES.to_vec();
    tiles.sort_by(|a, b| a.time(pixels, c4_out, c4_in).total_cmp(&b.time(pixels, c4_out, c4_in)));
    let tiled = tiles.into_iter().filter_map(|tile| workgroup::kernel(conv, cx, tile));
    let lanes = lanes::list(conv, cx);
    // Barriers and workgroup memory are expensive on a CPU, where threads are coroutines, but make
    // a GPU fast, except for an image's three channels, which would leave most of a step of K
    // empty.
    let lanes_first = cx.caps.software || 2 * c4_in <= workgroup::TILES[0].k;
    let mut all: Vec<Kernel> = if lanes_first {
        lanes.into_iter().chain(tiled).collect()
    } else {
        tiled.chain(lanes).collect()
    };
    all.push(Kernel::single(
        "direct",
        direct(conv, cx, "nn/conv2d/direct").when("grouped", conv.groups > 1),
    ));
    all
}

/// Returns the shape of the weights.
pub(super) fn weights(cx: &KernelContext) -> KernelShape {
    KernelShape::of(cx.inputs[1].ty.shape)
}

/// Shapes of input and output as a kernel addresses them.
#[derive(Debug, Clone, Copy)]
struct Frame {
    x: Shape,
    y: Shape,
}

impl Frame {
    fn of(cx: &KernelContext) -> Self {
        Self { x: cx.inputs[0].ty.shape, y: cx.outputs[0].ty.shape }
    }

    /// Views all pixels of the batch as one row, for pointwise convolutions.
    fn one_row(cx: &KernelContext) -> Self {
        let row = |s: Shape| Shape::new(1, 1, s.positions(), s.c);
        Self { x: row(cx.inputs[0].ty.shape), y: row(cx.outputs[0].ty.shape) }
    }
}

/// Creates a dispatch with one thread per pixel and four channels of the output.
fn direct(conv: &Conv2d, cx: &KernelContext, shader: &'static str) -> Dispatch {
    let frame = Frame::of(cx);
    let dispatch = operands(Dispatch::new(shader), conv, cx, frame);
    let dispatch = if conv.groups > 1 && shader == "nn/conv2d/direct" {
        dispatch.param("groups", conv.groups)
    } else {
        dispatch
    };
    dispatch.threads(frame.y.positions() * frame.y.c4())
}

/// Sets bindings, sizes and epilogue, which all convolution shaders share
/// (`shaders/nn/conv2d/common.wesl`).
fn operands(dispatch: Dispatch, conv: &Conv2d, cx: &KernelContext, frame: Frame) -> Dispatch {
    let (x, w, y) = (cx.inputs[0], weights(cx), cx.outputs[0]);
    let Frame { x: xs, y: ys } = frame;
    let mut dispatch = dispatch
        .when(conv.activation.feature(), true)
        .when("bias", conv.bias)
        .when("residual", conv.residual)
        .read("x", 0)
        .read("w", 1)
        .write("y", 0)
        .param("batch", xs.n)
        .param("h_in", xs.h)
        .param("w_in", xs.w)
        .param("c_in", xs.c)
        .param("h_out", ys.h)
        .param("w_out", ys.w)
        .param("c_out", ys.c)
        .layout("x", x)
        .layout("y", y)
        .window(w.size(), conv.stride, conv.dilation, conv.padding)
        .param("image", y.ty.shape.h * y.ty.shape.w);
    if conv.bias {
        let per_image = cx.inputs[2].ty.shape.n > 1;
        dispatch =
            dispatch.read("bias", 2).param("bias_pitch", if per_image { ys.c4() } else { 0 });
    } else {
        dispatch = dispatch.param("bias_pitch", 0u32);
    }
    let residual = conv.residual_index();
    if let Some(index) = residual {
        dispatch = dispatch.read("residual", index);
    }
    let r = residual.map(|i| cx.inputs[i]);
    dispatch.param_struct("r", &r.map(|r| r.params()).unwrap_or_default())
}

/// Returns whether any tap of any pixel is outside the image.
fn reads_padding(conv: &Conv2d, cx: &KernelContext) -> bool {
    let (x, w, y) = (cx.inputs[0].ty.shape, weights(cx), cx.outputs[0].ty.shape);
    let past =
        |out: usize, stride: usize, k: usize, dilation: usize, before: usize, size: usize| {
            before > 0 || (out - 1) * stride + (k - 1) * dilation >= size
        };
    past(y.h, conv.stride.y, w.height, conv.dilation.y, conv.padding.top, x.h)
        || past(y.w, conv.stride.x, w.width, conv.dilation.x, conv.padding.left, x.w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernel::SubgroupSizes;
    use crate::ops::kernel::{Caps, TensorLayout};
    use crate::ops::{Op, Padding};
    use crate::tensor::TensorType;

    /// Kernel labels, in order, for a convolution that preserves the map's size.
    fn labels(caps: &Caps, side: usize, c_in: usize, kernel: usize, c_out: usize) -> Vec<String> {
        let conv = Conv2d { padding: Padding::same(kernel, 1), ..Conv2d::default() };
        let types = [Shape::new(1, side, side, c_in), Shape::new(kernel, kernel, c_in, c_out)]
            .map(TensorType::f32);
        let outputs: Vec<TensorLayout> =
            conv.infer(&types).unwrap().into_iter().map(TensorLayout::contiguous).collect();
        let kernels = list(
            &conv,
            &KernelContext {
                inputs: &types.map(TensorLayout::contiguous),
                outputs: &outputs,
                caps,
            },
        );
        kernels.into_iter().map(|k| k.label).collect()
    }

    #[test]
    fn gpus_take_tiles_that_fill_them_and_processors_registers() {
        let desktop = Caps { subgroup: Some(SubgroupSizes::fixed(32)), ..Caps::PORTABLE };
        for caps in [&Caps::PORTABLE, &desktop] {
            // The decoder, the middle of a backbone, the pooled branch.
            assert_eq!(labels(caps, 129, 304, 3, 256)[0], "workgroup 128x128x16");
            assert_eq!(labels(caps, 33, 256, 3, 256)[0], "workgroup 64x64x16");
            assert_eq!(labels(caps, 1, 2048, 1, 256)[0], "workgroup 32x32x32");
            // An image's three channels are a quarter of a step.
            assert!(!labels(caps, 257, 3, 3, 32)[0].starts_with("workgroup"));
        }
        let lavapipe =
            Caps { software: true, subgroup: Some(SubgroupSizes::fixed(8)), ..Caps::PORTABLE };
        assert_eq!(labels(&lavapipe, 33, 1280, 1, 256)[0], "subgroup 6x32");
        assert_eq!(labels(&lavapipe, 33, 256, 3, 256)[0], "subgroup 6x32 window");
        assert_eq!(
            labels(&Caps { subgroup: None, ..lavapipe }, 33, 1280, 1, 256)[0],
            "register 8x16"
        );
    }

    #[test]
    fn a_compiler_that_cannot_take_long_code_gets_short_kernels() {
        let swiftshader = Caps {
            software: true,
            short_code: true,
            subgroup: Some(SubgroupSizes::fixed(4)),
            ..Caps::PORTABLE
        };
        for (side, c_in, kernel, c_out) in
            [(33, 1280, 1, 256), (33, 256, 3, 256), (257, 3, 3, 32), (1, 2048, 1, 256)]
        {
            let all = labels(&swiftshader, side, c_in, kernel, c_out);
            assert_eq!(all[0], "register 4x8", "{all:?}");
            assert!(
                !all.iter().any(|l| l.starts_with("subgroup") || l.contains("window")),
                "{all:?}"
            );
        }
    }

    #[test]
    fn lanes_of_a_gpu_hold_few_accumulators() {
        for size in [32, 64] {
            let caps = Caps { subgroup: Some(SubgroupSizes::fixed(size)), ..Caps::PORTABLE };
            let all = labels(&caps, 33, 256, 3, 256);
            let crowded = ["subgroup 6x32", "subgroup 8x32", "subgroup 4x64"];
            assert!(!all.iter().any(|l| crowded.iter().any(|c| l.starts_with(c))), "{all:?}");
            assert_eq!(all.iter().any(|l| l == "subgroup 4x32"), size == 32, "{all:?}");
        }
    }
}
