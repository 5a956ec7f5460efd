//! Weights without a file: for benchmarks, tests, and the first step of a training.

use super::config::Config;
use super::parameters;
use crate::error::Result;
use crate::graph::{ParamRef, Weights};
use crate::tensor::{Shape, Tensor};

/// Weights from a seed: kernels uniform with He's variance (arXiv 1502.01852), so that activations
/// neither die nor explode; biases and the norms' summands 0, factors and variances 1. The same
/// seed gives the same weights everywhere.
///
/// # Errors
/// Where the config contradicts itself.
pub fn random_weights(config: &Config, seed: u64) -> Result<Weights> {
    let mut state = seed;
    let mut unit = || {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let made = parameters(config)?.into_iter().map(|(name, shape)| {
        let tensor = parameter(&name, shape, &mut unit);
        (name, ParamRef::new(tensor))
    });
    Ok(made.collect())
}

fn parameter(name: &str, shape: Shape, unit: &mut impl FnMut() -> f32) -> Tensor {
    let products = shape.n * shape.h * shape.w;
    let constant = |value: f32| Tensor::from_fn(shape, |_, _, _, _| value);
    match name.rsplit('.').next() {
        Some("weight") if products > 1 => {
            let bound = (6.0 / products as f32).sqrt();
            Tensor::from_fn(shape, |_, _, _, _| bound * unit())
        }
        Some("weight" | "running_var") => constant(1.0),
        _ => constant(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Backbone;

    #[test]
    fn a_seed_always_gives_the_same_weights_and_kernels_keep_the_variance() {
        let config = Config::deeplab_v3plus(Backbone::named("resnet18").unwrap(), 3);
        let (one, same, other) =
            (random_weights(&config, 1), random_weights(&config, 1), random_weights(&config, 2));
        let name = "logits.weight";
        let numbers = |w: &Result<Weights>| w.as_ref().unwrap()[name].tensor().f32().to_vec();
        assert_eq!(numbers(&one), numbers(&same));
        assert_ne!(numbers(&one), numbers(&other));
        let (count, sum) =
            (numbers(&one).len() as f32, numbers(&one).iter().map(|v| v * v).sum::<f32>());
        assert!(
            (sum / count * 256.0 - 2.0).abs() < 0.3,
            "He's variance is 2 / 256, got {}",
            sum / count
        );
    }
}
