//! `atrous bench`: measure the speed of a network on this machine.

mod report;
mod train;

use super::args::{DeviceArgs, MemoryArgs, Network, NetworkArgs, WEIGHTS_HELP, fixed_size};
use super::console::{print, print_json, say};
use crate::error::Result;
use crate::exec::{Device, Runner, Times};
use crate::geometry::Size;
use crate::graph::Graph;
use crate::models::{Outputs, random_weights};
use crate::passes;
use crate::segmenter::Model;
use crate::tensor::{Shape, Tensor};
use crate::tune::multiply_add_rate;
use report::{First, Report, Warm, ms};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Total time of the runs without `--runs`.
const TOTAL: Duration = Duration::from_secs(5);
/// Minimum and maximum number of runs without `--runs`.
const RUNS: (usize, usize) = (5, 100);
/// Rounds in which nodes are timed; the median counts.
const ROUNDS: usize = 5;

const EXAMPLES: &str = "\
Examples:
  atrous bench --weights deeplab.safetensors --size 513
  atrous bench --network mobilenet_v2 --tune on --nodes
  atrous bench --network resnet50 --size 257 --batch 4 --train";

/// Measure how fast a network runs on this machine
///
/// The first run includes building the graph, kernels and buffers. Later runs are timed one by one,
/// including upload of the input and download of the output. The arithmetic rate is compared with a
/// limit measured before and after: bare multiply-adds on a GPU, a small matrix product on every
/// thread of the CPU.
///
/// With --train a run is a training step: forward, backward and update, with cross entropy,
/// gradient descent with momentum, and synthetic data.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[arg(short, long, value_name = "WEIGHTS", required_unless_present = "network", help = WEIGHTS_HELP)]
    weights: Option<PathBuf>,

    #[command(flatten)]
    network: NetworkArgs,

    /// Seed of the random weights of --network
    #[arg(long, default_value_t = 1, value_name = "N", requires = "network")]
    seed: u64,

    /// Size of the network's input: N (a square) or WxH
    #[arg(long, default_value = "513", value_name = "N|WxH", value_parser = fixed_size)]
    size: Size,

    /// Images per run
    #[arg(long, default_value_t = 1, value_name = "N", alias = "batch-size", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,

    /// What a run computes: scores before the last upsampling, scores at the input's size, or
    /// classes at the input's size
    #[arg(
        long,
        default_value = "labels",
        value_name = "OUTPUT",
        conflicts_with = "train",
        alias = "output"
    )]
    compute: Output,

    /// Time training steps instead of inference
    #[arg(long)]
    train: bool,

    /// Recompute activations in the backward pass, as `atrous train --recompute` does
    #[arg(long, requires = "train")]
    recompute: bool,

    /// Number of timed runs [default: as many as take 5 seconds, 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,

    /// List the N slowest nodes [without a number: 15]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "15")]
    nodes: Option<usize>,

    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    memory: MemoryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Logits,
    LogitsFull,
    Labels,
}

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(in crate::cli) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.weights.as_mut(), self.json)
    }

    fn model(&self) -> Result<Model> {
        match self.network.open(self.weights.as_ref())? {
            Network::File(model) => Ok(*model),
            Network::Named(config) => {
                let weights = random_weights(&config, self.seed)?;
                Ok(Model::new(*config, weights, "random weights"))
            }
        }
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    let model = args.model()?;
    let shape = Shape::images(usize::from(args.batch), args.size, model.network.input_channels());
    let device = Device::open(&args.device.device)?;
    if args.train {
        return train::run(args, &model, &device, shape);
    }
    if !args.json {
        say(&format!("device: {device}"));
    }
    let report = measure(args, &model, &device, shape)?;
    if args.json {
        return print_json(&report);
    }
    print(&report.text(args.nodes.map(|n| (n, device.is_cpu()))))
}

/// Measures inference from the config to the first result, and warm runs.
fn measure(args: &Args, model: &Model, device: &Device, shape: Shape) -> Result<Report> {
    let limit = multiply_add_rate(device)?;
    let start = Instant::now();
    let (graph, output) = graph(args, model, shape)?;
    let built = start.elapsed();
    let start = Instant::now();
    let runner = args.device.tuning(args.json).runner(device, graph)?;
    let ready = start.elapsed();
    let input = image(shape)?;
    let inputs = [("input", &input)];
    let first = runner.time(&inputs, 1)?.median();
    let warm = warm_runs(&runner, &inputs, args.runs)?;
    let nodes = match args.nodes {
        Some(_) => runner.time_nodes(&inputs, ROUNDS)?,
        None => Vec::new(),
    };
    // The machine may have been busy during one of the two measurements.
    let limit = limit.max(multiply_add_rate(device)?);

    let (plan, cost) = (runner.plan(), runner.cost());
    let flops = |time: Duration| 2.0 * cost.multi_adds as f64 / time.as_secs_f64();
    Ok(Report {
        network: model.network.title(),
        weights: crate::text::path(&model.path),
        device: device.to_string(),
        input: shape,
        output,
        output_stride: model.network.output_stride(),
        multi_adds: cost.multi_adds,
        first: First {
            graph_ms: ms(built),
            ready_ms: ms(ready),
            run_ms: ms(first),
            total_ms: ms(built + ready + first),
        },
        warm: Warm::new(&warm),
        images_per_second: shape.n as f64 / warm.median().as_secs_f64(),
        gflops: flops(warm.median()) / 1e9,
        limit_gflops: limit / 1e9,
        share_of_limit: flops(warm.median()) / limit,
        activation_bytes: device.activation_bytes(runner.graph()),
        parameter_bytes: plan.param_bytes,
        nodes: report::rows(&nodes),
    })
}

/// Returns the optimized network with one output, and the output's name.
fn graph(args: &Args, model: &Model, shape: Shape) -> Result<(Graph, String)> {
    let head = model.network.labeling().is_some();
    let outputs = Outputs {
        labels: head && args.compute == Output::Labels,
        logits_full: head && args.compute == Output::LogitsFull,
        ..Outputs::default()
    };
    let mut network = model.network(shape, &outputs)?;
    let (name, value) =
        network.graph.outputs().last().cloned().expect("invariant: a network has an output");
    network.graph.clear_outputs();
    network.graph.output(&name, value);
    Ok((passes::optimize(network.graph)?, name))
}

/// Returns values in the range of normalized images.
fn image(shape: Shape) -> Result<Tensor> {
    Tensor::try_from_fn(shape, |n, y, x, c| {
        ((7 * n + 13 * y + 29 * x + 5 * c) % 64) as f32 / 16.0 - 2.0
    })
}

fn warm_runs(runner: &Runner, inputs: &[(&str, &Tensor)], runs: Option<u32>) -> Result<Times> {
    let once = || {
        let start = Instant::now();
        runner.run(inputs)?;
        Ok(start.elapsed())
    };
    repeat(runs, once)
}

/// Calls `once` `runs` times, by default for [`TOTAL`], and returns the times.
fn repeat(runs: Option<u32>, mut once: impl FnMut() -> Result<Duration>) -> Result<Times> {
    let runs = match runs {
        Some(runs) => runs as usize,
        None => {
            let fit = (TOTAL.as_nanos() / once()?.as_nanos().max(1)) as usize;
            fit.clamp(RUNS.0, RUNS.1)
        }
    };
    let all = (0..runs).map(|_| once()).collect::<Result<Vec<_>>>()?;
    Ok(Times::new(all).expect("invariant: at least one run"))
}
