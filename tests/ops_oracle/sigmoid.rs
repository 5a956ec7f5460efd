//! Sigmoid outputs: a constant channel for the background, labels above a threshold, probabilities.

use crate::bilinear::{ALIGNMENTS, BLEND, PROBABILITY, sizes, whole};
use crate::oracle::{self, Map};
use crate::support::{Rng, allclose};
use crate::{Case, Check, run};
use atrous::engine::ops::{
    Op, Prepend, TemporalMean, Threshold, UpsampleArgmax, UpsampleProbabilities, Upsampling,
};
use atrous::engine::{Shape, Tensor, TensorType};
use std::sync::Arc;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Logits of up to 4, with something in channel 0 that must not be read.
fn logits(rng: &mut Rng, shape: Shape) -> Tensor {
    let x = rng.tensor(shape);
    Tensor::from_fn(
        shape,
        |n, y, column, c| {
            if c == 0 { 3.0 } else { 4.0 * x.f32()[shape.index(n, y, column, c)] }
        },
    )
}

#[test]
fn a_constant_in_front_of_the_channels() {
    let mut rng = Rng(71);
    let cases: Vec<Case> = (1..=9)
        .map(|c| {
            let x = rng.tensor(Shape::new(2, 3, 5, c));
            let want = Map::of(&x);
            let want = Map::build(x.shape().with_c(c + 1), |n, i, j, k| {
                if k == 0 { 0.25 } else { want.at(n, i, j, k - 1) }
            });
            Case::close(Prepend { value: 0.25 }, vec![x], want, 0.0, 0.0)
        })
        .collect();
    run(&cases);
}

/// The label is the largest output above the threshold, within rounding, and the confidence its
/// probability.
fn labels(op: UpsampleArgmax, x: Tensor) -> Case {
    let Upsampling { size, alignment, window, .. } = op.upsampling;
    let threshold = f64::from(op.sigmoid.unwrap().probability());
    let threshold = (threshold / (1.0 - threshold)).ln();
    let logits = oracle::resize(&Map::of(&x), (size.height, size.width), alignment, window);
    let check: Check = Box::new(move |what, outputs| {
        let mut confidence = Vec::new();
        for (i, &label) in outputs[0].u32().iter().enumerate() {
            let (n, y, column) = (i / size.pixels(), i / size.width % size.height, i % size.width);
            let outputs = &logits.pixel(n, y, column)[1..];
            let top = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let got = if label == 0 { threshold } else { outputs[label as usize - 1] };
            if got < top.max(threshold) - 5.0 * BLEND {
                return Err(format!("{what}: label {label} at {:?}: {outputs:?}", (n, y, column)));
            }
            confidence.push(if label == 0 { sigmoid(-top) } else { sigmoid(got) });
        }
        allclose(what, &outputs[1], &confidence, PROBABILITY.0, PROBABILITY.1)
    });
    Case { op: Arc::new(op), inputs: vec![x], check }
}

#[test]
fn labels_of_outputs_above_a_threshold() {
    let mut rng = Rng(72);
    let mut cases = Vec::new();
    for (i, c) in [2, 2, 3, 4, 5, 8, 9, 22].into_iter().enumerate() {
        for p in [0.02, 0.5, 0.8] {
            let (shape, size) = sizes(&mut rng);
            let upsampling = whole(size, i % 2 == 0);
            let sigmoid = Some(Threshold::new(p).unwrap());
            let op = UpsampleArgmax { upsampling, confidence: true, sigmoid };
            cases.push(labels(op, logits(&mut rng, shape.with_c(c))));
        }
    }
    run(&cases);
}

#[test]
fn probabilities_of_outputs_and_of_sets_of_classes() {
    let mut rng = Rng(73);
    let mut cases = Vec::new();
    for (i, c) in [2, 2, 3, 4, 5, 8, 9, 22].into_iter().enumerate() {
        let (shape, (h, w)) = sizes(&mut rng);
        let x = logits(&mut rng, shape.with_c(c));
        let alignment = ALIGNMENTS[i % 3];
        let upsampling = whole((h, w), alignment);
        let op = UpsampleProbabilities { upsampling, weighted: false, sigmoid: true };
        let logits = oracle::resize(&Map::of(&x), (h, w), alignment, None);
        let largest = |pixel: &[f64], kept: &dyn Fn(usize) -> bool| {
            (1..c).filter(|&k| kept(k)).map(|k| sigmoid(pixel[k])).fold(0.0, f64::max)
        };
        let want = Map::build(logits.shape, |n, y, column, k| match k {
            0 => 1.0 - largest(logits.pixel(n, y, column), &|_| true),
            k => sigmoid(logits.at(n, y, column, k)),
        });
        cases.push(Case::close(op, vec![x.clone()], want, 2e-7, PROBABILITY.1));
        for chosen in [vec![], vec![0], vec![1], vec![0, 1], (0..c).collect(), vec![c - 1]] {
            let has = |k: usize| chosen.contains(&k);
            let weights = Tensor::from_fn(Shape::vector(c), |_, _, _, k| has(k).into());
            let want = Map::build(logits.shape.with_c(1), |n, y, column, _| {
                let pixel = logits.pixel(n, y, column);
                if has(0) { 1.0 - largest(pixel, &|k| !has(k)) } else { largest(pixel, &has) }
            });
            let op = UpsampleProbabilities { weighted: true, ..op };
            let inputs = vec![x.clone(), weights];
            cases.push(Case::close(op, inputs, want, 2e-7, PROBABILITY.1));
        }
    }
    run(&cases);
}

/// With the logits `[0, x]`, the largest score is that of the label.
#[test]
fn scores_over_time_know_the_threshold() {
    let mut rng = Rng(74);
    let cases = [0.1, 0.5, 0.9].map(|p| {
        let shape = Shape::new(1, 4, 9, 2);
        let x = Tensor::from_fn(shape, |_, _, _, c| if c == 0 { 0.0 } else { 6.0 * rng.unit() });
        let old = Tensor::from_fn(TemporalMean::shape(shape), |_, _, _, _| 0.0);
        let weight = Tensor::new(Shape::vector(4), vec![0.0; 4]).unwrap();
        let logits = Map::of(&x);
        let threshold = Threshold::new(p).unwrap();
        let check: Check = Box::new(move |what, outputs| {
            for (i, scores) in outputs[1].f32().chunks_exact(4).enumerate() {
                let is_above = sigmoid(logits.at(0, i / 9, i % 9, 1)) > f64::from(p);
                if (scores[1] > scores[0]) != is_above {
                    return Err(format!("{what}: {scores:?} above {p}"));
                }
            }
            Ok(())
        });
        Case { op: Arc::new(TemporalMean { threshold }), inputs: vec![x, old, weight], check }
    });
    run(&cases);
}

#[test]
fn a_sigmoid_without_outputs_is_refused() {
    let upsampling = whole((4, 4), false);
    let x = [TensorType::f32(Shape::new(1, 2, 2, 1))];
    let labels = UpsampleArgmax { upsampling, confidence: false, sigmoid: Some(Threshold::HALF) };
    assert!(labels.infer(&x).is_err());
    let op = UpsampleProbabilities { upsampling, weighted: false, sigmoid: true };
    assert!(op.infer(&x).is_err());
}
