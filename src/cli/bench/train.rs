//! `atrous bench --train`: measure training steps.

use super::report::{NodeRow, Warm, ms, rows, slowest};
use super::{Args, ROUNDS, image, repeat};
use crate::cli::console::{print, print_json, say};
use crate::cli::format::table;
use crate::error::{Result, error};
use crate::exec::Device;
use crate::memory;
use crate::segmenter::Model;
use crate::tensor::{Data, Shape, Tensor};
use crate::train::{BatchRef, Decay, MemoryEstimate, Schedule, TrainOptions, Trainer};
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(serde::Serialize)]
struct Report {
    network: String,
    weights: String,
    device: String,
    /// `[N, H, W, C]`.
    input: Shape,
    output_stride: usize,
    /// Whether activations are recomputed in the backward pass.
    recompute: bool,
    /// Multi-Adds of the forward and the backward pass.
    multi_adds: u64,
    /// Graph, kernels and buffers.
    ready_ms: f64,
    /// The first step, which includes compilation that drivers defer.
    first_ms: f64,
    warm: Warm,
    images_per_second: f64,
    /// A multiply-add counts as two operations.
    gflops: f64,
    /// Bytes according to the plan for GPUs.
    need: MemoryEstimate,
    /// Time of a step outside its nodes, including the update; 0 without `--nodes`.
    update_ms: f64,
    /// Times by operation, slowest first; empty without `--nodes`.
    operations: Vec<Operation>,
    /// In execution order; empty without `--nodes`.
    nodes: Vec<NodeRow>,
}

/// All the nodes of one operation.
#[derive(serde::Serialize)]
struct Operation {
    op: &'static str,
    nodes: usize,
    ms: f64,
    gflops: f64,
    /// Share of the total time of all nodes, 0 to 1.
    share: f64,
}

pub(super) fn run(args: &Args, model: &Model, device: &Device, shape: Shape) -> Result<()> {
    let Some(classes) = model.network.classes() else {
        return Err(error!(Usage, "a backbone without a head has no classes to train")
            .advice("name a network with a head"));
    };
    let config = model.config()?;
    if !args.json {
        say(&format!("device: {device}"));
    }
    let start = Instant::now();
    let mut trainer = Trainer::new(device, config, &model.weights, options(shape, args.recompute))?;
    let ready = start.elapsed();
    let (images, labels) = (image(shape)?, labels(shape, classes)?);
    let batch = BatchRef { images: &images, labels: &labels, names: &[] };
    let mut step = || {
        let start = Instant::now();
        trainer.step(&[batch])?;
        Ok(start.elapsed())
    };
    let first = step()?;
    let warm = repeat(args.runs, step)?;
    let timed = match args.nodes {
        Some(_) => trainer.time_nodes(&batch, ROUNDS)?,
        None => Vec::new(),
    };
    let (nodes, cost) = (rows(&timed), trainer.cost());
    let of_nodes: f64 = nodes.iter().map(|n| n.ms).sum();
    let report = Report {
        network: model.network.title(),
        weights: crate::text::path(&model.path),
        device: device.to_string(),
        input: shape,
        output_stride: config.output_stride,
        recompute: args.recompute,
        multi_adds: cost.multi_adds,
        ready_ms: ms(ready),
        first_ms: ms(first),
        images_per_second: shape.n as f64 / warm.median().as_secs_f64(),
        gflops: 2.0 * cost.multi_adds as f64 / warm.median().as_secs_f64() / 1e9,
        need: Trainer::estimate_memory(&trainer.device(), config, trainer.options())?,
        update_ms: if nodes.is_empty() { 0.0 } else { (ms(warm.median()) - of_nodes).max(0.0) },
        warm: Warm::new(&warm),
        operations: operations(&nodes),
        nodes,
    };
    if args.json {
        return print_json(&report);
    }
    print(&report.text(args.nodes.map(|n| (n, device.is_cpu()))))
}

/// Returns a common recipe, with a learning rate at which synthetic images cause no divergence.
fn options(shape: Shape, recompute: bool) -> TrainOptions {
    let schedule =
        Schedule { base: 1e-4, decay: Decay::Constant, steps: u32::MAX, warmup: 0, floor: 0.0 };
    let mut options = TrainOptions::new(shape.n, shape.size(), schedule);
    options.step.recompute = recompute;
    options
}

/// Returns labels in squares of one class each; some pixels are ignored.
fn labels(shape: Shape, classes: usize) -> Result<Tensor> {
    let label = |i: usize| {
        let (n, y, x) = (i / (shape.h * shape.w), i / shape.w % shape.h, i % shape.w);
        let square = n + y / 16 + 3 * (x / 16);
        if i % 16 == 5 { 255 } else { (square % classes) as u32 }
    };
    let mut labels = memory::with_capacity(shape.positions())?;
    labels.extend((0..shape.positions()).map(label));
    Tensor::from_data(shape.with_c(1), Data::U32(labels))
}

fn operations(nodes: &[NodeRow]) -> Vec<Operation> {
    let mut by_op: BTreeMap<&'static str, Operation> = BTreeMap::new();
    let mut operations = BTreeMap::new();
    for node in nodes {
        let of = by_op.entry(node.op).or_insert(Operation {
            op: node.op,
            nodes: 0,
            ms: 0.0,
            gflops: 0.0,
            share: 0.0,
        });
        of.nodes += 1;
        of.ms += node.ms;
        of.share += node.share;
        *operations.entry(node.op).or_insert(0.0) += node.gflops * node.ms;
    }
    let mut all: Vec<Operation> = by_op.into_values().collect();
    all.iter_mut().for_each(|of| of.gflops = operations[of.op] / of.ms.max(1e-6));
    all.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    all
}

impl Report {
    /// Formats the report. `nodes`: number of slowest nodes to list, and whether they ran on the CPU.
    fn text(&self, nodes: Option<(usize, bool)>) -> String {
        let rows = [
            (
                "network",
                format!(
                    "{}, output stride {} ({})",
                    self.network, self.output_stride, self.weights
                ),
            ),
            ("batch", format!("{}", self.input)),
            (
                "first step",
                format!("{:.0} ms, after {:.0} ms of preparation", self.first_ms, self.ready_ms),
            ),
            ("later steps", self.warm.text()),
            ("images", format!("{:.2} per second", self.images_per_second)),
            (
                "arithmetic",
                format!(
                    "{:.1} GFLOP/s ({:.2} B Multi-Adds per step)",
                    self.gflops,
                    self.multi_adds as f64 / 1e9
                ),
            ),
            ("memory", format!("{} (planned)", self.need)),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
        let mut text = table(&rows, &[]);
        if let Some((count, cpu)) = nodes {
            text += &format!(
                "\nBy operation; the update and other work outside the nodes take {:.1} ms:\n",
                self.update_ms
            );
            let mut lines =
                vec![["operation", "nodes", "ms", "GFLOP/s", "%"].map(str::to_owned).to_vec()];
            lines.extend(self.operations.iter().map(|of| {
                let numbers = [
                    format!("{:.1}", of.ms),
                    format!("{:.1}", of.gflops),
                    format!("{:.1}", 100.0 * of.share),
                ];
                [vec![of.op.to_owned(), of.nodes.to_string()], numbers.to_vec()].concat()
            }));
            text += &table(&lines, &[1, 2, 3, 4]);
            text += &slowest(&self.nodes, count, cpu);
        }
        text
    }
}
