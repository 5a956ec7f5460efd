//! Small networks with random weights, as files.

use super::Rng;
use atrous::engine::graph::{ParamRef, Part, Weights};
use atrous::engine::models::{Backbone, Config, Decoder, parameters};
use atrous::engine::weights::{FloatDType, dialects, write_safetensors};
use atrous::engine::{Shape, Tensor};
use std::path::Path;

/// Returns the config of DeepLabv3+ on a narrow MobileNetV2: 5 classes, about 60,000 parameters,
/// fast on every executor.
pub fn tiny_config() -> Config {
    let backbone = serde_json::from_value(serde_json::json!({
        "mobile_net_v2": { "stem": 8, "channels": [8, 8, 8, 12, 12, 16, 20], "expansion": 2 }
    }));
    let backbone: Backbone = backbone.expect("the backbone's JSON is valid");
    let mut config = Config::deeplab_v3plus(backbone, 5);
    let head = config.head.as_mut().expect("`deeplab_v3plus` has a head");
    head.class_names = ["background", "road", "tree", "car", "person"].map(str::to_owned).to_vec();
    head.aspp.channels = 16;
    if let Decoder::Plus(plus) = &mut head.decoder {
        plus.channels = 16;
        plus.low_level_channels = 8;
    }
    config
}

/// Returns random weights whose activations neither vanish nor explode.
pub fn random_weights(config: &Config, seed: u64) -> Weights {
    let mut rng = Rng(seed);
    parameters(config)
        .expect("the config is valid")
        .into_iter()
        .map(|(info, shape)| {
            let tensor = random_parameter(info.role.part, shape, &mut rng);
            (info.name, ParamRef::new(tensor))
        })
        .collect()
}

fn random_parameter(part: Part, shape: Shape, rng: &mut Rng) -> Tensor {
    let fan_in = (shape.n * shape.h * shape.w) as f32;
    let is_kernel = shape.n * shape.h * shape.w > 1;
    Tensor::from_fn(shape, |_, _, _, _| {
        let u = rng.unit();
        match part {
            Part::RunningVar => 1.0 + 0.3 * u,
            Part::Kernel | Part::Gamma if is_kernel => u * (6.0 / fan_in).sqrt(),
            Part::Kernel | Part::Gamma => 1.0 + 0.2 * u,
            _ => 0.2 * u,
        }
    })
}

/// Writes the tiny network in the native dialect.
pub fn write_tiny(path: &Path) {
    write_seeded(path, 7);
}

/// Like [`write_tiny`], with the weights of a seed.
pub fn write_seeded(path: &Path, seed: u64) {
    write_network(path, &tiny_config(), seed);
}

/// Writes a network with random weights in the native dialect.
pub fn write_network(path: &Path, config: &Config, seed: u64) {
    let stored = dialects::store(config, &random_weights(config, seed), dialects::NATIVE)
        .expect("the weights match the config");
    write_safetensors(path, stored.tensors, &stored.metadata, FloatDType::F32)
        .expect("the directory is writable");
}
