//! Batch normalization, with the batch's statistics and with fixed ones.

use crate::oracle::Map;
use crate::support::{Rng, allclose, devices, run_op};
use crate::{Case, check};
use atrous::engine::ops::{BatchNorm, BatchNormGrad, BatchNormTrain, Op};
use atrous::engine::{Shape, Tensor, TensorType};
use std::sync::Arc;

const EPS: f32 = 1e-3;

/// Mean and biased variance of a channel.
fn statistics(x: &Map, c: usize) -> (f64, f64) {
    let values: Vec<f64> = x.data.iter().skip(c).step_by(x.shape.c).copied().collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

fn normalized(x: &Map, weight: &Map, bias: &Map, of: impl Fn(usize) -> (f64, f64)) -> Map {
    let all: Vec<(f64, f64)> = (0..x.shape.c).map(of).collect();
    Map::build(x.shape, |n, i, j, c| {
        let (mean, variance) = all[c];
        (x.at(n, i, j, c) - mean) / (variance + f64::from(EPS)).sqrt() * weight.data[c]
            + bias.data[c]
    })
}

#[test]
fn with_the_statistics_of_the_batch() {
    let mut rng = Rng(1);
    let cases: Vec<Case> = [
        Shape::new(2, 3, 5, 6),
        Shape::new(4, 1, 1, 5),
        Shape::new(1, 4, 4, 4),
        Shape::new(3, 7, 6, 1),
    ]
    .into_iter()
    .map(|shape| {
        let vector = Shape::vector(shape.c);
        let inputs = vec![rng.tensor(shape), rng.tensor(vector), rng.tensor(vector)];
        Case::new(BatchNormTrain { eps: EPS }, inputs, |x| {
            normalized(&x[0], &x[1], &x[2], |c| statistics(&x[0], c))
        })
    })
    .collect();
    check(&mut rng, &cases);
}

/// The gradients with respect to input, weight and bias: fixed statistics have none, so the harness
/// for all inputs is not applicable.
#[test]
fn with_fixed_statistics() {
    let mut rng = Rng(2);
    for shape in [Shape::new(2, 3, 5, 6), Shape::new(1, 1, 1, 3)] {
        let vector = Shape::vector(shape.c);
        let [x, dy] = [(); 2].map(|()| rng.tensor(shape));
        let [weight, mean] = [(); 2].map(|()| rng.tensor(vector));
        let variance = Tensor::from_fn(vector, |_, _, _, _| 1.5 + rng.unit());
        let maps = [&x, &dy, &weight, &mean, &variance].map(Map::of);
        let inverse = |c: usize| 1.0 / (maps[4].data[c] + f64::from(EPS)).sqrt();
        let channel = |i: usize| i % shape.c;
        let z = |i: usize| (maps[0].data[i] - maps[3].data[channel(i)]) * inverse(channel(i));
        let sum = |c: usize, f: &dyn Fn(usize) -> f64| {
            (0..shape.len()).filter(|&i| channel(i) == c).map(f).sum::<f64>()
        };
        let dx: Vec<f64> = (0..shape.len())
            .map(|i| maps[1].data[i] * maps[2].data[channel(i)] * inverse(channel(i)))
            .collect();
        let dweight: Vec<f64> = (0..shape.c).map(|c| sum(c, &|i| maps[1].data[i] * z(i))).collect();
        let dbias: Vec<f64> = (0..shape.c).map(|c| sum(c, &|i| maps[1].data[i])).collect();
        let op: Arc<dyn Op> = Arc::new(BatchNormGrad { eps: EPS, frozen: true });
        for device in devices() {
            let inputs = [dy.clone(), x.clone(), weight.clone(), mean.clone(), variance.clone()];
            for (label, got) in run_op(&device, &op, &inputs).unwrap() {
                for (i, want) in [&dx, &dweight, &dbias].into_iter().enumerate() {
                    allclose(
                        &format!("{shape} on {device}, {label}, output {i}"),
                        &got[i],
                        want,
                        2e-5,
                        1e-5,
                    )
                    .unwrap();
                }
            }
        }
    }
}

#[test]
fn statistics_of_large_means_do_not_cancel() {
    // Values of 1000 +- 0.01: a sum of squares in f32 would lose the variance entirely.
    let mut rng = Rng(3);
    let shape = Shape::new(2, 40, 41, 5);
    let x = Tensor::from_fn(shape, |_, _, _, _| 1000.0 + 0.01 * rng.unit());
    let ones = Tensor::from_fn(Shape::vector(5), |_, _, _, _| 1.0);
    let map = Map::of(&x);
    let op: Arc<dyn Op> = Arc::new(BatchNormTrain { eps: 1e-8 });
    for device in devices() {
        for (label, got) in run_op(&device, &op, &[x.clone(), ones.clone(), ones.clone()]).unwrap()
        {
            for c in 0..5 {
                let (mean, variance) = statistics(&map, c);
                // An f32 at 1000 has steps of 6e-5; the mean may be off by one of them, which
                // shifts the variance by its square.
                assert!((f64::from(got[1].f32()[c]) - mean).abs() < 1.3e-4, "{device} {label}");
                assert!(
                    (f64::from(got[2].f32()[c]) / variance - 1.0).abs() < 1e-3,
                    "{device} {label}: {variance}"
                );
            }
        }
    }
}

#[test]
fn one_value_for_each_channel_is_refused() {
    let vector = TensorType::f32(Shape::vector(4));
    let error =
        BatchNormTrain { eps: EPS }.infer(&[vector, vector, vector]).unwrap_err().to_string();
    assert!(
        error.contains("more than one value per channel") && error.contains("larger batch"),
        "{error}"
    );
}

#[test]
fn fixed_statistics_cannot_be_differentiated() {
    let mut graph = atrous::engine::graph::Graph::new();
    let x = graph.input("x", TensorType::f32(Shape::new(1, 2, 2, 4)));
    let vectors = ["weight", "bias", "mean", "variance"]
        .map(|name| graph.input(name, TensorType::f32(Shape::vector(4))));
    let y = graph
        .root()
        .op("norm", BatchNorm { eps: EPS }, &[x, vectors[0], vectors[1], vectors[2], vectors[3]])
        .unwrap();
    assert!(graph.clone().gradients(&[(y, x)], &[x, vectors[0], vectors[1]]).is_ok());
    assert!(
        graph.gradients(&[(y, x)], &[vectors[2]]).unwrap_err().to_string().contains("no gradient")
    );
}

#[test]
fn statistics_of_a_batch_that_something_differentiated_reads_are_refused() {
    let mut graph = atrous::engine::graph::Graph::new();
    let x = graph.input("x", TensorType::f32(Shape::new(1, 2, 2, 4)));
    let [weight, bias] =
        ["weight", "bias"].map(|name| graph.input(name, TensorType::f32(Shape::vector(4))));
    let outputs =
        graph.push("norm", Arc::new(BatchNormTrain { eps: EPS }), &[x, weight, bias]).unwrap();
    for seeds in [&[(outputs[1], bias)][..], &[(outputs[0], x), (outputs[2], bias)][..]] {
        let error = graph.clone().gradients(seeds, &[x]).unwrap_err().to_string();
        assert!(error.contains("have no gradient"), "{error}");
    }
}
