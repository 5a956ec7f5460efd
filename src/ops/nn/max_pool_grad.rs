//! Gradient of max pooling: each window passes its gradient to its first maximum.

use super::window::Axis;
use crate::error::Result;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{MaxPool, Op, Signature, expect_gradient};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `dx` `[N, H, W, C]` from `[x, dy]`. Of equal maxima in a window the first one in row-major order
/// receives the whole gradient, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPoolGrad(pub MaxPool);

/// Lines of `dx` per task. Windows that cross two bands are evaluated by both tasks.
const BAND: usize = 16;

/// Finds for each channel the first of `taps` with the largest value.
fn first_maxima<'x>(best: &mut [f32], tap_of: &mut [u32], taps: impl Iterator<Item = &'x [f32]>) {
    best.fill(f32::NEG_INFINITY);
    // Default if no value is larger.
    tap_of.fill(0);
    for (tap, x) in taps.enumerate() {
        for ((best, best_tap), &x) in best.iter_mut().zip(tap_of.iter_mut()).zip(x) {
            (*best, *best_tap) = if x > *best { (x, tap as u32) } else { (*best, *best_tap) };
        }
    }
}

impl Op for MaxPoolGrad {
    fn signature(&self) -> Signature {
        Signature::new("max_pool_grad").f32("x").f32("dy")
    }

    fn attributes(&self) -> String {
        self.0.attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let expected = self.0.infer(&inputs[..1])?[0].shape;
        expect_gradient(expected, inputs[1].shape)?;
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, dy) = (inputs[0].f32(), inputs[1].f32());
        let (from, to): (Shape, Shape) = (inputs[0].shape(), inputs[1].shape());
        let (rows, columns): (Axis, Axis) = self.0.window().axes(from);
        let line = from.w * from.c;
        let bands = outputs[0].f32_mut().par_chunks_mut(line * from.h).enumerate().flat_map(
            |(image, dx)| {
                dx.par_chunks_mut(line * BAND)
                    .enumerate()
                    .map(move |(band, dx)| (image, band * BAND, dx))
            },
        );
        let memory = || (vec![0.0; from.c], vec![0; from.c]);
        bands.for_each_init(memory, |(best, tap_of), (image, first, dx)| {
            dx.fill(0.0);
            let band_rows = first..first + dx.len() / line;
            let reads_band =
                |&oy: &usize| rows.taps(oy).any(|ky| band_rows.contains(&rows.position(oy, ky)));
            for (oy, ox) in
                (0..to.h).filter(reads_band).flat_map(|oy| (0..to.w).map(move |ox| (oy, ox)))
            {
                let at = |(ky, kx)| (rows.position(oy, ky), columns.position(ox, kx));
                let taps = || {
                    rows.taps(oy)
                        .flat_map(|ky| columns.taps(ox).map(move |kx| (ky, kx)))
                        .map(at)
                        .enumerate()
                };
                first_maxima(
                    best,
                    tap_of,
                    taps().map(|(_, (iy, ix))| &x[from.index(image, iy, ix, 0)..][..from.c]),
                );
                let dy = &dy[to.index(image, oy, ox, 0)..][..to.c];
                for (tap, (iy, ix)) in taps().filter(|(_, (iy, _))| band_rows.contains(iy)) {
                    let dx = &mut dx[(iy - first) * line + ix * from.c..][..from.c];
                    for ((dx, &dy), &best_tap) in dx.iter_mut().zip(dy).zip(tap_of.iter()) {
                        *dx += if best_tap == tap as u32 { dy } else { 0.0 };
                    }
                }
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, dy, dx) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
        let dispatch = self
            .0
            .window()
            .grad_params(Dispatch::new("nn/max_pool_grad"), dy, dx)
            .read("x", 0)
            .read("dy", 1)
            .write("dx", 0);
        vec![Kernel::single("gather", dispatch.layout("x", x))]
    }
}
