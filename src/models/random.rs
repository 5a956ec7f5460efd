//! Random weights: for benchmarks, tests, and as the initial weights of training.

use super::config::Config;
use super::parameters;
use crate::error::Result;
use crate::graph::{ParamRef, Part, Weights};
use crate::random::SplitMix64;
use crate::tensor::{KernelShape, Shape, Tensor};

/// Returns random weights from a seed, the same on every platform: uniform kernels with He's
/// variance (arXiv 1502.01852), so that activations neither vanish nor explode; biases and means 0;
/// batch norm weights and variances 1.
///
/// # Errors
/// Returns an error if the config is inconsistent.
pub fn random_weights(config: &Config, seed: u64) -> Result<Weights> {
    let mut random = SplitMix64(seed);
    let weights = parameters(config)?.into_iter().map(|(info, shape)| {
        let tensor = random_parameter(info.role.part, shape, &mut random);
        (info.name, ParamRef::new(tensor))
    });
    Ok(weights.collect())
}

fn random_parameter(part: Part, shape: Shape, random: &mut SplitMix64) -> Tensor {
    let fan_in = KernelShape::of(shape).reduction();
    let constant = |value: f32| Tensor::from_fn(shape, |_, _, _, _| value);
    match part {
        Part::Kernel if fan_in > 1 => {
            let bound = (6.0 / fan_in as f32).sqrt();
            Tensor::from_fn(shape, |_, _, _, _| bound * random.unit())
        }
        Part::Kernel | Part::Gamma | Part::RunningVar => constant(1.0),
        Part::Bias | Part::Beta | Part::RunningMean => constant(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Backbone;

    #[test]
    fn a_seed_always_gives_the_same_weights_and_kernels_keep_the_variance() {
        let config = Config::deeplab_v3plus(Backbone::named("resnet18").unwrap(), 3);
        let classifier = |seed: u64| {
            random_weights(&config, seed).unwrap()["logits.weight"].tensor().f32().to_vec()
        };
        assert_eq!(classifier(1), classifier(1));
        assert_ne!(classifier(1), classifier(2));
        let values = classifier(1);
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance * 256.0 - 2.0).abs() < 0.3, "He's variance is 2 / 256, got {variance}");
    }
}
