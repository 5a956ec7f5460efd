//! Convolutions: random shapes and attributes, corner cases, and shapes of real networks that fill
//! several tiles.

use crate::oracle::{self, Map};
use crate::support::Rng;
use crate::{Case, ROUNDING, run};
use atrous::engine::ops::{Activation, Conv2d, Padding};
use atrous::engine::{Shape, Tensor};

/// Epilogues of the cases: bias, residual, activation. Not all combinations, because each is a
/// separate shader.
const EPILOGUES: [(bool, bool, Activation); 8] = [
    (false, false, Activation::Identity),
    (true, false, Activation::Identity),
    (true, false, Activation::Relu),
    (true, true, Activation::Relu),
    (true, false, Activation::Relu6),
    (false, true, Activation::Identity),
    (true, false, Activation::HardSwish),
    (false, false, Activation::HardSigmoid),
];

/// A call with random operands; `bias_per_image` applies if the epilogue has a bias and the batch
/// is larger than one.
fn case(
    rng: &mut Rng,
    conv: Conv2d,
    x: Shape,
    kernel: (usize, usize),
    c_out: usize,
    bias_per_image: bool,
) -> Case {
    let w = Shape::new(kernel.0, kernel.1, x.c / conv.groups, c_out);
    let mut inputs = vec![rng.tensor(x), rng.tensor(w)];
    let (xm, wm) = (Map::of(&inputs[0]), Map::of(&inputs[1]));
    let bias = conv
        .bias
        .then(|| rng.tensor(Shape::new(if bias_per_image { x.n } else { 1 }, 1, 1, c_out)));
    let plain = Conv2d { bias: false, residual: false, activation: Activation::Identity, ..conv };
    let residual =
        conv.residual.then(|| rng.tensor(oracle::conv2d(&plain, &xm, &wm, None, None).shape));
    let want = oracle::conv2d(
        &conv,
        &xm,
        &wm,
        bias.as_ref().map(Map::of).as_ref(),
        residual.as_ref().map(Map::of).as_ref(),
    );
    inputs.extend(bias.into_iter().chain(residual));
    // Sums of products of numbers in [-1, 1): a sum of K has a standard deviation of sqrt(K) / 3,
    // and each of its K additions rounds by that times 2^-24; errors accumulate like a random walk.
    // K + 8 roundings are far more, and far less than a missing product. Hard-swish multiplies
    // errors by at most 1.5 below 3, and by the value above, which rtol covers.
    let terms = (w.n * w.h * w.w + 8) as f64;
    Case::close(conv, inputs, want, 2.0 * terms * ROUNDING, 1e-6)
}

fn with_epilogue(conv: Conv2d, index: usize) -> Conv2d {
    let (bias, residual, activation) = EPILOGUES[index % EPILOGUES.len()];
    Conv2d { bias, residual, activation, ..conv }
}

/// Attributes that fit an input, and the kernel's size.
fn attributes(rng: &mut Rng, x: Shape) -> (Conv2d, (usize, usize)) {
    loop {
        let kernel = (rng.range(1, 5), rng.pick(&[1, 2, 3, 3, 5, 7]));
        let conv = Conv2d {
            stride: oracle::spacing((rng.range(1, 3), rng.range(1, 3))),
            dilation: oracle::spacing((rng.range(1, 4), rng.pick(&[1, 2, 3, 12]))),
            padding: Padding {
                top: rng.range(0, 5),
                bottom: rng.range(0, 5),
                left: rng.range(0, 12),
                right: rng.range(0, 12),
            },
            ..Conv2d::default()
        };
        let fits = |size, before, after, k: usize, d: usize| size + before + after > d * (k - 1);
        let p = conv.padding;
        if fits(x.h, p.top, p.bottom, kernel.0, conv.dilation.y)
            && fits(x.w, p.left, p.right, kernel.1, conv.dilation.x)
        {
            return (conv, kernel);
        }
    }
}

fn image(rng: &mut Rng, c: usize) -> Shape {
    Shape::new(rng.range(1, 3), rng.pick(&[1, 2, 3, 6, 7, 9]), rng.pick(&[1, 2, 4, 5, 8, 11]), c)
}

#[test]
fn convolutions_of_random_shapes() {
    let mut rng = Rng(2);
    let cases: Vec<Case> = (0..48)
        .map(|i| {
            let c = rng.pick(&[1, 2, 3, 4, 5, 8, 13, 16]);
            let x = image(&mut rng, c);
            let (conv, kernel) = attributes(&mut rng, x);
            let c_out = rng.pick(&[1, 2, 3, 4, 7, 8, 12, 21]);
            case(&mut rng, with_epilogue(conv, i), x, kernel, c_out, i % 3 == 0)
        })
        .collect();
    run(&cases);
}

#[test]
fn pointwise_convolutions_of_random_shapes() {
    let mut rng = Rng(3);
    let cases: Vec<Case> = (0..24)
        .map(|i| {
            let c = rng.pick(&[1, 3, 4, 6, 24, 33, 48]);
            let x = image(&mut rng, c);
            let stride = if i % 4 == 0 { 2 } else { 1 };
            let c_out = rng.pick(&[1, 2, 4, 5, 24, 35, 64]);
            case(
                &mut rng,
                with_epilogue(Conv2d::square(stride, 1, 0), i),
                x,
                (1, 1),
                c_out,
                i % 3 == 0,
            )
        })
        .collect();
    run(&cases);
}

#[test]
fn depthwise_convolutions_of_random_shapes() {
    let mut rng = Rng(4);
    let cases: Vec<Case> = (0..32)
        .map(|i| {
            let c = rng.pick(&[1, 2, 3, 4, 5, 8, 15, 32]);
            let x = image(&mut rng, c);
            let (conv, kernel) = attributes(&mut rng, x);
            case(&mut rng, with_epilogue(Conv2d { groups: c, ..conv }, i), x, kernel, c, i % 3 == 0)
        })
        .collect();
    run(&cases);
}

/// All cases of overlapping windows in a block of pixels, with blocks that end outside the image,
/// and without padding.
#[test]
fn depthwise_convolutions_in_blocks() {
    let mut rng = Rng(9);
    let mut cases = Vec::new();
    for (i, (kernel, stride, dilation, padding)) in [
        ((3, 3), (1, 1), (1, 1), 1),
        ((3, 3), (1, 1), (1, 1), 0),
        ((3, 3), (1, 1), (2, 2), 2),
        ((3, 3), (1, 1), (6, 12), 12),
        ((3, 3), (2, 2), (1, 1), 1),
        ((3, 3), (2, 2), (1, 1), 0),
        ((3, 3), (2, 2), (2, 2), 2),
        ((3, 3), (3, 1), (1, 3), 2),
        ((5, 5), (1, 1), (1, 1), 2),
        ((5, 5), (2, 2), (1, 1), 2),
        ((1, 3), (1, 2), (4, 1), 1),
        ((3, 1), (2, 1), (1, 5), 0),
        ((7, 7), (1, 1), (1, 1), 3),
    ]
    .into_iter()
    .enumerate()
    {
        let x = Shape::new(1 + i % 2, 19, 23, 20);
        let conv = Conv2d {
            stride: oracle::spacing(stride),
            dilation: oracle::spacing(dilation),
            padding: Padding::all(padding),
            groups: x.c,
            ..Conv2d::default()
        };
        cases.push(case(&mut rng, with_epilogue(conv, i), x, kernel, x.c, i % 2 == 1));
    }
    run(&cases);
}

#[test]
fn grouped_convolutions_of_random_shapes() {
    let mut rng = Rng(5);
    let cases: Vec<Case> = (0..24)
        .map(|i| {
            // Groups whose channels begin inside a vec4, and depthwise with a multiplier (one input
            // channel, several outputs).
            let groups = rng.pick(&[2, 3, 4, 5]);
            let x = image(&mut rng, 1);
            let x = x.with_c(groups * rng.pick(&[1, 2, 3, 4]));
            let (conv, kernel) = attributes(&mut rng, x);
            let c_out = groups * rng.range(1, 5);
            case(
                &mut rng,
                with_epilogue(Conv2d { groups, ..conv }, i),
                x,
                kernel,
                c_out,
                i % 3 == 0,
            )
        })
        .collect();
    run(&cases);
}

#[test]
fn convolutions_of_real_networks() {
    let mut rng = Rng(6);
    let same = |stride, dilation, kernel| Conv2d {
        padding: Padding::same(kernel, dilation),
        ..Conv2d::square(stride, dilation, 0)
    };
    let even = Shape::new(1, 32, 40, 3);
    let cases = [
        // A ResNet's stem, and the same with TensorFlow's padding at an even size.
        (same(2, 1, 7), Shape::new(1, 33, 29, 3), 7, 64),
        (
            Conv2d { padding: Padding::tf_same(even.size(), 3, 2, 1), ..Conv2d::square(2, 1, 0) },
            even,
            3,
            32,
        ),
        // ASPP: with dilation 12 on a map of 17 x 15 most taps read padding; with dilation 36 all
        // but the center do.
        (same(1, 12, 3), Shape::new(1, 17, 15, 72), 3, 40),
        (same(1, 36, 3), Shape::new(1, 9, 11, 64), 3, 64),
        // The pooled branch: one pixel.
        (Conv2d::default(), Shape::new(2, 1, 1, 320), 1, 256),
        // The decoder's first convolution, small; a batch; channels that are not a multiple of a
        // tile.
        (same(1, 1, 3), Shape::new(2, 13, 12, 76), 3, 68),
        // The classifier.
        (Conv2d::default(), Shape::new(1, 19, 23, 256), 1, 21),
    ];
    let cases: Vec<Case> = cases
        .into_iter()
        .enumerate()
        .map(|(i, (conv, x, kernel, c_out))| {
            case(&mut rng, with_epilogue(conv, 2 + i % 2), x, (kernel, kernel), c_out, false)
        })
        .collect();
    run(&cases);
}

/// Shapes that fill a tile of every size and leave remainders in pixels, channels and K.
#[test]
fn convolutions_larger_than_the_largest_tiles() {
    let mut rng = Rng(8);
    let same = |stride, dilation, kernel| Conv2d {
        padding: Padding::same(kernel, dilation),
        ..Conv2d::square(stride, dilation, 0)
    };
    let epilogue = |bias, residual, activation, conv| Conv2d { bias, residual, activation, ..conv };
    let cases = [
        // Tiles that span two images of a batch, with a bias per image.
        (epilogue(true, true, Activation::Relu, same(1, 1, 3)), Shape::new(2, 13, 17, 23), 3, 139),
        (
            epilogue(true, true, Activation::Relu, Conv2d::default()),
            Shape::new(2, 11, 15, 41),
            1,
            150,
        ),
        // Whole tiles of pixels whose upper or lower taps read only padding, and a row longer than
        // a tile whose left or right taps do.
        (epilogue(true, false, Activation::Relu, same(1, 18, 3)), Shape::new(1, 40, 33, 12), 3, 70),
        (epilogue(true, false, Activation::Relu, same(1, 140, 3)), Shape::new(1, 2, 270, 8), 3, 36),
        // Stride and dilation at once, and an even kernel.
        (epilogue(true, false, Activation::Relu, same(2, 2, 3)), Shape::new(1, 31, 37, 36), 3, 132),
        (
            epilogue(false, false, Activation::Identity, Conv2d::square(1, 1, 2)),
            Shape::new(1, 14, 19, 20),
            4,
            65,
        ),
    ];
    let cases: Vec<Case> = cases
        .into_iter()
        .map(|(conv, x, kernel, c_out)| {
            case(&mut rng, conv, x, (kernel, kernel), c_out, conv.residual)
        })
        .collect();
    run(&cases);
}

#[test]
fn a_convolution_of_padding_alone_is_its_bias() {
    let mut rng = Rng(7);
    // Dilation 9 on a map of 2 x 2: only the center of a kernel could read the image, and a kernel
    // of 2 x 2 has no center.
    let conv = Conv2d { bias: true, padding: Padding::all(20), ..Conv2d::square(9, 9, 0) };
    let x = Shape::new(1, 2, 2, 3);
    let one = case(&mut rng, conv, x, (2, 2), 5, false);
    let bias: Vec<f32> = one.inputs[2].f32().to_vec();
    let outputs: Vec<Tensor> =
        crate::run_op(&atrous::engine::exec::Device::Cpu, &one.op, &one.inputs)
            .unwrap()
            .remove(0)
            .1;
    assert_eq!(outputs[0].f32()[..5], bias, "the corner reads only padding");
    run(&[one]);
}
