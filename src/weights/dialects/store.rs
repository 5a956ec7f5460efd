//! Converting weights to the names and layout of a dialect.

use super::{DIALECTS, Dialect, KernelLayout, Source, Tensors, expected};
use crate::error::{Result, error};
use crate::graph::{Part, Weights};
use crate::models::{CONFIG_KEY, Config, Decoder};
use crate::weights::save::COUNTER;
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

impl StoredWeights {
    /// Adds the counters that PyTorch's batch norms have beside their statistics: 0 batches.
    pub fn add_counters(&mut self) {
        let counter = |(name, ..): &(String, Vec<usize>, Vec<f32>)| {
            let layer = name.strip_suffix(Part::RunningVar.field())?;
            Some((format!("{layer}{COUNTER}"), Vec::new(), vec![0.0]))
        };
        let counters: Vec<_> = self.tensors.iter().filter_map(counter).collect();
        // In front, where wider elements are aligned.
        self.tensors.splice(0..0, counters);
    }
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
    let parameters = expected(dialect, config, layout)
        .map_err(|e| e.advice(format!("write them in {}", expressible(config))))?;
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
    let differences = differences(dialect, config, &stored)?;
    if !differences.is_empty() {
        let differences = differences.join(", ");
        return Err(error!(
            Config,
            "dialect `{dialect}` cannot represent these weights: {differences}"
        )
        .advice(format!("write them in {}", expressible(config))));
    }
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

/// Returns in what the dialect's code base would run these tensors otherwise than the config
/// specifies.
fn differences(
    dialect: &dyn Dialect,
    config: &Config,
    stored: &StoredWeights,
) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    if dialect.layout(&Tensors::default()) == KernelLayout::Native {
        return Ok(differences);
    }
    let mut inferred = dialect.infer(&Tensors::of(stored))?;
    copy_options(&mut inferred, config);
    dialect.copy_flags(&mut inferred, config);
    let json = |c: &Config| serde_json::to_value(c).unwrap_or(Value::Null);
    diff("", &json(config), &json(&inferred), &mut differences);
    Ok(differences)
}

/// Returns the dialects that can represent a network, for the advice of an error.
fn expressible(config: &Config) -> String {
    let can = |dialect: &&&dyn Dialect| {
        let layout = dialect.layout(&Tensors::default());
        let Ok(parameters) = expected(**dialect, config, layout) else { return false };
        let tensors = parameters.into_iter().map(|p| (p.name, p.dims, Vec::new())).collect();
        let stored = StoredWeights { tensors, ..StoredWeights::default() };
        differences(**dialect, config, &stored).is_ok_and(|all| all.is_empty())
    };
    let names: Vec<String> =
        DIALECTS.iter().filter(can).map(|dialect| format!("`{dialect}`")).collect();
    names.join(" or ")
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
