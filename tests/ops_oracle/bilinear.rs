//! Resizing, and upsampling with argmax or softmax.

use crate::oracle::{self, Map};
use crate::support::{Rng, allclose, run_op};
use crate::{Case, Check, run};
use atrous::Size;
use atrous::engine::ops::{
    Op, PixelAlignment, ResampleWindow, Resize, Rows, UpsampleArgmax, UpsampleProbabilities,
    Upsampling,
};
use atrous::engine::{Elements, Shape, Tensor};
use std::sync::Arc;

/// Every way in which pixels map to their source.
pub const ALIGNMENTS: [PixelAlignment; 3] =
    [PixelAlignment::HalfPixel, PixelAlignment::Corners, PixelAlignment::TopLeft];

/// Tolerance of three blends of numbers in [-1, 1) with weights from a division (2.5 units in the
/// last place in WGSL).
pub const BLEND: f64 = 1e-6;

pub fn sizes(rng: &mut Rng) -> (Shape, (usize, usize)) {
    let c = rng.pick(&[1, 2, 3, 4, 5, 8, 21]);
    let mut side = || rng.pick(&[1, 2, 3, 5, 8, 9, 13, 16]);
    let (h, w, to) = (side(), side(), (side(), side()));
    (Shape::new(rng.range(1, 2), h, w, c), to)
}

#[test]
fn resizes_of_random_sizes() {
    let mut rng = Rng(21);
    let cases: Vec<Case> = (0..40)
        .map(|i| {
            let (shape, (h, w)) = sizes(&mut rng);
            let x = rng.tensor(shape);
            let alignment = ALIGNMENTS[i % 3];
            let want = oracle::resize(&Map::of(&x), (h, w), alignment, None);
            Case::close(
                Resize { size: Size::new(w, h), alignment, window: None },
                vec![x],
                want,
                BLEND,
                0.0,
            )
        })
        .collect();
    run(&cases);
}

#[test]
fn resizes_of_the_networks() {
    let mut rng = Rng(22);
    // To the decoder (x4), to the image (x4, x8, x16), at odd and even sizes, and from the pooled
    // pixel to its map.
    let cases: Vec<Case> = [
        (9, 9, 33, 33),
        (17, 13, 65, 49),
        (4, 6, 64, 96),
        (16, 12, 64, 48),
        (1, 1, 33, 17),
        (65, 64, 8, 9),
    ]
    .into_iter()
    .flat_map(|(h0, w0, h, w)| {
        ALIGNMENTS.map(|alignment| {
            (Shape::new(1, h0, w0, 6), Resize { size: Size::new(w, h), alignment, window: None })
        })
    })
    .map(|(shape, resize)| {
        let x = rng.tensor(shape);
        let want = oracle::resize(
            &Map::of(&x),
            (resize.size.height, resize.size.width),
            resize.alignment,
            None,
        );
        Case::close(resize, vec![x], want, BLEND, 0.0)
    })
    .collect();
    run(&cases);
}

#[test]
fn a_resize_to_the_same_size_changes_no_bit() {
    let mut rng = Rng(23);
    let cases: Vec<Case> = [(1, 1), (7, 5), (65, 33)]
        .into_iter()
        .flat_map(|(h, w)| {
            ALIGNMENTS.map(|alignment| Resize { size: Size::new(w, h), alignment, window: None })
        })
        .map(|resize| {
            let x = rng.tensor(Shape::images(2, resize.size, 5));
            let want = Map::of(&x);
            Case::close(resize, vec![x], want, 0.0, 0.0)
        })
        .collect();
    run(&cases);
}

/// An upsampling of the whole source to all rows of the output.
pub fn whole(size: (usize, usize), alignment: impl Into<PixelAlignment>) -> Upsampling {
    Upsampling { size: oracle::size(size), alignment: alignment.into(), window: None, rows: None }
}

/// The label's logit must be the largest within rounding, and the confidence its softmax
/// probability.
fn labels(op: UpsampleArgmax, x: Tensor) -> Case {
    let Upsampling { size: Size { width: w, height: h }, alignment, window, .. } = op.upsampling;
    let logits = oracle::resize(&Map::of(&x), (h, w), alignment, window);
    let probabilities = oracle::softmax(&logits);
    let check: Check = Box::new(move |what, outputs| {
        let shape = logits.shape.with_c(1);
        let expected = if op.confidence { 2 } else { 1 };
        if outputs.len() != expected || outputs.iter().any(|t| t.shape() != shape) {
            return Err(format!(
                "{what}: expected {expected} outputs of shape {shape}, got {}",
                outputs.len()
            ));
        }
        let mut confidence = Vec::with_capacity(shape.len());
        for (i, &label) in outputs[0].u32().iter().enumerate() {
            let (n, y, column) = (i / w / h, i / w % h, i % w);
            let pixel = logits.pixel(n, y, column);
            let max = pixel.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let chosen = pixel.get(label as usize).copied().unwrap_or(f64::NEG_INFINITY);
            // Logits reach 4.
            if chosen < max - 4.0 * BLEND {
                return Err(format!(
                    "{what}: pixel {:?} got class {label}, whose logit is {chosen}, not {max}",
                    (n, y, column)
                ));
            }
            confidence.push(probabilities.at(n, y, column, label as usize));
        }
        match outputs.get(1) {
            // exp of down to -8: 3 + 2 * 8 units in the last place in WGSL, and as much for an
            // error of 4e-6 in the logits.
            Some(got) => allclose(what, got, &confidence, 1e-7, 1e-5),
            None => Ok(()),
        }
    });
    Case { op: Arc::new(op), inputs: vec![x], check }
}

#[test]
fn labels_of_random_sizes() {
    let mut rng = Rng(24);
    let cases: Vec<Case> = (0..32)
        .map(|i| {
            let (shape, (h, w)) = sizes(&mut rng);
            let x = rng.tensor(shape);
            let x = Tensor::from_fn(shape, |n, y, column, c| {
                4.0 * x.f32()[shape.index(n, y, column, c)]
            });
            let upsampling = whole((h, w), i % 2 == 0);
            labels(UpsampleArgmax { upsampling, confidence: i % 4 < 2, sigmoid: None }, x)
        })
        .collect();
    run(&cases);
}

#[test]
fn labels_of_a_network() {
    let mut rng = Rng(25);
    let cases: Vec<Case> =
        [(17, 13, 65, 49, 21), (5, 6, 80, 96, 19), (1, 1, 9, 9, 3), (33, 33, 33, 33, 150)]
            .into_iter()
            .map(|(h0, w0, h, w, c)| {
                let op = UpsampleArgmax {
                    upsampling: whole((h, w), false),
                    confidence: true,
                    sigmoid: None,
                };
                labels(op, rng.tensor(Shape::new(2, h0, w0, c)))
            })
            .collect();
    run(&cases);
}

#[test]
fn equal_logits_give_the_first_class() {
    let (h, w) = (11, 7);
    // Classes 2, 3, 5 and 6 are equal everywhere, and the largest unless class 0 is: in one vec4,
    // in two, and in the same lane of two.
    let x = Tensor::from_fn(Shape::new(1, 3, 4, 9), |_, _, x, c| match c {
        0 if x < 2 => 2.0,
        2 | 3 | 5 | 6 => 0.7,
        _ => 0.1,
    });
    let cases = ALIGNMENTS.map(|alignment| {
        let logits = oracle::resize(&Map::of(&x), (h, w), alignment, None);
        let upsampling = whole((h, w), alignment);
        let case =
            labels(UpsampleArgmax { upsampling, confidence: false, sigmoid: None }, x.clone());
        let check: Check = Box::new(move |what, outputs| {
            (case.check)(what, outputs)?;
            let wrong = outputs[0].u32().iter().position(|&label| label > 2);
            let pixel = wrong.map(|i| logits.pixel(0, i / w, i % w));
            pixel.map_or(Ok(()), |p| {
                Err(format!("{what}: chose a class after the equal class 2, of {p:?}"))
            })
        });
        Case { op: case.op, inputs: case.inputs, check }
    });
    run(&cases);
}

/// Windows: network input, image in its corner, output; the last one needs fractions of more than
/// 32 bits.
const WINDOWS: [(ResampleWindow, (usize, usize)); 5] = [
    (ResampleWindow { padded: Size::square(65), scaled: Size::new(49, 65) }, (100, 75)),
    (ResampleWindow { padded: Size::square(65), scaled: Size::new(65, 49) }, (30, 41)),
    (ResampleWindow { padded: Size::new(96, 64), scaled: Size::new(96, 64) }, (64, 96)),
    (ResampleWindow { padded: Size::new(9, 1), scaled: Size::new(4, 1) }, (3, 5)),
    (ResampleWindow { padded: Size::new(129, 8191), scaled: Size::new(127, 8187) }, (60_001, 2)),
];

#[test]
fn windows_are_resized_and_labeled() {
    let mut rng = Rng(26);
    let mut cases = Vec::new();
    for (i, (window, (h, w))) in WINDOWS.into_iter().enumerate() {
        for alignment in ALIGNMENTS {
            let from = [(17, 17), (9, 9), (16, 24), (1, 3), (1000, 5)][i];
            let x = rng.tensor(Shape::new(1, from.0, from.1, 3));
            let window = Some(window);
            let want = oracle::resize(&Map::of(&x), (h, w), alignment, window);
            cases.push(Case::close(
                Resize { size: Size::new(w, h), alignment, window },
                vec![x.clone()],
                want,
                BLEND,
                0.0,
            ));
            let upsampling = Upsampling { window, ..whole((h, w), alignment) };
            cases.push(labels(UpsampleArgmax { upsampling, confidence: true, sigmoid: None }, x));
        }
    }
    run(&cases);
}

/// Tolerance of probabilities: the effect of an error of `BLEND` in the logits (times 4, because
/// logits reach 4), and the error of exp in WGSL, 3 + 2 * 8 units in the last place.
pub const PROBABILITY: (f64, f64) = (1e-7, 1e-5);

#[test]
fn upsampled_probabilities_are_the_softmax_of_interpolated_logits() {
    let mut rng = Rng(27);
    let mut cases = Vec::new();
    for i in 0..24 {
        let (shape, (h, w)) = sizes(&mut rng);
        let x = rng.tensor(shape);
        let x =
            Tensor::from_fn(shape, |n, y, column, c| 4.0 * x.f32()[shape.index(n, y, column, c)]);
        let alignment = ALIGNMENTS[i % 3];
        let op = UpsampleProbabilities {
            upsampling: whole((h, w), alignment),
            weighted: false,
            sigmoid: false,
        };
        let want = oracle::softmax(&oracle::resize(&Map::of(&x), (h, w), alignment, None));
        cases.push(Case::close(op, vec![x.clone()], want.clone(), PROBABILITY.0, PROBABILITY.1));
        let weights =
            Tensor::from_fn(Shape::vector(shape.c), |_, _, _, c| (c % 3 == 1) as u8 as f32);
        let sum = Map::build(want.shape.with_c(1), |n, y, column, _| {
            want.pixel(n, y, column).iter().zip(weights.f32()).map(|(p, &w)| p * f64::from(w)).sum()
        });
        let op = UpsampleProbabilities { weighted: true, ..op };
        cases.push(Case::close(op, vec![x, weights], sum, PROBABILITY.0, PROBABILITY.1));
    }
    run(&cases);
}

/// Strips must be bit-identical to the whole output on every device.
#[test]
fn rows_have_the_bits_of_the_whole_output() {
    let mut rng = Rng(28);
    let window = WINDOWS[0].0;
    for device in crate::support::devices() {
        for (from, window, (h, w)) in
            [((17, 17), Some(window), (100, 75)), ((9, 7), None, (64, 5)), ((65, 4), None, (13, 9))]
        {
            for alignment in ALIGNMENTS {
                let x = rng.tensor(Shape::new(1, from.0, from.1, 6));
                let weights = Tensor::from_fn(Shape::vector(6), |_, _, _, c| (c % 2) as f32);
                let upsampling = |rows| Upsampling { window, rows, ..whole((h, w), alignment) };
                let labels = |rows| UpsampleArgmax {
                    upsampling: upsampling(rows),
                    confidence: true,
                    sigmoid: None,
                };
                let softmax = |rows, weighted| UpsampleProbabilities {
                    upsampling: upsampling(rows),
                    weighted,
                    sigmoid: false,
                };
                let all = |rows| -> Vec<Tensor> {
                    let ops: [(Arc<dyn Op>, Vec<Tensor>); 3] = [
                        (Arc::new(labels(rows)), vec![x.clone()]),
                        (Arc::new(softmax(rows, false)), vec![x.clone()]),
                        (Arc::new(softmax(rows, true)), vec![x.clone(), weights.clone()]),
                    ];
                    ops.iter()
                        .flat_map(|(op, x)| run_op(&device, op, x).unwrap().swap_remove(0).1)
                        .collect()
                };
                let bits = |t: &Tensor| match t.data() {
                    Elements::F32(v) => v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>(),
                    _ => t.u32().to_vec(),
                };
                let mut joined: Vec<Vec<u32>> = vec![Vec::new(); 4];
                for first in (0..h).step_by(10) {
                    let strip = all(Some(Rows { first, count: (h - first).min(10) }));
                    joined
                        .iter_mut()
                        .zip(&strip)
                        .for_each(|(joined, strip)| joined.extend(bits(strip)));
                }
                assert_eq!(
                    joined,
                    all(None).iter().map(bits).collect::<Vec<_>>(),
                    "{device}, {h} x {w}, {alignment:?}"
                );
            }
        }
    }
}

#[test]
fn rows_outside_of_the_output_are_refused() {
    let x = [atrous::engine::TensorType::f32(Shape::new(1, 3, 3, 2))];
    for (first, count) in [(0, 0), (5, 1), (3, 3), (usize::MAX, 2), (1, usize::MAX)] {
        let rows = Some(Rows { first, count });
        let upsampling = Upsampling { rows, ..whole((5, 5), false) };
        let op = UpsampleArgmax { upsampling, confidence: false, sigmoid: None };
        assert!(
            op.infer(&x).unwrap_err().to_string().contains("outside an output of 5 rows"),
            "{first}, {count}"
        );
    }
}
