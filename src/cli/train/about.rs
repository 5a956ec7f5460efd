//! What `atrous train` says of a network before it begins.

use crate::models::Config;
use crate::train::{InitialModel, Run};
use std::cmp::Ordering;
use std::path::Path;

/// What the network is, and what of it comes from the file.
pub(super) fn network(beginning: &InitialModel, init: Option<&Path>) -> String {
    let config = &beginning.config;
    let network = format!(
        "network: {} with {} classes, output stride {}",
        config.backbone.title(),
        config.classes().unwrap_or(0),
        config.output_stride
    );
    let Some(init) = init else { return format!("{network}, random weights") };
    let (kept, made) = (beginning.loaded.len(), &beginning.random);
    let fresh = match made.len() {
        0 => "all".to_owned(),
        n => format!("{kept} tensors, and {n} are random: {}", parts(made).join(", ")),
    };
    format!("{network}; from {}: {fresh}", crate::text::path(init))
}

/// Where a run that is resumed goes on.
pub(super) fn resumed(run: &Run) -> String {
    let (step, steps) = (run.step(), u64::from(run.recipe().steps));
    match step.cmp(&steps) {
        Ordering::Less => format!("going on after step {step} of {steps}"),
        _ if run.evaluation_due() => {
            format!("all {step} steps are made, the last evaluation is not")
        }
        Ordering::Equal => format!("all {steps} steps are made: nothing is left to do"),
        Ordering::Greater => {
            format!(
                "{step} steps are made, more than the {steps} that recipe.toml asks for: nothing is left to do"
            )
        }
    }
}

/// What to say of crops whose map is no larger than a rate of ASPP. Seen on CamVid: trained on
/// crops of 257, networks had a mIoU of 0.646 (rates 12, 24, 36) and 0.556 (6, 12, 18) on whole
/// images, and of 0.699 and 0.595 window by window.
pub(super) fn narrow_crops(config: &Config, (h, w): (usize, usize)) -> Option<String> {
    let rate = *config.head.as_ref()?.aspp.rates.iter().max()?;
    let stride = config.output_stride;
    (h.min(w).div_ceil(stride) <= rate).then(|| {
        let least = rate * stride + 1;
        format!(
            "note: crops of {h}x{w} are smaller than ASPP's rate of {rate} reaches ({least} pixels): its outer taps meet padding alone, and on \
             whole images the norms behind them find what they have not learned; take `--crop {least}` or more"
        )
    })
}

/// What adding up the gradients of several batches costs. `images` are those of the training set.
pub(super) fn accumulated(batch: usize, accumulate: u32, images: usize) -> Option<String> {
    let all = batch as u64 * u64::from(accumulate);
    let passes = match all as f64 / images as f64 {
        passes if passes > 1.0 => format!(", {passes:.1} times all there are"),
        _ => String::new(),
    };
    (accumulate > 1).then(|| {
        format!(
            "a step adds up the gradients of {accumulate} batches, one after the other: {all} images{passes}, and {accumulate} times the time \
             of a batch"
        )
    })
}

/// The layers that tensors belong to, by their first names: `aspp (24)`.
fn parts(names: &[String]) -> Vec<String> {
    let mut parts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        let part = name.split('.').next().unwrap_or(name);
        match parts.iter_mut().find(|(p, _)| *p == part) {
            Some((_, count)) => *count += 1,
            None => parts.push((part, 1)),
        }
    }
    parts.into_iter().map(|(part, count)| format!("{part} ({count})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Backbone;

    #[test]
    fn what_accumulation_costs_is_told() {
        assert_eq!(accumulated(8, 1, 100), None);
        assert!(!accumulated(8, 2, 100).unwrap().contains("times all"));
        let told = accumulated(8, 100, 400).unwrap();
        assert!(
            told.contains("800 images, 2.0 times all there are")
                && told.contains("100 times the time"),
            "{told}"
        );
    }

    #[test]
    fn crops_smaller_than_the_largest_rate_are_told_with_what_would_do() {
        let config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 2);
        let told = narrow_crops(&config, (257, 513)).unwrap();
        assert!(told.contains("257x513") && told.contains("`--crop 289`"), "{told}");
        assert_eq!(narrow_crops(&config, (289, 289)), None);
        assert!(narrow_crops(&config.with_output_stride(8).unwrap(), (288, 288)).is_some());
        let mut phone = Config::deeplab_v3plus(Backbone::named("mobilenet_v2").unwrap(), 2);
        phone.head.as_mut().unwrap().aspp.rates.clear();
        assert_eq!(narrow_crops(&phone, (65, 65)), None);
    }
}
