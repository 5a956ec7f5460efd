//! Operations on single pixels, and the sums over many pixels that their gradients need.

use crate::oracle::{self, Map};
use crate::support::{Rng, allclose, devices, run_op};
use crate::{Case, check};
use atrous::Size;
use atrous::engine::ops::{
    Activate, Activation, ActivationGrad, Add, ChannelSum, Concat, Flip, Mul, Op, PixelAlignment,
    Prepend, ResampleWindow, Resize, Slice,
};
use atrous::engine::{Shape, Tensor};
use std::sync::Arc;

/// Numbers that are farther from the kinks of all activations (-3, 0, 3, 6) than the step of the
/// finite differences.
fn off_corners(rng: &mut Rng, shape: Shape) -> Tensor {
    Tensor::from_fn(shape, |_, _, _, _| {
        let x = 8.0 * rng.unit();
        let near = [-3.0, 0.0, 3.0, 6.0].iter().any(|corner: &f32| (x - corner).abs() < 1e-2);
        if near { x + 0.05 } else { x }
    })
}

#[test]
fn activations() {
    let mut rng = Rng(1);
    let all = [
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Sigmoid,
    ];
    let cases: Vec<Case> = all
        .into_iter()
        .flat_map(|a| [Shape::new(1, 3, 5, 7), Shape::new(2, 2, 1, 4)].map(|s| (a, s)))
        .map(|(a, shape)| {
            let oracle = move |x: &[Map]| Map {
                shape,
                data: x[0].data.iter().map(|&v| oracle::activation(a, v)).collect(),
            };
            Case::new(Activate(a), vec![off_corners(&mut rng, shape)], oracle)
        })
        .collect();
    check(&mut rng, &cases);
}

#[test]
fn flips() {
    let mut rng = Rng(9);
    let oracle = |x: &[Map]| {
        let shape = x[0].shape;
        Map::build(shape, |n, y, column, c| x[0].at(n, y, shape.w - 1 - column, c))
    };
    let shapes = [Shape::new(2, 3, 4, 5), Shape::new(1, 2, 1, 8), Shape::new(1, 1, 7, 1)];
    let cases: Vec<Case> =
        shapes.into_iter().map(|s| Case::new(Flip, vec![rng.tensor(s)], oracle)).collect();
    check(&mut rng, &cases);
}

#[test]
fn the_slope_in_a_corner_is_pytorchs() {
    let x =
        Tensor::from_data(Shape::vector(4), atrous::engine::Data::F32(vec![-3.0, 0.0, 3.0, 6.0]))
            .unwrap();
    let dy = Tensor::from_fn(Shape::vector(4), |_, _, _, _| 1.0);
    for (activation, slopes) in [
        (Activation::Relu, [0.0, 0.0, 1.0, 1.0]),
        (Activation::Relu6, [0.0, 0.0, 1.0, 0.0]),
        (Activation::HardSigmoid, [0.0, 1.0 / 6.0, 0.0, 0.0]),
        (Activation::HardSwish, [0.0, 0.5, 1.0, 1.0]),
    ] {
        let op: Arc<dyn Op> = Arc::new(ActivationGrad(activation));
        for device in devices() {
            for (label, outputs) in run_op(&device, &op, &[x.clone(), dy.clone()]).unwrap() {
                allclose(
                    &format!("{activation:?} on {device}, {label}"),
                    &outputs[0],
                    &slopes,
                    1e-7,
                    0.0,
                )
                .unwrap();
            }
        }
    }
}

/// The value of a second operand, which may be broadcast.
fn broadcast(b: &Map, n: usize, y: usize, x: usize, c: usize) -> f64 {
    let at = |i: usize, size: usize| if size == 1 { 0 } else { i };
    b.at(at(n, b.shape.n), at(y, b.shape.h), at(x, b.shape.w), c)
}

#[test]
fn sums_and_products() {
    let mut rng = Rng(2);
    let a = Shape::new(2, 3, 4, 5);
    let mut cases = Vec::new();
    for b in [a, Shape::new(2, 1, 1, 5), Shape::vector(5)] {
        let inputs = [rng.tensor(a), rng.tensor(b)].to_vec();
        let sum = |x: &[Map]| {
            Map::build(x[0].shape, |n, i, j, c| x[0].at(n, i, j, c) + broadcast(&x[1], n, i, j, c))
        };
        let product = |x: &[Map]| {
            Map::build(x[0].shape, |n, i, j, c| x[0].at(n, i, j, c) * broadcast(&x[1], n, i, j, c))
        };
        cases.push(Case::new(Add, inputs.clone(), sum));
        cases.push(Case::new(Mul, inputs, product));
    }
    check(&mut rng, &cases);
}

#[test]
fn concatenations_whose_parts_begin_anywhere_in_a_vec4() {
    let mut rng = Rng(3);
    let concat = |x: &[Map]| {
        let channels: usize = x.iter().map(|m| m.shape.c).sum();
        Map::build(x[0].shape.with_c(channels), |n, i, j, c| {
            let mut c = c;
            let part = x
                .iter()
                .find(|m| {
                    c < m.shape.c || {
                        c -= m.shape.c;
                        false
                    }
                })
                .expect("the channel is of some part");
            part.at(n, i, j, c)
        })
    };
    let cases: Vec<Case> = [vec![4, 8], vec![3, 2, 6], vec![1, 1, 1, 7], vec![5], vec![9, 4]]
        .into_iter()
        .map(|parts| {
            let inputs = parts.into_iter().map(|c| rng.tensor(Shape::new(2, 2, 3, c))).collect();
            Case::new(Concat, inputs, concat)
        })
        .collect();
    check(&mut rng, &cases);
}

#[test]
fn resizing_up_and_down() {
    let mut rng = Rng(4);
    let mut cases = Vec::new();
    for ((h, w), (to_h, to_w)) in [
        ((3, 4), (9, 7)),
        ((5, 3), (2, 3)),
        ((1, 1), (4, 5)),
        ((1, 5), (3, 9)),
        ((4, 4), (1, 1)),
        ((7, 6), (8, 25)),
    ] {
        for alignment in
            [PixelAlignment::HalfPixel, PixelAlignment::Corners, PixelAlignment::TopLeft]
        {
            let op = Resize { size: Size::new(to_w, to_h), alignment, window: None };
            let x = rng.tensor(Shape::new(2, h, w, 3));
            cases.push(Case::new(op, vec![x], move |x| {
                oracle::resize(&x[0], (to_h, to_w), alignment, None)
            }));
        }
    }
    let window = Some(ResampleWindow { padded: Size::square(33), scaled: Size::new(33, 20) });
    let op = Resize { size: Size::new(13, 11), alignment: PixelAlignment::HalfPixel, window };
    cases.push(Case::new(op, vec![rng.tensor(Shape::new(1, 3, 4, 2))], move |x| {
        oracle::resize(&x[0], (11, 13), false, window)
    }));
    check(&mut rng, &cases);
}

/// Forward, against plain sums: blocks of one, of several positions, and of a batch.
#[test]
fn sums_of_channels() {
    let mut rng = Rng(5);
    for shape in [Shape::new(1, 1, 1, 3), Shape::new(2, 5, 7, 6), Shape::new(3, 17, 19, 9)] {
        let x = rng.tensor(shape);
        let map = Map::of(&x);
        for per_image in [false, true] {
            let want = Map::build(
                Shape::new(if per_image { shape.n } else { 1 }, 1, 1, shape.c),
                |image, _, _, c| {
                    let images = if per_image { image..image + 1 } else { 0..shape.n };
                    let pixels = images.flat_map(|n| {
                        (0..shape.h).flat_map(move |i| (0..shape.w).map(move |j| (n, i, j)))
                    });
                    0.5 * pixels.map(|(n, i, j)| map.at(n, i, j, c)).sum::<f64>()
                },
            );
            let op: Arc<dyn Op> = Arc::new(ChannelSum { per_image, scale: 0.5 });
            for device in devices() {
                for (label, outputs) in run_op(&device, &op, std::slice::from_ref(&x)).unwrap() {
                    assert_eq!(outputs[0].shape(), want.shape);
                    allclose(
                        &format!("{shape} on {device}, {label}"),
                        &outputs[0],
                        &want.data,
                        1e-5,
                        1e-6,
                    )
                    .unwrap();
                }
            }
        }
    }
}

/// The gradient of a constant in front of the others leaves out its channel.
#[test]
fn channels_behind_a_constant() {
    let mut rng = Rng(6);
    let cases: Vec<Case> = [1, 3, 4, 6]
        .map(|c| {
            let x = rng.tensor(Shape::new(2, 3, 5, c));
            Case::new(Prepend { value: -0.75 }, vec![x], move |x| {
                let shape = x[0].shape.with_c(c + 1);
                Map::build(shape, |n, i, j, k| if k == 0 { -0.75 } else { x[0].at(n, i, j, k - 1) })
            })
        })
        .into();
    check(&mut rng, &cases);
}

#[test]
fn a_slice_past_the_channels_is_refused() {
    let x = [atrous::engine::TensorType::f32(Shape::new(1, 1, 1, 6))];
    assert!(Slice { first: 2, channels: 4 }.infer(&x).is_ok());
    for (first, channels) in [(3, 4), (usize::MAX, 2), (6, 1)] {
        assert!(Slice { first, channels }.infer(&x).is_err(), "{first}, {channels}");
    }
}
