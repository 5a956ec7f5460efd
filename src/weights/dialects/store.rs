//! Writing weights under a dialect's names.

use super::{Dialect, KernelLayout, Source, Tensors, expected, find};
use crate::error::{Result, error};
use crate::graph::Weights;
use crate::models::{CONFIG_KEY, Config, Decoder};
use serde_json::Value;
use std::collections::BTreeMap;

/// Tensors in memory, under a dialect's names and in its layout, ready to be written to a file.
#[derive(Debug, Clone, Default)]
pub struct StoredWeights {
    /// Names, dimensions and elements.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// Our config as JSON, with which the file can be read back with nothing lost.
    pub metadata: BTreeMap<String, String>,
}

impl Source for StoredWeights {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, dims, _)| (name.clone(), dims.clone())).collect()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata.clone()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.tensors.iter().find(|(n, ..)| n == name);
        found
            .map(|(.., data)| data.clone())
            .ok_or_else(|| error!(Weights, "there is no tensor `{name}`"))
    }

    fn label(&self) -> String {
        "tensors in memory".to_owned()
    }
}

/// The weights under the names and in the layout of the dialect called `dialect`.
///
/// # Errors
/// Where a parameter is missing or misshapen, and where the dialect's code would compute something
/// else with these weights: it has no such layer, or another order, padding, dilation rule, eps,
/// ...
pub fn store(config: &Config, weights: &Weights, dialect: &str) -> Result<StoredWeights> {
    let dialect = find(dialect)?;
    let layout = dialect.layout(&Tensors::default());
    let parameters = expected(dialect, config, layout)?;
    let mut stored = StoredWeights { tensors: Vec::new(), metadata: BTreeMap::new() };
    for p in &parameters {
        match weights.get(&p.ours) {
            Some(found) if found.shape() == p.shape => {}
            Some(found) => {
                return Err(error!(
                    Weights,
                    "`{}`: expected {}, got {}",
                    p.ours,
                    p.shape,
                    found.shape()
                ));
            }
            None => return Err(error!(Weights, "`{}` is missing", p.ours)),
        }
        stored.tensors.push((p.name.clone(), p.dims.clone(), Vec::new()));
    }
    agrees(dialect, config, layout, &stored)?;
    for (p, (.., data)) in parameters.iter().zip(&mut stored.tensors) {
        *data = layout.write(weights[&p.ours].tensor(), p.part)?;
    }
    let copies = stored.tensors.iter().filter_map(|(name, dims, data)| {
        Some((dialect.copy_of(name)?, dims.clone(), data.clone()))
    });
    let copies: Vec<_> = copies.collect();
    stored.tensors.extend(copies);
    stored.metadata.insert(CONFIG_KEY.to_owned(), config.to_json());
    Ok(stored)
}

/// Checks that the dialect's code would run these tensors as the config says.
fn agrees(
    dialect: &dyn Dialect,
    config: &Config,
    layout: KernelLayout,
    stored: &StoredWeights,
) -> Result<()> {
    if layout == KernelLayout::Native {
        return Ok(());
    }
    let mut theirs = dialect.infer(&Tensors::of(stored))?;
    take_over_options(&mut theirs, config);
    dialect.take_over_flags(&mut theirs, config);
    let value = |c: &Config| serde_json::to_value(c).unwrap_or(Value::Null);
    let mut differences = Vec::new();
    diff("", &value(config), &value(&theirs), &mut differences);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(error!(
            Config,
            "`{}` runs such weights otherwise: {}",
            dialect.name(),
            differences.join(", ")
        )
        .advice("write them in the dialect they came from, or in `atrous`")),
    }
}

/// What is set when a network is run or trained, and is no part of a dialect's conventions.
fn take_over_options(theirs: &mut Config, config: &Config) {
    theirs.output_stride = config.output_stride;
    theirs.preprocess = config.preprocess;
    if let (Some(theirs), Some(ours)) = (&mut theirs.head, &config.head) {
        theirs.class_names.clone_from(&ours.class_names);
        theirs.class_colors.clone_from(&ours.class_colors);
        theirs.aspp.dropout = ours.aspp.dropout;
        if theirs.aspp.rates.len() == ours.aspp.rates.len() {
            theirs.aspp.rates.clone_from(&ours.aspp.rates);
        }
        if let (Some(theirs), Some(ours)) = (&mut theirs.aux, &ours.aux) {
            theirs.dropout = ours.dropout;
        }
        match (&mut theirs.decoder, &ours.decoder) {
            (Decoder::Plus(theirs), Decoder::Plus(ours))
                if theirs.dropouts.len() == ours.dropouts.len() =>
            {
                theirs.dropouts.clone_from(&ours.dropouts);
            }
            _ => {}
        }
    }
}

/// Names the leaves that differ: `head.aspp.pool_first (true here, false there)`.
fn diff(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (ours, theirs) {
        let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            diff(
                &path,
                a.get(key).unwrap_or(&Value::Null),
                b.get(key).unwrap_or(&Value::Null),
                out,
            );
        }
    } else if ours != theirs {
        out.push(format!("{path} ({ours} here, {theirs} there)"));
    }
}
