//! Converting weights to the names and layout of a dialect.

use super::{Dialect, KernelLayout, NATIVE, Source, Tensors, expected};
use crate::error::{Result, error};
use crate::graph::Weights;
use crate::models::{CONFIG_KEY, Config, Decoder};
use serde_json::Value;
use std::collections::BTreeMap;

/// Tensors in memory with the names and layout of a dialect, ready to be written to a file.
#[derive(Debug, Clone, Default)]
pub struct StoredWeights {
    /// Names, dimensions and elements.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// The config as JSON, so that the file can be read back without loss.
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
        let tensor = self.tensors.iter().find(|(n, ..)| n == name);
        tensor
            .map(|(.., data)| data.clone())
            .ok_or_else(|| error!(Weights, "no tensor named `{name}`"))
    }

    fn label(&self) -> String {
        "tensors in memory".to_owned()
    }
}

/// Converts weights to the names and layout of a dialect.
///
/// # Errors
/// Returns an error if a parameter is missing or misshapen, or if the dialect's code base would
/// compute something else with these weights: because it lacks a layer, or uses another
/// concatenation order, padding, dilation rule, eps, ...
pub fn store(config: &Config, weights: &Weights, dialect: &dyn Dialect) -> Result<StoredWeights> {
    let layout = dialect.layout(&Tensors::default());
    let parameters = expected(dialect, config, layout)?;
    let mut stored = StoredWeights { tensors: Vec::new(), metadata: BTreeMap::new() };
    for p in &parameters {
        match weights.get(&p.native_name) {
            Some(param) if param.shape() == p.shape => {}
            Some(param) => {
                return Err(error!(Weights, "expected {}, got {}", p.shape, param.shape())
                    .at(format!("parameter `{}`", p.native_name)));
            }
            None => return Err(error!(Weights, "parameter `{}` is missing", p.native_name)),
        }
        stored.tensors.push((p.name.clone(), p.dims.clone(), Vec::new()));
    }
    check_compatible(dialect, config, layout, &stored)?;
    for (p, (.., data)) in parameters.iter().zip(&mut stored.tensors) {
        *data = layout.write(weights[&p.native_name].tensor(), p.part)?;
    }
    let duplicates: Vec<_> = stored
        .tensors
        .iter()
        .filter_map(|(name, dims, data)| {
            Some((dialect.duplicate_name(name)?, dims.clone(), data.clone()))
        })
        .collect();
    stored.tensors.extend(duplicates);
    stored.metadata.insert(CONFIG_KEY.to_owned(), config.to_json());
    Ok(stored)
}

/// Checks that the dialect's code base would run these tensors as the config specifies.
fn check_compatible(
    dialect: &dyn Dialect,
    config: &Config,
    layout: KernelLayout,
    stored: &StoredWeights,
) -> Result<()> {
    if layout == KernelLayout::Native {
        return Ok(());
    }
    let mut inferred = dialect.infer(&Tensors::of(stored))?;
    copy_options(&mut inferred, config);
    dialect.copy_flags(&mut inferred, config);
    let json = |c: &Config| serde_json::to_value(c).unwrap_or(Value::Null);
    let mut differences = Vec::new();
    diff("", &json(config), &json(&inferred), &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    Err(error!(
        Config,
        "dialect `{}` cannot represent these weights: {}",
        dialect.name(),
        differences.join(", ")
    )
    .advice(format!("write them in their original dialect, or in `{NATIVE}`")))
}

/// Copies the settings that are chosen when a network is run or trained, and that are not
/// conventions of a dialect.
fn copy_options(inferred: &mut Config, config: &Config) {
    inferred.output_stride = config.output_stride;
    inferred.preprocess = config.preprocess;
    if let (Some(inferred), Some(head)) = (&mut inferred.head, &config.head) {
        inferred.class_names.clone_from(&head.class_names);
        inferred.class_colors.clone_from(&head.class_colors);
        inferred.aspp.dropout = head.aspp.dropout;
        if inferred.aspp.rates.len() == head.aspp.rates.len() {
            inferred.aspp.rates.clone_from(&head.aspp.rates);
        }
        if let (Some(inferred), Some(aux)) = (&mut inferred.aux, &head.aux) {
            inferred.dropout = aux.dropout;
        }
        match (&mut inferred.decoder, &head.decoder) {
            (Decoder::Plus(inferred), Decoder::Plus(decoder))
                if inferred.dropouts.len() == decoder.dropouts.len() =>
            {
                inferred.dropouts.clone_from(&decoder.dropouts);
            }
            _ => {}
        }
    }
}

/// Lists the leaves that differ: `head.aspp.pool_first (true here, false in the dialect)`.
fn diff(path: &str, config: &Value, inferred: &Value, out: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (config, inferred) {
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
    } else if config != inferred {
        out.push(format!("{path} ({config} here, {inferred} in the dialect)"));
    }
}
