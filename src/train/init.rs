//! The network and the weights that a training begins with.

use super::recipe::{ModelName, NetworkRecipe, PreprocessName};
use crate::error::{Result, error};
use crate::graph::Weights;
use crate::image::ClassTable;
use crate::models::{
    Backbone, Config, ConvKind, Decoder, Norm, PadRule, Preprocessing, random_weights,
};
use crate::segmenter::Model;

/// A network with its first weights, and what of them was taken from a file.
#[derive(Debug, Clone)]
pub struct InitialModel {
    /// The network.
    pub config: Config,
    /// Its weights.
    pub weights: Weights,
    /// Names of the parameters that the file gave.
    pub kept: Vec<String>,
    /// Names of those that are random.
    pub made: Vec<String>,
}

impl InitialModel {
    /// A network for a table of classes: random, or from the weights of a file where it is given.
    ///
    /// With weights, backbone and conventions (padding, eps, preprocessing) are the file's. Where
    /// the file holds a segmentation network, of the kind that is asked for if one is, head and
    /// decoder are its own too, and the classifier where the number of classes is the same. Every
    /// parameter of the same name and shape is kept, the others are random.
    ///
    /// # Errors
    /// Where the backbone is not known, or not the file's; where the file's batch norms are folded
    /// into its convolutions.
    pub fn new(
        recipe: &NetworkRecipe,
        table: &ClassTable,
        seed: u32,
        init: Option<&Model>,
    ) -> Result<Self> {
        let mut config = match init {
            Some(model) => of_file(recipe, model, table.len()).map_err(|e| e.file(&model.path))?,
            None => {
                let name = recipe.backbone.as_deref().unwrap_or("mobilenet_v2");
                of_recipe(recipe, Config::deeplab_v3plus(Backbone::named(name)?, table.len()))
            }
        };
        if let Some(name) = recipe.preprocess {
            config.preprocess = match name {
                PreprocessName::Imagenet => Preprocessing::IMAGENET,
                PreprocessName::Tensorflow => {
                    Preprocessing { size: None, pad: PadRule::None, ..Preprocessing::TENSORFLOW }
                }
            };
        }
        // Training sees crops of the images at their own size, and so does what it yields.
        config.preprocess.short_side = None;
        config = config.with_output_stride(recipe.output_stride)?;
        config.name_classes(&table.names, &table.colors)?;
        let mut weights = random_weights(&config, seed.into())?;
        let (mut kept, mut made) = (Vec::new(), Vec::new());
        for (name, own) in &mut weights {
            match init
                .and_then(|model| model.weights.get(name))
                .filter(|found| found.shape() == own.shape())
            {
                Some(found) => {
                    *own = found.clone();
                    kept.push(name.clone());
                }
                None => made.push(name.clone()),
            }
        }
        Ok(Self { config, weights, kept, made })
    }
}

/// The head that a recipe asks for, on the backbone of a config.
fn of_recipe(recipe: &NetworkRecipe, mut config: Config) -> Config {
    let head = config.head.as_mut().expect("invariant: deeplab_v3plus has a head");
    let kind = if recipe.separable { ConvKind::SeparableNorm } else { ConvKind::Plain };
    head.aspp.kind = kind;
    head.aspp.dropout = recipe.dropout;
    match (recipe.model.unwrap_or(ModelName::DeepLabV3Plus), &mut head.decoder) {
        (ModelName::DeepLabV3, decoder) => *decoder = Decoder::Conv,
        (ModelName::DeepLabV3Plus, Decoder::Plus(decoder)) => decoder.kind = kind,
        (ModelName::DeepLabV3Plus, _) => {}
    }
    config
}

fn of_file(recipe: &NetworkRecipe, model: &Model, classes: usize) -> Result<Config> {
    let theirs = &model.config;
    if theirs.norm == Norm::Folded {
        return Err(error!(
            Weights,
            "its batch norms are folded into the convolutions, and cannot be trained"
        )
        .advice("begin from weights whose norms stand apart"));
    }
    if let Some(name) = &recipe.backbone {
        let asked = Backbone::named(name)?;
        if asked != theirs.backbone {
            return Err(error!(
                Config,
                "holds {}, the recipe asks for {}",
                theirs.backbone.title(),
                asked.title()
            ));
        }
    }
    let plus = |config: &Config| {
        matches!(config.head.as_ref().map(|h| &h.decoder), Some(Decoder::Plus(_)))
    };
    let mut config = theirs.clone();
    let same_kind = theirs.head.is_some()
        && recipe.model.is_none_or(|model| plus(theirs) == (model == ModelName::DeepLabV3Plus));
    if !same_kind {
        let fresh = of_recipe(recipe, Config::deeplab_v3plus(theirs.backbone.clone(), classes));
        // A classifier's stride is 32: the fresh head's rates are those of its own, and would be
        // doubled.
        (config.head, config.eps.head, config.output_stride) =
            (fresh.head, fresh.eps.head, fresh.output_stride);
    }
    if let Some(head) = &mut config.head {
        head.classes = classes;
        // Those of the file are of other classes.
        head.class_names.clear();
        head.class_colors.clear();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(recipe: &NetworkRecipe, classes: usize, init: Option<&Model>) -> Result<InitialModel> {
        InitialModel::new(recipe, &ClassTable::generic(classes), 1, init)
    }

    fn model(config: Config) -> Model {
        let weights = random_weights(&config, 77).unwrap();
        Model { config, weights, dialect: "atrous", path: "some.safetensors".into() }
    }

    fn small() -> NetworkRecipe {
        NetworkRecipe { backbone: Some("mobilenet_v2_0.25".into()), ..NetworkRecipe::default() }
    }

    #[test]
    fn a_network_from_nothing_is_the_recipes() {
        let InitialModel { config, kept, made, .. } = begin(&small(), 4, None).unwrap();
        assert_eq!((config.classes(), config.output_stride), (Some(4), 16));
        assert!(kept.is_empty() && made.contains(&"logits.weight".to_owned()));
        let v3 = begin(&NetworkRecipe { model: Some(ModelName::DeepLabV3), ..small() }, 4, None)
            .unwrap()
            .config;
        assert!(matches!(v3.head.unwrap().decoder, Decoder::Conv));
        assert!(
            begin(&NetworkRecipe { backbone: Some("vgg16".into()), ..small() }, 4, None).is_err()
        );
    }

    #[test]
    fn a_backbone_keeps_its_weights_and_conventions_and_gets_a_head() {
        let mut bare =
            Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.25").unwrap(), 1).without_head();
        bare.preprocess = Preprocessing::TENSORFLOW;
        let file = model(bare);
        let begun = begin(&NetworkRecipe { backbone: None, ..small() }, 4, Some(&file)).unwrap();
        assert_eq!(begun.config.preprocess, Preprocessing::TENSORFLOW);
        assert!(
            begun.kept.iter().all(|n| n.starts_with("backbone."))
                && begun.made.iter().all(|n| !n.starts_with("backbone."))
        );
        assert_eq!(begun.kept.len(), file.weights.len());
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
        assert_eq!(begin(&small(), 4, Some(&file)).unwrap().made, ["logits.bias", "logits.weight"]);
        assert!(begin(&small(), 7, Some(&file)).unwrap().made.is_empty());
        let mut folded = file.clone();
        folded.config.norm = Norm::Folded;
        assert!(begin(&small(), 7, Some(&folded)).unwrap_err().to_string().contains("folded"));
    }
}
