//! Dialects: whose names and conventions a file of weights follows.
//!
//! A dialect is found from the tensors' names. From names and dimensions follows the network's
//! [`Config`], with the conventions that the dialect's code has and no file says: order of
//! concatenations, padding, dilation, eps, corners. Each dialect is one file with one [`Dialect`];
//! [`DIALECTS`] lists them.

mod huggingface;
mod imagenet;
mod jfzhang95;
mod layout;
mod native;
mod smp;
mod store;
mod tensorflow;
mod tensorflow_backbones;
mod tensors;
mod timm;
mod torch;
mod torchvision;
mod vainf;

pub use layout::{KernelLayout, ParameterPart};
pub use store::{StoredWeights, store};
pub use tensors::{Source, Tensors};

use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::models::{self, CONFIG_KEY, Config};
use crate::tensor::{Shape, Tensor};
use crate::text::excerpt;
use rayon::prelude::*;
use std::collections::HashSet;
use tensors::Unwrapped;

/// All the dialects, in the order in which they are tried.
pub static DIALECTS: &[&dyn Dialect] = &[
    &native::Native,
    &tensorflow::TensorFlow,
    &torchvision::Torchvision,
    &smp::Smp,
    &vainf::VainF,
    &jfzhang95::Jfzhang95,
    &huggingface::HuggingFace,
    &imagenet::ImageNet,
    &timm::Timm,
];

/// Names and conventions of one code base.
pub trait Dialect: Sync {
    /// What the command line calls it: `torchvision`.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn about(&self) -> &'static str;

    /// Whether the names are this dialect's. Where several say yes the first of [`DIALECTS`] is
    /// taken.
    fn detect(&self, tensors: &Tensors) -> bool;

    /// The network, from names and dimensions. Where tensors are missing it guesses what is usual:
    /// loading reports them all.
    ///
    /// # Errors
    /// Where the network is of a kind that is not known.
    fn infer(&self, tensors: &Tensors) -> Result<Config>;

    /// The dialect's name of a part of the layer that we call `path`; none where it has no such
    /// layer.
    fn rename(&self, config: &Config, path: &str, part: ParameterPart) -> Option<String>;

    /// The name under which a file holds what the dialect calls `name`: code bases changed their
    /// names, or keep averages beside.
    fn stored_as(&self, _tensors: &Tensors, name: String) -> String {
        name
    }

    /// A second name under which the code base stores the tensor `name` as well.
    fn copy_of(&self, _name: &str) -> Option<String> {
        None
    }

    /// Takes over into `theirs`, which [`Dialect::infer`] gave, what the code base leaves to its
    /// flags and `config` says.
    fn take_over_flags(&self, _theirs: &mut Config, _config: &Config) {}

    /// Whether a tensor is left out on purpose: counters, optimizers' state, classifiers of
    /// ImageNet.
    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        name.ends_with("num_batches_tracked")
    }

    /// Order of the kernels' axes in a file.
    fn layout(&self, _tensors: &Tensors) -> KernelLayout {
        KernelLayout::Oihw
    }
}

/// A parameter, and where a file should hold it.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Our name.
    pub ours: String,
    /// The dialect's name.
    pub name: String,
    /// Our shape.
    pub shape: Shape,
    /// Dimensions in the file.
    pub dims: Vec<usize>,
    /// What it is to its layer.
    pub part: ParameterPart,
}

/// What [`load`] gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The network.
    pub config: Config,
    /// Its parameters, by our names.
    pub weights: Weights,
    /// Whose names the file has.
    pub dialect: &'static str,
}

/// What the caller of [`load`] knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// The number of classes that the network must have.
    pub classes: Option<usize>,
    /// The dialect, instead of the one that the names tell.
    pub dialect: Option<&'a str>,
}

/// The dialect of a name.
///
/// # Errors
/// Where there is none.
pub fn find(name: &str) -> Result<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.name() == name).ok_or_else(|| {
        let known = DIALECTS.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ");
        error!(Usage, "there is no dialect `{name}`").advice(format!("known are {known}"))
    })
}

/// Whose names a file has, and the network that they make. Reads no numbers.
///
/// # Errors
/// Where the names are nobody's, or the network is of a kind that is not known.
pub fn identify(tensors: &Tensors, wanted: ReadOptions) -> Result<(&'static dyn Dialect, Config)> {
    let dialect = match wanted.dialect {
        Some(name) => find(name)?,
        None => DIALECTS.iter().copied().find(|d| d.detect(tensors)).ok_or_else(|| {
            let some = tensors
                .iter()
                .take(3)
                .map(|(name, _)| format!("`{}`", excerpt(name)))
                .collect::<Vec<_>>()
                .join(", ");
            error!(Weights, "these names are of no known network: {some}, ...")
                .advice("name the dialect if you know it")
        })?,
    };
    // A file that was written here says what the names of a foreign dialect cannot.
    let config = match tensors.metadata(CONFIG_KEY) {
        Some(json) => {
            Config::from_json(json).map_err(|e| e.at(format!("metadata `{CONFIG_KEY}`")))?
        }
        None => dialect.infer(tensors)?,
    };
    config.validate()?;
    match (wanted.classes, config.classes()) {
        (Some(wanted), Some(found)) if wanted != found => {
            Err(error!(Weights, "expected {wanted} classes, the weights have {found}"))
        }
        (Some(wanted), None) => {
            Err(error!(Weights, "expected {wanted} classes, the weights are a bare backbone's"))
        }
        _ => Ok((dialect, config)),
    }
}

/// The parameters of a network under a dialect's names.
///
/// # Errors
/// Where the dialect has no name for some layer.
pub fn expected(
    dialect: &dyn Dialect,
    config: &Config,
    layout: KernelLayout,
) -> Result<Vec<Expected>> {
    let parameters = models::parameters(config)?;
    let each = parameters.into_iter().map(|(ours, shape)| {
        let (path, part) = ParameterPart::split(&ours)
            .expect("invariant: layers name their parameters by these endings");
        let name = dialect.rename(config, path, part).ok_or_else(|| {
            error!(Weights, "`{}` has no name for `{ours}`", dialect.name())
                .advice("write the weights in another dialect")
        })?;
        let dims = layout.dims(shape, part, path.ends_with("depthwise"));
        Ok(Expected { name, shape, dims, part, ours })
    });
    each.collect()
}

/// Reads a network and its weights.
///
/// # Errors
/// Where the names are nobody's; where tensors are missing, unexpected or misshapen (all of them
/// are reported together, before any number is read); where the number of classes is not the wanted
/// one; where numbers cannot be read.
pub fn load(source: &dyn Source, wanted: ReadOptions) -> Result<Loaded> {
    let tensors = Tensors::of(source);
    if wanted.dialect.is_none()
        && !detected(&tensors)
        && let Some(result) = load_inside_wrapper(source, wanted, MOST_WRAPPERS)
    {
        return result;
    }
    let fitted = fit(&tensors, wanted).map_err(|e| e.at(source.label()))?;
    let Fitted { dialect, config, layout, parameters } = fitted;
    let read = parameters.par_iter().map(|p| {
        let data = source.read(&p.name)?;
        let tensor = layout.read(p.shape, p.part, data).and_then(|t| check_numbers(p.part, t));
        let tensor = tensor.map_err(|e| e.at(format!("tensor `{}`", p.name)))?;
        Ok((p.ours.clone(), ParamRef::new(tensor)))
    });
    Ok(Loaded { weights: read.collect::<Result<Weights>>()?, config, dialect: dialect.name() })
}

/// Refuses variances below zero: no batch has any, so the file is damaged or the tensor is
/// something else. With them a batch norm is NaN, or, where eps hides the sign, a wrong factor.
fn check_numbers(part: ParameterPart, tensor: Tensor) -> Result<Tensor> {
    let negative = |v: &&f32| **v < 0.0;
    match part {
        ParameterPart::Variance => match tensor.f32().iter().filter(negative).count() {
            0 => Ok(tensor),
            count => {
                let least = tensor.f32().iter().copied().fold(0.0, f32::min);
                Err(error!(
                    Weights,
                    "{count} of {} running variances are negative, down to {least}",
                    tensor.f32().len()
                )
                .advice("the file is damaged, or its training diverged; export the weights again"))
            }
        },
        _ => Ok(tensor),
    }
}

fn detected(tensors: &Tensors) -> bool {
    DIALECTS.iter().any(|d| d.detect(tensors))
}

/// Wrappers around wrappers that are taken off. Real files have up to three; a hostile one can have
/// a thousand points in each name.
const MOST_WRAPPERS: usize = 8;

/// The network whose names are known once what stands before all of them is taken off.
fn load_inside_wrapper(
    source: &dyn Source,
    wanted: ReadOptions,
    most: usize,
) -> Option<Result<Loaded>> {
    let inside = Unwrapped::new(source).filter(|_| most > 0)?;
    if detected(&Tensors::of(&inside)) {
        Some(load(&inside, wanted))
    } else {
        load_inside_wrapper(&inside, wanted, most - 1)
    }
}

/// A file's tensors, found to be a network's.
struct Fitted {
    dialect: &'static dyn Dialect,
    config: Config,
    layout: KernelLayout,
    parameters: Vec<Expected>,
}

fn fit(tensors: &Tensors, wanted: ReadOptions) -> Result<Fitted> {
    let (dialect, config) = identify(tensors, wanted)?;
    let layout = dialect.layout(tensors);
    let mut parameters = expected(dialect, &config, layout)?;
    for parameter in &mut parameters {
        parameter.name = dialect.stored_as(tensors, std::mem::take(&mut parameter.name));
    }
    compare(dialect, tensors, &parameters)?;
    Ok(Fitted { dialect, config, layout, parameters })
}

/// At most so many tensors are named in a report; the rest is counted.
const NAMED: usize = 12;

/// Reports everything that does not fit.
fn compare(dialect: &dyn Dialect, tensors: &Tensors, parameters: &[Expected]) -> Result<()> {
    let known: HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    let missing =
        parameters.iter().filter(|p| !tensors.has(&p.name)).map(|p| p.name.clone()).collect();
    let misshapen = parameters.iter().filter_map(|p| match tensors.dims(&p.name) {
        Some(dims) if dims != p.dims => {
            Some(format!("{} (expected {:?}, got {:?})", excerpt(&p.name), p.dims, dims))
        }
        _ => None,
    });
    let unexpected = tensors
        .iter()
        .map(|(name, _)| name)
        .filter(|&name| !known.contains(name) && !dialect.ignores(tensors, name));
    let groups = [
        ("missing", missing),
        ("misshapen", misshapen.collect()),
        ("unexpected", unexpected.map(excerpt).collect::<Vec<_>>()),
    ];
    let report: Vec<String> = groups
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| list(what, names))
        .collect();
    match report.is_empty() {
        true => Ok(()),
        false => Err(error!(
            Weights,
            "the tensors do not fit the `{}` network: {}",
            dialect.name(),
            report.join("; ")
        )),
    }
}

fn list(what: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{} {what}: {shown}{rest}", names.len())
}
