//! Pickled networks compared with what their names stand for: modules state their strides,
//! dilations, padding and eps, which files of tensors alone do not.

use super::matching::MatchedTensors;
use super::pickled_outputs;
use crate::error::{Error, Result, error};
use crate::graph::{Graph, ParamInfo, Part, ValueId};
use crate::models::{Backbone, Config, PaddingRule, build};
use crate::ops::{BatchNorm, Conv2d};
use crate::tensor::{KernelShape, Shape};
use crate::text::excerpt;
use crate::weights::LayerAttributes;
use crate::weights::statements::{Property, StatedBy, Statements, overrides};
use std::collections::BTreeMap;

/// Side of the image that the networks are built for. Strides and dilations do not depend on it.
const SIDE: usize = 257;

/// The modules of a network.
struct Layers<'a> {
    layers: &'a BTreeMap<String, LayerAttributes>,
    prefix: &'a str,
}

impl Layers<'_> {
    /// Returns the attributes of the module of a tensor `MODULE.weight`.
    fn of(&self, tensor: &str) -> Option<&LayerAttributes> {
        let module = tensor.rsplit_once('.')?.0;
        self.layers.get(&format!("{}{module}", self.prefix))
    }
}

/// Changes output stride, atrous rates, eps and activation of a network to those of its modules,
/// except for what the caller states. Returns notes if these are not the defaults of the dialect,
/// and about what the caller overrides.
///
/// # Errors
/// Returns an error that names the first module that computes something else.
pub(super) fn adapt(
    layers: &BTreeMap<String, LayerAttributes>,
    prefix: &str,
    statements: &Statements,
    matched: &mut MatchedTensors,
) -> Result<Vec<String>> {
    let layers = Layers { layers, prefix };
    check_activations(&layers, &matched.config)?;
    let mut config = fit(&layers, matched)?;
    let classifier = matched.dialect.rename(&config, "logits", Part::Kernel);
    let found = classifier.map_or(Ok(None), |name| {
        pickled_outputs::activation(layers.layers, &format!("{prefix}{name}"))
    });
    let mut notes = Vec::new();
    let activation = match (found, statements.activation) {
        (Ok(activation), _) => activation,
        (Err(reason), Some(_)) => {
            notes.push(format!("--activation replaces a pickled module: {reason}"));
            None
        }
        (Err(reason), None) => {
            return Err(error!(Weights, "the pickled module {reason}")
                .advice("state what the outputs are with --activation softmax or sigmoid"));
        }
    };
    if let (Some(head), Some(activation)) = (&mut config.head, activation) {
        head.set_activation(activation)?;
    }
    notes.extend(note(&config, &matched.config, statements));
    let modules = config.clone();
    statements.apply(&mut config)?;
    for setting in &mut matched.settings {
        let property = setting.property;
        let is_stated = match property {
            Property::Padding => modules.padding == PaddingRule::Symmetric,
            Property::Activation => activation.is_some(),
            Property::TrainedStride | Property::Rates | Property::MultiGrid => true,
            Property::AlignCorners | Property::Preprocess => false,
        };
        let stated = property.value(&modules).filter(|_| is_stated);
        match (statements.value(property), stated) {
            (Some(option), Some(stated)) if option != stated => {
                notes.push(overrides(property, &option, &stated, StatedBy::Modules.name()));
            }
            (None, Some(_)) => setting.stated_by = StatedBy::Modules,
            _ => {}
        }
        setting.value = property.value(&config).unwrap_or_default();
    }
    matched.config = config;
    Ok(notes)
}

/// Returns the config that the modules were built from.
fn fit(layers: &Layers, matched: &MatchedTensors) -> Result<Config> {
    let stated = stated(layers, matched);
    let mut paddings = vec![stated.padding];
    let padding = matched.settings.iter().find(|s| s.property == Property::Padding);
    if padding.is_some_and(|s| s.stated_by == StatedBy::Option) {
        // What the option replaces is most likely PyTorch's, which the modules can be compared with.
        paddings.insert(0, PaddingRule::Symmetric);
    }
    let mut first = None;
    for output_stride in [stated.output_stride, 8, 16, 32] {
        for &padding in &paddings {
            let config = Config { output_stride, padding, ..stated.clone() };
            match compare(layers, matched, &config) {
                Ok(()) => return Ok(config),
                Err(e) => first = first.or(Some(e)),
            }
        }
    }
    let first = first.expect("invariant: at least one config was compared");
    Err(first.advice("the modules in the file are not those of a supported network"))
}

/// Describes what the modules state otherwise than the names of their tensors let expect.
fn note(modules: &Config, inferred: &Config, statements: &Statements) -> Option<String> {
    // What the caller states is compared with the modules on its own.
    let differs = |property: Property| {
        statements.value(property).is_none() && property.value(modules) != property.value(inferred)
    };
    let mut parts = Vec::new();
    if differs(Property::TrainedStride) || differs(Property::Rates) || modules.eps != inferred.eps {
        let rates = modules.head.as_ref().map_or(&[][..], |head| &head.aspp.rates);
        let rates: Vec<String> = rates.iter().map(usize::to_string).collect();
        parts.push(format!(
            "output stride {}, atrous rates {}, eps {} and {}",
            modules.output_stride,
            rates.join(" "),
            modules.eps.backbone,
            modules.eps.head
        ));
    }
    if differs(Property::Activation) {
        parts.extend(Property::Activation.value(modules).map(|name| format!("activation {name}")));
    }
    (!parts.is_empty()).then(|| format!("read from the pickled modules: {}", parts.join(", ")))
}

/// Returns the config with the rates and eps of the modules.
fn stated(layers: &Layers, matched: &MatchedTensors) -> Config {
    let mut config = matched.config.clone();
    let module = |path: &str, part: Part| {
        let name = matched.dialect.rename(&matched.config, path, part)?;
        layers.of(&name)
    };
    let eps = |path: &str, eps: &mut f32| {
        if let Some(stated) = module(path, Part::Gamma).and_then(|layer| layer.eps) {
            *eps = stated as f32;
        }
    };
    eps("backbone.stem.conv1", &mut config.eps.backbone);
    eps("aspp.project", &mut config.eps.head);
    if let Some(head) = &mut config.head {
        for (i, rate) in (1..).zip(&mut head.aspp.rates) {
            let path = format!("aspp.rate{i}");
            let layer = module(&path, Part::Kernel).filter(|layer| layer.dilation.is_some());
            let layer = layer.or_else(|| module(&format!("{path}.depthwise"), Part::Kernel));
            if let Some([dilation, _]) = layer.and_then(|layer| layer.dilation) {
                *rate = usize::try_from(dilation).unwrap_or(*rate);
            }
        }
    }
    config
}

/// Compares the convolutions and batch norms of a network with the modules.
fn compare(layers: &Layers, matched: &MatchedTensors, config: &Config) -> Result<()> {
    let graph = build(config, Shape::new(1, SIDE, SIDE, config.input_channels))?;
    for node in graph.nodes() {
        if let Some(conv) = node.op.downcast_ref::<Conv2d>() {
            compare_conv(layers, matched, config, &graph, (conv, node.inputs[1]))?;
        } else if let Some(norm) = node.op.downcast_ref::<BatchNorm>()
            && let Some((name, layer)) = module(layers, matched, config, &graph, node.inputs[1])
            && layer.eps.is_some_and(|eps| eps as f32 != norm.eps)
        {
            return Err(differs(&name, "eps", layer.eps.unwrap_or_default(), norm.eps));
        }
    }
    Ok(())
}

fn compare_conv(
    layers: &Layers,
    matched: &MatchedTensors,
    config: &Config,
    graph: &Graph,
    (conv, weight): (&Conv2d, ValueId),
) -> Result<()> {
    let Some((name, layer)) = module(layers, matched, config, graph, weight) else {
        return Ok(());
    };
    let stride = [conv.stride.y, conv.stride.x].map(|n| n as u64);
    if layer.stride.is_some_and(|stated| stated != stride) {
        return Err(differs(&name, "stride", shown(layer.stride), shown(Some(stride))));
    }
    if KernelShape::of(graph.shape(weight)).taps() == 1 {
        return Ok(());
    }
    let dilation = [conv.dilation.y, conv.dilation.x].map(|n| n as u64);
    if layer.dilation.is_some_and(|stated| stated != dilation) {
        return Err(differs(&name, "dilation", shown(layer.dilation), shown(Some(dilation))));
    }
    let padding = [conv.padding.top, conv.padding.left].map(|n| n as u64);
    if config.padding == PaddingRule::Symmetric
        && layer.padding.is_some_and(|stated| stated != padding)
    {
        return Err(differs(&name, "padding", shown(layer.padding), shown(Some(padding))));
    }
    Ok(())
}

/// Returns the module of a parameter, with its path.
fn module<'l>(
    layers: &'l Layers,
    matched: &MatchedTensors,
    config: &Config,
    graph: &Graph,
    parameter: ValueId,
) -> Option<(String, &'l LayerAttributes)> {
    let ParamInfo { layer, role, .. } = graph.param_info(parameter)?;
    let name = matched.dialect.rename(config, layer, role.part)?;
    let path = name.rsplit_once('.')?.0.to_owned();
    Some((path, layers.of(&name)?))
}

fn shown(pair: Option<[u64; 2]>) -> String {
    pair.map_or("none".to_owned(), |[y, x]| if y == x { y.to_string() } else { format!("{y}x{x}") })
}

fn differs(
    module: &str,
    what: &str,
    stated: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> Error {
    error!(
        Weights,
        "the pickled module `{}` has {what} {stated}, the network of its names {expected}",
        excerpt(module)
    )
}

/// Refuses modules without tensors that compute something else than the backbone's.
fn check_activations(layers: &Layers, config: &Config) -> Result<()> {
    let is_mobile = matches!(config.backbone, Backbone::MobileNetV2(_));
    for (path, layer) in layers.layers {
        let Some(inner) = path.strip_prefix(layers.prefix) else { continue };
        let in_features = inner.contains("features.") || inner.contains("blocks.");
        let is_other = layer.class.contains("Blur")
            || (layer.class == "AvgPool2d" && inner.contains("layer"))
            || (is_mobile && in_features && layer.class == "ReLU");
        if is_other {
            return Err(error!(
                Weights,
                "the pickled module `{}` is a {}, which {} does not have",
                excerpt(inner),
                layer.class,
                config.backbone.title()
            ));
        }
    }
    Ok(())
}
