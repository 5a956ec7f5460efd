//! `atrous inspect`: what a weight file holds.

use super::args::{HeadName, ModelArgs, mib, print, print_json, table, thousands};
use crate::error::Result;
use crate::graph::Graph;
use crate::image::{ClassTable, Fit, SizeRule};
use crate::models::{
    Backbone, Config, ConvKind, Decoder, Head, Outputs, Pooling, build_network, is_auxiliary,
    is_trained, parameters,
};
use crate::ops::Cost;
use crate::passes;
use crate::plan::Plan;
use crate::segmenter::Model;
use crate::tensor::Shape;
use crate::text;
use std::path::PathBuf;

/// Shows what a weight file holds: network, classes, layers, costs, memory
///
/// With `--network` it tells the same of a network of the paper, without any weights.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Weight file: .safetensors, .pth or .pt, of any dialect
    #[arg(value_name = "FILE", required_unless_present = "network")]
    weights: Option<PathBuf>,

    /// Instead of a file: a backbone, such as xception65, resnet101 or mobilenet_v2, with the head
    /// that --head names
    #[arg(long, value_name = "BACKBONE", conflicts_with = "weights")]
    network: Option<String>,

    /// The head of --network
    #[arg(long, value_enum, default_value = "plus", requires = "network")]
    head: HeadName,

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
    #[arg(long, value_name = "NAME", conflicts_with = "network")]
    dialect: Option<String>,

    /// Output stride to run the weights at [default: the network's own]
    #[arg(long, value_name = "8|16|32")]
    output_stride: Option<usize>,
}

/// What is shown: a file, or a network without weights.
enum Subject {
    File(Box<Model>),
    Paper(Box<Config>),
}

impl Subject {
    fn config(&self) -> &Config {
        match self {
            Subject::File(model) => &model.config,
            Subject::Paper(config) => config,
        }
    }

    fn network(&self, input: Shape, outputs: &Outputs) -> Result<Graph> {
        Ok(match self {
            Subject::File(model) => model.network(input, outputs)?.graph,
            Subject::Paper(config) => build_network(config, input, outputs)?.graph,
        })
    }

    fn numbers(&self) -> Result<Numbers> {
        let all: Vec<(String, u64)> = match self {
            Subject::File(model) => {
                model.weights.iter().map(|(n, p)| (n.clone(), p.shape().len() as u64)).collect()
            }
            Subject::Paper(config) => {
                parameters(config)?.into_iter().map(|(n, shape)| (n, shape.len() as u64)).collect()
            }
        };
        let sum = |counts: &dyn Fn(&str) -> bool| {
            all.iter().filter(|(name, _)| counts(name)).map(|(_, n)| n).sum()
        };
        Ok(Numbers {
            parameters: sum(&is_trained),
            auxiliary: sum(&|name| is_trained(name) && is_auxiliary(name)),
            statistics: sum(&|name| !is_trained(name)),
        })
    }
}

/// How many numbers a network has.
struct Numbers {
    /// Trained numbers, all of them.
    parameters: u64,
    /// Trained numbers of the auxiliary head.
    auxiliary: u64,
    /// Running statistics.
    statistics: u64,
}

fn subject(args: &Args) -> Result<Subject> {
    let output_stride = args.model.output_stride;
    if let Some(name) = &args.network {
        let config = Config::paper(Backbone::named(name)?, args.head.into(), 21)?;
        let config = match output_stride {
            Some(stride) => config.with_output_stride(stride)?,
            None => config,
        };
        return Ok(Subject::Paper(Box::new(config)));
    }
    let weights =
        args.weights.clone().expect("invariant: clap asks for a file where there is no network");
    let how =
        ModelArgs { weights, dialect: args.model.dialect.clone(), output_stride, classes: None };
    Ok(Subject::File(Box::new(how.open()?)))
}

#[derive(serde::Serialize)]
struct Report {
    /// None for a network without weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    config: Config,
    /// Trained numbers: kernels, biases, norms' factors and summands.
    parameters: u64,
    /// Those of them in the auxiliary head, which trains the network and takes no part in
    /// inference.
    auxiliary_parameters: u64,
    /// Norms' running statistics.
    statistics: u64,
    /// Width and height of the input that costs and memory are for.
    size: (usize, usize),
    /// Without the auxiliary head.
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
    let subject = subject(args)?;
    let config = subject.config();
    let (w, h) = match args.size.fit(1, 1) {
        Fit { padded, .. } if args.size != SizeRule::Native => padded,
        _ => (513, 513),
    };
    let outputs = Outputs { labels: config.head.is_some(), ..Outputs::default() };
    let input = Shape::new(1, h, w, config.input_channels);
    let built = passes::dead_code(subject.network(input, &outputs)?)?;
    let optimized = passes::optimize(built.clone())?;
    let plan = Plan::new(&optimized);
    let report = report(&subject, &built, &plan, (w, h))?;
    if args.json {
        return print_json(&report);
    }
    let mut text = summary(&report, &subject);
    if args.ops {
        text += "\n";
        text += &layer_table(&report.layers);
    }
    if args.plan {
        text += "\n";
        text += &plan.describe(&optimized);
    }
    print(&text)
}

fn report(subject: &Subject, graph: &Graph, plan: &Plan, size: (usize, usize)) -> Result<Report> {
    let numbers = subject.numbers()?;
    let (file, dialect) = match subject {
        Subject::File(model) => (Some(text::path(&model.path)), Some(model.dialect)),
        Subject::Paper(_) => (None, None),
    };
    let layers: Vec<Layer> = graph
        .nodes()
        .iter()
        .map(|node| {
            let types = |ids: &[crate::graph::ValueId]| {
                ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>()
            };
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
    Ok(Report {
        file,
        dialect,
        config: subject.config().clone(),
        parameters: numbers.parameters,
        auxiliary_parameters: numbers.auxiliary,
        statistics: numbers.statistics,
        size,
        multi_adds: layers.iter().map(|l| l.cost.multi_adds).sum(),
        activation_bytes: plan.activation_bytes(),
        parameter_bytes: plan.param_bytes,
        layers,
    })
}

fn summary(report: &Report, subject: &Subject) -> String {
    let config = &report.config;
    let mut rows = Vec::new();
    rows.extend(report.file.iter().map(|file| ("file", file.clone())));
    rows.extend(report.dialect.iter().map(|dialect| ("dialect", (*dialect).to_owned())));
    rows.extend([
        ("backbone", config.backbone.title()),
        ("output stride", config.output_stride.to_string()),
    ]);
    if let Some(head) = &config.head {
        let names = match subject {
            Subject::File(model) => model.class_table().names,
            Subject::Paper(_) => ClassTable::for_classes(head.classes).names,
        };
        let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 8 { ", ..." } else { "" };
        rows.push(("head", head_text(head)));
        rows.push(("classes", format!("{} ({shown}{more})", head.classes)));
        rows.extend(head.aux.map(|_| ("auxiliary head", "yes".to_owned())));
    }
    let gigas = report.multi_adds as f64 / 1e9;
    let (in_auxiliary, without_auxiliary) = match report.auxiliary_parameters {
        0 => (String::new(), ""),
        n => (
            format!("; {} of the parameters are the auxiliary head's", thousands(n)),
            ", without the auxiliary head",
        ),
    };
    rows.extend([
        (
            "parameters",
            format!(
                "{} (and {} running statistics{in_auxiliary})",
                thousands(report.parameters),
                thousands(report.statistics)
            ),
        ),
        (
            "Multi-Adds",
            format!("{gigas:.2} B at {}x{}{without_auxiliary}", report.size.0, report.size.1),
        ),
        (
            "memory",
            format!(
                "{} of buffers and {} of parameters on the device",
                mib(report.activation_bytes),
                mib(report.parameter_bytes)
            ),
        ),
    ]);
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
    table(&rows, &[])
}

/// The head in a line: `DeepLabv3+, rates 12 24 36, separable, pooled branch`.
fn head_text(head: &Head) -> String {
    let aspp = &head.aspp;
    let mut parts = Vec::new();
    match &head.decoder {
        Decoder::Plus(plus) => {
            parts.push(format!("DeepLabv3+ (low-level channels {})", plus.low_level_channels))
        }
        Decoder::None | Decoder::Conv => parts.push("DeepLabv3 (no decoder)".to_owned()),
    }
    match aspp.rates.as_slice() {
        [] => parts.push("no dilated branches".to_owned()),
        rates => parts.push(format!(
            "rates {}",
            rates.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
        )),
    }
    if aspp.kind != ConvKind::Plain {
        parts.push("separable".to_owned());
    }
    match aspp.pooling {
        Pooling::Off => {}
        Pooling::Global => parts.push("pooled branch".to_owned()),
        Pooling::Window { crop, .. } => {
            parts.push(format!("windowed pooling for {}x{}", crop.1, crop.0))
        }
    }
    parts.join(", ")
}

fn layer_table(layers: &[Layer]) -> String {
    let mut rows = vec![
        ["node", "operation", "attributes", "output [N, H, W, C]", "parameters", "M Multi-Adds"]
            .map(str::to_owned)
            .to_vec(),
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
