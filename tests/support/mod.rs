//! Common code of the integration tests: devices, data, random tensors, comparison of tensors.
#![allow(dead_code)]

#[cfg(feature = "cli")]
pub mod command;
pub mod models;

use atrous::engine::exec::{Device, KernelSelector, Runner};
use atrous::engine::gpu::DeviceChoice;
use atrous::engine::graph::{Graph, ParamRef};
use atrous::engine::ops::kernel::{Kernel, KernelContext};
use atrous::engine::ops::{Op, Packing};
use atrous::engine::{Elements, Shape, Tensor};

use atrous::Result;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

/// Returns the device of the GPU tests, opened once: `ATROUS_DEVICE`, else any adapter, including
/// software adapters.
///
/// `None` if the machine has no adapter; with `ATROUS_REQUIRE_GPU=1` this is a failure instead.
pub fn gpu() -> Option<Device> {
    static GPU: LazyLock<Option<Device>> = LazyLock::new(|| {
        let choice =
            std::env::var("ATROUS_DEVICE").map_or(Ok(DeviceChoice::Gpu), |text| text.parse());
        let opened = choice.and_then(|c| Device::open(&c));
        let required = std::env::var("ATROUS_REQUIRE_GPU").is_ok_and(|v| v == "1");
        match opened {
            Ok(device) if !device.is_cpu() => Some(device),
            Ok(_) => None,
            Err(e) if required => panic!("ATROUS_REQUIRE_GPU=1, but: {e}"),
            Err(e) => {
                println!("no GPU adapter: {e}");
                None
            }
        }
    });
    let device = GPU.clone();
    let required = std::env::var("ATROUS_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(device.is_some() || !required, "ATROUS_REQUIRE_GPU=1, but no adapter was found");
    device
}

/// Returns the CPU executor, and the GPU if there is one.
pub fn devices() -> Vec<Device> {
    [Some(Device::Cpu), gpu()].into_iter().flatten().collect()
}

/// Returns whether long lists of cases run completely on a device.
///
/// They do on the CPU executor and on GPUs. A software adapter spends a tenth of a second on every
/// shader that it compiles and seconds on a network, so that the lists would take many minutes there;
/// with `ATROUS_ALL_CASES=1`, as `.ci/run` sets, they run completely there too.
pub fn runs_all_cases(device: &Device) -> bool {
    let is_software = device.gpu().is_some_and(|gpu| gpu.caps().software);
    !is_software || std::env::var("ATROUS_ALL_CASES").is_ok_and(|v| v == "1")
}

/// Returns the cases of a list that run on a device, each with the kernels that do: all, or where
/// [`runs_all_cases`] says no, every fifth of 16 cases or more, and of fewer cases the first kernel
/// and every fifth, which are others in each case.
///
/// Properties of cases cycle through 2, 3, 4 or 8 values, and every fifth has all of them.
pub fn cases_on<'a, T>(
    device: &Device,
    cases: &'a [T],
) -> impl Iterator<Item = (&'a T, impl Fn(usize) -> bool)> {
    let (all, long) = (runs_all_cases(device), cases.len() >= 16);
    let step = if long && !all { 5 } else { 1 };
    let kernels =
        move |case: usize| move |kernel: usize| all || long || (case + kernel).is_multiple_of(5);
    cases.iter().enumerate().step_by(step).map(move |(i, case)| (case, kernels(i)))
}

/// Returns the GPU, for tests that are ignored without one.
pub fn required_gpu() -> Device {
    gpu().expect("a GPU adapter: build.rs expects one on this machine")
}

/// Returns the directory with images and weights, for tests that are ignored without it.
pub fn data() -> PathBuf {
    let fallback = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let directory = std::env::var_os("ATROUS_DATA").map_or(fallback, PathBuf::from);
    assert!(directory.join("weights").is_dir(), "{} has no weights", directory.display());
    directory
}

/// Returns the signals that the program handles with an orderly exit. SIGHUP is omitted if this
/// process was started with SIGHUP ignored (`nohup cargo test`), because its children then ignore
/// it too.
#[cfg(unix)]
pub fn ending_signals() -> &'static [&'static str] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1, SIGHUP.
    if ignored.unwrap_or(0) & 1 == 1 {
        println!("SIGHUP is ignored in this process, so it is not tested");
        return &["INT", "TERM"];
    }
    &["INT", "TERM", "HUP"]
}

/// A small, fast generator (splitmix64). Every case can be reproduced from its seed.
pub struct Rng(pub u64);

impl Rng {
    /// Returns the next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns an integer in `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// Returns one of the values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.range(0, values.len() - 1)]
    }

    /// Returns a uniform value in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// Returns a tensor of values in [-1, 1).
    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| self.unit())
    }
}

/// Selects the kernel at a fixed index.
struct Nth(usize);

impl KernelSelector for Nth {
    fn choose(&mut self, _: &dyn Op, _: &KernelContext, kernels: &[Kernel]) -> Result<usize> {
        Ok(self.0.min(kernels.len() - 1))
    }
}

/// Counts the kernels.
struct Count(usize);

impl KernelSelector for Count {
    fn choose(&mut self, _: &dyn Op, _: &KernelContext, kernels: &[Kernel]) -> Result<usize> {
        self.0 = kernels.len();
        Ok(0)
    }
}

/// Returns a graph of one operation. Inputs that must be packed as matrices are parameters, all
/// other inputs have the names `0`, `1`, ...
pub fn graph_of(op: Arc<dyn Op>, inputs: &[Tensor]) -> Result<Graph> {
    let mut graph = Graph::new();
    let ids: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(i, tensor)| match op.packing(i) {
            Packing::Matrix => graph.param_with_data(
                &i.to_string(),
                tensor.shape(),
                Some(ParamRef::new(tensor.clone())),
            ),
            Packing::Channels => graph.input(&i.to_string(), tensor.ty()),
        })
        .collect();
    for (i, v) in graph.push("op", op, &ids)?.into_iter().enumerate() {
        graph.output(&i.to_string(), v);
    }
    Ok(graph)
}

fn run_graph(
    device: &Device,
    graph: Graph,
    inputs: &[Tensor],
    choose: &mut dyn KernelSelector,
) -> Result<(String, Vec<Tensor>)> {
    let runner = Runner::with_kernels(device, graph, choose)?;
    let named: Vec<(String, &Tensor)> =
        inputs.iter().enumerate().map(|(i, t)| (i.to_string(), t)).collect();
    let named: Vec<(&str, &Tensor)> = named.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let label =
        runner.kernels().into_iter().map(|(_, label)| label).next().unwrap_or_else(|| "cpu".into());
    Ok((label, runner.run(&named)?))
}

/// Runs an operation on a device with each of its kernels, or once on the CPU. Returns the labels
/// of the kernels and the outputs.
pub fn run_op(
    device: &Device,
    op: &Arc<dyn Op>,
    inputs: &[Tensor],
) -> Result<Vec<(String, Vec<Tensor>)>> {
    run_op_with(device, op, inputs, |_| true)
}

/// Like [`run_op`], with the first kernel and those that `others` accepts by their index.
pub fn run_op_with(
    device: &Device,
    op: &Arc<dyn Op>,
    inputs: &[Tensor],
    others: impl Fn(usize) -> bool,
) -> Result<Vec<(String, Vec<Tensor>)>> {
    let mut count = Count(1);
    let first = run_graph(device, graph_of(op.clone(), inputs)?, inputs, &mut count)?;
    let others = (1..count.0)
        .filter(|&i| others(i))
        .map(|i| run_graph(device, graph_of(op.clone(), inputs)?, inputs, &mut Nth(i)));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Checks `|a - b| <= atol + rtol * |b|` for every element. The error reports the number of
/// differing elements, the first few, and the largest difference.
pub fn allclose(
    name: &str,
    got: &Tensor,
    want: &[f64],
    atol: f64,
    rtol: f64,
) -> Result<(), String> {
    let values: Vec<f64> = match got.data() {
        Elements::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
        Elements::U32(v) => v.iter().map(|&v| f64::from(v)).collect(),
        Elements::U8(v) => v.iter().map(|&v| f64::from(v)).collect(),
    };
    if values.len() != want.len() {
        return Err(format!("{name}: {} elements, expected {}", values.len(), want.len()));
    }
    // A NaN is not close to anything.
    let close = |i: usize| (values[i] - want[i]).abs() <= atol + rtol * want[i].abs();
    let bad: Vec<usize> = (0..want.len()).filter(|&i| !close(i)).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let s = got.shape();
    let position =
        |i: usize| (i / (s.h * s.w * s.c), i / (s.w * s.c) % s.h, i / s.c % s.w, i % s.c);
    let first: Vec<String> = bad
        .iter()
        .take(4)
        .map(|&i| format!("{:?}: {} expected {}", position(i), values[i], want[i]))
        .collect();
    let largest = bad.iter().map(|&i| (values[i] - want[i]).abs()).fold(0.0, f64::max);
    Err(format!(
        "{name}: {} of {} elements of {s} differ, by up to {largest:.3e}; {}",
        bad.len(),
        want.len(),
        first.join("; ")
    ))
}
