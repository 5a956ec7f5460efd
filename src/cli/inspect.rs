//! `atrous inspect`: describe a weight file.

use super::args::{Network, NetworkArgs, WEIGHTS_HELP, fixed_size};
use super::console::{print, print_json};
use super::format::{mib, table, thousands};
use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Graph, Place, Role};
use crate::image::{ClassTable, SizeRule};
use crate::models::{
    Config, ConvKind, Decoder, Head, Labeling, ModelCard, Norm, Outputs, Pooling, build_network,
    parameters,
};
use crate::ops::Cost;
use crate::passes;
use crate::plan::Plan;
use crate::tensor::Shape;
use crate::text;
use crate::weights::statements::Setting;
use std::path::PathBuf;

/// Input size for cost and memory.
const SIZE: Size = Size::square(513);

const EXAMPLES: &str = "\
Examples:
  atrous inspect deeplab.pth
  atrous inspect hf:timm/xception65.tf_in1k
  atrous inspect deeplab.safetensors --ops --size 1025x513
  atrous inspect smp.pth --trained-stride 8 --rates 12,24,36
  atrous inspect --network xception65 --output-stride 8";

/// Describe a weight file: network, classes, layers, cost and memory
///
/// With --network it describes a network of the paper, without a file.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[arg(value_name = "WEIGHTS", required_unless_present = "network", help = WEIGHTS_HELP)]
    weights: Option<PathBuf>,

    #[command(flatten)]
    network: NetworkArgs,

    /// Input size for cost and memory: N (a square) or WxH [default: 513, or what an ONNX file fixes]
    #[arg(long, value_name = "N|WxH", value_parser = fixed_size)]
    size: Option<Size>,

    /// List every operation as built, with shapes, parameters and Multi-Adds
    #[arg(long)]
    ops: bool,

    /// Print the plan after all passes: steps, buffers, memory
    #[arg(long)]
    plan: bool,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(super) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.weights.as_mut(), self.json)
    }
}

impl Network {
    /// The config; the graph of an ONNX file has none.
    fn config(&self) -> Option<&Config> {
        match self {
            Network::File(model) => model.network.config(),
            Network::Named(config) => Some(config),
        }
    }

    fn input_channels(&self) -> usize {
        match self {
            Network::File(model) => model.network.input_channels(),
            Network::Named(config) => config.input_channels,
        }
    }

    /// How labels follow from the outputs. `None` for a bare backbone.
    fn labeling(&self) -> Option<Labeling> {
        match self {
            Network::File(model) => model.network.labeling(),
            Network::Named(config) => config.head.as_ref().map(Head::labeling),
        }
    }

    /// The size of the image, unless the graph of an ONNX file fixes another one.
    fn size(&self, stated: Option<Size>) -> Size {
        let fixed = match self {
            Network::File(model) => match model.default_size() {
                SizeRule::Exact(size) => Some(size),
                SizeRule::Multiple(n) => Some(SIZE.map(|side| side.next_multiple_of(n))),
                _ => None,
            },
            Network::Named(_) => None,
        };
        stated.or(fixed).unwrap_or(SIZE)
    }

    fn network(&self, input: Shape, outputs: &Outputs) -> Result<Graph> {
        Ok(match self {
            Network::File(model) => model.network(input, outputs)?.graph,
            Network::Named(config) => build_network(config, input, outputs)?.graph,
        })
    }

    /// Counts the parameters, of `graph` if there is no config.
    fn counts(&self, graph: &Graph) -> Result<Counts> {
        let all = match self.config() {
            Some(config) => parameters(config)?,
            None => graph.params().map(|(info, id)| (info.clone(), graph.shape(id))).collect(),
        };
        let sum = |counts: &dyn Fn(Role) -> bool| {
            all.iter()
                .filter(|(info, _)| counts(info.role))
                .map(|(_, shape)| shape.len() as u64)
                .sum()
        };
        let is_trained = |role: Role| role.part.is_trained();
        Ok(Counts {
            parameters: sum(&is_trained),
            auxiliary: sum(&|role| is_trained(role) && role.place == Place::Aux),
            statistics: sum(&|role| !is_trained(role)),
        })
    }
}

/// Sizes of a network.
struct Counts {
    /// Number of trained parameters.
    parameters: u64,
    /// Number of trained parameters of the auxiliary head.
    auxiliary: u64,
    /// Number of running statistics.
    statistics: u64,
}

#[derive(serde::Serialize)]
struct Report {
    /// `None` without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    /// `None` for an ONNX file.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    /// `None` for other files.
    #[serde(skip_serializing_if = "Option::is_none")]
    onnx: Option<Onnx>,
    /// Number of classes that a label can have. `None` for a bare backbone.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<usize>,
    /// Properties that weight files cannot state, and where they come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<Setting>,
    /// What was assumed or chosen, and what was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Where the network comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<ModelCard>,
    /// Number of trained parameters: kernels, biases, scale and shift of norms.
    parameters: u64,
    /// Number of trained parameters in the auxiliary head, which only training uses.
    auxiliary_parameters: u64,
    /// Number of running statistics of the norms.
    statistics: u64,
    /// Width and height of the input for cost and memory.
    size: Size,
    /// Without the auxiliary head.
    multi_adds: u64,
    /// Bytes of the buffers shared by activations.
    activation_bytes: u64,
    parameter_bytes: u64,
    layers: Vec<Layer>,
}

/// What an ONNX file states.
#[derive(serde::Serialize)]
struct Onnx {
    producer: String,
    opset: i64,
    /// Size of the image, if the graph fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
}

impl Onnx {
    fn of(subject: &Network) -> Option<Self> {
        match subject {
            Network::File(model) => match &model.network {
                crate::Network::Onnx(network) => Some(Self {
                    producer: text::printable(network.producer()).into_owned(),
                    opset: network.opset(),
                    size: network.fixed_size(),
                }),
                crate::Network::DeepLab(_) => None,
            },
            Network::Named(_) => None,
        }
    }
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
    let subject = args.network.open(args.weights.as_ref())?;
    let size = subject.size(args.size);
    let outputs = Outputs { labels: subject.labeling().is_some(), ..Outputs::default() };
    let input = Shape::images(1, size, subject.input_channels());
    let built = passes::dead_code(subject.network(input, &outputs)?)?;
    let optimized = passes::optimize(built.clone())?;
    let plan = Plan::new(&optimized);
    let report = report(&subject, &built, &plan, size)?;
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

fn report(subject: &Network, graph: &Graph, plan: &Plan, size: Size) -> Result<Report> {
    let counts = subject.counts(graph)?;
    let (file, dialect) = match subject {
        Network::File(model) => (Some(text::path(&model.path)), Some(model.dialect_name())),
        Network::Named(_) => (None, None),
    };
    let (settings, notes, card) = match subject {
        Network::File(model) => (model.settings.clone(), model.notes.clone(), model.card.clone()),
        Network::Named(_) => (Vec::new(), Vec::new(), None),
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
        config: subject.config().cloned(),
        onnx: Onnx::of(subject),
        classes: match subject {
            Network::File(model) => model.network.classes(),
            Network::Named(config) => config.classes(),
        },
        settings,
        notes,
        card,
        parameters: counts.parameters,
        auxiliary_parameters: counts.auxiliary,
        statistics: counts.statistics,
        size,
        multi_adds: layers.iter().map(|l| l.cost.multi_adds).sum(),
        activation_bytes: plan.activation_bytes(),
        parameter_bytes: plan.param_bytes,
        layers,
    })
}

fn summary(report: &Report, subject: &Network) -> String {
    let mut rows = Vec::new();
    rows.extend(report.file.iter().map(|file| ("file", file.clone())));
    rows.extend(report.dialect.iter().map(|dialect| ("dialect", (*dialect).to_owned())));
    if let Some(config) = &report.config {
        rows.extend([
            ("backbone", config.backbone.title()),
            ("output stride", config.output_stride.to_string()),
        ]);
    }
    if let (Some(onnx), Network::File(model)) = (&report.onnx, subject) {
        rows.push(("graph", format!("{}, opset {}", model.network.title(), onnx.opset)));
        rows.push(("written by", onnx.producer.clone()));
        rows.extend(onnx.size.map(|size| ("image size", format!("{size} only"))));
    }
    rows.extend(
        report
            .settings
            .iter()
            .map(|s| (s.property.name(), format!("{} ({})", s.value, s.stated_by.name()))),
    );
    if report.config.as_ref().is_some_and(|config| config.norm == Norm::Folded) {
        rows.push(("batch norms", "folded into the convolutions: not for training".to_owned()));
    }
    let head = report.config.as_ref().and_then(|config| config.head.as_ref());
    rows.extend(head.map(|head| ("head", head_text(head))));
    if let Some(classes) = report.classes {
        let names = match subject {
            Network::File(model) => model.class_table().names,
            Network::Named(_) => ClassTable::for_classes(classes).names,
        };
        rows.push(("classes", format!("{classes}{}", outputs_text(subject.labeling()))));
        // All of them: `--keep` and class tables need the names.
        rows.extend(names_in_lines(&names).into_iter().map(|line| ("", line)));
    }
    rows.extend(head.and_then(|head| head.aux).map(|_| ("auxiliary head", "yes".to_owned())));
    rows.extend(report.card.iter().flat_map(ModelCard::lines));
    rows.extend(cost_rows(report));
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
    table(&rows, &[])
}

/// Describes the size of a network, and what it takes to run it.
fn cost_rows(report: &Report) -> [(&'static str, String); 3] {
    let gigas = report.multi_adds as f64 / 1e9;
    let (in_auxiliary, without_auxiliary) = match report.auxiliary_parameters {
        0 => (String::new(), ""),
        n => (
            format!("; {} of the parameters in the auxiliary head", thousands(n)),
            ", without the auxiliary head",
        ),
    };
    [
        (
            "parameters",
            format!(
                "{} (and {} running statistics{in_auxiliary})",
                thousands(report.parameters),
                thousands(report.statistics)
            ),
        ),
        ("Multi-Adds", format!("{gigas:.2} B at {}{without_auxiliary}", report.size)),
        (
            "memory",
            format!(
                "{} of buffers and {} of parameters on the device",
                mib(report.activation_bytes),
                mib(report.parameter_bytes)
            ),
        ),
    ]
}

/// Describes sigmoid outputs, of which there is one fewer than classes: ` (one sigmoid output, ..)`.
fn outputs_text(labeling: Option<Labeling>) -> String {
    let sigmoid = labeling.and_then(|labeling| Some((labeling.channels(), labeling.sigmoid()?)));
    match sigmoid {
        None => String::new(),
        Some((1, threshold)) => format!(" (one sigmoid output, threshold {threshold})"),
        Some((n, threshold)) => {
            format!(" (background and {n} sigmoid outputs, threshold {threshold})")
        }
    }
}

/// Wraps class names, with their numbers, into lines of about 76 characters.
fn names_in_lines(names: &[String]) -> Vec<String> {
    const WIDTH: usize = 76;
    let mut lines = vec![String::new()];
    for (class, name) in names.iter().enumerate() {
        let entry = format!("{class} {name}");
        let line = lines.last_mut().expect("invariant: at least one line");
        if line.is_empty() {
            *line = entry;
        } else if line.chars().count() + 2 + entry.chars().count() <= WIDTH {
            *line += &format!(", {entry}");
        } else {
            lines.push(entry);
        }
    }
    lines
}

/// Describes the head in a line: `DeepLabv3+, rates 12 24 36, separable, pooled branch`.
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
        Pooling::Window { crop, .. } => parts.push(format!("windowed pooling for {crop}")),
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
