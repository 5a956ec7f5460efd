//! Peak multiply-add throughput of a GPU, with chains of multiply-adds in registers.

use crate::error::Result;
use crate::exec::gpu::record::{Recorder, replay};
use crate::gpu::{Checks, Gpu};
use crate::ops::kernel::{Dispatch, Operand};
use std::time::Duration;

/// Candidate numbers of independent chains of `vec4`s per thread: few may not hide the latency of
/// an addition, many may not fit into the registers.
pub const CHAINS: [u32; 5] = [2, 3, 4, 8, 16];
/// Multiply-adds per chain.
const ROUNDS: u32 = 512;
/// Target duration of a measurement on a device.
const RUN: Duration = Duration::from_millis(8);

/// Returns a dispatch that only computes multiply-adds, in `threads` threads, with output 0 of `16
/// * threads` bytes.
pub fn multiply_add(threads: usize, chains: u32) -> Dispatch {
    Dispatch::new("tune/multiply_add")
        .constant("CHAINS", chains)
        .bind("y", Operand::Output(0))
        .param("rounds", ROUNDS)
        .param("factor", 0.5f32)
        .threads(threads)
}

/// Returns the highest throughput of all chains, each measured `runs` times.
///
/// # Errors
/// Returns an error if the device fails.
pub(super) fn rate(gpu: &Gpu, runs: usize) -> Result<f64> {
    let rates =
        CHAINS.iter().map(|&chains| rate_of(gpu, chains, runs)).collect::<Result<Vec<f64>>>()?;
    Ok(rates.into_iter().fold(0.0, f64::max))
}

fn rate_of(gpu: &Gpu, chains: u32, runs: usize) -> Result<f64> {
    let threads: usize = if gpu.caps().software { 1 << 12 } else { 1 << 18 };
    let y = gpu.kernel_storage("sums", 16 * threads as u64)?;
    let mut recorder = Recorder::new(gpu);
    recorder.add("rate of multiply-adds", &multiply_add(threads, chains), Checks::Off, |_| {
        Ok(y.clone().into())
    })?;
    let steps = recorder.finish()?;
    // The first run may compile.
    let once = replay(gpu, &steps, 1)?.min(replay(gpu, &steps, 1)?);
    let repeats = (RUN.as_nanos() / once.as_nanos().max(1)).clamp(1, 100) as u32;
    let times =
        (0..runs).map(|_| replay(gpu, &steps, repeats)).collect::<Result<Vec<Duration>>>()?;
    let fastest = times.into_iter().min().unwrap_or(Duration::MAX);
    let flops =
        f64::from(repeats) * threads as f64 * f64::from(ROUNDS) * f64::from(chains) * 4.0 * 2.0;
    Ok(flops / fastest.as_secs_f64())
}
