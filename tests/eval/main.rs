//! Evaluation: inference with test-time augmentation and sliding windows, and `atrous eval` as a
//! process.

mod charts;
mod command;
mod predictor;
mod sigmoid;
#[path = "../support/mod.rs"]
mod support;
mod thresholds;

use atrous::Size;
use atrous::engine::models::Config;
use atrous::image::Image;
use atrous::{DeviceChoice, Model};
use support::Rng;
use support::models::{random_weights, tiny_config};

fn model(change: impl FnOnce(&mut Config)) -> Model {
    let mut config = tiny_config();
    change(&mut config);
    let weights = random_weights(&config, 7);
    Model::new(config, weights, "tiny.safetensors")
}

fn choices() -> Vec<DeviceChoice> {
    let gpu = support::gpu().map(|_| {
        std::env::var("ATROUS_DEVICE").map_or(DeviceChoice::Gpu, |text| text.parse().unwrap())
    });
    std::iter::once(DeviceChoice::Cpu).chain(gpu).collect()
}

/// A random Voronoi diagram of colors.
fn image(w: usize, h: usize, seed: u64) -> Image {
    let mut rng = Rng(seed);
    let blobs: Vec<(usize, usize, [u8; 3])> = (0..12)
        .map(|_| {
            (
                rng.range(0, w - 1),
                rng.range(0, h - 1),
                std::array::from_fn(|_| rng.range(0, 255) as u8),
            )
        })
        .collect();
    let nearest = |x: usize, y: usize| {
        blobs.iter().min_by_key(|b| b.0.abs_diff(x).pow(2) + b.1.abs_diff(y).pow(2)).unwrap().2
    };
    Image::new(Size::new(w, h), (0..w * h).flat_map(|i| nearest(i % w, i / w)).collect()).unwrap()
}
