//! Implicit GEMM with tiles in workgroup memory (`shaders/nn/conv2d/workgroup.wesl`): kernel family
//! `workgroup`, for GPUs.

use super::{Frame, operands, weights};
use crate::ops::Conv2d;
use crate::ops::kernel::{Caps, Dispatch, Kernel, KernelContext};

/// Tile computed by one workgroup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tile {
    /// Pixels.
    m: usize,
    /// `vec4`s of output channels.
    n: usize,
    /// `vec4`s of input channels per step.
    pub(super) k: usize,
    /// Pixels and `vec4`s of output channels per thread.
    run: (usize, usize),
    /// Fraction of the device's peak arithmetic that a full tile reaches; larger tiles reuse more
    /// operands.
    efficiency: f64,
}

/// The tiles, largest first. The first uses all 16 KiB of workgroup memory that WebGPU guarantees.
pub(super) const TILES: [Tile; 4] = [
    Tile { m: 128, n: 32, k: 4, run: (8, 2), efficiency: 1.0 },
    Tile { m: 128, n: 16, k: 4, run: (8, 2), efficiency: 0.9 },
    Tile { m: 64, n: 16, k: 4, run: (8, 1), efficiency: 0.75 },
    Tile { m: 32, n: 8, k: 8, run: (4, 1), efficiency: 0.5 },
];

/// Assumed number of workgroups of 256 threads that a device runs concurrently: the capacity of a
/// laptop GPU. The chosen tiles fill a larger GPU less well; a smaller one runs them in several
/// waves.
const SLOTS: usize = 64;

impl Tile {
    /// Returns the number of threads across the pixels and across the channels.
    fn threads(&self) -> (usize, usize) {
        (self.m / self.run.0, self.n / self.run.1)
    }

    /// Returns the distance from one pixel to the next in workgroup memory, in `vec4`s. Threads of
    /// a warp that process different pixels read words 4 * k apart, which would fall into few
    /// banks; one extra `vec4` avoids the bank conflicts.
    fn x_pitch(&self) -> usize {
        self.k + usize::from(self.threads().1 < 16)
    }

    fn fits(&self, caps: &Caps) -> bool {
        let (rows, columns) = self.threads();
        let bytes = 16 * (self.m * self.x_pitch() + 4 * self.k * self.n);
        bytes <= caps.workgroup_memory as usize && rows * columns <= caps.max_invocations as usize
    }

    /// Returns the estimated time for `pixels` by `c4_out` by `c4_in`, in arbitrary units: waves of
    /// workgroups on a device of [`SLOTS`], each proportional to its multiplications, including
    /// those on empty parts of tiles.
    pub(super) fn time(&self, pixels: usize, c4_out: usize, c4_in: usize) -> f64 {
        let groups = pixels.div_ceil(self.m) * c4_out.div_ceil(self.n);
        let (rows, columns) = self.threads();
        let waves = (groups * rows * columns).div_ceil(SLOTS * 256);
        let steps = c4_in.div_ceil(self.k) * self.k;
        // A wave keeps all slots busy with as many tiles as fit.
        let per_wave = (SLOTS * 256 / (rows * columns)) as f64 * (self.m * self.n * steps) as f64;
        waves as f64 * per_wave / self.efficiency
    }
}

/// Returns the kernel of a tile, or `None` if the tile does not fit the convolution or the device,
/// or if more than half of it would be empty and a smaller tile exists.
pub(super) fn kernel(conv: &Conv2d, cx: &KernelContext, tile: Tile) -> Option<Kernel> {
    let w = weights(cx);
    let frame = if conv.is_pointwise(w) { Frame::one_row(cx) } else { Frame::of(cx) };
    let (pixels, c4_out) = (frame.y.positions(), frame.y.c4());
    let smallest = tile == TILES[TILES.len() - 1];
    let half_empty = 2 * pixels <= tile.m || 2 * c4_out <= tile.n;
    if conv.groups > 1 || !tile.fits(cx.caps) || (half_empty && !smallest) {
        return None;
    }
    let (rows, columns) = tile.threads();
    let threads = rows * columns;
    let label = format!("workgroup {}x{}x{}", tile.m, 4 * tile.n, 4 * tile.k);
    let dispatch = operands(Dispatch::new("nn/conv2d/workgroup"), conv, cx, frame)
        .constant("THREADS", threads as u32)
        .constant("ROWS", rows as u32)
        .constant("COLUMNS", columns as u32)
        .constant("TILE_M", tile.m as u32)
        .constant("TILE_N", tile.n as u32)
        .constant("TILE_K", tile.k as u32)
        .constant("RUN_M", tile.run.0 as u32)
        .constant("RUN_N", tile.run.1 as u32)
        .constant("X_LOADS", (tile.m * tile.k / threads) as u32)
        .constant("W_LOADS", (4 * tile.k * tile.n / threads) as u32)
        .constant("X_PITCH", tile.x_pitch() as u32)
        .groups(pixels.div_ceil(tile.m) * c4_out.div_ceil(tile.n));
    Some(Kernel::single(label, dispatch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_fits_what_webgpu_promises_and_divides_evenly_among_its_threads() {
        for tile in TILES {
            let (rows, columns) = tile.threads();
            assert!(tile.fits(&Caps::PORTABLE), "{tile:?}");
            assert_eq!((rows * tile.run.0, columns * tile.run.1), (tile.m, tile.n), "{tile:?}");
            // Loads divide evenly among the threads, and all loads of a thread are at the same
            // place of a step (`x_part` in the shader).
            assert_eq!(
                (tile.m * tile.k % (rows * columns), 4 * tile.k * tile.n % (rows * columns)),
                (0, 0),
                "{tile:?}"
            );
            assert_eq!(rows * columns % tile.k, 0, "{tile:?}");
        }
    }
}
