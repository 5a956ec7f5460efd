//! `atrous verify`: find the first node whose activations differ from a reference.

use super::args::{DeviceArgs, ModelArgs};
use super::console::{print, print_json};
use super::format::table;
use super::{infer, tensors};
use crate::error::{Result, error};
use crate::models::Outputs;
use crate::tensor::Tensor;
use crate::weights::WeightFile;
use std::path::PathBuf;

/// Compare activations with a reference, node by node
///
/// The first node that differs is named. The reference is a safetensors file with `input`
/// [N, C, H, W] and any number of activations, under the names of nodes or stages (as
/// `atrous infer --keep` writes them, with `input` added), `logits` or `logits_full`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  atrous verify --weights deeplab.pth --reference pytorch.safetensors"
)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Safetensors file with `input` and the expected activations
    #[arg(short, long, value_name = "FILE")]
    reference: PathBuf,

    /// Largest absolute difference allowed
    #[arg(long, default_value_t = 1e-3, value_name = "X")]
    atol: f32,

    /// Largest difference allowed relative to the expected value
    #[arg(long, default_value_t = 1e-3, value_name = "X")]
    rtol: f32,

    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(super) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.model.weights.as_mut(), self.json)
    }
}

#[derive(serde::Serialize)]
struct Row {
    name: String,
    agrees: bool,
    largest_difference: f32,
    /// Elements outside the tolerance.
    outside: usize,
    elements: usize,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let model = args.model.open()?;
    let file = WeightFile::open(&args.reference)?;
    let input = tensors::read(&file, "input")?;
    let mut names: Vec<String> =
        file.names().filter(|n| *n != "input").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(
            error!(Usage, "contains no activations to compare, only `input`").file(&args.reference)
        );
    }
    names.retain(|n| n != "logits" && n != "logits_full");
    let computed = infer::activations(&model, &input, &names, &args.device)?;
    let logits_full = model.network.labeling().is_some();
    let outputs = Outputs { logits_full, ..Outputs::default() };
    let in_order = model.network(input.shape(), &outputs)?;
    let position = |name: &str| {
        let value = in_order.stages.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let value = value.or_else(|| in_order.graph.find_node(name).map(|n| n.outputs[0]));
        value.map_or(usize::MAX, |v| v.index())
    };
    let mut rows = Vec::new();
    for (name, tensor) in &computed {
        if file.get(name).is_some() {
            rows.push((position(name), compare(name, tensor, &tensors::read(&file, name)?, args)?));
        }
    }
    rows.sort_by_key(|(position, _)| *position);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if args.json {
        print_json(&rows)?;
    } else {
        let mut lines = vec![
            ["", "node", "largest difference", "outside", "elements"].map(str::to_owned).to_vec(),
        ];
        lines.extend(rows.iter().map(|r| {
            let mark = if r.agrees { "ok" } else { "DIFFERS" };
            vec![
                mark.to_owned(),
                r.name.clone(),
                format!("{:.3e}", r.largest_difference),
                r.outside.to_string(),
                r.elements.to_string(),
            ]
        }));
        print(&table(&lines, &[2, 3, 4]))?;
    }
    match rows.iter().find(|r| !r.agrees) {
        None => Ok(()),
        Some(first) => Err(error!(
            Weights,
            "is the first that differs: {} of {} elements, by up to {:.3e}",
            first.outside,
            first.elements,
            first.largest_difference
        )
        .at(format!("node `{}`", first.name))),
    }
}

fn compare(name: &str, got: &Tensor, want: &Tensor, args: &Args) -> Result<Row> {
    if got.shape() != want.shape() {
        return Err(error!(
            Weights,
            "has the shape {}, the reference {}",
            got.shape(),
            want.shape()
        )
        .at(format!("node `{name}`")));
    }
    let (mut largest, mut outside) = (0f32, 0);
    for (g, w) in got.f32().iter().zip(want.f32()) {
        let difference = (g - w).abs();
        // A NaN counts as outside.
        let inside = difference <= args.atol + args.rtol * w.abs();
        outside += usize::from(!inside);
        largest = if difference.is_nan() { f32::NAN } else { largest.max(difference) };
    }
    Ok(Row {
        name: name.to_owned(),
        agrees: outside == 0,
        largest_difference: largest,
        outside,
        elements: got.shape().len(),
    })
}
