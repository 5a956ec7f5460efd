//! Lines that `atrous train` prints about the network and the run before the first step.

use crate::data::Pair;
use crate::geometry::Size;
use crate::image::dimensions;
use crate::models::Config;
use crate::train::{InitialModel, NetworkRecipe, Recipe, Run};
use std::cmp::Ordering;
use std::path::Path;

/// Describes the network, and which of its tensors come from the file.
pub(super) fn network(initial: &InitialModel, init: Option<&Path>) -> String {
    let config = &initial.config;
    let network = format!(
        "network: {} with {} classes, output stride {}",
        config.backbone.title(),
        config.classes().unwrap_or(0),
        config.output_stride
    );
    let Some(init) = init else { return format!("{network}, random weights") };
    let (kept, random) = (initial.loaded.len(), &initial.random);
    let loaded = match random.len() {
        0 => "all tensors".to_owned(),
        n => format!("{kept} tensors; {n} initialized randomly: {}", layers(random).join(", ")),
    };
    format!("{network}; from {}: {loaded}", crate::text::path(init))
}

/// How to train a finished run further.
const EXTEND: &str = "to extend the run, add `--steps N` with its new total";

/// Describes where a resumed run continues.
pub(super) fn resumed(run: &Run) -> String {
    let (step, steps) = (run.step(), u64::from(run.recipe().steps));
    match step.cmp(&steps) {
        Ordering::Less if run.stopped_early() => format!(
            "stopped early after step {step} of {steps}; nothing is left to do: to train on, add `--steps N` with the new \
             total of steps, or raise `early_stopping` in recipe.toml"
        ),
        Ordering::Less => format!("resuming after step {step} of {steps}"),
        _ if run.evaluation_due() => {
            format!("all {step} steps are done, the last evaluation is not")
        }
        Ordering::Equal => {
            format!("all {steps} steps are done; nothing is left to do: {EXTEND}")
        }
        Ordering::Greater => {
            format!(
                "{step} steps are done, more than the {steps} in recipe.toml; nothing is left to do: {EXTEND}"
            )
        }
    }
}

/// Returns a note if the network does not have the convolutions that the recipe states, and
/// corrects the recipe.
pub(super) fn separable(recipe: &mut NetworkRecipe, network: &Config) -> Option<String> {
    recipe.record_separable(network).then(|| {
        let used = recipe.separable.unwrap_or_default();
        let without = if used { "separable" } else { "no separable" };
        format!(
            "note: `separable = {}` has no effect: the ASPP of this network, as its code base or the initial weights \
             have it, has {without} convolutions; the recipe of the run states `separable = {used}`",
            !used
        )
    })
}

/// Describes what is not trained.
pub(super) fn frozen(recipe: &Recipe, initial: &InitialModel) -> Option<String> {
    recipe.freeze?;
    let config = &initial.config;
    let kept = initial.loaded.iter().any(|name| name.starts_with("backbone."));
    let random =
        if kept { "" } else { "; its weights are random: name trained ones with `--init`" };
    Some(format!(
        "freeze: {} keeps its parameters and batch norm statistics{random}",
        config.backbone.title()
    ))
}

/// Returns the largest width and height of a sample of the images, from their headers.
pub(super) fn largest(pairs: &[Pair]) -> Size {
    /// Maximum number of headers to read: a data set can have a hundred thousand.
    const MAX_PROBED: usize = 32;
    let every = pairs.len().div_ceil(MAX_PROBED).max(1);
    let sizes = pairs.iter().step_by(every).filter_map(|pair| dimensions(&pair.image).ok());
    sizes.fold(Size::new(0, 0), |largest, size| largest.zip(size, usize::max))
}

/// Returns a note if the feature map of a crop is no larger than ASPP's largest rate, and that of a
/// whole image of this size is larger than the crop's. Measured on CamVid: networks trained on crops
/// of 257 reached a mIoU of 0.646 (rates 12, 24, 36) and 0.556 (6, 12, 18) on whole images, and 0.699
/// and 0.595 with a sliding window of 257.
pub(super) fn narrow_crops(config: &Config, crop: Size, images: Size) -> Option<String> {
    let rate = *config.head.as_ref()?.aspp.rates.iter().max()?;
    let least = rate * config.output_stride + 1;
    // Beyond the image a larger crop has only padding, as the whole image has.
    let better = crop.zip(images, |crop, image| crop.max(least.min(image)));
    if better == crop {
        return None;
    }
    let better = match better {
        Size { width, height } if width == height => width.to_string(),
        size => size.to_string(),
    };
    Some(format!(
        "note: crops of {crop} are smaller than the reach of ASPP's rate {rate} ({least} pixels): its outer taps would see more padding than in \
         whole images, whose statistics the batch norms would not match; use `--crop {better}` or larger, or `--window {}` in `eval`",
        crop.width.min(crop.height)
    ))
}

/// Describes the cost of accumulating gradients; `images` is the size of the training set.
pub(super) fn accumulated(batch: usize, accumulate: u32, images: usize) -> Option<String> {
    let all = batch as u64 * u64::from(accumulate);
    let passes = match all as f64 / images as f64 {
        passes if passes > 1.0 => format!(", {passes:.1} times the training set"),
        _ => String::new(),
    };
    (accumulate > 1).then(|| {
        format!(
            "each step accumulates {accumulate} batches: {all} images{passes}, and {accumulate} times the time of one batch"
        )
    })
}

/// Counts tensors by the first component of their names: `aspp (24)`.
fn layers(names: &[String]) -> Vec<String> {
    let mut layers: Vec<(&str, usize)> = Vec::new();
    for name in names {
        let layer = name.split('.').next().unwrap_or(name);
        match layers.iter_mut().find(|(l, _)| *l == layer) {
            Some((_, count)) => *count += 1,
            None => layers.push((layer, 1)),
        }
    }
    layers.into_iter().map(|(layer, count)| format!("{layer} ({count})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Backbone;

    #[test]
    fn the_cost_of_accumulation_is_reported() {
        assert_eq!(accumulated(8, 1, 100), None);
        assert!(!accumulated(8, 2, 100).unwrap().contains("times the training set"));
        let line = accumulated(8, 100, 400).unwrap();
        assert!(
            line.contains("800 images, 2.0 times the training set")
                && line.contains("100 times the time"),
            "{line}"
        );
    }

    #[test]
    fn a_separable_aspp_that_the_network_does_not_have_is_reported_and_recorded() {
        let config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 2);
        let mut recipe = NetworkRecipe { separable: Some(true), ..NetworkRecipe::default() };
        let note = separable(&mut recipe, &config).unwrap();
        assert!(note.contains("`separable = true` has no effect"), "{note}");
        assert_eq!(recipe.separable, Some(false));
        assert_eq!(separable(&mut recipe, &config), None);
        assert_eq!(separable(&mut NetworkRecipe::default(), &config), None);
    }

    #[test]
    fn crops_smaller_than_the_largest_rate_are_reported_with_a_sufficient_size() {
        let config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 2);
        let large = Size::square(2000);
        let note = narrow_crops(&config, Size::new(513, 257), large).unwrap();
        assert!(note.contains("513x257") && note.contains("`--crop 513x289`"), "{note}");
        let note = narrow_crops(&config, Size::square(257), large).unwrap();
        assert!(note.contains("`--crop 289`"), "{note}");
        assert_eq!(narrow_crops(&config, Size::square(289), large), None);
        // Crops that cover the images cannot be any better.
        assert_eq!(narrow_crops(&config, Size::square(257), Size::new(257, 200)), None);
        let note = narrow_crops(&config, Size::square(257), Size::new(480, 270)).unwrap();
        assert!(note.contains("`--crop 289x270`"), "{note}");
        let finer = config.with_output_stride(8).unwrap();
        assert!(narrow_crops(&finer, Size::square(288), large).is_some());
        let mut phone = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 2);
        phone.head.as_mut().unwrap().aspp.rates.clear();
        assert_eq!(narrow_crops(&phone, Size::square(65), large), None);
    }
}
