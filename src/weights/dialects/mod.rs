//! Dialects: the tensor names and conventions of a code base.
//!
//! The dialect of a weight file is detected from the tensor names. Names and dimensions determine
//! the [`Config`] of the network, together with conventions of the code base that files do not
//! contain: concatenation order, padding, dilation, eps, corner alignment. Each dialect is a module
//! with one implementation of [`Dialect`]; [`DIALECTS`] lists them.

mod averaged;
mod encoders;
mod groups;
mod huggingface;
mod imagenet;
mod jfzhang95;
mod layout;
mod left_out;
mod like;
mod matching;
mod mmseg;
mod native;
mod pickled;
mod pickled_outputs;
mod resnet;
mod smp;
mod store;
mod tensorflow;
mod tensorflow_backbones;
mod tensors;
mod timm;
mod torch;
mod torchvision;
mod vainf;

pub use layout::KernelLayout;
pub use like::like;
pub use native::NATIVE;
pub use store::{StoredWeights, store};
pub use tensors::{Source, Tensors};

use super::statements::{self, ConfigFiles, Resolved, Setting, Statements};
use crate::error::{Result, error};
use crate::graph::{ParamInfo, ParamRef, Part, Weights};
use crate::models::{self, CONFIG_KEY, Config};
use crate::tensor::{Shape, Tensor};
use matching::MatchedTensors;
use rayon::prelude::*;
use std::fmt;

/// All dialects, in the order of detection.
pub static DIALECTS: &[&dyn Dialect] = &[
    NATIVE,
    &tensorflow::TensorFlow,
    &mmseg::MmSeg,
    &torchvision::Torchvision,
    &smp::Smp,
    &vainf::VainF,
    &jfzhang95::Jfzhang95,
    &huggingface::HuggingFace,
    &imagenet::ImageNet,
    &timm::Timm,
];

/// Metadata key of the progress of a training, which only its checkpoints have.
pub(crate) const PROGRESS_KEY: &str = "atrous.progress";

/// Tensor names and conventions of a code base.
pub trait Dialect: Sync {
    /// Returns the name on the command line, such as `torchvision`.
    fn name(&self) -> &'static str;

    /// Returns the name of the code base in messages to people, such as `Hugging Face`.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// Returns a description in one line.
    fn description(&self) -> &'static str;

    /// Returns whether the tensor names belong to this dialect. The first match in [`DIALECTS`] is
    /// used.
    fn detect(&self, tensors: &Tensors) -> bool;

    /// Infers the config of the network from tensor names and dimensions. If tensors are missing,
    /// it assumes the default; loading then reports all of them.
    ///
    /// # Errors
    /// Returns an error if the network is not supported.
    fn infer(&self, tensors: &Tensors) -> Result<Config>;

    /// Returns the dialect's name for a parameter of the layer `path` (native name). `None` if the
    /// dialect has no such layer.
    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String>;

    /// Returns the name that the file uses for `name`: older versions of a code base used other
    /// names, and some files contain averaged weights under separate names.
    fn stored_name(&self, _tensors: &Tensors, name: String) -> String {
        name
    }

    /// Returns a second name under which the code base also stores the tensor `name`.
    fn duplicate_name(&self, _name: &str) -> Option<String> {
        None
    }

    /// Returns whether the code base's default atrous rates depend on the output stride: 6, 12 and
    /// 18 at 16, and twice as much at 8. Otherwise they are the same at every stride.
    fn rates_follow_stride(&self) -> bool {
        true
    }

    /// Copies from `config` to `inferred`, the result of [`Dialect::infer`], the settings that the
    /// code base takes from command line flags.
    fn copy_flags(&self, _inferred: &mut Config, _config: &Config) {}

    /// Returns whether a tensor is ignored on purpose: counters, optimizer state, ImageNet
    /// classifiers.
    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        name.ends_with("num_batches_tracked")
    }

    /// Returns a note about a network of other arithmetic with the same tensors, that a file could
    /// have instead.
    fn doubt(&self, _config: &Config) -> Option<&'static str> {
        None
    }

    /// Returns the key under which the code base's loader expects the weights in a `.pth` file.
    /// `None` if it loads them directly.
    fn wrap_key(&self) -> Option<&'static str> {
        None
    }

    /// Gives a bare backbone the layers and the dilation rule that it has in the code base's
    /// segmentation networks. `None` if the code base is known not to have it.
    fn encoder(&self, bare: Config) -> Option<Config> {
        Some(bare)
    }

    /// Returns whether the code base can build its ASPP from separable convolutions.
    fn has_separable_aspp(&self) -> bool {
        false
    }

    /// Returns a line of code that builds the network in the code base, with the settings that
    /// files do not contain. `None` if that takes more than a line.
    fn constructor(&self, _config: &Config) -> Option<String> {
        None
    }

    /// Returns the axis order of the kernels in a file.
    fn layout(&self, _tensors: &Tensors) -> KernelLayout {
        KernelLayout::Oihw
    }
}

/// Dialects are equal if their names are.
impl PartialEq for dyn Dialect + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Display for dyn Dialect + '_ {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for dyn Dialect + '_ {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A parameter of a network, and the tensor expected for it in a file.
#[derive(Debug, Clone)]
pub struct ExpectedTensor {
    /// Native name of the parameter.
    pub native_name: String,
    /// Name of the tensor in the dialect.
    pub name: String,
    /// Native shape of the parameter.
    pub shape: Shape,
    /// Dimensions of the tensor in the file.
    pub dims: Vec<usize>,
    /// Role of the parameter: kernel, bias or norm statistic.
    pub part: Part,
}

/// A network read by [`load`].
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config of the network.
    pub config: Config,
    /// The parameters, by their native names.
    pub weights: Weights,
    /// Dialect of the file.
    pub dialect: &'static dyn Dialect,
    /// Prefix of the network's tensors in the file, with the dot at its end. Empty for a file with
    /// nothing else.
    pub prefix: String,
    /// Properties that weight files cannot state, and where they come from.
    pub settings: Vec<Setting>,
    /// What a person should know about how the file was read, one sentence each: what was assumed,
    /// other networks in the file, and tensors that are left out.
    pub notes: Vec<String>,
}

/// Options of [`load`].
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Number of classes that the network must have.
    pub classes: Option<usize>,
    /// Dialect of the file. Detected from the tensor names by default.
    pub dialect: Option<&'static dyn Dialect>,
    /// Prefix of the network's tensor names, with or without the dot at its end, for files with
    /// several networks.
    pub prefix: Option<String>,
    /// What the weight file cannot state.
    pub statements: Statements,
    /// The files beside the weights. `None` reads those in the directory of a weight file that is
    /// opened by its path, and none for weights in memory.
    pub config_files: Option<ConfigFiles>,
}

/// Returns the dialect with a name.
///
/// # Errors
/// Returns an error that lists the dialects if there is none.
pub fn find(name: &str) -> Result<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.name() == name).ok_or_else(|| {
        let known = DIALECTS.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ");
        error!(Usage, "unknown dialect `{name}`").advice(format!("use one of {known}"))
    })
}

/// Detects the dialect of a file and infers the config of its network, without reading elements.
///
/// # Errors
/// Returns an error if no dialect matches the names, if the network is not supported, if `options`
/// do not fit it, or if the number of classes is wrong.
pub fn identify(
    tensors: &Tensors,
    options: &ReadOptions,
) -> Result<(&'static dyn Dialect, Config)> {
    let (dialect, resolved) = resolve(tensors, options)?;
    Ok((dialect, resolved.config))
}

fn resolve(tensors: &Tensors, options: &ReadOptions) -> Result<(&'static dyn Dialect, Resolved)> {
    let dialect = match options.dialect {
        Some(dialect) => dialect,
        None => detect(tensors).ok_or_else(|| groups::unknown(tensors))?,
    };
    // The metadata has settings that the names of a foreign dialect do not determine.
    let metadata = tensors.metadata(CONFIG_KEY);
    let config = match metadata {
        Some(json) => {
            Config::from_json(json).map_err(|e| e.at(format!("metadata `{CONFIG_KEY}`")))?
        }
        None => {
            statements::check_supported(dialect, options)?;
            dialect.infer(tensors)?
        }
    };
    config.validate()?;
    let resolved = statements::resolve(dialect, options, config, metadata.is_some())?;
    match (options.classes, resolved.config.classes()) {
        (Some(expected), Some(actual)) if expected != actual => {
            Err(error!(Weights, "expected {expected} classes, the weights have {actual}"))
        }
        (Some(expected), None) => {
            Err(error!(Weights, "expected {expected} classes, the weights are a bare backbone"))
        }
        _ => Ok((dialect, resolved)),
    }
}

/// Returns the parameters of a network with their names in a dialect.
///
/// # Errors
/// Returns an error if the dialect has no name for a parameter.
pub fn expected(
    dialect: &dyn Dialect,
    config: &Config,
    layout: KernelLayout,
) -> Result<Vec<ExpectedTensor>> {
    let parameters = models::parameters(config)?;
    let tensors =
        parameters.into_iter().map(|(ParamInfo { name: native_name, layer, role }, shape)| {
            let name = dialect.rename(config, &layer, role.part).ok_or_else(|| {
                error!(Weights, "dialect `{dialect}` has no name for `{native_name}`")
            })?;
            let dims = layout.dims(shape, role.part, role.depthwise);
            Ok(ExpectedTensor { native_name, name, shape, dims, part: role.part })
        });
    tensors.collect()
}

/// Reads a network and its weights.
///
/// The network is the group of tensors below a prefix that fits a dialect: `module.` of
/// `DataParallel`, `model.` of Lightning, `model_ema.module.` of a moving average, or all of them.
/// [`Loaded::notes`] names the tensors that are left out. Of several networks the averaged one is
/// read.
///
/// # Errors
/// Returns an error
/// - if no dialect matches the names, or several networks do, none of them averaged,
/// - if tensors of the network are missing, unexpected or misshapen; all of them are reported
///   together, before any elements are read,
/// - if the number of classes is wrong,
/// - if the file is the checkpoint of a training, or
/// - if elements cannot be read.
pub fn load(source: &dyn Source, options: ReadOptions) -> Result<Loaded> {
    let tensors = Tensors::of(source);
    if tensors.metadata(PROGRESS_KEY).is_some() {
        return Err(error!(
            Weights,
            "the file is a training checkpoint, for `atrous train --resume`"
        )
        .at(source.label())
        .advice("best.safetensors and last.safetensors in its directory hold the weights"));
    }
    let chosen = groups::choose(&tensors, source, &options).map_err(|e| e.at(source.label()))?;
    let groups::Chosen { prefix, mut matched, mut notes } = chosen;
    if let Some(layers) = source.layers() {
        let adapted = pickled::adapt(layers, &prefix, &options.statements, &mut matched);
        notes.extend(adapted.map_err(|e| e.at(source.label()))?);
    }
    let MatchedTensors { dialect, config, settings, notes: stated, layout, parameters } = matched;
    notes.extend(stated);
    notes.extend(statements::assumptions(dialect, &config, &settings));
    let weights = parameters.par_iter().map(|p| {
        let name = format!("{prefix}{}", p.name);
        let data = source.read(&name)?;
        let tensor = layout.read(p.shape, p.part, data).and_then(|t| check_variance(p.part, t));
        let tensor = tensor.map_err(|e| e.at(format!("tensor `{name}`")))?;
        Ok((p.native_name.clone(), ParamRef::new(tensor)))
    });
    let weights = weights.collect::<Result<Weights>>()?;
    Ok(Loaded { weights, config, dialect, prefix, settings, notes })
}

/// Rejects negative running variances, which mean that the file is damaged or that the tensor is
/// something else. They make the output of a batch norm NaN, or wrong if eps compensates the sign.
fn check_variance(part: Part, tensor: Tensor) -> Result<Tensor> {
    if part != Part::RunningVar {
        return Ok(tensor);
    }
    let values = tensor.f32();
    let count = values.iter().filter(|v| **v < 0.0).count();
    if count == 0 {
        return Ok(tensor);
    }
    let min = values.iter().copied().fold(0.0, f32::min);
    Err(error!(
        Weights,
        "{count} of {} running variances are negative, down to {min}",
        values.len()
    )
    .advice("the file is damaged, or the training diverged; export the weights again"))
}

fn detect(tensors: &Tensors) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.detect(tensors))
}
