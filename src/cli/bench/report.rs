//! The measurements as text and JSON.

use crate::cli::format::{mib, stride, table};
use crate::exec::{NodeTime, Times};
use crate::tensor::Shape;
use crate::text;
use std::time::Duration;

#[derive(serde::Serialize)]
pub(super) struct Report {
    pub network: String,
    pub weights: String,
    pub device: String,
    /// `[N, H, W, C]`.
    pub input: Shape,
    /// Name of the computed output.
    pub output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_stride: Option<usize>,
    /// Multi-Adds of one run, over all images of the batch.
    pub multi_adds: u64,
    pub first: First,
    pub warm: Warm,
    pub images_per_second: f64,
    /// A multiply-add counts as two operations, here and below.
    pub gflops: f64,
    pub limit_gflops: f64,
    pub share_of_limit: f64,
    /// Bytes of the buffers shared by activations, according to the plan for GPUs.
    pub activation_bytes: u64,
    pub parameter_bytes: u64,
    /// In execution order; empty without `--nodes`.
    pub nodes: Vec<NodeRow>,
}

/// Times from a loaded model to the first result, in milliseconds.
#[derive(serde::Serialize)]
pub(super) struct First {
    /// Graph and passes.
    pub graph_ms: f64,
    /// Selecting kernels, compiling pipelines, allocating buffers.
    pub ready_ms: f64,
    /// The first run, which includes compilation that drivers defer.
    pub run_ms: f64,
    pub total_ms: f64,
}

#[derive(serde::Serialize)]
pub(super) struct Warm {
    pub runs: usize,
    pub median_ms: f64,
    pub p10_ms: f64,
    pub p90_ms: f64,
}

#[derive(serde::Serialize)]
pub(super) struct NodeRow {
    pub name: String,
    pub op: &'static str,
    pub attributes: String,
    pub kernel: Option<String>,
    pub output: Shape,
    pub ms: f64,
    pub gflops: f64,
    /// Share of the total time of all nodes, 0 to 1.
    pub share: f64,
}

impl Warm {
    pub(super) fn new(times: &Times) -> Self {
        let at = |p| ms(times.percentile(p));
        Self { runs: times.count(), median_ms: at(0.5), p10_ms: at(0.1), p90_ms: at(0.9) }
    }

    pub(super) fn text(&self) -> String {
        format!(
            "median {:.1} ms, p10 {:.1}, p90 {:.1} ({})",
            self.median_ms,
            self.p10_ms,
            self.p90_ms,
            text::count(self.runs, "run")
        )
    }
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(super) fn rows(nodes: &[NodeTime]) -> Vec<NodeRow> {
    let whole: Duration = nodes.iter().map(|n| n.time).sum();
    let row = |n: &NodeTime| NodeRow {
        name: n.name.clone(),
        op: n.op,
        attributes: n.attributes.clone(),
        kernel: n.kernel.clone(),
        output: n.output,
        ms: ms(n.time),
        gflops: 2.0 * n.cost.multi_adds as f64 / n.time.as_secs_f64().max(1e-9) / 1e9,
        share: n.time.as_secs_f64() / whole.as_secs_f64().max(1e-9),
    };
    nodes.iter().map(row).collect()
}

impl Report {
    /// Formats the report. `nodes`: number of slowest nodes to list, and whether they ran on the CPU.
    pub(super) fn text(&self, nodes: Option<(usize, bool)>) -> String {
        let (first, warm) = (&self.first, &self.warm);
        let rows = [
            (
                "network",
                format!("{}{} ({})", self.network, stride(self.output_stride), self.weights),
            ),
            ("input", format!("{} to `{}`", self.input, self.output)),
            (
                "first run",
                format!(
                    "{:.0} ms: graph {:.0}, kernels and buffers {:.0}, run {:.0}",
                    first.total_ms, first.graph_ms, first.ready_ms, first.run_ms
                ),
            ),
            ("later runs", warm.text()),
            ("images", format!("{:.2} per second", self.images_per_second)),
            (
                "arithmetic",
                format!(
                    "{:.1} GFLOP/s ({:.2} B Multi-Adds per run), {:.0} % of the measured limit of {:.1} GFLOP/s",
                    self.gflops,
                    self.multi_adds as f64 / 1e9,
                    100.0 * self.share_of_limit,
                    self.limit_gflops
                ),
            ),
            (
                "memory",
                format!(
                    "{} of buffers and {} of parameters (planned)",
                    mib(self.activation_bytes),
                    mib(self.parameter_bytes)
                ),
            ),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
        let mut text = table(&rows, &[]);
        if let Some((count, cpu)) = nodes {
            text += &slowest(&self.nodes, count, cpu);
        }
        text
    }
}

/// Formats a table of the `count` slowest nodes. `cpu`: whether they ran on the CPU.
pub(super) fn slowest(nodes: &[NodeRow], count: usize, cpu: bool) -> String {
    let mut sorted: Vec<&NodeRow> = nodes.iter().collect();
    sorted.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let method = if cpu {
        "timed within whole runs"
    } else {
        "each repeated in isolation, which favors small nodes"
    };
    let whole: f64 = nodes.iter().map(|n| n.ms).sum();
    let (shown, of) = (count.min(sorted.len()), sorted.len());
    let mut text =
        format!("\nThe {shown} slowest of {of} nodes ({method}; {whole:.1} ms in total):\n");
    let mut lines = vec![
        ["node", "operation", "kernel", "output [N, H, W, C]", "ms", "GFLOP/s", "%"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(sorted.into_iter().take(count).map(|n| {
        vec![
            n.name.clone(),
            format!("{} {}", n.op, n.attributes).trim_end().to_owned(),
            n.kernel.clone().unwrap_or_else(|| "-".to_owned()),
            n.output.to_string(),
            format!("{:.3}", n.ms),
            format!("{:.1}", n.gflops),
            format!("{:.1}", 100.0 * n.share),
        ]
    }));
    text += &table(&lines, &[4, 5, 6]);
    text
}
