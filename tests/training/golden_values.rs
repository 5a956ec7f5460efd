//! One step of training against PyTorch: loss, every named gradient, running statistics. See
//! `tests/golden/training.py`.

use crate::seeded::{self, Golden};
use crate::{conventions, support};
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::{ParamRef, Weights};
use atrous::engine::models::{Config, Outputs, build_network, parameters};
use atrous::engine::training::{TrainingStep, training_step};
use atrous::engine::weights::dialects::{Dialect, Loaded, store};
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::StepOptions;
use std::collections::HashMap;

const SAMPLE_STEP: usize = 1_000_003;
const SAMPLES: usize = 8;
/// PyTorch's momentum: weight of the batch in the new running statistics.
const MOMENTUM: f32 = 0.1;

/// The labels of `training.py`.
fn labels(shape: Shape, classes: usize) -> Tensor {
    let count = shape.positions();
    let ignored = seeded::uniform("labels.ignored", count).map(|u| u < 1.0 / 16.0);
    let chosen = seeded::uniform("labels", count).map(|u| (u * classes as f32) as u32);
    let data =
        chosen.zip(ignored).map(|(class, ignored)| if ignored { 255 } else { class }).collect();
    Tensor::from_data(shape.with_c(1), Data::U32(data)).unwrap()
}

/// Loss, gradients, and the statistics after the step, by name.
fn run(
    device: &Device,
    step: &TrainingStep,
    weights: &Weights,
    input: &Tensor,
    labels: &Tensor,
) -> (f32, Weights) {
    let mut graph = step.graph.clone();
    let read: Vec<String> = graph.params().map(|(info, _)| info.name.clone()).collect();
    graph
        .bind(&read.into_iter().map(|name| (name.clone(), weights[&name].clone())).collect())
        .unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let results =
        Runner::new(device, graph).unwrap().run(&[("input", input), ("labels", labels)]).unwrap();
    let results: HashMap<String, Tensor> = names.into_iter().zip(results).collect();
    let mut all = Weights::new();
    for name in &step.trained {
        all.insert(name.clone(), ParamRef::new(results[&format!("grad.{name}")].clone()));
    }
    for (norm, values) in &step.norms {
        // The running variance is unbiased: that of the batch is multiplied by n / (n - 1).
        let unbiased = *values as f32 / (*values as f32 - 1.0);
        for (running, batch, factor) in
            [("running_mean", "batch_mean", 1.0), ("running_var", "batch_variance", unbiased)]
        {
            let name = format!("{norm}.{running}");
            let (old, new) =
                (weights[&name].tensor().f32(), results[&format!("{norm}.{batch}")].f32());
            let mixed = old
                .iter()
                .zip(new)
                .map(|(old, new)| (1.0 - MOMENTUM) * old + MOMENTUM * factor * new)
                .collect();
            all.insert(
                name,
                ParamRef::new(
                    Tensor::from_data(Shape::vector(old.len()), Data::F32(mixed)).unwrap(),
                ),
            );
        }
    }
    (results["loss"].f32()[0], all)
}

/// Tensors with the names and layout of a dialect, sorted by name.
type Named = Vec<(String, Vec<f32>)>;

/// Gradients and statistics in a dialect.
fn in_dialect(loaded: &Loaded, dialect: &dyn Dialect, values: &Weights) -> (Named, Named) {
    let stored = store(&loaded.config, values, dialect).unwrap();
    let mut all: Named = stored.tensors.into_iter().map(|(name, _, data)| (name, data)).collect();
    all.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let statistic = |name: &str| {
        ["running_mean", "running_var", "moving_mean", "moving_variance"]
            .iter()
            .any(|s| name.ends_with(s))
    };
    all.into_iter().partition(|(name, _)| !statistic(name))
}

fn trained_parameters(config: &Config) -> usize {
    parameters(config).unwrap().iter().filter(|(info, _)| info.role.part.is_trained()).count()
}

fn check(case: &str) {
    let path = seeded::directory().join(format!("../training/{case}.safetensors"));
    let (metadata, golden) = seeded::read(&path);
    let network = Golden::open(case);
    let loaded = conventions::load_seeded(&network).unwrap();
    let mut config = loaded.config.clone();
    // PyTorch ran without dropout.
    let head = config.head.as_mut().unwrap();
    head.aspp.dropout = 0.0;
    if let atrous::engine::models::Decoder::Plus(plus) = &mut head.decoder {
        plus.dropouts.fill(0.0);
    }
    let shape: [usize; 4] = serde_json::from_str(&metadata["input_shape"]).unwrap();
    let (input, classes) = (seeded::image(shape), config.classes().unwrap());
    let labels = labels(input.shape(), classes);
    let outputs = Outputs { background: true, logits_full: true, ..Outputs::default() };
    let network = build_network(&config, input.shape(), &outputs).unwrap();
    let step = training_step(network, &StepOptions::default()).unwrap();
    assert_eq!(step.trained.len(), trained_parameters(&loaded.config));

    let want: f64 = metadata["loss"].parse().unwrap();
    let mut problems = Vec::new();
    for device in support::devices() {
        let (loss, values) = run(&device, &step, &loaded.weights, &input, &labels);
        if (f64::from(loss) - want).abs() > 1e-3 * want {
            problems.push(format!("{device}: the loss is {loss}, PyTorch has {want}"));
        }
        let (gradients, statistics) = in_dialect(&loaded, loaded.dialect, &values);
        let (norms, errors, samples) =
            (&golden["norms"].data, &golden["errors"].data, &golden["samples"].data);
        assert_eq!(
            gradients.len(),
            norms.len(),
            "{case}: PyTorch has a different number of gradients"
        );
        let mut strict = 0;
        for (i, (name, gradient)) in gradients.iter().enumerate() {
            let norm =
                gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt() as f32;
            let sampled = (0..SAMPLES).map(|k| {
                (gradient[k * SAMPLE_STEP % gradient.len()] - samples[i * SAMPLES + k]).abs()
            });
            let off = sampled.fold((norm - norms[i]).abs(), f32::max);
            // Within a thousandth of the gradient's norm, plus four times the distance of PyTorch's
            // single precision from its double precision. A gradient that is zero except for
            // rounding (a bias before a norm) has only that error.
            strict += usize::from(off <= 1e-3 * norms[i]);
            if off.is_nan() || off > 1e-3 * norms[i] + 4.0 * errors[i] {
                problems.push(format!(
                    "{device}, {name}: off by {off:.2e}, the norm is {:.2e}, PyTorch's error {:.1e}",
                    norms[i], errors[i]
                ));
            }
        }
        println!(
            "{case} on {device}: loss {loss}, {strict} of {} gradients within a thousandth of their norm",
            gradients.len()
        );
        for (i, (name, values)) in statistics.iter().enumerate() {
            for k in 0..SAMPLES {
                let (got, want) = (
                    values[k * SAMPLE_STEP % values.len()],
                    golden["statistics"].data[i * SAMPLES + k],
                );
                let off = (got - want).abs();
                if off.is_nan() || off > 1e-4 * want.abs().max(1.0) {
                    problems.push(format!("{device}, {name}: {got}, PyTorch has {want}"));
                }
            }
        }
    }
    let shown = problems.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{case}: {} problems\n{shown}", problems.len());
}

#[test]
fn a_step_of_smps_mobilenet_is_pytorchs() {
    check("smp_v3plus_mobilenet_v2_os16_65x65");
}

#[test]
fn a_step_of_a_network_with_one_output_is_pytorchs() {
    check("smp_binary_v3plus_mobilenet_v2_os16_65x65");
}

#[test]
fn a_step_of_vainfs_resnet_is_pytorchs() {
    check("vainf_v3plus_resnet50_os16_97x61");
}

#[test]
fn a_step_of_xception_is_pytorchs() {
    check("tf_v3plus_xception_41_os16_n2x80x48");
}
