//! `atrous inspect`: what a weight file holds.

use super::args::{ModelArgs, mib, print, print_json, table, thousands};
use crate::error::Result;
use crate::graph::Graph;
use crate::image::{Fit, SizeRule};
use crate::models::{Config, ConvKind, Decoder, Head, Outputs, Pooling, is_trained};
use crate::ops::Cost;
use crate::passes;
use crate::plan::Plan;
use crate::segmenter::Model;
use crate::tensor::Shape;

/// Shows what a weight file holds: network, classes, layers, costs, memory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Weight file: .safetensors, .pth or .pt, of any dialect
    #[arg(value_name = "FILE")]
    weights: std::path::PathBuf,

    #[command(flatten)]
    model: InspectModel,

    /// Size for costs and memory: N (a square) or WxH
    #[arg(long, default_value = "513", value_name = "N|WxH")]
    size: SizeRule,

    /// Lists every operation as built, with shapes, parameters and Multi-Adds
    #[arg(long)]
    ops: bool,

    /// Prints the plan after all passes: steps, buffers, memory
    #[arg(long)]
    plan: bool,

    /// Writes everything as JSON
    #[arg(long)]
    json: bool,
}

/// As [`ModelArgs`], with the file as the command's own argument.
#[derive(Debug, clap::Args)]
struct InspectModel {
    /// The code base whose names the file has, where they do not tell it themselves
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,

    /// Output stride to run the weights at [default: the network's own]
    #[arg(long, value_name = "8|16|32")]
    output_stride: Option<usize>,
}

#[derive(serde::Serialize)]
struct Report {
    file: String,
    dialect: &'static str,
    config: Config,
    /// Trained numbers: kernels, biases, norms' factors and summands.
    parameters: u64,
    /// Norms' running statistics.
    statistics: u64,
    /// Width and height of the input that costs and memory are for.
    size: (usize, usize),
    multi_adds: u64,
    /// Bytes of the buffers that activations share.
    activation_bytes: u64,
    parameter_bytes: u64,
    layers: Vec<Layer>,
}

#[derive(serde::Serialize)]
struct Layer {
    name: String,
    op: &'static str,
    attributes: String,
    output: Shape,
    parameters: u64,
    #[serde(flatten)]
    cost: Cost,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let how = ModelArgs {
        weights: args.weights.clone(),
        dialect: args.model.dialect.clone(),
        output_stride: args.model.output_stride,
        classes: None,
    };
    let model = how.open()?;
    let (w, h) = match args.size.fit(1, 1) {
        Fit { padded, .. } if args.size != SizeRule::Native => padded,
        _ => (513, 513),
    };
    let outputs = Outputs { labels: model.config.head.is_some(), ..Outputs::default() };
    let input = Shape::new(1, h, w, model.config.input_channels);
    let built = passes::dead_code(model.network(input, &outputs)?.graph)?;
    let optimised = passes::optimise(built.clone())?;
    let plan = Plan::new(&optimised);
    let report = report(&model, &built, &plan, (w, h));
    if args.json {
        return print_json(&report);
    }
    let mut text = summary(&report, &model);
    if args.ops {
        text += "\n";
        text += &layer_table(&report.layers);
    }
    if args.plan {
        text += "\n";
        text += &plan.describe(&optimised);
    }
    print(&text)
}

fn report(model: &Model, graph: &Graph, plan: &Plan, size: (usize, usize)) -> Report {
    let numbers = |trained: bool| {
        let of_kind = model.weights.iter().filter(|(name, _)| is_trained(name) == trained);
        of_kind.map(|(_, p)| p.shape().len() as u64).sum()
    };
    let layers: Vec<Layer> = graph
        .nodes()
        .iter()
        .map(|node| {
            let types = |ids: &[crate::graph::ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
            let params = node.inputs.iter().filter(|v| graph.is_param(**v));
            Layer {
                name: node.name.clone(),
                op: node.op.name(),
                attributes: node.op.attributes(),
                output: graph.shape(node.outputs[0]),
                parameters: params.map(|&v| graph.shape(v).len() as u64).sum(),
                cost: node.op.cost(&types(&node.inputs), &types(&node.outputs)),
            }
        })
        .collect();
    Report {
        file: model.path.display().to_string(),
        dialect: model.dialect,
        config: model.config.clone(),
        parameters: numbers(true),
        statistics: numbers(false),
        size,
        multi_adds: layers.iter().map(|l| l.cost.multi_adds).sum(),
        activation_bytes: plan.activation_bytes(),
        parameter_bytes: plan.param_bytes,
        layers,
    }
}

fn summary(report: &Report, model: &Model) -> String {
    let config = &report.config;
    let mut rows = vec![
        ("file", report.file.clone()),
        ("dialect", report.dialect.to_owned()),
        ("backbone", config.backbone.title()),
        ("output stride", config.output_stride.to_string()),
    ];
    if let Some(head) = &config.head {
        let names = model.class_table().names;
        let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 8 { ", ..." } else { "" };
        rows.push(("head", head_text(head)));
        rows.push(("classes", format!("{} ({shown}{more})", head.classes)));
        rows.extend(head.aux.map(|_| ("auxiliary head", "yes".to_owned())));
    }
    let gigas = report.multi_adds as f64 / 1e9;
    rows.extend([
        ("parameters", format!("{} (and {} running statistics)", thousands(report.parameters), thousands(report.statistics))),
        ("Multi-Adds", format!("{gigas:.2} B at {}x{}", report.size.0, report.size.1)),
        (
            "memory",
            format!(
                "{} of buffers and {} of parameters on the device",
                mib(report.activation_bytes),
                mib(report.parameter_bytes)
            ),
        ),
    ]);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
    table(&rows, &[])
}

/// The head in a line: `DeepLabv3+, rates 12 24 36, separable, pooled branch`.
fn head_text(head: &Head) -> String {
    let aspp = &head.aspp;
    let mut parts = Vec::new();
    match &head.decoder {
        Decoder::Plus(plus) => parts.push(format!("DeepLabv3+ (low-level channels {})", plus.low_level_channels)),
        Decoder::None | Decoder::Conv => parts.push("DeepLabv3 (no decoder)".to_owned()),
    }
    match aspp.rates.as_slice() {
        [] => parts.push("no dilated branches".to_owned()),
        rates => parts.push(format!("rates {}", rates.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))),
    }
    if aspp.kind != ConvKind::Plain {
        parts.push("separable".to_owned());
    }
    match aspp.pooling {
        Pooling::Off => {}
        Pooling::Global => parts.push("pooled branch".to_owned()),
        Pooling::Window { crop, .. } => parts.push(format!("windowed pooling for {}x{}", crop.1, crop.0)),
    }
    parts.join(", ")
}

fn layer_table(layers: &[Layer]) -> String {
    let mut rows = vec![
        ["node", "operation", "attributes", "output [N, H, W, C]", "parameters", "M Multi-Adds"].map(str::to_owned).to_vec(),
    ];
    rows.extend(layers.iter().map(|l| {
        vec![
            l.name.clone(),
            l.op.to_owned(),
            l.attributes.clone(),
            l.output.to_string(),
            thousands(l.parameters),
            format!("{:.2}", l.cost.multi_adds as f64 / 1e6),
        ]
    }));
    table(&rows, &[4, 5])
}
