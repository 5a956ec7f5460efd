//! `atrous bench`: how fast a network runs here.

mod report;
mod train;

use super::args::{DeviceArgs, HeadName, MemoryArgs, ModelArgs, print, print_json, say};
use crate::error::{Result, error};
use crate::exec::{Device, Runner, Times};
use crate::image::SizeRule;
use crate::models::{Backbone, Config, Outputs, random_weights};
use crate::passes;
use crate::segmenter::Model;
use crate::tensor::{Shape, Tensor};
use crate::tune::multiply_add_rate;
use report::{First, Report, Warm, ms};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where `--runs` does not say it, runs go on for so long.
const ENOUGH: Duration = Duration::from_secs(5);
/// Whatever they take, so many runs are made at least, and at most.
const RUNS: (usize, usize) = (5, 100);
/// Rounds in which nodes are timed; the median counts.
const ROUNDS: usize = 5;

/// Measures how fast a network runs on this machine
///
/// The first run makes everything ready and says how long that took; the runs after it are timed
/// one by one, with the upload of the input and the reading back of the output. The limit beside
/// which the arithmetic is shown is measured before and after them: bare multiply-adds on a GPU, a
/// small matrix product on every thread of the processor.
///
/// With --train a run is a step of training: forward, backward and update. Its loss is the cross
/// entropy, its optimizer gradient descent with momentum; what would be read from a data set is
/// made up.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    network: NetworkArgs,

    /// Size of the network's input: N (a square) or WxH
    #[arg(long, default_value = "513", value_name = "N|WxH")]
    size: SizeRule,

    /// Images in one run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,

    /// What a run computes: scores before the last upsampling, scores at the input's size, or
    /// classes at the input's size
    #[arg(long, default_value = "labels", value_name = "OUTPUT", conflicts_with = "train")]
    output: Output,

    /// Times steps of training
    #[arg(long)]
    train: bool,

    /// Activations are computed again in the backward pass where that saves memory, as by
    /// `atrous train --recompute`
    #[arg(long, requires = "train")]
    recompute: bool,

    /// Timed runs [default: as many as take 5 seconds, 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,

    /// Lists the N slowest nodes [without a number: 15]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "15")]
    nodes: Option<usize>,

    /// Writes the measurements as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    memory: MemoryArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// A weight file, or the name of a network.
#[derive(Debug, clap::Args)]
struct NetworkArgs {
    /// Weight file: .safetensors, .pth or .pt, of any dialect
    #[arg(short, long, value_name = "FILE", required_unless_present = "network")]
    weights: Option<PathBuf>,

    /// Instead of a file: a backbone, such as xception65, resnet101 or mobilenet_v2, with the head
    /// that --head names, 21 classes and random weights
    #[arg(long, value_name = "BACKBONE", conflicts_with = "weights")]
    network: Option<String>,

    /// The head of --network
    #[arg(long, value_enum, default_value = "plus", requires = "network")]
    head: HeadName,

    /// Seed of the random weights
    #[arg(long, default_value_t = 1, value_name = "N", requires = "network")]
    seed: u64,

    /// The code base whose names the file has, where they do not tell it themselves
    #[arg(long, value_name = "NAME", conflicts_with = "network")]
    dialect: Option<String>,

    /// Output stride to run the weights at [default: the network's own]
    #[arg(long, value_name = "8|16|32")]
    output_stride: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Logits,
    LogitsFull,
    Labels,
}

impl NetworkArgs {
    fn open(&self) -> Result<Model> {
        if let Some(weights) = &self.weights {
            let (dialect, output_stride) = (self.dialect.clone(), self.output_stride);
            return ModelArgs { weights: weights.clone(), dialect, output_stride, classes: None }
                .open();
        }
        let name = self
            .network
            .as_deref()
            .ok_or_else(|| error!(Usage, "neither weights nor a network were named"))?;
        let config = Config::paper(Backbone::named(name)?, self.head.into(), 21)?;
        let weights = random_weights(&config, self.seed)?;
        let model = Model { config, weights, dialect: "atrous", path: "random weights".into() };
        match self.output_stride {
            Some(stride) => model.with_output_stride(stride),
            None => Ok(model),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    let (w, h) = match args.size {
        SizeRule::Native => {
            return Err(error!(
                Usage,
                "there is no image whose size could be taken; give N or WxH"
            ));
        }
        size => size.fit(1, 1).padded,
    };
    let model = args.network.open()?;
    let head = model.config.head.is_some();
    let outputs = Outputs {
        labels: head && args.output == Output::Labels,
        logits_full: head && args.output == Output::LogitsFull,
        ..Outputs::default()
    };
    let shape = Shape::new(usize::from(args.batch), h, w, model.config.input_channels);
    let device = Device::open(&args.device.device)?;
    if args.train {
        return train::run(args, &model, &device, shape);
    }
    let limit = multiply_add_rate(&device)?;
    if !args.json {
        say(&format!("measuring on {device}"));
    }

    let start = Instant::now();
    let mut network = model.network(shape, &outputs)?;
    let wanted =
        network.graph.outputs().last().cloned().expect("invariant: a network has an output");
    network.graph.clear_outputs();
    network.graph.output(&wanted.0, wanted.1);
    let graph = passes::optimize(network.graph)?;
    let built = start.elapsed();
    let start = Instant::now();
    let runner = args.device.tuning(args.json).runner(&device, graph)?;
    let ready = start.elapsed();
    let input = image(shape)?;
    let inputs = [("input", &input)];
    let first = runner.time(&inputs, 1)?.median();
    let warm = warm_runs(&runner, &inputs, args.runs)?;
    let nodes = match args.nodes {
        Some(_) => runner.time_nodes(&inputs, ROUNDS)?,
        None => Vec::new(),
    };
    // The machine may have been busy at one of the two times.
    let limit = limit.max(multiply_add_rate(&device)?);

    let (plan, cost) = (runner.plan(), runner.cost());
    let flops = |time: Duration| 2.0 * cost.multi_adds as f64 / time.as_secs_f64();
    let report = Report {
        network: model.config.backbone.title(),
        weights: crate::text::path(&model.path),
        device: device.to_string(),
        input: shape,
        output: wanted.0,
        output_stride: model.config.output_stride,
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
    };
    if args.json {
        return print_json(&report);
    }
    print(&report.text(args.nodes.map(|n| (n, device.is_cpu()))))
}

/// Numbers such as those of normalized images.
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

/// Calls `once` so often as was asked for, or as takes [`ENOUGH`].
fn repeat(runs: Option<u32>, mut once: impl FnMut() -> Result<Duration>) -> Result<Times> {
    let runs = match runs {
        Some(runs) => runs as usize,
        None => {
            let fit = (ENOUGH.as_nanos() / once()?.as_nanos().max(1)) as usize;
            fit.clamp(RUNS.0, RUNS.1)
        }
    };
    let all = (0..runs).map(|_| once()).collect::<Result<Vec<_>>>()?;
    Ok(Times::new(all).expect("invariant: at least one run"))
}
