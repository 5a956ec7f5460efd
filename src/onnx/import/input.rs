//! What a file expects of the image's values: some normalize inside, others leave it to the caller.

use super::super::proto::NodeProto;
use super::constant::Constant;
use super::definition::Definition;
use crate::models::Preprocessing;

/// Largest factor of a normalization that is for bytes: `1 / 127.5` is, and `1 / 0.229` is not.
const MAX_BYTE_SCALE: f32 = 0.1;

/// The values that a graph takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// From 0 to 255: the graph normalizes them.
    Bytes,
    /// From 0 to 1: the graph normalizes them.
    Unit,
    /// Normalized: the graph does not say how.
    Normalized,
}

impl Expected {
    /// Returns what the nodes after the input expect of it.
    pub fn of(definition: &Definition) -> Self {
        if definition.input.is_bytes {
            return Self::Bytes;
        }
        let (mut scale, mut is_normalizing) = (1.0, false);
        let mut value = definition.input.name.as_str();
        while let Some(node) = only_reader(definition, value) {
            let factor = match node.op_type.as_str() {
                "Cast" | "Identity" | "Transpose" => None,
                "Sub" | "Add" => constant(definition, node).map(|_| 1.0),
                "Mul" => constant(definition, node).map(mean),
                "Div" => constant(definition, node).map(|c| 1.0 / mean(c)),
                _ => break,
            };
            if matches!(node.op_type.as_str(), "Sub" | "Add" | "Mul" | "Div") {
                let Some(factor) = factor else { break };
                scale *= factor;
                is_normalizing = true;
            }
            value = node.output.first().map_or("", String::as_str);
        }
        match is_normalizing {
            false => Self::Normalized,
            true if scale.abs() <= MAX_BYTE_SCALE => Self::Bytes,
            true => Self::Unit,
        }
    }

    /// Returns the preprocessing with which an image has these values. `None` if the graph does not
    /// say.
    pub fn preprocessing(self) -> Option<Preprocessing> {
        // Of gray, which is close to the mean of photographs.
        let (std, gray) = match self {
            Self::Bytes => (1.0 / 255.0, 127.0),
            Self::Unit => (1.0, 0.5),
            Self::Normalized => return None,
        };
        let (mean, std, pad_value) = ([0.0; 3], [std; 3], [gray; 3]);
        Some(Preprocessing { mean, std, pad_value, ..Preprocessing::IMAGENET })
    }
}

/// Returns the node that reads a value, if it is only one.
fn only_reader<'d>(definition: &'d Definition, value: &str) -> Option<&'d NodeProto> {
    let mut readers =
        definition.nodes.iter().filter(|node| node.input.iter().any(|name| name == value));
    let first = readers.next()?;
    readers.next().is_none().then_some(first)
}

/// Returns the constant input of a node.
fn constant<'d>(definition: &'d Definition, node: &NodeProto) -> Option<&'d Constant> {
    node.input.iter().find_map(|name| definition.constants.get(name)).map(|constant| &**constant)
}

fn mean(constant: &Constant) -> f32 {
    let values = constant.floats();
    values.iter().sum::<f32>() / values.len().max(1) as f32
}
