//! What pickled modules after the classifier make of its outputs.

use crate::models::OutputActivation;
use crate::text::excerpt;
use crate::weights::LayerAttributes;
use std::collections::BTreeMap;

type Layers = BTreeMap<String, LayerAttributes>;

/// Modules that leave the outputs as they are, or only resize them.
const NEUTRAL: [&str; 7] =
    ["Identity", "Dropout", "Dropout2d", "Upsample", "UpsamplingBilinear2d", "Flatten", ""];
/// Modules after which the largest output is still that of the same class.
const SOFTMAX: [&str; 5] = ["Softmax", "Softmax2d", "LogSoftmax", "ArgMax", "ArgMax2d"];

/// Returns the activation of the modules that follow the classifier in a sequence: `head.1` and
/// `head.2.activation` after `head.0`. `None` if they have none.
///
/// # Errors
/// The error names a module that computes something else.
pub(super) fn activation(
    layers: &Layers,
    classifier: &str,
) -> Result<Option<OutputActivation>, String> {
    let Some((path, _)) = classifier.rsplit_once('.') else { return Ok(None) };
    let mut activation = None;
    let mut end = path.len();
    loop {
        let (parent, name) = match path[..end].rsplit_once('.') {
            Some((parent, name)) => (format!("{parent}."), name),
            None => (String::new(), &path[..end]),
        };
        if let Ok(number) = name.parse::<usize>() {
            for path in later_siblings(layers, &parent, number) {
                activation = of(path, &layers[path])?.or(activation);
            }
        }
        match path[..end].rfind('.') {
            Some(dot) => end = dot,
            None => return Ok(activation),
        }
    }
}

/// Returns the innermost modules below `PARENT.N`, with N greater than `number`, in order. Modules
/// with convolutions or norms are another network, and not its outputs.
fn later_siblings<'l>(layers: &'l Layers, parent: &str, number: usize) -> Vec<&'l str> {
    let mut siblings: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for path in layers.keys() {
        let Some(inner) = path.strip_prefix(parent) else { continue };
        let name = inner.split('.').next().unwrap_or_default();
        if let Some(sibling) = name.parse::<usize>().ok().filter(|sibling| *sibling > number) {
            siblings.entry(sibling).or_default().push(path);
        }
    }
    let has_weights = |path: &&str| layers[*path].dilation.is_some() || layers[*path].eps.is_some();
    siblings.retain(|_, paths| !paths.iter().any(has_weights));
    let is_innermost = |path: &&str| {
        let inside = format!("{path}.");
        let next = layers.range(inside.clone()..).next();
        next.is_none_or(|(path, _)| !path.starts_with(&inside))
    };
    siblings.into_values().flatten().filter(is_innermost).collect()
}

fn of(path: &str, layer: &LayerAttributes) -> Result<Option<OutputActivation>, String> {
    match layer.class.as_str() {
        "Sigmoid" => Ok(Some(OutputActivation::Sigmoid)),
        class if SOFTMAX.contains(&class) => Ok(Some(OutputActivation::Softmax)),
        class if NEUTRAL.contains(&class) => Ok(None),
        class => Err(format!(
            "`{}` is a {}, which is neither a softmax nor a sigmoid",
            excerpt(path),
            excerpt(class)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        classes: &[(&str, &str)],
        classifier: &str,
    ) -> Result<Option<OutputActivation>, String> {
        let layer = |(path, class): &(&str, &str)| {
            let layer = LayerAttributes { class: (*class).to_owned(), ..Default::default() };
            ((*path).to_owned(), layer)
        };
        activation(&classes.iter().map(layer).collect(), classifier)
    }

    #[test]
    fn activations_are_those_after_the_classifier() {
        let smp = |class| {
            let head = [
                ("segmentation_head.0", "Conv2d"),
                ("segmentation_head.1", "UpsamplingBilinear2d"),
                ("segmentation_head.2", "Activation"),
                ("segmentation_head.2.activation", class),
                ("encoder.layer1.0.se.gate", "Sigmoid"),
            ];
            found(&head, "segmentation_head.0.weight")
        };
        assert_eq!(smp("Sigmoid").unwrap(), Some(OutputActivation::Sigmoid));
        assert_eq!(smp("Softmax").unwrap(), Some(OutputActivation::Softmax));
        assert_eq!(smp("Identity").unwrap(), None);
        let error = smp("Clamp").unwrap_err();
        assert!(error.contains("segmentation_head.2.activation` is a Clamp"), "{error}");
        let wrapped = [("0.classifier.4", "Conv2d"), ("1", "Sigmoid")];
        let sigmoid = Some(OutputActivation::Sigmoid);
        assert_eq!(found(&wrapped, "0.classifier.4.weight").unwrap(), sigmoid);
        let before = [("classifier.3", "Sigmoid"), ("classifier.4", "Conv2d")];
        assert_eq!(found(&before, "classifier.4.weight").unwrap(), None);
    }
}
