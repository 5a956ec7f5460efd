//! Convolutions: small ones against finite differences, and each backward operation with every
//! kernel against sums in double precision.

use crate::oracle;
use crate::support::{Rng, allclose, devices, run_op};
use crate::{Case, check};
use atrous::Size;
use atrous::engine::exec::Runner;
use atrous::engine::graph::{Graph, ParamRef};
use atrous::engine::ops::{Activation, Conv2d, Conv2dInputGrad, Conv2dWeightGrad, Op, Padding};
use atrous::engine::{Shape, Tensor, TensorType};
use std::sync::Arc;

/// Rounding of a number around 1 in f32.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// A convolution at a random point; with a bias per image if `per_image`.
fn case(
    rng: &mut Rng,
    conv: Conv2d,
    x: Shape,
    kernel: (usize, usize),
    c_out: usize,
    per_image: bool,
) -> Case {
    let types = [x, Shape::new(kernel.0, kernel.1, x.c / conv.groups, c_out)].map(TensorType::f32);
    let plain = Conv2d { bias: false, residual: false, ..conv };
    let y = plain.infer(&types).unwrap()[0].shape;
    let mut shapes = vec![types[0].shape, types[1].shape];
    if conv.bias {
        shapes.push(Shape::new(if per_image { x.n } else { 1 }, 1, 1, c_out));
    }
    if conv.residual {
        shapes.push(y);
    }
    let inputs = shapes.into_iter().map(|s| rng.tensor(s)).collect();
    Case::new(conv, inputs, move |x| {
        oracle::conv2d(
            &conv,
            &x[0],
            &x[1],
            conv.bias.then(|| &x[2]),
            conv.residual.then(|| x.last().unwrap()),
        )
    })
}

/// Attributes, kernel, input and output channels of the cases.
fn small() -> Vec<(Conv2d, (usize, usize), Shape, usize)> {
    let pads = |top, bottom, left, right| Padding { top, bottom, left, right };
    let conv = |stride, dilation, padding, groups| Conv2d {
        stride: oracle::spacing(stride),
        dilation: oracle::spacing(dilation),
        padding,
        groups,
        ..Conv2d::default()
    };
    vec![
        (conv((1, 1), (1, 1), pads(1, 1, 1, 1), 1), (3, 3), Shape::new(2, 4, 5, 3), 5),
        (conv((2, 2), (1, 1), pads(1, 1, 1, 1), 1), (3, 3), Shape::new(1, 6, 5, 4), 2),
        (conv((2, 2), (1, 1), pads(0, 1, 0, 1), 1), (3, 3), Shape::new(1, 6, 4, 2), 3),
        (conv((3, 2), (1, 2), pads(2, 0, 1, 3), 1), (2, 3), Shape::new(2, 5, 6, 2), 3),
        // Dilations larger than the map, in one direction and in both.
        (conv((1, 1), (6, 6), pads(6, 6, 6, 6), 1), (3, 3), Shape::new(1, 3, 4, 2), 3),
        (conv((2, 1), (2, 5), pads(3, 2, 5, 4), 1), (3, 2), Shape::new(1, 5, 3, 3), 2),
        // More padding than the kernel reaches, and a stride that skips pixels.
        (conv((1, 1), (1, 1), pads(3, 0, 0, 2), 1), (2, 1), Shape::new(1, 3, 4, 2), 3),
        (conv((3, 3), (1, 1), pads(0, 0, 0, 0), 1), (2, 2), Shape::new(1, 7, 8, 2), 2),
        // Pointwise, with and without stride.
        (conv((1, 1), (1, 1), pads(0, 0, 0, 0), 1), (1, 1), Shape::new(2, 3, 3, 6), 5),
        (conv((2, 2), (1, 1), pads(0, 0, 0, 0), 1), (1, 1), Shape::new(2, 5, 4, 3), 4),
        // Groups that begin inside a vec4; depthwise; depthwise with a multiplier.
        (conv((1, 1), (1, 1), pads(1, 1, 1, 1), 3), (3, 3), Shape::new(1, 4, 3, 6), 9),
        (conv((2, 1), (1, 2), pads(1, 0, 2, 1), 2), (3, 2), Shape::new(2, 4, 5, 6), 4),
        (conv((1, 1), (2, 2), pads(2, 2, 2, 2), 5), (3, 3), Shape::new(2, 4, 5, 5), 5),
        (conv((2, 2), (1, 1), pads(0, 1, 0, 1), 4), (3, 3), Shape::new(1, 6, 6, 4), 4),
        (conv((3, 1), (1, 3), pads(1, 2, 0, 3), 3), (3, 2), Shape::new(1, 5, 6, 3), 3),
        (conv((1, 2), (1, 1), pads(1, 1, 1, 1), 3), (3, 3), Shape::new(1, 4, 4, 3), 6),
    ]
}

#[test]
fn every_kind_of_convolution_against_finite_differences() {
    let mut rng = Rng(1);
    let cases: Vec<Case> = small()
        .into_iter()
        .map(|(conv, kernel, x, c_out)| case(&mut rng, conv, x, kernel, c_out, false))
        .collect();
    check(&mut rng, &cases);
}

#[test]
fn bias_residual_and_fused_activation() {
    let mut rng = Rng(2);
    let x = Shape::new(2, 4, 3, 3);
    let same = Conv2d { padding: Padding::all(1), ..Conv2d::default() };
    let mut cases = Vec::new();
    for (bias, residual, activation, per_image) in [
        (true, false, Activation::Identity, false),
        (true, true, Activation::Identity, true),
        (false, true, Activation::Relu, false),
        (true, false, Activation::Relu6, false),
    ] {
        cases.push(case(
            &mut rng,
            Conv2d { bias, residual, activation, ..same },
            x,
            (3, 3),
            5,
            per_image,
        ));
    }
    check(&mut rng, &cases);
}

#[test]
fn an_activation_whose_slope_is_lost_is_an_error_that_names_it() {
    let conv = Conv2d { activation: Activation::HardSwish, ..Conv2d::default() };
    let shape = Shape::new(1, 2, 2, 4);
    let mut graph = Graph::new();
    let [x, dy] = ["x", "dy"].map(|name| graph.input(name, TensorType::f32(shape)));
    let w = graph.param_with_data("w", Shape::new(1, 1, 4, 4), None);
    let y = graph.push("layer", Arc::new(conv), &[x, w]).unwrap()[0];
    let error = graph.gradients(&[(y, dy)], &[w]).unwrap_err().to_string();
    assert!(error.contains("layer") && error.contains("hard_swish"), "{error}");
}

/// The gradients with respect to input and weights, term by term in double precision.
fn gradients(conv: &Conv2d, x: &Tensor, w: &Tensor, dy: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let (xs, ws, ys) = (x.shape(), w.shape(), dy.shape());
    let (x, w, dy) = (x.f32(), w.f32(), dy.f32());
    let (mut dx, mut dw) = (vec![0.0; xs.len()], vec![0.0; ws.len()]);
    let read =
        |out: usize, stride: usize, tap: usize, dilation: usize, before: usize, size: usize| {
            (out * stride + tap * dilation).checked_sub(before).filter(|&i| i < size)
        };
    for position in 0..ys.positions() {
        let (n, oy, ox) = (position / (ys.h * ys.w), position / ys.w % ys.h, position % ys.w);
        for tap in 0..ws.n * ws.h {
            let (ky, kx) = (tap / ws.h, tap % ws.h);
            let iy = read(oy, conv.stride.y, ky, conv.dilation.y, conv.padding.top, xs.h);
            let ix = read(ox, conv.stride.x, kx, conv.dilation.x, conv.padding.left, xs.w);
            let (Some(iy), Some(ix)) = (iy, ix) else { continue };
            for co in 0..ys.c {
                let g = f64::from(dy[position * ys.c + co]);
                let first = xs.index(n, iy, ix, co / (ys.c / conv.groups) * ws.w);
                for ci in 0..ws.w {
                    let at = ws.index(ky, kx, ci, co);
                    dx[first + ci] += g * f64::from(w[at]);
                    dw[at] += g * f64::from(x[first + ci]);
                }
            }
        }
    }
    (dx, dw)
}

/// Runs both backward operations of a convolution on every device with every kernel. Returns the
/// failures.
fn backward(
    rng: &mut Rng,
    conv: Conv2d,
    kernel: (usize, usize),
    x: Shape,
    c_out: usize,
) -> Vec<String> {
    let w = Shape::new(kernel.0, kernel.1, x.c / conv.groups, c_out);
    let y = conv.infer(&[x, w].map(TensorType::f32)).unwrap()[0].shape;
    let (x, w, dy) = (rng.tensor(x), rng.tensor(w), rng.tensor(y));
    let (dx, dw) = gradients(&conv, &x, &w, &dy);
    let what = format!("{}x{} {} of {} to {}", kernel.0, kernel.1, conv.attributes(), x.shape(), y);
    // As for the forward pass: a sum of K products of numbers in [-1, 1) rounds by far less than K
    // times.
    let atol = |terms: usize| 2.0 * (terms + 8) as f64 * ROUNDING;
    let by_input: Arc<dyn Op> = Arc::new(Conv2dInputGrad { conv, size: x.shape().size() });
    let by_weights: Arc<dyn Op> = Arc::new(Conv2dWeightGrad { conv, kernel: oracle::size(kernel) });
    let terms = (kernel.0 * kernel.1 * c_out / conv.groups, y.positions());
    let mut problems = Vec::new();
    for device in devices() {
        for (op, inputs, want, terms) in [
            (&by_input, [dy.clone(), w.clone()], &dx, terms.0),
            (&by_weights, [x.clone(), dy.clone()], &dw, terms.1),
        ] {
            match run_op(&device, op, &inputs) {
                Err(e) => problems.push(format!("{} of {what} on {device}: {e}", op.name())),
                Ok(all) => problems.extend(all.iter().filter_map(|(label, outputs)| {
                    let name = format!("{} of {what} on {device}, {label}", op.name());
                    allclose(&name, &outputs[0], want, atol(terms), 1e-6).err()
                })),
            }
        }
    }
    problems
}

#[track_caller]
fn none(problems: &[String]) {
    let shown = problems.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} runs failed:\n{shown}", problems.len());
}

#[test]
fn every_kernel_of_every_kind_of_convolution() {
    let mut rng = Rng(3);
    none(
        &small()
            .into_iter()
            .flat_map(|(conv, kernel, x, c_out)| backward(&mut rng, conv, kernel, x, c_out))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn random_attributes_and_shapes() {
    let mut rng = Rng(4);
    let mut problems = Vec::new();
    let mut done = 0;
    while done < 36 {
        let kernel = (rng.range(1, 4), rng.pick(&[1, 2, 3, 5]));
        let groups = rng.pick(&[1, 1, 2, 3, 5]);
        let (inputs, multiplier) = (rng.pick(&[1, 2, 3, 8]), rng.range(1, 4));
        let conv = Conv2d {
            stride: oracle::spacing((rng.range(1, 3), rng.range(1, 3))),
            dilation: oracle::spacing((rng.range(1, 4), rng.pick(&[1, 2, 12]))),
            padding: Padding {
                top: rng.range(0, 4),
                bottom: rng.range(0, 4),
                left: rng.range(0, 9),
                right: rng.range(0, 9),
            },
            groups,
            ..Conv2d::default()
        };
        let x = Shape::new(
            rng.range(1, 3),
            rng.pick(&[1, 2, 7, 10]),
            rng.pick(&[1, 4, 9, 11]),
            groups * inputs,
        );
        let w = Shape::new(kernel.0, kernel.1, inputs, groups * multiplier);
        if conv.infer(&[x, w].map(TensorType::f32)).is_ok_and(|y| !y[0].shape.is_empty()) {
            problems.extend(backward(&mut rng, conv, kernel, x, w.c));
            done += 1;
        }
    }
    none(&problems);
}

#[test]
fn convolutions_of_real_networks_scaled_down() {
    let mut rng = Rng(5);
    let same = |stride, dilation, kernel| Conv2d {
        padding: Padding::same(kernel, dilation),
        ..Conv2d::square(stride, dilation, 0)
    };
    let mut problems = Vec::new();
    for (conv, kernel, x, c_out) in [
        (same(1, 2, 3), 3, Shape::new(1, 17, 17, 64), 64),
        (same(1, 18, 3), 3, Shape::new(1, 17, 15, 20), 24),
        (Conv2d::default(), 1, Shape::new(2, 9, 11, 160), 96),
        (same(2, 1, 1), 1, Shape::new(1, 17, 17, 48), 64),
        (same(2, 1, 3), 3, Shape::new(2, 33, 31, 32), 40),
        (same(2, 1, 7), 7, Shape::new(1, 29, 33, 3), 20),
        (Conv2d { groups: 96, ..same(2, 1, 3) }, 3, Shape::new(2, 17, 17, 96), 96),
        (Conv2d { groups: 96, ..same(1, 4, 3) }, 3, Shape::new(1, 17, 17, 96), 96),
        (Conv2d { groups: 8, ..same(1, 1, 3) }, 3, Shape::new(1, 17, 17, 32), 64),
    ] {
        problems.extend(backward(&mut rng, conv, (kernel, kernel), x, c_out));
    }
    none(&problems);
}

/// Lanes past the last channel are not zero: a hard sigmoid maps 0 to one half.
#[test]
fn lanes_without_a_channel_add_nothing() {
    let mut rng = Rng(6);
    for (groups, stride) in [(1, 1), (1, 2), (3, 1), (6, 2)] {
        let conv = Conv2d { groups, ..Conv2d::square(stride, 1, 1) };
        let (x, w) =
            (rng.tensor(Shape::new(1, 5, 6, 6)), rng.tensor(Shape::new(3, 3, 6 / groups, 6)));
        let y = conv.infer(&[x.ty(), w.ty()]).unwrap()[0];
        let dy = rng.tensor(y.shape);
        let mut graph = Graph::new();
        let (x_in, dy_in) = (graph.input("x", x.ty()), graph.input("dy", y));
        let w_in = graph.param_with_data("w", w.shape(), Some(ParamRef::new(w.clone())));
        let root = &mut graph.root();
        let above = root.activate("above", Activation::HardSigmoid, x_in).unwrap();
        let arriving = root.activate("arriving", Activation::HardSigmoid, dy_in).unwrap();
        let y = root.op("y", conv, &[above, w_in]).unwrap();
        for (i, gradient) in
            graph.gradients(&[(y, arriving)], &[above, w_in]).unwrap().into_iter().enumerate()
        {
            graph.output(&i.to_string(), gradient.unwrap());
        }
        let sigmoid = |t: &Tensor| {
            Tensor::from_fn(t.shape(), |n, i, j, c| {
                (t.f32()[t.shape().index(n, i, j, c)] + 3.0) / 6.0
            })
        };
        let (dx, dw) = gradients(&conv, &sigmoid(&x), &w, &sigmoid(&dy));
        for device in devices() {
            let got = Runner::new(&device, graph.clone())
                .unwrap()
                .run(&[("x", &x), ("dy", &dy)])
                .unwrap();
            for (i, want) in [&dx, &dw].into_iter().enumerate() {
                allclose(
                    &format!("{groups} groups, stride {stride}, {i} on {device}"),
                    &got[i],
                    want,
                    1e-5,
                    1e-6,
                )
                .unwrap();
            }
        }
    }
}

#[test]
fn gradients_of_other_shapes_are_refused() {
    let conv = Conv2d::square(2, 1, 1);
    let [x, w, dy, other] = [
        Shape::new(1, 6, 6, 4),
        Shape::new(3, 3, 4, 8),
        Shape::new(1, 3, 3, 8),
        Shape::new(1, 4, 3, 8),
    ]
    .map(TensorType::f32);
    assert_eq!(Conv2dInputGrad { conv, size: Size::square(6) }.infer(&[dy, w]).unwrap(), [x]);
    assert_eq!(Conv2dWeightGrad { conv, kernel: Size::square(3) }.infer(&[x, dy]).unwrap(), [w]);
    assert!(Conv2dInputGrad { conv, size: Size::square(6) }.infer(&[other, w]).is_err());
    assert!(Conv2dInputGrad { conv, size: Size::new(6, 8) }.infer(&[dy, w]).is_err());
    assert!(Conv2dWeightGrad { conv, kernel: Size::square(3) }.infer(&[x, other]).is_err());
    assert!(
        Conv2dWeightGrad { conv: Conv2d { groups: 0, ..conv }, kernel: Size::square(3) }
            .infer(&[x, dy])
            .is_err()
    );
    assert!(Conv2dWeightGrad { conv, kernel: Size::new(3, 0) }.infer(&[x, dy]).is_err());
}
