//! What the benchmarks share: devices, how long to measure, and shares of the machine's limit.

use atrous::exec::Device;
use atrous::gpu::DeviceChoice;
use atrous::tune::multiply_add_rate;
use criterion::Criterion;
use std::time::Duration;

/// Whether this only shows that the benchmarks run: `cargo bench -- --test`, or a start by
/// `cargo test`.
pub fn is_rehearsal() -> bool {
    std::env::args().any(|a| a == "--test") || !std::env::args().any(|a| a == "--bench")
}

/// The CPU executor, and the device that `ATROUS_DEVICE` names (any adapter where it is not set),
/// if there is one.
pub fn devices() -> Vec<Device> {
    let choice = std::env::var("ATROUS_DEVICE").map_or(Ok(DeviceChoice::Gpu), |text| text.parse());
    let gpu = choice.and_then(|choice| Device::open(&choice));
    if let Err(e) = &gpu {
        println!("the CPU executor only: {e}");
    }
    let gpu = gpu.ok().filter(|device| !device.is_cpu());
    [Some(Device::Cpu), gpu].into_iter().flatten().collect()
}

/// Short measurements: there are many, and the least time is what counts.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}

/// Floating-point operations beside a device's limit.
pub struct Shares {
    device: String,
    /// Operations a second, a multiply-add counted as two.
    limit: f64,
    rows: Vec<(String, f64)>,
}

impl Shares {
    /// Measures the limit.
    pub fn new(device: &Device) -> Self {
        let limit = multiply_add_rate(device).expect("the device multiplies");
        Self { device: device.to_string(), limit, rows: Vec::new() }
    }

    /// Notes what so many multiply-adds took at the least.
    pub fn add(&mut self, name: String, multi_adds: u64, fastest: Duration) {
        // A filter on the command line leaves benchmarks out: they have no time.
        if fastest < Duration::MAX {
            self.rows.push((name, 2.0 * multi_adds as f64 / fastest.as_secs_f64()));
        }
    }

    /// Prints them. The limit is measured again, since the machine may have been busy the first
    /// time.
    pub fn print(mut self, device: &Device) {
        self.limit = self.limit.max(multiply_add_rate(device).expect("the device multiplies"));
        println!("\n{}: bare multiply-adds reach {:.1} GFLOP/s", self.device, self.limit / 1e9);
        for (name, rate) in &self.rows {
            println!("  {:7.1} GFLOP/s {:5.1} %  {name}", rate / 1e9, 100.0 * rate / self.limit);
        }
        println!();
    }
}
