//! Peak multiply-add throughput of a device, the limit that kernels are compared with.

use crate::error::Result;
use crate::exec::Device;
use crate::ops::product;
use std::time::Duration;
use web_time::Instant;

/// Number of measurements; the fastest counts.
const RUNS: usize = 6;
/// Side of the matrices on the CPU: three of them fit into a core's L2 cache.
const SIDE: usize = 256;

/// Measures the peak throughput of a device in floating-point operations per second (a multiply-add
/// counts as two): on a GPU with chains of multiply-adds in registers, on the CPU with a small
/// matrix product on every thread. Takes some tenths of a second.
///
/// # Errors
/// Returns an error if the device fails.
pub fn multiply_add_rate(device: &Device) -> Result<f64> {
    match device.gpu() {
        #[cfg(feature = "gpu")]
        Some(gpu) => super::device_rate::rate(gpu, RUNS),
        _ => Ok(cpu_rate()),
    }
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
