//! Convolutions of MobileNetV2, ResNet-50 and Xception at 513 x 513, output stride 16: every kernel
//! on a device, and the CPU executor.
//!
//! `cargo bench --bench conv [-- FILTER]`. After the times, a table compares each kernel with the
//! peak multiply-add throughput of the device, measured in the same run.

mod support;

use atrous::engine::exec::Device;
use atrous::engine::gpu::Gpu;
use atrous::engine::ops::kernel::{KernelContext, TensorLayout};
use atrous::engine::ops::{Conv2d, Op};
use atrous::engine::tune::Stage;
use atrous::engine::{Shape, Tensor, TensorType};
use criterion::{Criterion, Throughput};
use std::time::{Duration, Instant};
use support::Shares;

/// A convolution of a network.
struct Case {
    name: &'static str,
    conv: Conv2d,
    x: Shape,
    w: Shape,
}

fn cases() -> Vec<Case> {
    let plain = |name, side, c_in, kernel, conv: Conv2d, c_out| {
        let (x, w) = (Shape::new(1, side, side, c_in), Shape::new(kernel, kernel, c_in, c_out));
        Case { name, conv, x, w }
    };
    let depthwise = |name, side, stride, dilation, c: usize| {
        let conv = Conv2d { groups: c, ..Conv2d::square(stride, dilation, dilation) };
        Case { name, conv, x: Shape::new(1, side, side, c), w: Shape::new(3, 3, 1, c) }
    };
    let one = Conv2d::default;
    let mut all = vec![
        plain("MobileNetV2 expand 129x129 24 to 144", 129, 24, 1, one(), 144),
        plain("MobileNetV2 project 33x33 576 to 96", 33, 576, 1, one(), 96),
        depthwise("MobileNetV2 depthwise 129x129x144 stride 2", 129, 2, 1, 144),
        depthwise("MobileNetV2 depthwise 33x33x960 rate 2", 33, 1, 2, 960),
        plain("ResNet stem 7x7 513x513 3 to 64", 513, 3, 7, Conv2d::square(2, 1, 3), 64),
        plain("ResNet 3x3 129x129 64 to 64", 129, 64, 3, Conv2d::square(1, 1, 1), 64),
        plain("ResNet 3x3 33x33 256 to 256", 33, 256, 3, Conv2d::square(1, 1, 1), 256),
        plain("ResNet 1x1 33x33 1024 to 256", 33, 1024, 1, one(), 256),
        depthwise("Xception depthwise 33x33x728", 33, 1, 1, 728),
        plain("Xception 1x1 33x33 728 to 728", 33, 728, 1, one(), 728),
        plain("ASPP 3x3 33x33 2048 to 256 rate 12", 33, 2048, 3, Conv2d::square(1, 12, 12), 256),
        plain("decoder 3x3 129x129 304 to 256", 129, 304, 3, Conv2d::square(1, 1, 1), 256),
    ];
    if support::is_rehearsal() {
        for case in &mut all {
            (case.x.h, case.x.w) = (case.x.h.min(9), case.x.w.min(9));
        }
    }
    all
}

impl Case {
    fn types(&self) -> ([TensorType; 2], TensorType) {
        let inputs = [self.x, self.w].map(TensorType::f32);
        (inputs, self.conv.infer(&inputs).expect("the case is well-formed")[0])
    }

    fn multi_adds(&self) -> u64 {
        let (inputs, output) = self.types();
        self.conv.cost(&inputs, &[output]).multi_adds
    }

    fn on_cpu(&self, criterion: &mut Criterion, shares: &mut Shares) {
        let (inputs, output) = self.types();
        let numbers = |ty: TensorType| {
            Tensor::from_fn(ty.shape, |n, y, x, c| {
                ((7 * n + 13 * y + 29 * x + 5 * c) % 64) as f32 / 32.0
            })
        };
        let (inputs, mut outputs) = (inputs.map(numbers), [Tensor::zeros(output)]);
        let mut once = || {
            let start = Instant::now();
            self.conv
                .cpu(&[&inputs[0], &inputs[1]], &mut outputs)
                .expect("the CPU executor supports every convolution");
            start.elapsed()
        };
        let fastest =
            measure(criterion, &format!("cpu/{}", self.name), self.multi_adds(), |runs| {
                (0..runs).map(|_| once()).sum()
            });
        shares.add(self.name.to_owned(), self.multi_adds(), fastest);
    }

    fn on_gpu(&self, gpu: &Gpu, criterion: &mut Criterion, shares: &mut Shares) {
        let (inputs, output) = self.types();
        let (inputs, outputs) =
            (inputs.map(TensorLayout::contiguous), [TensorLayout::contiguous(output)]);
        let context = KernelContext { inputs: &inputs, outputs: &outputs, caps: gpu.caps() };
        let stage = Stage::new(gpu, &self.conv, &context).expect("the device has enough memory");
        for kernel in self.conv.kernels(&context) {
            let name = format!("{}: {}", self.name, kernel.label);
            let candidate = match stage.candidate(&kernel) {
                Ok(candidate) => candidate,
                Err(e) => {
                    println!("{name}: {e}");
                    continue;
                }
            };
            let run = |runs: u64| {
                // Runs of one submission, in parts that are too short for a driver's hang
                // detection.
                let parts = (0..runs).step_by(64).map(|at| (runs - at).min(64) as u32);
                parts.map(|part| candidate.run(part).expect("the device works")).sum()
            };
            let fastest = measure(criterion, &format!("gpu/{name}"), self.multi_adds(), run);
            shares.add(name, self.multi_adds(), fastest);
        }
    }
}

/// Measures with criterion; returns the minimum time of one run.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    multi_adds: u64,
    mut run: impl FnMut(u64) -> Duration,
) -> Duration {
    let mut fastest = Duration::MAX;
    let mut group = criterion.benchmark_group("conv");
    group.throughput(Throughput::Elements(2 * multi_adds));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|runs| {
            let time = run(runs);
            fastest = fastest.min(time.div_f64(runs as f64));
            time
        });
    });
    group.finish();
    fastest
}

fn main() {
    let mut criterion = support::criterion();
    for device in support::devices() {
        let mut shares = Shares::new(&device);
        for case in cases() {
            match &device {
                Device::Cpu => case.on_cpu(&mut criterion, &mut shares),
                Device::Gpu(gpu) => case.on_gpu(gpu, &mut criterion, &mut shares),
            }
        }
        shares.print(&device);
    }
    criterion.final_summary();
}
