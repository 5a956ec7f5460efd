//! Operations on single pixels.

use crate::oracle::{self, Map};
use crate::support::Rng;
use crate::{Case, Check, ROUNDING, run};
use atrous::Size;
use atrous::engine::ops::{
    Activate, Activation, Add, Argmax, BatchNorm, Concat, Dropout, Flip, Mul, Op, Preprocess,
    Softmax,
};
use atrous::engine::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

const CHANNELS: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 21, 36];

fn image(rng: &mut Rng) -> Shape {
    let c = rng.pick(&CHANNELS);
    Shape::new(rng.range(1, 3), rng.pick(&[1, 2, 5, 9]), rng.pick(&[1, 3, 8, 17]), c)
}

/// Values in `[low, high)`.
fn values(rng: &mut Rng, shape: Shape, low: f32, high: f32) -> Tensor {
    Tensor::from_fn(shape, |_, _, _, _| low + (high - low) * (rng.unit() + 1.0) / 2.0)
}

#[test]
fn activations() {
    let mut rng = Rng(31);
    let all = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Sigmoid,
    ];
    let cases: Vec<Case> = all
        .into_iter()
        .flat_map(|a| [a; 3])
        .map(|a| {
            let shape = image(&mut rng);
            let x = values(&mut rng, shape, -8.0, 8.0);
            let m = Map::of(&x);
            let want =
                Map::build(shape, |n, y, column, c| oracle::activation(a, m.at(n, y, column, c)));
            Case::close(Activate(a), vec![x], want, 1e-6, 4.0 * ROUNDING)
        })
        .collect();
    run(&cases);
}

#[test]
fn batch_norms() {
    let mut rng = Rng(32);
    let cases: Vec<Case> = [1e-3, 1e-5, 1e-3, 1e-5, 1.0, 1e-5]
        .into_iter()
        .map(|eps| {
            let shape = image(&mut rng);
            let vector = Shape::vector(shape.c);
            let mut inputs = vec![rng.tensor(shape)];
            for (low, high) in [(-1.5, 1.5), (-1.0, 1.0), (-1.0, 1.0), (0.1, 2.0)] {
                inputs.push(values(&mut rng, vector, low, high));
            }
            let m: Vec<Map> = inputs.iter().map(Map::of).collect();
            let want = Map::build(shape, |n, y, column, c| {
                let v = |i: usize| m[i].data[c];
                (m[0].at(n, y, column, c) - v(3)) / (v(4) + f64::from(eps)).sqrt() * v(1) + v(2)
            });
            // Factors stay below 1.5 / sqrt(0.1) = 5; a square root, a division, a product and a
            // sum of at most 6, twice.
            Case::close(BatchNorm { eps }, inputs, want, 8.0 * 6.0 * ROUNDING, 1e-6)
        })
        .collect();
    run(&cases);
}

#[test]
fn additions_and_products_with_all_broadcasts() {
    let mut rng = Rng(33);
    let mut cases = Vec::new();
    for _ in 0..6 {
        let shape = image(&mut rng);
        for b_shape in [shape, shape.with_hw(1, 1), Shape::vector(shape.c)] {
            let inputs = vec![rng.tensor(shape), rng.tensor(b_shape)];
            let (a, b) = (Map::of(&inputs[0]), Map::of(&inputs[1]));
            let at = |n: usize, y: usize, x: usize, c: usize| {
                let within = |i: usize, size: usize| if size == 1 { 0 } else { i };
                b.at(within(n, b_shape.n), within(y, b_shape.h), within(x, b_shape.w), c)
            };
            let sum = Map::build(shape, |n, y, x, c| a.at(n, y, x, c) + at(n, y, x, c));
            let product = Map::build(shape, |n, y, x, c| a.at(n, y, x, c) * at(n, y, x, c));
            cases.push(Case::close(Add, inputs.clone(), sum, 0.0, ROUNDING * 1.01));
            cases.push(Case::close(Mul, inputs, product, 1e-30, ROUNDING * 1.01));
        }
    }
    run(&cases);
}

#[test]
fn concatenations_of_any_channel_counts() {
    let mut rng = Rng(34);
    let mut lists: Vec<Vec<usize>> = vec![
        vec![5],
        vec![4, 8, 4],
        vec![48, 256],
        vec![1, 1, 1, 1, 1, 1],
        vec![3, 4, 2, 7, 1],
        vec![2, 1, 5],
    ];
    lists.extend((0..16).map(|_| (0..rng.range(2, 6)).map(|_| rng.range(1, 9)).collect()));
    let cases: Vec<Case> = lists
        .iter()
        .map(|channels| {
            let shape = image(&mut rng);
            let inputs: Vec<Tensor> =
                channels.iter().map(|&c| rng.tensor(shape.with_c(c))).collect();
            let maps: Vec<Map> = inputs.iter().map(Map::of).collect();
            let want = Map::build(shape.with_c(channels.iter().sum()), |n, y, x, c| {
                let mut c = c;
                for map in &maps {
                    if c < map.shape.c {
                        return map.at(n, y, x, c);
                    }
                    c -= map.shape.c;
                }
                unreachable!("channel beyond the inputs")
            });
            Case::close(Concat, inputs, want, 0.0, 0.0)
        })
        .collect();
    run(&cases);
}

#[test]
fn dropout_drops_nothing() {
    let mut rng = Rng(35);
    let x = rng.tensor(Shape::new(2, 3, 5, 7));
    let want = Map::of(&x);
    run(&[Case::close(Dropout { p: 0.5 }, vec![x], want, 0.0, 0.0)]);
}

#[test]
fn flips() {
    let mut rng = Rng(39);
    let cases: Vec<Case> = (0..12)
        .map(|_| {
            let shape = image(&mut rng);
            let x = rng.tensor(shape);
            let m = Map::of(&x);
            let want = Map::build(shape, |n, y, column, c| m.at(n, y, shape.w - 1 - column, c));
            Case::close(Flip, vec![x], want, 0.0, 0.0)
        })
        .collect();
    run(&cases);
}

#[test]
fn softmaxes() {
    let mut rng = Rng(36);
    let mut shapes: Vec<Shape> = CHANNELS.iter().map(|&c| image(&mut rng).with_c(c)).collect();
    shapes.push(Shape::new(1, 1, 1, 1000));
    let mut cases: Vec<Case> = shapes
        .into_iter()
        .map(|shape| {
            let x = values(&mut rng, shape, -8.0, 8.0);
            let want = oracle::softmax(&Map::of(&x));
            // exp of down to -16: 3 + 2 * 16 units in the last place in WGSL. All terms are
            // positive, so relative errors do not grow.
            Case::close(Softmax, vec![x], want, 1e-9, 2.0 * 70.0 * ROUNDING)
        })
        .collect();
    // Numbers whose exponentials would overflow if the maximum were not subtracted.
    let x = Tensor::from_fn(Shape::new(1, 2, 2, 5), |_, y, x, c| {
        [300.0, -300.0, 299.0, 1e4, -1e30][(y + x + c) % 5]
    });
    let want = oracle::softmax(&Map::of(&x));
    cases.push(Case::close(Softmax, vec![x], want, 1e-7, 1e-5));
    run(&cases);
}

/// Labels must be equal.
fn argmax(x: Tensor) -> Case {
    let want = oracle::argmax(&Map::of(&x));
    Case::close(Argmax, vec![x], want, 0.0, 0.0)
}

#[test]
fn argmaxes() {
    let mut rng = Rng(37);
    let mut cases = Vec::new();
    for c in CHANNELS {
        let shape = image(&mut rng).with_c(c);
        cases.push(argmax(rng.tensor(shape)));
        // Few distinct values: nearly every pixel has equal maxima, some are all negative.
        cases.push(argmax(Tensor::from_fn(shape, |_, _, _, _| rng.pick(&[-3.0, -2.0, -1.0]))));
    }
    run(&cases);
}

#[test]
fn images_are_normalized_and_padded() {
    let mut rng = Rng(38);
    let cases: Vec<Case> =
        [(1, 1, 1, 1, 1), (1, 5, 7, 5, 7), (2, 3, 5, 8, 9), (3, 7, 2, 7, 6), (1, 4, 4, 16, 4)]
            .into_iter()
            .map(|(n, h0, w0, h, w)| {
                let shape = Shape::new(n, h0, w0, 3);
                let bytes: Vec<u8> = (0..shape.len()).map(|_| rng.range(0, 255) as u8).collect();
                let op = Preprocess {
                    size: oracle::size((h, w)),
                    scale: [0.017, 0.018, 0.0174],
                    shift: [-2.1, -2.0, -1.8],
                    pad_value: [0.1, -0.2, 0.3],
                };
                let want = Map::build(shape.with_hw(h, w), |n, y, x, c| {
                    if y < h0 && x < w0 {
                        f64::from(bytes[shape.index(n, y, x, c)]) * f64::from(op.scale[c])
                            + f64::from(op.shift[c])
                    } else {
                        f64::from(op.pad_value[c])
                    }
                });
                let image = Tensor::from_data(shape, Data::U8(bytes.clone())).unwrap();
                // A product of at most 4.6 and a sum.
                Case::close(op, vec![image], want, 8.0 * ROUNDING, 0.0)
            })
            .collect();
    run(&cases);
}

#[test]
fn more_workgroups_than_one_dimension_takes() {
    // 65,535 workgroups of 64 threads do not cover these pixels: the dispatch is wrapped.
    let shape = Shape::new(1, 2051, 2053, 1);
    let x = Tensor::from_fn(shape, |_, y, x, _| (y * 7 + x) as f32);
    let check: Check = Box::new(|what, outputs| {
        let shape = outputs[0].shape();
        let wrong = (0..shape.len())
            .find(|&i| outputs[0].f32()[i] != ((i / shape.w) * 7 + i % shape.w) as f32);
        wrong.map_or(Ok(()), |i| Err(format!("{what}: element {i} is {}", outputs[0].f32()[i])))
    });
    run(&[Case { op: Arc::new(Activate(Activation::Relu)), inputs: vec![x], check }]);
}

#[test]
fn operands_that_do_not_fit_are_refused_with_the_shapes() {
    let (a, b) = (TensorType::f32(Shape::new(2, 4, 5, 6)), TensorType::f32(Shape::new(2, 4, 6, 6)));
    let refused = |op: &dyn Op, inputs: &[TensorType], parts: &[&str]| {
        let message = op.output_types(inputs).expect_err("must be refused").to_string();
        assert!(parts.iter().all(|p| message.contains(p)), "{}: {message}", op.name());
    };
    refused(&Add, &[a, b], &["[2, 4, 5, 6]", "[2, 4, 6, 6]"]);
    refused(&Mul, &[a], &["2 inputs", "got 1"]);
    refused(&Concat, &[a, b], &["input 1", "[2, 4, 6, 6]"]);
    refused(&Concat, &[], &["at least one input"]);
    refused(&Softmax, &[TensorType::u8(a.shape)], &["f32", "U8"]);
    refused(&BatchNorm { eps: 0.0 }, &[a, a, a, a, a], &["eps", "positive"]);
    refused(&BatchNorm { eps: 1e-5 }, &[a, a, a, a, a], &["weight", "[1, 1, 1, 6]"]);
    refused(&Dropout { p: 1.0 }, &[a], &["below 1"]);
    let prepare =
        Preprocess { size: Size::square(4), scale: [1.0; 3], shift: [0.0; 3], pad_value: [0.0; 3] };
    refused(&prepare, &[TensorType::u8(Shape::new(1, 5, 4, 3))], &["4x5", "4x4", "resize"]);
    refused(&prepare, &[a], &["three u8 channels"]);
}
