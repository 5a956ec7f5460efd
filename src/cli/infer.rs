//! `atrous infer`: raw tensors in and out.

use super::args::{DeviceArgs, MemoryArgs, ModelArgs};
use super::outputs::OutputCheck;
use super::tensors;
use crate::error::{Result, error};
use crate::exec::Device;
use crate::models::{NetworkGraph, Outputs};
use crate::passes;
use crate::segmenter::Model;
use crate::tensor::Tensor;
use crate::weights::{FloatDType, WeightFile};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Example:
  atrous infer --weights deeplab.pth --input input.safetensors -o activations.safetensors \\
    --keep backbone.layer4,aspp";

/// Run a network on raw tensors
///
/// The input file contains a tensor `input`, f32 [N, C, H, W], already normalized. The output file
/// contains `logits`, the scores before the last upsampling, and `logits_full`, the scores at the
/// input's size, both [N, classes, H, W].
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Safetensors file with the tensor `input`
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,

    /// Safetensors file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Also write the activations of these nodes or stages (see `atrous inspect --ops`), or `labels`
    /// and `confidence`
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    keep: Vec<String>,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    memory: MemoryArgs,
}

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(super) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.model.weights.as_mut(), false)
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    let mut outputs = OutputCheck::new("name another output with -o");
    outputs.reads(&args.input, "the input");
    outputs.reads(args.model.weights(), "the weight file");
    outputs.writes(&args.output, "the output")?;
    let model = args.model.open()?;
    let file = WeightFile::open(&args.input)?;
    let input = tensors::read(&file, "input")?;
    let outputs = activations(&model, &input, &args.keep, &args.device)?;
    tensors::write(&args.output, &outputs, FloatDType::F32)
}

/// Runs a model on `input`: `logits` and `logits_full` (for a bare backbone `features`) and the
/// activations of the nodes or stages in `keep`, by name, in this order.
pub(super) fn activations(
    model: &Model,
    input: &Tensor,
    keep: &[String],
    how: &DeviceArgs,
) -> Result<Vec<(String, Tensor)>> {
    let kept = |name: &str| keep.iter().any(|k| k == name);
    let has_head = model.network.labeling().is_some();
    let wanted = Outputs {
        logits_full: has_head,
        labels: kept("labels"),
        confidence: kept("confidence"),
        ..Outputs::default()
    };
    let mut network = model.network(input.shape(), &wanted)?;
    for name in keep {
        keep_node(&mut network, name)?;
    }
    let graph = passes::optimize(network.graph)?;
    let device = Device::open(&how.device)?;
    log::info!("running on {device}");
    let runner = how.tuning(false).runner(&device, graph)?;
    let results = runner.run(&[("input", input)])?;
    Ok(runner.graph().outputs().iter().map(|(name, _)| name.clone()).zip(results).collect())
}

/// Makes a node or stage an output, unless it is one. Errors name those that come close.
pub(super) fn keep_node(network: &mut NetworkGraph, name: &str) -> Result<()> {
    // An output need not be a node: without any upsampling `logits_full` is the value of `logits`.
    let output = network.graph.outputs().iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let stage = network.stages.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let node = || network.graph.find_node(name).map(|n| n.outputs[0]);
    match output.or(stage).or_else(node) {
        Some(value) => {
            network.graph.output(name, value);
            Ok(())
        }
        None => {
            let last = name.rsplit('.').next().unwrap_or(name);
            let close: Vec<&str> = network
                .graph
                .nodes()
                .iter()
                .map(|n| n.name.as_str())
                .filter(|n| n.contains(last))
                .take(5)
                .collect();
            let close = if close.is_empty() {
                String::new()
            } else {
                format!("; names like it: {}", close.join(", "))
            };
            Err(error!(Usage, "the network has no node or stage `{name}`")
                .advice(format!("`atrous inspect --ops` lists them{close}")))
        }
    }
}
