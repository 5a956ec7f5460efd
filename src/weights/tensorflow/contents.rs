//! The tensors of a graph under the names that they have in the network's checkpoint, and the config
//! in the metadata.

use super::super::dialects::{self, KernelLayout};
use super::super::dtype::StoredDType;
use super::super::raw::{Contents, Location, RawTensor, Storage};
use super::graph::{Constant, Data, Graph, Op, address};
use super::layers::KernelDims;
use super::matching::{self, Elements, Matched};
use super::outline::{Normalization, Outline};
use super::structure;
use super::walk::{self, constant_sizes};
use crate::error::{Error, Result, error};
use crate::geometry::Size;
use crate::graph::Part;
use crate::models::{Backbone, CONFIG_KEY, Config, PadRule, Preprocessing};
use crate::text::excerpt;

/// Maximum number of image sizes that are tried for a graph that does not state its own.
const MAX_SIZES: usize = 8;
/// Largest image side that is tried.
const MAX_SIDE: usize = 1 << 13;

/// Interprets a graph as a network of the `tensorflow` dialect.
///
/// # Errors
/// Returns an error if the graph is not one of TensorFlow's DeepLab networks, or if it differs from
/// what the network would compute here.
pub(super) fn contents(graph: &Graph) -> Result<Contents> {
    let outline = Outline::of(graph)?;
    let mut first_error = None;
    let sizes = image_sizes(graph, &outline);
    for &size in &sizes {
        match interpret(graph, &outline, size) {
            Ok((mut config, matched)) => {
                let mut notes = Vec::new();
                notes.extend(unknown_input(graph, &outline.normalization)?);
                config.preprocess =
                    preprocessing(&config.backbone, &outline.normalization, size, &mut notes)?;
                let mut contents = tensors(graph, &config, &matched)?;
                notes.extend(folded_note(&matched));
                contents.metadata.insert(CONFIG_KEY.to_owned(), config.to_json());
                contents.notes = notes;
                return Ok(contents);
            }
            Err(e) => _ = first_error.get_or_insert(e),
        }
    }
    Err(first_error.unwrap_or_else(|| error!(Weights, "the size of the image is not known")))
}

fn interpret(graph: &Graph, outline: &Outline, size: Size) -> Result<(Config, Vec<Matched>)> {
    let channels = stem_channels(graph, outline);
    let layers = walk::layers(graph, outline, size, channels)?;
    let config = structure::config(graph, &layers)?;
    let matched = matching::parameters(graph, &layers, &config)?;
    Ok((config, matched))
}

/// Returns a note on norms that were folded in a graph in which others were not.
fn folded_note(matched: &[Matched]) -> Option<String> {
    let is_folded = |parameter: &&Matched| {
        parameter.info.role.part == Part::Gamma && matches!(parameter.elements, Elements::Fill(_))
    };
    let count = matched.iter().filter(is_folded).count();
    (count > 0).then(|| {
        format!("{count} batch norms are folded into their convolutions: only their shift remains")
    })
}

/// Returns the channels of the image, from the kernel of the first convolution.
fn stem_channels(graph: &Graph, outline: &Outline) -> usize {
    outline
        .stem_kernel(graph)
        .and_then(|constant| constant.dims.get(if constant.is_tflite { 3 } else { 2 }).copied())
        .unwrap_or(3)
}

/// Returns the sizes that the image can have: that of the graph, or else sizes that fit those that
/// values are resized to.
fn image_sizes(graph: &Graph, outline: &Outline) -> Vec<Size> {
    if let Some(size) = outline.size {
        return vec![size];
    }
    let (tail, inner) = constant_sizes(graph, outline);
    let image = |features: Size, stride: usize| features.map(|n| n.saturating_sub(1) * stride + 1);
    let strides = [16, 8, 4, 32];
    let scaled = inner.iter().flat_map(|&size| strides.map(|stride| image(size, stride)));
    let mut sizes: Vec<Size> = Vec::new();
    for size in tail.into_iter().chain(scaled).chain([Size::square(513)]) {
        let is_image =
            (33..=MAX_SIDE).contains(&size.width) && (33..=MAX_SIDE).contains(&size.height);
        if is_image && !sizes.contains(&size) && sizes.len() < MAX_SIZES {
            sizes.push(size);
        }
    }
    sizes
}

/// Returns a note on an operation between the graph's input and its normalization.
///
/// # Errors
/// Returns an error if it changes the order of the channels.
fn unknown_input(graph: &Graph, normalization: &Normalization) -> Result<Option<String>> {
    let Some(node) = normalization.unknown.map(|unknown| &graph.nodes[unknown]) else {
        return Ok(None);
    };
    let what = match &node.op {
        Op::Other(name) => excerpt(name),
        Op::Concat(_) => "Concat".to_owned(),
        _ => "an operation".to_owned(),
    };
    if ["Reverse", "Concat", "Transpose", "Gather"].iter().any(|part| what.contains(part)) {
        return Err(error!(Weights, "`{what}` in front of the network changes the channels")
            .at(address(node))
            .advice("export the network without its preprocessing"));
    }
    Ok(Some(format!("`{what}` in front of the network is not reproduced ({})", address(node))))
}

/// Returns the preprocessing of a graph.
fn preprocessing(
    backbone: &Backbone,
    normalization: &Normalization,
    size: Size,
    notes: &mut Vec<String>,
) -> Result<Preprocessing> {
    let mut out = Preprocessing::SYMMETRIC_513;
    if normalization.is_absent() {
        notes.push(format!(
            "the graph does not normalize its input: assuming an image from -1 to 1 for {}",
            backbone.title()
        ));
    } else {
        for c in 0..3 {
            let (scale, shift) = (normalization.scale[c], normalization.shift[c]);
            if !(scale.is_normal() && scale > 0.0 && shift.is_finite()) {
                return Err(error!(
                    Weights,
                    "the input is scaled by {scale} and shifted by {shift}"
                ));
            }
            // Constants in a graph are f32: rounding recovers what they were computed from.
            let round = |value: f64| ((value * 1e6).round() / 1e6) as f32;
            out.std[c] = round(1.0 / (255.0 * scale));
            out.mean[c] = round(-shift / (255.0 * scale));
        }
    }
    out.size = Some(size.width.max(size.height));
    if size.width != size.height {
        out.pad = PadRule::None;
        notes.push(format!(
            "the graph is for images of {size}: images are scaled to their own shape instead"
        ));
    }
    Ok(out)
}

/// Returns the tensors of matched parameters.
fn tensors(graph: &Graph, config: &Config, matched: &[Matched]) -> Result<Contents> {
    let dialect = dialects::find("tensorflow")?;
    let mut contents = Contents::default();
    for parameter in matched {
        let part = parameter.info.role.part;
        let name = dialect.rename(config, &parameter.info.layer, part).ok_or_else(|| {
            error!(Weights, "the dialect `tensorflow` has no name for `{}`", parameter.info.name)
        })?;
        let at = |e: Error| e.at(format!("tensor `{name}`"));
        let depthwise = parameter.info.role.depthwise;
        let expected = KernelLayout::Hwio.dims(parameter.shape, part, depthwise);
        let tensor = match parameter.elements {
            Elements::Constant(id) => {
                let constant = &graph.constants[id];
                stored(&mut contents, name.clone(), constant, part, depthwise)
            }
            Elements::Fill(value) => filled(&mut contents, name.clone(), expected.clone(), value),
        };
        let tensor = tensor.map_err(at)?;
        if tensor.dims() != expected {
            return Err(at(error!(Weights, "expected {expected:?}, got {:?}", tensor.dims())));
        }
        contents.tensors.push(tensor);
    }
    Ok(contents)
}

/// Returns the tensor of a constant.
fn stored(
    contents: &mut Contents,
    name: String,
    constant: &Constant,
    part: Part,
    depthwise: bool,
) -> Result<RawTensor> {
    let (dims, strides) = view(constant, part, depthwise)?;
    let Data::Range { start, len, repeated } = constant.data else {
        return Err(error!(Weights, "its elements are stored in an unsupported form"));
    };
    let strides = if repeated { Some(vec![0; dims.len()]) } else { strides };
    contents.storages.push(Storage { location: Location::Plain(start), len, shard: None });
    let storage = (contents.storages.len() - 1, 0, len);
    let mut tensor = RawTensor::new(name, constant.dtype, dims, strides, storage)?;
    tensor.quantization = constant.quantization.as_ref().map(|quantization| {
        // The axes are moved as in `view`: `[o, h, w, i]` and `[1, h, w, c]`.
        let is_moved = constant.is_tflite && part == Part::Kernel;
        let axis = quantization.axis;
        quantization.along(if is_moved { [3, 0, 1, 2][axis.min(3)] } else { axis })
    });
    Ok(tensor)
}

/// Returns a tensor of one repeated number, which is not in the file.
fn filled(
    contents: &mut Contents,
    name: String,
    dims: Vec<usize>,
    value: f32,
) -> Result<RawTensor> {
    let dtype = StoredDType::F32;
    let len = dtype.size() as u64;
    contents.storages.push(Storage { location: Location::Plain(0), len, shard: None });
    let storage = (contents.storages.len() - 1, 0, len);
    let strides = Some(vec![0; dims.len()]);
    let mut tensor = RawTensor::new(name, dtype, dims, strides, storage)?;
    tensor.fill = Some(value);
    Ok(tensor)
}

/// Returns the dimensions of a constant in TensorFlow's axis order, and the strides for it.
fn view(
    constant: &Constant,
    part: Part,
    depthwise: bool,
) -> Result<(Vec<usize>, Option<Vec<usize>>)> {
    if part != Part::Kernel {
        // A vector can have leading axes of one.
        let count = constant.dims.iter().product();
        return Ok((vec![count], None));
    }
    if !constant.is_tflite {
        return Ok((constant.dims.clone(), None));
    }
    let channels = constant.dims.get(3).copied().unwrap_or(0);
    let dims = KernelDims::of(constant, depthwise, channels)?;
    let (kh, kw, i, o) = (dims.height, dims.width, dims.in_channels, dims.out_channels);
    if depthwise {
        return Ok((vec![kh, kw, o, 1], None));
    }
    Ok((vec![kh, kw, i, o], Some(vec![kw * i, i, 1, kh * kw * i])))
}
