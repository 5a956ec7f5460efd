//! Twenty steps of training against PyTorch: every loss, and the running statistics after them. See
//! `tests/golden/training_steps.py`.

use crate::seeded::{self, Golden};
use crate::{conventions, support};
use atrous::Size;
use atrous::engine::exec::Device;
use atrous::engine::models::Decoder;
use atrous::engine::weights::dialects::store;
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::{BatchRef, Decay, Optimizer, ParamGroups, Schedule, TrainOptions, Trainer};
use std::collections::HashMap;

const SAMPLE_STEP: usize = 1_000_003;
const SAMPLES: usize = 8;

/// The labels of `training_steps.py`.
fn labels(shape: Shape, classes: usize) -> Tensor {
    let (rows, columns) = (shape.h.div_ceil(16), shape.w.div_ceil(16));
    let blocks: Vec<f32> =
        seeded::uniform("input.blocks", shape.n * shape.c * rows * columns).collect();
    let label = |(i, ignored): (usize, f32)| {
        let (n, y, x) = (i / (shape.h * shape.w), i / shape.w % shape.h, i % shape.w);
        let block = blocks[(n * shape.c * rows + y / 16) * columns + x / 16];
        if ignored < 1.0 / 16.0 { 255 } else { (block * classes as f32) as u32 }
    };
    let ignored = seeded::uniform("labels.ignored", shape.positions());
    Tensor::from_data(shape.with_c(1), Data::U32(ignored.enumerate().map(label).collect())).unwrap()
}

/// The recipe of `training_steps.py`.
fn options(metadata: &HashMap<String, String>, shape: Shape, steps: usize) -> TrainOptions {
    let recipe: serde_json::Value = serde_json::from_str(&metadata["recipe"]).unwrap();
    let number = |name: &str| recipe[name].as_f64().unwrap();
    let decay = Decay::Poly { power: number("power") };
    let schedule =
        Schedule { base: number("rate"), decay, steps: steps as u32, warmup: 0, floor: 0.0 };
    TrainOptions {
        optimizer: Optimizer::Sgd { momentum: number("momentum") as f32, nesterov: false },
        groups: ParamGroups {
            backbone: number("backbone"),
            weight_decay: number("decay"),
            ..ParamGroups::default()
        },
        ..TrainOptions::new(shape.n, Size::new(shape.w, shape.h), schedule)
    }
}

fn numbers(metadata: &HashMap<String, String>, name: &str) -> Vec<f64> {
    serde_json::from_str(&metadata[name]).unwrap()
}

/// Differences from PyTorch on a device.
fn differences(case: &str, device: &Device) -> Vec<String> {
    let (metadata, golden) =
        seeded::read(&seeded::directory().join(format!("../training/{case}.steps.safetensors")));
    let network = Golden::open(case);
    let loaded = conventions::load_seeded(&network).unwrap();
    let mut config = loaded.config.clone();
    // PyTorch ran without dropout.
    let head = config.head.as_mut().unwrap();
    head.aspp.dropout = 0.0;
    if let Decoder::Plus(plus) = &mut head.decoder {
        plus.dropouts.fill(0.0);
    }
    let input = seeded::image(serde_json::from_str(&metadata["input_shape"]).unwrap());
    let labels = labels(input.shape(), config.classes().unwrap());
    let (losses, single) = (numbers(&metadata, "losses"), numbers(&metadata, "losses_f32"));
    let mut trainer = Trainer::new(
        device,
        &config,
        &loaded.weights,
        options(&metadata, input.shape(), losses.len()),
    )
    .unwrap();
    assert!(trainer.single_value_norms().is_empty());

    let mut problems = Vec::new();
    let mut worst = 0f64;
    for (step, (want, single)) in losses.iter().zip(&single).enumerate() {
        let loss =
            trainer.step(&[BatchRef { images: &input, labels: &labels, names: &[] }]).unwrap().loss;
        let off = (loss - want).abs() / want;
        worst = worst.max(off);
        if off.is_nan() || off > 1e-3 {
            problems.push(format!(
                "step {step}: the loss is {loss}, PyTorch has {want} (in single precision {single})"
            ));
        }
    }
    let stored = store(&loaded.config, &trainer.weights().unwrap(), loaded.dialect).unwrap();
    let statistic = |name: &str| {
        ["running_mean", "running_var", "moving_mean", "moving_variance"]
            .iter()
            .any(|s| name.ends_with(s))
    };
    let mut statistics: Vec<(String, Vec<f32>)> = stored
        .tensors
        .into_iter()
        .map(|(name, _, data)| (name, data))
        .filter(|(name, _)| statistic(name))
        .collect();
    statistics.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let (norms, errors, samples) =
        (&golden["norms"].data, &golden["errors"].data, &golden["samples"].data);
    assert_eq!(
        statistics.len(),
        norms.len(),
        "{case}: PyTorch has a different number of statistics"
    );
    let (mut strict, mut farthest) = (0, 0f32);
    for (i, (name, values)) in statistics.iter().enumerate() {
        let norm = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32;
        let sampled = (0..SAMPLES)
            .map(|k| (values[k * SAMPLE_STEP % values.len()] - samples[i * SAMPLES + k]).abs());
        let off = sampled.fold((norm - norms[i]).abs(), f32::max);
        farthest = farthest.max(off / norms[i]);
        strict += usize::from(off <= 1e-4 * norms[i]);
        // The tolerance is relative to the norm, or four times the distance of PyTorch's single
        // precision from its double precision if that is larger.
        if off.is_nan() || off > (1e-4 * norms[i]).max(4.0 * errors[i]) {
            problems.push(format!(
                "{name}: off by {off:.2e}, the norm is {:.2e}, PyTorch's error {:.1e}",
                norms[i], errors[i]
            ));
        }
    }
    println!(
        "{case} on {device}: losses {:.4} to {:.4}, off by {worst:.1e} at most; statistics by {farthest:.1e}, {strict} of {} within 1e-4",
        losses[0],
        losses[losses.len() - 1],
        statistics.len()
    );
    problems
}

fn check(case: &str, device: &Device) {
    let problems = differences(case, device);
    let shown = problems.iter().take(24).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{case} on {device}: {} problems\n{shown}", problems.len());
}

fn check_on_gpu(case: &str) {
    check(case, &support::required_gpu());
}

const MOBILENET: &str = "smp_v3plus_mobilenet_v2_os16_65x65";
const BINARY: &str = "smp_binary_v3plus_mobilenet_v2_os16_65x65";
const RESNET: &str = "vainf_v3plus_resnet50_os16_97x61";
const XCEPTION: &str = "tf_v3plus_xception_41_os16_n2x80x48";

#[test]
fn twenty_steps_of_a_network_with_one_output_are_pytorchs() {
    check(BINARY, &Device::Cpu);
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
#[cfg_attr(has_gpu, ignore = "slow: a minute on a software Vulkan")]
fn twenty_steps_of_a_network_with_one_output_on_a_gpu_are_pytorchs() {
    check_on_gpu(BINARY);
}

#[test]
fn twenty_steps_of_smps_mobilenet_are_pytorchs() {
    check(MOBILENET, &Device::Cpu);
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn twenty_steps_of_smps_mobilenet_on_a_gpu_are_pytorchs() {
    check_on_gpu(MOBILENET);
}

#[test]
#[ignore = "slow: a quarter of a minute"]
fn twenty_steps_of_vainfs_resnet_are_pytorchs() {
    check(RESNET, &Device::Cpu);
}

#[test]
#[ignore = "slow: a quarter of a minute"]
fn twenty_steps_of_xception_are_pytorchs() {
    check(XCEPTION, &Device::Cpu);
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
#[cfg_attr(has_gpu, ignore = "slow: a minute on a software Vulkan")]
fn twenty_steps_of_vainfs_resnet_on_a_gpu_are_pytorchs() {
    check_on_gpu(RESNET);
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
#[cfg_attr(has_gpu, ignore = "slow: a minute on a software Vulkan")]
fn twenty_steps_of_xception_on_a_gpu_are_pytorchs() {
    check_on_gpu(XCEPTION);
}
