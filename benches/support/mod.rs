//! Shared by the benchmarks: devices, measurement times, and comparison with the machine's peak
//! throughput.

use atrous::engine::exec::Device;
use atrous::engine::gpu::DeviceChoice;
use atrous::engine::tune::multiply_add_rate;
use criterion::Criterion;
use std::time::Duration;

/// Whether this run only checks that the benchmarks work: `cargo bench -- --test`, or `cargo test`.
pub fn is_rehearsal() -> bool {
    std::env::args().any(|a| a == "--test") || !std::env::args().any(|a| a == "--bench")
}

/// The CPU executor, and the device that `ATROUS_DEVICE` selects (any adapter if it is not set), if
/// there is one.
pub fn devices() -> Vec<Device> {
    let choice = std::env::var("ATROUS_DEVICE").map_or(Ok(DeviceChoice::Gpu), |text| text.parse());
    let gpu = choice.and_then(|choice| Device::open(&choice));
    if let Err(e) = &gpu {
        println!("the CPU executor only: {e}");
    }
    let gpu = gpu.ok().filter(|device| !device.is_cpu());
    [Some(Device::Cpu), gpu].into_iter().flatten().collect()
}

/// Short measurements: there are many, and the minimum time counts.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}

/// Floating-point throughput compared with a device's peak.
pub struct Shares {
    device: String,
    /// Operations per second, a multiply-add counted as two.
    limit: f64,
    rows: Vec<(String, f64)>,
}

impl Shares {
    /// Measures the peak.
    pub fn new(device: &Device) -> Self {
        let limit = multiply_add_rate(device).expect("the device works");
        Self { device: device.to_string(), limit, rows: Vec::new() }
    }

    /// Records the minimum time of a number of multiply-adds.
    pub fn add(&mut self, name: String, multi_adds: u64, fastest: Duration) {
        // Benchmarks that the command line filters out have no time.
        if fastest < Duration::MAX {
            self.rows.push((name, 2.0 * multi_adds as f64 / fastest.as_secs_f64()));
        }
    }

    /// Prints the comparison. The peak is measured again, because the machine may have been busy
    /// the first time.
    pub fn print(mut self, device: &Device) {
        self.limit = self.limit.max(multiply_add_rate(device).expect("the device works"));
        println!("\n{}: bare multiply-adds reach {:.1} GFLOP/s", self.device, self.limit / 1e9);
        for (name, rate) in &self.rows {
            println!("  {:7.1} GFLOP/s {:5.1} %  {name}", rate / 1e9, 100.0 * rate / self.limit);
        }
        println!();
    }
}
