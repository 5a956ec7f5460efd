//! The rate of bare multiply-adds: the machine's limit beside which kernels are judged.

use crate::error::Result;
use crate::exec::Device;
use crate::exec::record::{Recorder, replay};
use crate::gpu::{Checks, Gpu};
use crate::ops::kernel::{Dispatch, Operand};
use crate::ops::product;
use std::time::Duration;
use web_time::Instant;

/// Numbers of independent chains of `vec4`s in a thread: few may not hide the latency of an
/// addition, many may not fit the registers.
pub const CHAINS: [u32; 5] = [2, 3, 4, 8, 16];
/// Multiply-adds in a chain.
const ROUNDS: u32 = 512;
/// Measurements, of which the fastest tells what is possible.
const RUNS: usize = 6;
/// A measurement on a device should take about so long.
const RUN: Duration = Duration::from_millis(8);
/// Side of the matrices on the processor: three of them fit into a core's second-level cache.
const SIDE: usize = 256;

/// The dispatch of bare multiply-adds in so many threads, to output 0 of `16 * threads` bytes.
pub fn multiply_add(threads: usize, chains: u32) -> Dispatch {
    Dispatch::new("tune/multiply_add")
        .constant("CHAINS", chains)
        .bind("y", Operand::Output(0))
        .param("rounds", ROUNDS)
        .param("factor", 0.5f32)
        .threads(threads)
}

/// Floating-point operations a second (a multiply-add counts as two) that a device reaches with
/// nothing else to do: on a GPU by chains of multiply-adds in registers, on the processor by a
/// small matrix product on every thread at once. It takes some tenths of a second.
///
/// # Errors
/// Where the device fails.
pub fn multiply_add_rate(device: &Device) -> Result<f64> {
    match device {
        Device::Cpu => Ok(processor_rate()),
        Device::Gpu(gpu) => {
            let rates = CHAINS
                .iter()
                .map(|&chains| device_rate(gpu, chains))
                .collect::<Result<Vec<f64>>>()?;
            Ok(rates.into_iter().fold(0.0, f64::max))
        }
    }
}

fn device_rate(gpu: &Gpu, chains: u32) -> Result<f64> {
    let threads: usize = if gpu.caps().software { 1 << 12 } else { 1 << 18 };
    let y = gpu.buffer("sums", 16 * threads as u64, wgpu::BufferUsages::STORAGE)?;
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

fn processor_rate() -> f64 {
    const PRODUCTS: usize = 8;
    let extent = (SIDE, SIDE, SIDE);
    let flops = (2 * SIDE * SIDE * SIDE * PRODUCTS) as f64;
    let each = rayon::broadcast(|_| {
        let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
        let mut y = vec![0f32; SIDE * SIDE];
        let fastest = (0..RUNS).map(|_| {
            let start = Instant::now();
            (0..PRODUCTS).for_each(|_| product(std::hint::black_box(&mut y), &a, &b, extent));
            start.elapsed()
        });
        flops / fastest.min().unwrap_or(Duration::MAX).as_secs_f64()
    });
    each.into_iter().sum()
}
