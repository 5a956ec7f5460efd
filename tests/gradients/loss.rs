//! Cross entropy against its formula and finite differences; dropout against what it promises.

use crate::support::{Rng, allclose, devices, run_op};
use atrous::exec::Runner;
use atrous::graph::Graph;
use atrous::ops::{CrossEntropy, Denominator, DropoutTrain, Op};
use atrous::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

/// The formula of `src/ops/cross_entropy.rs`, pixel by pixel.
fn loss(op: &CrossEntropy, logits: &[f64], labels: &[u32], weights: &[f64]) -> f64 {
    let classes = weights.len();
    let (mut sum, mut counted) = (0.0, 0.0);
    for (x, &label) in logits.chunks_exact(classes).zip(labels) {
        if label == op.ignore || label as usize >= classes {
            continue;
        }
        let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let smoothing = f64::from(op.smoothing);
        let hard = weights[label as usize] * (log_sum - x[label as usize]);
        let soft: f64 = x.iter().zip(weights).map(|(x, w)| w * (log_sum - x)).sum();
        sum += (1.0 - smoothing) * hard + smoothing / classes as f64 * soft;
        counted += if op.denominator == Denominator::Pixels { 1.0 } else { weights[label as usize] };
    }
    if counted > 0.0 { sum / counted } else { 0.0 }
}

fn check(op: CrossEntropy, logits: &Tensor, labels: &[u32], weights: &Tensor) {
    let label_map = Tensor::from_data(logits.shape().with_c(1), Data::U32(labels.to_vec())).unwrap();
    let x: Vec<f64> = logits.f32().iter().map(|&v| v.into()).collect();
    let all_ones = vec![1.0; logits.shape().c];
    let w: Vec<f64> = if op.weighted { weights.f32().iter().map(|&v| v.into()).collect() } else { all_ones };
    let h = 1e-5;
    let slope = |i: usize| {
        let mut moved = x.clone();
        moved[i] = x[i] + h;
        let above = loss(&op, &moved, labels, &w);
        moved[i] = x[i] - h;
        (above - loss(&op, &moved, labels, &w)) / (2.0 * h)
    };
    let slopes: Vec<f64> = (0..x.len()).map(slope).collect();
    let mut inputs = vec![logits.clone(), label_map];
    inputs.extend(op.weighted.then(|| weights.clone()));
    let shared: Arc<dyn Op> = Arc::new(op);
    for device in devices() {
        for (label, got) in run_op(&device, &shared, &inputs).unwrap() {
            let what = format!("{} {} of {} on {device}, {label}", shared.name(), shared.attributes(), logits.shape());
            allclose(&format!("{what}: loss"), &got[0], &[loss(&op, &x, labels, &w)], 1e-6, 1e-5).unwrap();
            allclose(&format!("{what}: gradient"), &got[1], &slopes, 1e-6, 1e-4).unwrap();
        }
    }
}

#[test]
fn cross_entropy_of_every_kind() {
    let mut rng = Rng(1);
    for shape in [Shape::new(2, 3, 5, 6), Shape::new(1, 7, 9, 21), Shape::new(1, 1, 1, 2), Shape::new(1, 17, 20, 4)] {
        let logits = Tensor::from_fn(shape, |_, _, _, _| 6.0 * rng.unit());
        // Ignored pixels, and numbers that are no class.
        let labels: Vec<u32> = (0..shape.positions())
            .map(|i| match i % 7 {
                3 => 255,
                5 => 200,
                _ => rng.range(0, shape.c - 1) as u32,
            })
            .collect();
        let weights = Tensor::from_fn(Shape::vector(shape.c), |_, _, _, _| 1.5 + rng.unit());
        for (smoothing, weighted, denominator) in [
            (0.0, false, Denominator::Weights),
            (0.0, true, Denominator::Weights),
            (0.0, true, Denominator::Pixels),
            (0.1, false, Denominator::Weights),
            (0.2, true, Denominator::Weights),
        ] {
            check(CrossEntropy { ignore: 255, smoothing, weighted, denominator }, &logits, &labels, &weights);
        }
    }
}

#[test]
fn logits_that_overflow_an_exponential_do_no_harm() {
    let shape = Shape::new(1, 1, 2, 3);
    let logits = Tensor::from_data(shape, Data::F32(vec![800.0, 0.0, -800.0, -1000.0, -1000.0, -1001.0])).unwrap();
    check_finite(&logits, &[1, 0], 800.0 / 2.0);
}

#[test]
fn a_picture_of_ignored_pixels_has_no_loss_and_no_gradient() {
    let logits = Rng(2).tensor(Shape::new(1, 2, 2, 5));
    check_finite(&logits, &[255; 4], 0.0);
}

/// The loss, to within a hundredth of its size or 1, and only finite numbers.
fn check_finite(logits: &Tensor, labels: &[u32], about: f32) {
    let label_map = Tensor::from_data(logits.shape().with_c(1), Data::U32(labels.to_vec())).unwrap();
    let op: Arc<dyn Op> = Arc::new(CrossEntropy::default());
    for device in devices() {
        for (label, got) in run_op(&device, &op, &[logits.clone(), label_map.clone()]).unwrap() {
            let value = got[0].f32()[0];
            assert!(
                (value - about).abs() <= 0.01 * about.max(0.0) + if about == 0.0 { 0.0 } else { 1.0 },
                "{device} {label}: {value}"
            );
            assert!(got[1].f32().iter().all(|g| g.is_finite() && (about > 0.0 || *g == 0.0)), "{device} {label}");
        }
    }
}

#[test]
fn labels_and_weights_of_another_shape_are_refused() {
    let (logits, labels) = (TensorType::f32(Shape::new(1, 2, 3, 4)), TensorType::u32(Shape::new(1, 2, 3, 1)));
    let op = CrossEntropy::default();
    assert!(op.infer(&[logits, labels]).is_ok());
    assert!(op.infer(&[logits, TensorType::u32(Shape::new(1, 3, 2, 1))]).is_err());
    assert!(op.infer(&[logits, TensorType::f32(labels.shape)]).is_err());
    assert!(op.infer(&[logits]).is_err());
    let weighted = CrossEntropy { weighted: true, ..op };
    assert!(weighted.infer(&[logits, labels, TensorType::f32(Shape::vector(3))]).is_err());
    assert!(CrossEntropy { smoothing: 1.5, ..op }.infer(&[logits, labels]).is_err());
}

/// What dropout gives for ones, and the gradient for ones, on a device.
fn dropped(device: &atrous::exec::Device, shape: Shape, op: DropoutTrain, step: u32) -> (Vec<f32>, Vec<f32>) {
    let mut graph = Graph::new();
    let (x, dy) = (graph.input("x", TensorType::f32(shape)), graph.input("dy", TensorType::f32(shape)));
    let step_value = graph.input("step", TensorType::u32(Shape::vector(1)));
    let y = graph.root().op("drop", op, &[x, step_value]).unwrap();
    let dx = graph.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
    graph.output("y", y);
    graph.output("dx", dx);
    let ones = Tensor::from_fn(shape, |_, _, _, _| 1.0);
    let step = Tensor::from_data(Shape::vector(1), Data::U32(vec![step])).unwrap();
    let got = Runner::new(device, graph).unwrap().run(&[("x", &ones), ("dy", &ones), ("step", &step)]).unwrap();
    (got[0].f32().to_vec(), got[1].f32().to_vec())
}

#[test]
fn dropout_drops_its_share_and_the_gradient_finds_the_same_elements() {
    let shape = Shape::new(2, 15, 17, 7);
    let op = DropoutTrain { p: 0.3, key: 9 };
    let mut seen = Vec::new();
    for device in devices() {
        let (y, dx) = dropped(&device, shape, op, 5);
        assert_eq!(y, dx, "{device}");
        assert!(y.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
        let share = y.iter().filter(|v| **v == 0.0).count() as f64 / y.len() as f64;
        // Three standard deviations of a share of 3570 elements.
        assert!((share - 0.3).abs() < 3.0 * (0.3 * 0.7 / 3570f64).sqrt(), "{device}: {share}");
        let differs = |other: DropoutTrain, step: u32| {
            let (z, _) = dropped(&device, shape, other, step);
            let kept_alike = y.iter().zip(&z).filter(|(a, b)| (**a == 0.0) == (**b == 0.0)).count() as f64 / y.len() as f64;
            // Independent choices agree on 0.7^2 + 0.3^2 of the elements.
            assert!((kept_alike - 0.58).abs() < 0.03, "{device}: {kept_alike}");
        };
        differs(op, 6);
        differs(DropoutTrain { key: 10, ..op }, 5);
        seen.push(y);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "the executors drop different elements");
}
