//! Reading ONNX files: their graphs become graphs of this crate's operations.
//!
//! 1. [`read`] decodes the messages of a file, within limits, and [`definition`] finds the part
//!    between the image and the scores in it.
//! 2. [`emit`] adds this crate's operations node by node, for one size of the image. What does not
//!    depend on the image, such as the sizes that exported graphs compute, is a [`constant`] that
//!    [`evaluate`] computes. Transposing and reshaping only change what the axes mean ([`value`]).
//! 3. [`scores`] leaves what follows the scores to the pipeline.
//!
//! The first time, at a size that the graph takes, the weights are read; later graphs only name
//! them.

mod arithmetic;
mod attributes;
mod axes;
mod constant;
mod definition;
mod emit;
mod evaluate;
mod indexing;
mod input;
mod layers;
mod network;
mod operators;
mod pools;
mod read;
mod resize;
mod scores;
mod value;

pub use network::OnnxNetwork;
pub(crate) use read::looks_like;

use crate::error::{Result, error};
use crate::files::{open_regular, read_bytes};
use crate::geometry::Size;
use crate::graph::{Graph, Weights};
use crate::models::{
    BACKGROUND, CONFIG_KEY, Config, Labeling, ModelCard, OutputActivation, Preprocessing,
};
use crate::ops::{PixelAlignment, Threshold};
use crate::tensor::{Shape, TensorType};
use crate::weights::dialects::ReadOptions;
use crate::weights::statements::{BesideGraph, Normalization, Property, Setting, StatedBy};
use definition::Definition;
use emit::Params;
use input::Expected;
use read::OnnxFile;
use scores::Scores;
use std::io::Read;
use std::path::Path;

/// Files are limited by the format to 2 GiB; weights in other files come on top.
const MAX_FILE: u64 = 2 << 30;
/// Sizes of which a graph takes at least one: odd multiples of a number that the sides of images may
/// have to be multiples of.
const PROBES: [(usize, Size); 5] = [
    (1, Size::new(323, 229)),
    (8, Size::new(328, 232)),
    (16, Size::new(336, 240)),
    (32, Size::new(352, 288)),
    (64, Size::new(448, 320)),
];

/// A network read from a file.
#[derive(Debug)]
pub struct OnnxModel {
    /// The network.
    pub network: OnnxNetwork,
    /// Its parameters, by the names of the nodes that use them.
    pub weights: Weights,
    /// Properties that the file does not state, and where they come from.
    pub settings: Vec<Setting>,
    /// Where the network comes from, if the file states it.
    pub card: Option<ModelCard>,
    /// What a person should know about how the file was read, one sentence each.
    pub notes: Vec<String>,
}

/// Returns whether a file is an ONNX model, by its first bytes.
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn is_onnx(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = open_regular(path, "a weight file")?;
    let read = file.take(16).read_to_end(&mut head);
    read.map_err(|e| crate::Error::io(path, "could not be read", e))?;
    Ok(looks_like(&head))
}

/// Reads an ONNX file, and the files with weights that it names.
///
/// # Errors
/// Returns an error if the file is damaged, if operators are not supported (all of them are listed),
/// or if it is no segmentation network.
pub fn open(path: &Path, options: &ReadOptions) -> Result<OnnxModel> {
    let bytes = read_bytes(path, "an ONNX file", MAX_FILE)?;
    let file = read::parse(bytes.into(), Some(path));
    file.and_then(|file| import(&file, options)).map_err(|e| e.file(path))
}

/// Like [`open`], for a file in memory.
///
/// # Errors
/// As for [`open`], or if weights are in another file.
pub fn from_bytes(bytes: Vec<u8>, options: &ReadOptions) -> Result<OnnxModel> {
    import(&read::parse(bytes.into(), None)?, options)
}

fn import(file: &OnnxFile, options: &ReadOptions) -> Result<OnnxModel> {
    refuse_statements(options)?;
    let definition = Definition::new(file)?;
    let config = file.metadata.get(CONFIG_KEY).and_then(|json| Config::from_json(json).ok());
    let first = first_graph(file, &definition)?;
    let mut notes = notes(file, &first.scores);
    let mut beside = match (&options.config_files, &config) {
        // A file that states its own config needs no other.
        (Some(files), None) => BesideGraph::read(files, definition.input.channels, first.channels),
        _ => BesideGraph::default(),
    };
    notes.append(&mut beside.notes);
    let (labeling, activation) = labeling(&first, config.as_ref(), &beside, options)?;
    let (preprocess, preprocessing) =
        preprocessing(file, &definition, config.as_ref(), &beside, options);
    if preprocessing.stated_by == StatedBy::Assumed {
        let value = &preprocessing.value;
        notes.push(format!("assuming preprocessing {value}; --preprocess states another one"));
    }
    let mut network = OnnxNetwork {
        definition,
        producer: file.producer.clone(),
        labeling,
        class_names: Vec::new(),
        class_colors: Vec::new(),
        preprocess,
        multiple: first.multiple,
    };
    if let Some(head) = config.and_then(|config| config.head)
        && head.classes == labeling.classes
    {
        network.labeling.threshold = head.threshold;
        (network.class_names, network.class_colors) = (head.class_names, head.class_colors);
    } else if !beside.class_names.is_empty() {
        let background = labeling.sigmoid().map(|_| BACKGROUND.to_owned());
        network.class_names = background.into_iter().chain(beside.class_names).collect();
    } else if labeling.sigmoid().is_some() && first.channels == 1 {
        network.class_names = vec![BACKGROUND.to_owned(), "foreground".to_owned()];
    }
    let card = ModelCard::from_metadata(&file.metadata);
    let settings = vec![activation, preprocessing];
    Ok(OnnxModel { network, weights: first.weights, settings, card, notes })
}

/// Returns what a person should know about how the outputs are read.
fn notes(file: &OnnxFile, scores: &Scores) -> Vec<String> {
    let mut notes = Vec::new();
    if let [used, _, ..] = &file.outputs[..] {
        let name = crate::text::excerpt(used);
        notes.push(format!("the file has {} outputs; `{name}` is used", file.outputs.len()));
    }
    if scores.enlarges_probabilities {
        notes.push(
            "the file enlarges probabilities, here scores are enlarged: edges can differ by a pixel"
                .to_owned(),
        );
    }
    notes
}

/// Returns how labels follow from the outputs, and where that comes from.
fn labeling(
    first: &First,
    config: Option<&Config>,
    beside: &BesideGraph,
    options: &ReadOptions,
) -> Result<(Labeling, Setting)> {
    let Scores { activation, alignment, .. } = first.scores;
    let (activation, stated_by) = match (options.statements.activation, activation) {
        (Some(stated), _) => (stated, StatedBy::Option),
        (None, Some(found)) => (found, StatedBy::WeightFile),
        (None, None) => match (config.and_then(|config| config.head.as_ref()), beside.activation) {
            (Some(head), _) => (head.activation, StatedBy::WeightFile),
            (None, Some(stated)) => (stated, StatedBy::ConfigFile),
            (None, None) if first.channels == 1 => (OutputActivation::Sigmoid, StatedBy::Assumed),
            (None, None) => (OutputActivation::Softmax, StatedBy::Assumed),
        },
    };
    let (value, background) = match activation {
        OutputActivation::Softmax => ("softmax", 0),
        OutputActivation::Sigmoid => ("sigmoid", 1),
    };
    let classes = first.channels + background;
    if classes == 1 {
        return Err(error!(Usage, "the network has one output, whose softmax is 1 at every pixel"));
    }
    if let Some(expected) = options.classes.filter(|&expected| expected != classes) {
        return Err(error!(Weights, "expected {expected} classes, the network has {classes}"));
    }
    let labeling = Labeling {
        classes,
        activation,
        threshold: Threshold::HALF,
        alignment: alignment.unwrap_or(PixelAlignment::HalfPixel),
    };
    let value = value.to_owned();
    Ok((labeling, Setting { property: Property::Activation, value, stated_by }))
}

/// Refuses options about what the graph itself states.
fn refuse_statements(options: &ReadOptions) -> Result<()> {
    let graph = options
        .statements
        .properties()
        .into_iter()
        .find(|property| !matches!(property, Property::Preprocess | Property::Activation));
    let option = match (graph, &options.dialect, &options.prefix) {
        (Some(property), _, _) => property.option(),
        (None, Some(_), _) => "--dialect",
        (None, None, Some(_)) => "--prefix",
        (None, None, None) => return Ok(()),
    };
    Err(error!(Usage, "`{option}` has no effect on an ONNX file, whose graph states the network"))
}

/// The graph that the weights were read with.
struct First {
    scores: Scores,
    /// Channels of the scores.
    channels: usize,
    multiple: usize,
    weights: Weights,
}

/// Builds the graph at a size that it takes, and reads the weights.
fn first_graph(file: &OnnxFile, definition: &Definition) -> Result<First> {
    let candidates: Vec<(usize, Size)> = match definition.input.size {
        Some(size) => vec![(1, size)],
        None => PROBES.to_vec(),
    };
    let mut result: Result<First> = Err(error!(Weights, "the graph takes no image"));
    for (multiple, size) in candidates {
        let mut weights = Weights::new();
        let mut graph = Graph::new();
        let shape = Shape::images(1, size, definition.input.channels);
        let x = graph.input("input", TensorType::f32(shape));
        let params = Params::Read { file, weights: &mut weights };
        let built = network::emit(definition, graph, x, size, params).map(|(graph, scores)| {
            let shape = graph.shape(scores.id);
            let is_full = scores.alignment.is_some() || shape.size() == size;
            (First { scores, channels: shape.c, multiple, weights }, is_full)
        });
        match built {
            // Sizes at which the output has the size of the image are those that it is made for.
            Ok((first, true)) => return Ok(first),
            Ok((first, false)) if result.is_err() => result = Ok(first),
            Err(e) if result.is_err() => result = Err(e),
            _ => {}
        }
    }
    result
}

/// Returns the preprocessing, and where it comes from.
fn preprocessing(
    file: &OnnxFile,
    definition: &Definition,
    config: Option<&Config>,
    beside: &BesideGraph,
    options: &ReadOptions,
) -> (Preprocessing, Setting) {
    let found = || {
        let inside = Expected::of(definition).preprocessing();
        let stated = inside.or_else(|| config.map(|config| config.preprocess));
        stated.map(|stated| (stated, StatedBy::WeightFile)).or(beside.preprocess)
    };
    let (preprocess, stated_by) = match options.statements.preprocess {
        Some(Normalization { mean, std }) => {
            (Preprocessing { mean, std, ..Preprocessing::IMAGENET }, StatedBy::Option)
        }
        None => match found() {
            Some(found) => found,
            // TensorFlow's networks take values from -1 to 1.
            None if file.producer.starts_with("tf2onnx") => {
                (Preprocessing { size: None, ..Preprocessing::SYMMETRIC_513 }, StatedBy::Assumed)
            }
            None => (Preprocessing::IMAGENET, StatedBy::Assumed),
        },
    };
    let value = Normalization::of(&preprocess).to_string();
    (preprocess, Setting { property: Property::Preprocess, value, stated_by })
}
