//! Peak multiply-add throughput of a device, the limit that kernels are compared with.

use crate::error::Result;
use crate::exec::Device;
use crate::exec::gpu::record::{Recorder, replay};
use crate::gpu::{Checks, Gpu};
use crate::ops::kernel::{Dispatch, Operand};
use crate::ops::product;
use std::time::Duration;
use web_time::Instant;

/// Candidate numbers of independent chains of `vec4`s per thread: few may not hide the latency of
/// an addition, many may not fit into the registers.
pub const CHAINS: [u32; 5] = [2, 3, 4, 8, 16];
/// Multiply-adds per chain.
const ROUNDS: u32 = 512;
/// Number of measurements; the fastest counts.
const RUNS: usize = 6;
/// Target duration of a measurement on a device.
const RUN: Duration = Duration::from_millis(8);
/// Side of the matrices on the CPU: three of them fit into a core's L2 cache.
const SIDE: usize = 256;

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

/// Measures the peak throughput of a device in floating-point operations per second (a multiply-add
/// counts as two): on a GPU with chains of multiply-adds in registers, on the CPU with a small
/// matrix product on every thread. Takes some tenths of a second.
///
/// # Errors
/// Returns an error if the device fails.
pub fn multiply_add_rate(device: &Device) -> Result<f64> {
    let Some(gpu) = device.gpu() else { return Ok(cpu_rate()) };
    let rates =
        CHAINS.iter().map(|&chains| device_rate(gpu, chains)).collect::<Result<Vec<f64>>>()?;
    Ok(rates.into_iter().fold(0.0, f64::max))
}

fn device_rate(gpu: &Gpu, chains: u32) -> Result<f64> {
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
        (0..RUNS).map(|_| replay(gpu, &steps, repeats)).collect::<Result<Vec<Duration>>>()?;
    let fastest = times.into_iter().min().unwrap_or(Duration::MAX);
    let flops =
        f64::from(repeats) * threads as f64 * f64::from(ROUNDS) * f64::from(chains) * 4.0 * 2.0;
    Ok(flops / fastest.as_secs_f64())
}

fn cpu_rate() -> f64 {
    const PRODUCTS: usize = 8;
    let extent = (SIDE, SIDE, SIDE);
    let flops = (2 * SIDE * SIDE * SIDE * PRODUCTS) as f64;
    let rates = rayon::broadcast(|_| {
        let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
        let mut y = vec![0f32; SIDE * SIDE];
        let fastest = (0..RUNS).map(|_| {
            let start = Instant::now();
            (0..PRODUCTS).for_each(|_| product(std::hint::black_box(&mut y), &a, &b, extent));
            start.elapsed()
        });
        flops / fastest.min().unwrap_or(Duration::MAX).as_secs_f64()
    });
    rates.into_iter().sum()
}
