//! Operations of live video: frames in, painted frames out.

use crate::bilinear::ALIGNMENTS;
use crate::oracle::{self, Map};
use crate::support::{Rng, allclose};
use crate::{Case, Check, ROUNDING, run};
use atrous::Size;
use atrous::engine::ops::{
    Background, ClassCounts, Effect, Op, Paint, PixelAlignment, PreprocessFrame, ResampleWindow,
    Style, TemporalMean, Threshold,
};
use atrous::engine::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

/// Pixels of any color, with random bits in the ignored byte.
fn frame(rng: &mut Rng, shape: Shape) -> Tensor {
    Tensor::from_data(shape, Data::U32((0..shape.len()).map(|_| rng.next() as u32).collect()))
        .unwrap()
}

fn color(pixel: u32, c: usize) -> f64 {
    f64::from(pixel >> (8 * c) & 255)
}

/// The weights of all source pixels for output `d`, by the formula in the documentation of
/// `PreprocessFrame`.
fn weights(d: usize, from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / to as f64;
    let (center, reach) = ((d as f64 + 0.5) * step, step.max(1.0));
    let all: Vec<f64> =
        (0..from).map(|i| (1.0 - (i as f64 + 0.5 - center).abs() / reach).max(0.0)).collect();
    let sum: f64 = all.iter().sum();
    all.iter().map(|w| w / sum).collect()
}

#[test]
fn frames_are_scaled_normalized_and_padded() {
    let mut rng = Rng(51);
    let sizes = [
        // Source, scaled, output: kept, enlarged, shrunk a little and much, along one side, to a
        // single pixel.
        ((5, 7), (5, 7), (5, 7)),
        ((5, 7), (5, 7), (8, 9)),
        ((4, 6), (9, 13), (9, 16)),
        ((30, 40), (17, 23), (23, 23)),
        ((61, 83), (9, 12), (12, 12)),
        ((16, 16), (16, 5), (16, 16)),
        ((13, 11), (1, 1), (2, 1)),
        ((1, 1), (3, 4), (3, 4)),
    ];
    let cases: Vec<Case> = sizes
        .into_iter()
        .map(|((h0, w0), scaled, (h, w))| {
            let shape = Shape::new(rng.range(1, 2), h0, w0, 1);
            let x = frame(&mut rng, shape);
            let op = PreprocessFrame {
                size: oracle::size((h, w)),
                scaled: oracle::size(scaled),
                scale: [0.017, 0.018, 0.0174],
                shift: [-2.1, -2.0, -1.8],
                pad_value: [0.1, -0.2, 0.3],
            };
            let pixels = x.u32().to_vec();
            let want = Map::build(shape.with_hw(h, w).with_c(3), |n, y, x, c| {
                if y >= scaled.0 || x >= scaled.1 {
                    return f64::from(op.pad_value[c]);
                }
                let (rows, columns) = (weights(y, h0, scaled.0), weights(x, w0, scaled.1));
                let mut sum = 0.0;
                for (i, row) in rows.iter().enumerate() {
                    for (j, column) in columns.iter().enumerate() {
                        sum += row * column * color(pixels[shape.index(n, i, j, 0)], c);
                    }
                }
                sum * f64::from(op.scale[c]) + f64::from(op.shift[c])
            });
            // A center at up to 83 is off by two roundings, and a weight by as much; the pixels of
            // the two affected weights differ by up to 255, which the scale maps to 4.6. Along two
            // axes, with a margin for sums of up to 14 terms each.
            Case::close(op, vec![x], want, 4.6 * ROUNDING * (2.0 * 2.0 * 83.0 + 40.0), 0.0)
        })
        .collect();
    run(&cases);
}

#[test]
fn means_over_time_and_their_logarithms() {
    let mut rng = Rng(52);
    let cases: Vec<Case> =
        [(1, 0.0), (3, 0.5), (4, 0.9), (21, 0.0), (21, 0.8), (7, 1.0)]
            .into_iter()
            .map(|(c, keep)| {
                let shape = Shape::new(rng.range(1, 2), rng.range(1, 5), rng.range(1, 9), c);
                let padded = TemporalMean::shape(shape);
                let x = Tensor::from_fn(shape, |_, _, _, _| 8.0 * rng.unit());
                let old = Tensor::from_fn(padded, |_, _, _, c| {
                    if c < shape.c { (rng.unit() + 1.0) / 2.0 } else { 0.0 }
                });
                let weight = Tensor::new(Shape::vector(4), vec![keep, 9.0, 9.0, 9.0]).unwrap();
                let (p, before) = (oracle::softmax(&Map::of(&x)), Map::of(&old));
                let mean = Map::build(padded, |n, y, x, c| {
                    if c >= shape.c {
                        return 0.0;
                    }
                    f64::from(keep) * before.at(n, y, x, c)
                        + (1.0 - f64::from(keep)) * p.at(n, y, x, c)
                });
                let check: Check = Box::new(move |what, outputs| {
                    let scores: Vec<f64> = mean.data.iter().map(|m| m.max(1e-30).ln()).collect();
                    // The softmax's error as in its own test. A logarithm adds 2^-21 near 1, and 3
                    // units in the last place elsewhere.
                    let relative = 2.0 * 70.0 * ROUNDING;
                    allclose(&format!("{what}, mean"), &outputs[0], &mean.data, 1e-9, relative)?;
                    allclose(
                        &format!("{what}, scores"),
                        &outputs[1],
                        &scores,
                        relative + 8.0 * ROUNDING,
                        6.0 * ROUNDING,
                    )
                });
                Case {
                    op: Arc::new(TemporalMean { threshold: Threshold::HALF }),
                    inputs: vec![x, old, weight],
                    check,
                }
            })
            .collect();
    run(&cases);
}

#[test]
fn classes_are_counted_in_the_image_and_not_in_its_padding() {
    let mut rng = Rng(53);
    let cases: Vec<Case> =
        [(1, 4, 5, 5, 7), (21, 24, 33, 40, 40), (6, 6, 9, 9, 3), (30, 32, 70, 71, 65)]
            .into_iter()
            .map(|(classes, channels, rows, h, columns)| {
                let shape = Shape::new(rng.range(1, 2), h, columns + 2, channels);
                // Channels past the classes are largest, and must not win.
                let x = Tensor::from_fn(shape, |_, _, _, c| {
                    if c < classes { rng.pick(&[-2.0, -1.0, 0.5, 3.0]) } else { 9.0 }
                });
                let m = Map::of(&x);
                let mut want = vec![0.0; classes];
                for (n, y, x) in (0..shape.n)
                    .flat_map(|n| (0..rows).flat_map(move |y| (0..columns).map(move |x| (n, y, x))))
                {
                    let scores = &m.pixel(n, y, x)[..classes];
                    let first = (0..classes)
                        .fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
                    want[first] += 1.0;
                }
                let want = Map { shape: Shape::vector(classes), data: want };
                Case::close(ClassCounts { classes, rows, columns }, vec![x], want, 0.0, 0.0)
            })
            .collect();
    run(&cases);
}

/// One painted pixel in double precision.
fn painted(
    op: &Paint,
    style: &Style,
    scores: &Map,
    behind: &Map,
    frame: (&[u32], Shape),
    at: (usize, usize, usize),
) -> [f64; 3] {
    let ((pixels, to), (n, y, x)) = (frame, at);
    let seen = if style.mirror { to.w - 1 - x } else { x };
    let half = PixelAlignment::HalfPixel;
    let taps = |d: usize, to: usize, from: usize, padded: usize, scaled: usize, alignment| {
        let p = (d as f64 + 0.5) * scaled as f64 / to as f64;
        let place = match alignment {
            PixelAlignment::Corners if padded > 1 => {
                (p - 0.5).max(0.0) * (from - 1) as f64 / (padded - 1) as f64
            }
            PixelAlignment::Corners => 0.0,
            PixelAlignment::HalfPixel => (p * from as f64 / padded as f64 - 0.5).max(0.0),
            PixelAlignment::TopLeft => (p - 0.5).max(0.0) * from as f64 / padded as f64,
        };
        let lo = (place.floor() as usize).min(from - 1);
        (lo, (lo + 1).min(from - 1), (place - lo as f64).min(1.0))
    };
    let between = |map: &Map, row: (usize, usize, f64), column: (usize, usize, f64), c: usize| {
        let across =
            |y| map.at(n, y, column.0, c) * (1.0 - column.2) + map.at(n, y, column.1, c) * column.2;
        across(row.0) * (1.0 - row.2) + across(row.1) * row.2
    };
    let window = op
        .window
        .unwrap_or(ResampleWindow { padded: Size::new(to.w, to.h), scaled: Size::new(to.w, to.h) });
    let row =
        taps(y, to.h, scores.shape.h, window.padded.height, window.scaled.height, op.alignment);
    let column =
        taps(seen, to.w, scores.shape.w, window.padded.width, window.scaled.width, op.alignment);
    let values: Vec<f64> = (0..op.classes).map(|c| between(scores, row, column, c)).collect();
    let best = |shown: bool| {
        let all = (0..op.classes).filter(|&c| style.classes[c].1 == shown);
        all.fold(
            (0, f64::NEG_INFINITY),
            |best, c| if values[c] > best.1 { (c, values[c]) } else { best },
        )
    };
    let (inside, outside) = (best(true), best(false));
    let frame_color: [f64; 3] = std::array::from_fn(|c| color(pixels[to.index(n, y, seen, 0)], c));
    let own = style.classes[inside.0].0.map(f64::from);
    let styled = match (style.effect, inside.1 >= outside.1) {
        (Effect::Mask | Effect::Overlay, true) => own,
        (Effect::Mask, false) => [0.0; 3],
        (Effect::Overlay, false) => frame_color,
        (Effect::CutOut(kind), _) => {
            let back = match kind {
                Background::Color(color) => color.map(f64::from),
                kind => {
                    let x = if kind == Background::Frame { seen } else { x };
                    let row = taps(y, to.h, behind.shape.h, to.h, to.h, half);
                    let column = taps(x, to.w, behind.shape.w, to.w, to.w, half);
                    std::array::from_fn(|c| between(behind, row, column, c))
                }
            };
            let margin = f64::from(style.edge) * (inside.1 - outside.1);
            let alpha = if margin.abs() < 5.5 {
                1.0 / (1.0 + (-margin).exp())
            } else {
                f64::from(u8::from(margin > 0.0))
            };
            std::array::from_fn(|c| back[c] + (frame_color[c] - back[c]) * alpha)
        }
    };
    std::array::from_fn(|c| {
        frame_color[c] + (styled[c] - frame_color[c]) * f64::from(style.opacity)
    })
}

#[test]
fn frames_are_painted_in_every_way() {
    let mut rng = Rng(54);
    let effects = [
        Effect::Mask,
        Effect::Overlay,
        Effect::CutOut(Background::Color([10, 200, 77])),
        Effect::CutOut(Background::Frame),
        Effect::CutOut(Background::Image),
    ];
    let mut cases = Vec::new();
    for (i, effect) in effects.into_iter().flat_map(|e| [e; 4]).enumerate() {
        let to = Shape::new(rng.range(1, 2), rng.range(5, 20), rng.range(5, 30), 1);
        let classes = rng.pick(&[2, 5, 21]);
        let scores = Shape::new(to.n, rng.range(2, 9), rng.range(2, 9), classes + rng.range(0, 4));
        let behind = Shape::new(to.n, rng.range(1, 9), rng.range(1, 9), 3);
        let window = (i % 2 == 1)
            .then_some(ResampleWindow { padded: Size::new(41, 40), scaled: Size::new(41, 33) });
        let op = Paint { classes, alignment: ALIGNMENTS[i % 3], window };
        let shown = |c: usize| !(c + i).is_multiple_of(3) || i % 4 == 0;
        let classes =
            (0..classes).map(|c| ([rng.range(0, 255) as u8, 9, 255 - c as u8], shown(c))).collect();
        let style = Style {
            effect,
            opacity: rng.pick(&[0.3, 1.0]),
            mirror: i % 3 == 0,
            edge: rng.pick(&[1.0, 4.0, 40.0]),
            classes,
        };
        let pixels = frame(&mut rng, to);
        let (scores, behind) =
            (rng.tensor(scores), Tensor::from_fn(behind, |_, _, _, _| 127.5 * (rng.unit() + 1.0)));
        let inputs = vec![pixels.clone(), scores.clone(), style.tensor(), behind.clone()];
        let (scores, behind) = (Map::of(&scores), Map::of(&behind));
        let check: Check = Box::new(move |what, outputs| {
            let mut off = 0;
            for i in 0..to.len() {
                let at = (i / to.w / to.h, i / to.w % to.h, i % to.w);
                let want = painted(&op, &style, &scores, &behind, (pixels.u32(), to), at);
                let got = outputs[0].u32()[i];
                // Bytes are rounded: one step if the exact value is near a half.
                let wrong =
                    (0..3).any(|c| (color(got, c) - want[c]).abs() > 0.5 + 255.0 * 64.0 * ROUNDING);
                off += usize::from(wrong || got >> 24 != 255);
            }
            // If two classes are equal to within rounding, either may win: at most one pixel of
            // these few hundred.
            if off > 1 {
                Err(format!("{what}: {off} of {} pixels are wrong", to.len()))
            } else {
                Ok(())
            }
        });
        cases.push(Case { op: Arc::new(op), inputs, check });
    }
    run(&cases);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let refused = |op: &dyn Op, inputs: &[TensorType], part: &str| {
        let message = op.output_types(inputs).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{}: {message}", op.name());
    };
    let image = TensorType::u32(Shape::new(1, 4, 6, 1));
    let frame = PreprocessFrame {
        size: Size::square(4),
        scaled: Size::new(5, 4),
        scale: [1.0; 3],
        shift: [0.0; 3],
        pad_value: [0.0; 3],
    };
    refused(&frame, &[image], "does not fit into 4x4");
    refused(&frame, &[TensorType::u8(image.shape)], "packed");
    refused(&PreprocessFrame { scaled: Size::new(4, 0), ..frame }, &[image], "cannot scale");
    let scores = TensorType::f32(Shape::new(1, 3, 3, 5));
    refused(
        &TemporalMean { threshold: Threshold::HALF },
        &[scores, scores, TensorType::f32(Shape::vector(4))],
        "[1, 3, 3, 8]",
    );
    refused(&ClassCounts { classes: 6, rows: 3, columns: 3 }, &[scores], "6 classes");
    let style = TensorType::u32(Style::shape(5));
    let paint = Paint { classes: 5, alignment: PixelAlignment::HalfPixel, window: None };
    refused(&paint, &[image, scores, style], "4 inputs");
    refused(&paint, &[image, scores, style, scores], "do not fit");
    refused(
        &Paint { classes: 4, ..paint },
        &[image, scores, style, TensorType::f32(Shape::new(1, 1, 1, 3))],
        "do not fit",
    );
}
