//! The network and weights that training starts from.

use super::recipe::{ModelName, NetworkRecipe, PreprocessName};
use crate::error::{Result, error};
use crate::graph::{Place, Weights};
use crate::image::ClassTable;
use crate::models::{
    self, Backbone, Config, ConvKind, Decoder, Norm, OutputActivation, PadRule, Preprocessing,
    random_weights,
};
use crate::segmenter::Model;
use crate::weights::dialects::{self, NATIVE};

/// A network with its initial weights, and which of them were loaded from a file.
#[derive(Debug, Clone)]
pub struct InitialModel {
    /// Configuration of the network.
    pub config: Config,
    /// Weights of the network.
    pub weights: Weights,
    /// Names of the parameters loaded from the file.
    pub loaded: Vec<String>,
    /// Names of the randomly initialized parameters.
    pub random: Vec<String>,
}

impl InitialModel {
    /// Creates a network for a table of classes, from random weights or from `init`.
    ///
    /// With `init`, backbone and conventions (padding, eps, preprocessing) are those of the file.
    /// If the file contains a segmentation network (and of the model that the recipe names, if it
    /// names one), head and decoder are also those of the file, and the classifier if the number of
    /// classes is the same. Every parameter with the same name and shape is loaded; the rest is
    /// random.
    ///
    /// # Errors
    /// Returns an error if the backbone is unknown or not that of the file, or if the batch norms
    /// of the file are folded into its convolutions.
    pub fn new(
        recipe: &NetworkRecipe,
        table: &ClassTable,
        seed: u32,
        init: Option<&Model>,
    ) -> Result<Self> {
        if let [class] = table.names.as_slice() {
            return Err(error!(
                Config,
                "the class table lists only `{class}`, so there is nothing to tell it from"
            )
            .advice("list what is not that class as well: `background` as class 0"));
        }
        let mut config = match init {
            Some(model) => {
                config_from_file(recipe, model, table.len()).map_err(|e| e.file(&model.path))?
            }
            None => {
                let name = recipe.backbone.as_deref().unwrap_or("mobilenet_v2");
                new_network(recipe, Backbone::named(name)?, table.len())?
            }
        };
        if let Some(name) = recipe.preprocess {
            config.preprocess = match name {
                PreprocessName::Imagenet => Preprocessing::IMAGENET,
                PreprocessName::Tensorflow => {
                    Preprocessing { size: None, pad: PadRule::None, ..Preprocessing::SYMMETRIC_513 }
                }
            };
        }
        set_activation(&mut config, recipe.activation, table.len())?;
        // Training uses crops at native resolution, so the trained network does not resize either.
        config.preprocess.short_side = None;
        config = config.with_output_stride(recipe.output_stride)?;
        config.name_classes(&table.names, &table.colors)?;
        let mut weights = random_weights(&config, seed.into())?;
        let (mut loaded, mut random) = (Vec::new(), Vec::new());
        for (name, weight) in &mut weights {
            let stored = init
                .and_then(|model| model.weights.get(name))
                .filter(|stored| stored.shape() == weight.shape());
            if let Some(stored) = stored {
                *weight = stored.clone();
                loaded.push(name.clone());
            } else {
                random.push(name.clone());
            }
        }
        Ok(Self { config, weights, loaded, random })
    }
}

/// The network that a recipe describes on a backbone.
fn new_network(recipe: &NetworkRecipe, backbone: Backbone, classes: usize) -> Result<Config> {
    let plus = recipe.model != Some(ModelName::DeepLabV3);
    let separable = recipe.separable.unwrap_or(false);
    let own = || own_network(recipe, backbone.clone(), classes);
    let of =
        |name: &str| dialects::like(dialects::find(name)?, &backbone, plus, separable, classes);
    let mut config = match recipe.like.as_deref() {
        Some(name) if name == NATIVE.name() => return Ok(own()),
        Some(name) => of(name)?,
        // What SMP has can be used there afterwards; but its rates are too large for its stride.
        None if plus && recipe.separable != Some(false) => match of("smp") {
            Ok(mut config) => {
                let rates = own().head.map(|head| head.aspp.rates).unwrap_or_default();
                let head = config.head.as_mut().expect("invariant: `like` has a head");
                head.aspp.rates = rates;
                config
            }
            Err(_) => return Ok(own()),
        },
        None => return Ok(own()),
    };
    if let Some(head) = &mut config.head {
        head.aspp.dropout = recipe.dropout;
    }
    Ok(config)
}

/// The network that a recipe describes, in this crate's conventions.
fn own_network(recipe: &NetworkRecipe, backbone: Backbone, classes: usize) -> Config {
    with_recipe_head(recipe, Config::deeplab_v3plus(backbone, classes))
}

/// Whether the weights of a file include the backbone of a config.
fn has_backbone_of(model: &Model, config: &Config) -> Result<bool> {
    let parameters = models::parameters(config)?;
    let mut backbone = parameters.iter().filter(|(info, _)| info.role.place == Place::Backbone);
    Ok(backbone.all(|(info, _)| model.weights.contains_key(&info.name)))
}

/// Replaces the head of a config by that of the recipe.
fn with_recipe_head(recipe: &NetworkRecipe, mut config: Config) -> Config {
    let head = config.head.as_mut().expect("invariant: deeplab_v3plus has a head");
    let kind =
        if recipe.separable.unwrap_or(true) { ConvKind::SeparableNorm } else { ConvKind::Plain };
    head.aspp.kind = kind;
    head.aspp.dropout = recipe.dropout;
    match (recipe.model.unwrap_or(ModelName::DeepLabV3Plus), &mut head.decoder) {
        (ModelName::DeepLabV3, decoder) => *decoder = Decoder::Conv,
        (ModelName::DeepLabV3Plus, Decoder::Plus(decoder)) => decoder.kind = kind,
        (ModelName::DeepLabV3Plus, _) => {}
    }
    config
}

/// The config of a weights file, with the head that the recipe asks for.
fn config_from_file(recipe: &NetworkRecipe, model: &Model, classes: usize) -> Result<Config> {
    let stored = model.config()?;
    if stored.norm == Norm::Folded {
        return Err(error!(
            Weights,
            "the batch norms are folded into the convolutions and cannot be trained"
        )
        .advice("use a file whose batch norms are not folded (see `atrous inspect`), or an ImageNet backbone"));
    }
    if let Some(name) = &recipe.backbone {
        let requested = Backbone::named(name)?;
        if requested.title() != stored.backbone.title() {
            return Err(error!(
                Config,
                "the weights are of {}, but the recipe asks for {}",
                stored.backbone.title(),
                requested.title()
            ));
        }
    }
    let is_plus = |config: &Config| {
        matches!(config.head.as_ref().map(|h| &h.decoder), Some(Decoder::Plus(_)))
    };
    let mut config = stored.clone();
    let same_model = stored.head.is_some()
        && recipe.model.is_none_or(|model| is_plus(stored) == (model == ModelName::DeepLabV3Plus));
    if !same_model {
        let mut fresh = new_network(recipe, stored.backbone.clone(), classes)?;
        if recipe.like.is_none() && !has_backbone_of(model, &fresh)? {
            // A layer of the backbone that is not in the file would begin at random.
            fresh = own_network(recipe, stored.backbone.clone(), classes);
        }
        if stored.padding == fresh.padding {
            // A classifier has no dilation, so that of the head's code base is as good as any.
            (config.dilation, config.backbone) = (fresh.dilation, fresh.backbone);
        }
        // The output stride of a classifier is 32. With it, the dilations of the new head would be
        // doubled.
        (config.head, config.eps.head, config.output_stride) =
            (fresh.head, fresh.eps.head, fresh.output_stride);
    }
    if let Some(head) = &mut config.head {
        let is_binary = head.activation == OutputActivation::Sigmoid && classes == 2;
        head.activation =
            if is_binary { OutputActivation::Sigmoid } else { OutputActivation::Softmax };
        head.classes = classes;
        // The names and colors of the file belong to other classes.
        head.class_names.clear();
        head.class_colors.clear();
    }
    Ok(config)
}

/// Sets how outputs become probabilities, if the recipe states it.
fn set_activation(
    config: &mut Config,
    activation: Option<OutputActivation>,
    classes: usize,
) -> Result<()> {
    let (Some(head), Some(activation)) = (&mut config.head, activation) else { return Ok(()) };
    if activation == OutputActivation::Sigmoid && classes != 2 {
        return Err(error!(
            Config,
            "`activation = \"sigmoid\"` is one output for two classes; the data has {classes}"
        )
        .advice("use softmax: each pixel of a mask has exactly one class"));
    }
    (head.activation, head.classes) = (activation, classes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(recipe: &NetworkRecipe, classes: usize, init: Option<&Model>) -> Result<InitialModel> {
        InitialModel::new(recipe, &ClassTable::generic(classes), 1, init)
    }

    fn model(config: Config) -> Model {
        let weights = random_weights(&config, 77).unwrap();
        Model::new(config, weights, "some.safetensors")
    }

    fn small() -> NetworkRecipe {
        NetworkRecipe { backbone: Some("mobilenet_v2_0.25".into()), ..NetworkRecipe::default() }
    }

    #[test]
    fn a_network_from_nothing_is_the_recipes() {
        let InitialModel { config, loaded, random, .. } = begin(&small(), 4, None).unwrap();
        assert_eq!((config.classes(), config.output_stride), (Some(4), 16));
        assert!(loaded.is_empty() && random.contains(&"logits.weight".to_owned()));
        let v3 = begin(&NetworkRecipe { model: Some(ModelName::DeepLabV3), ..small() }, 4, None)
            .unwrap()
            .config;
        assert!(matches!(v3.head.unwrap().decoder, Decoder::Conv));
        assert!(
            begin(&NetworkRecipe { backbone: Some("vgg16".into()), ..small() }, 4, None).is_err()
        );
    }

    /// `separable = true` had no effect except with `like = "atrous"`.
    #[test]
    fn separable_convolutions_are_those_of_the_recipe_where_the_code_base_has_them() {
        let kinds = |like: Option<&str>, backbone: &str, separable| {
            let (like, backbone) = (like.map(str::to_owned), Some(backbone.to_owned()));
            let recipe = NetworkRecipe { like, backbone, separable, ..NetworkRecipe::default() };
            let backbone = Backbone::named(recipe.backbone.as_deref().unwrap()).unwrap();
            let head = new_network(&recipe, backbone, 4).unwrap().head.unwrap();
            let Decoder::Plus(plus) = head.decoder else { panic!("{recipe:?}") };
            (head.aspp.kind, plus.kind)
        };
        let (plain, smps, both) = (ConvKind::Plain, ConvKind::Separable, ConvKind::SeparableNorm);
        for (like, backbone, separable, expected) in [
            (None, "resnet18", None, (plain, smps)),
            (None, "resnet18", Some(true), (smps, smps)),
            (None, "resnet18", Some(false), (plain, plain)),
            (Some("smp"), "resnet18", None, (plain, smps)),
            (Some("smp"), "resnet18", Some(true), (smps, smps)),
            (Some("smp"), "resnet18", Some(false), (plain, smps)),
            (Some("atrous"), "resnet18", None, (both, both)),
            (Some("atrous"), "resnet18", Some(false), (plain, plain)),
            (Some("tensorflow"), "xception65", Some(true), (both, both)),
            (Some("tensorflow"), "xception65", Some(false), (plain, plain)),
            (Some("vainf"), "resnet50", Some(true), (plain, plain)),
        ] {
            assert_eq!(kinds(like, backbone, separable), expected, "{like:?} {separable:?}");
        }
    }

    #[test]
    fn a_backbone_keeps_its_weights_and_conventions_and_gets_a_head() {
        let mut bare =
            Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.25").unwrap(), 1).without_head();
        bare.preprocess = Preprocessing::SYMMETRIC_513;
        let file = model(bare);
        let initial = begin(&NetworkRecipe { backbone: None, ..small() }, 4, Some(&file)).unwrap();
        assert_eq!(initial.config.preprocess, Preprocessing::SYMMETRIC_513);
        assert!(
            initial.loaded.iter().all(|n| n.starts_with("backbone."))
                && initial.random.iter().all(|n| !n.starts_with("backbone."))
        );
        assert_eq!(initial.loaded.len(), file.weights.len());
        let other =
            begin(&NetworkRecipe { backbone: Some("resnet18".into()), ..small() }, 4, Some(&file))
                .unwrap_err()
                .to_string();
        assert!(other.contains("some.safetensors") && other.contains("ResNet"), "{other}");
    }

    #[test]
    fn a_classifiers_stride_does_not_double_the_rates_of_the_new_head() {
        let bare = Config {
            output_stride: 32,
            ..Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.25").unwrap(), 1)
        };
        let file = model(bare.without_head());
        for (output_stride, rates) in [(16, [6, 12, 18]), (8, [12, 24, 36])] {
            let config =
                begin(&NetworkRecipe { output_stride, ..small() }, 4, Some(&file)).unwrap().config;
            assert_eq!(
                (config.output_stride, config.head.unwrap().aspp.rates.as_slice()),
                (output_stride, rates.as_slice())
            );
        }
    }

    #[test]
    fn only_the_classifier_is_made_anew_for_other_classes() {
        let file = model(begin(&small(), 7, None).unwrap().config);
        assert_eq!(
            begin(&small(), 4, Some(&file)).unwrap().random,
            ["logits.bias", "logits.weight"]
        );
        assert!(begin(&small(), 7, Some(&file)).unwrap().random.is_empty());
        let mut folded = file.clone();
        folded.config_mut().unwrap().norm = Norm::Folded;
        assert!(begin(&small(), 7, Some(&folded)).unwrap_err().to_string().contains("folded"));
    }
}
