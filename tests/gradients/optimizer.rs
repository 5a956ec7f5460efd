//! Updates of all parameters: several steps against the same formulas in double precision, and one
//! element against PyTorch.

use crate::support::{Rng, allclose, devices, run_op};
use atrous::engine::ops::{
    Accumulate, AdamW, Align, GradientScale, Op, Packing, RunningStatistics, Sgd,
};
use atrous::engine::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

const BLOCK: usize = atrous::engine::ops::flat::BLOCK;

fn vector(values: &[f32]) -> Tensor {
    Tensor::new(Shape::vector(values.len()), values.to_vec()).unwrap()
}

fn table(rows: &[[f32; 4]]) -> Tensor {
    Tensor::new(Shape::new(1, 1, rows.len(), 4), rows.concat()).unwrap()
}

fn groups(of_blocks: &[u32]) -> Tensor {
    Tensor::from_data(Shape::vector(of_blocks.len()), Data::U32(of_blocks.to_vec())).unwrap()
}

/// A step: gradients, their scale, and the numbers of each group.
struct Step {
    g: Tensor,
    scale: [f32; 4],
    table: Vec<[f32; 4]>,
}

/// Runs updates on every device: `op` on `[w, states.., g, scale, groups, table]`. Returns the
/// results of the last one.
fn descend(
    op: impl Op,
    states: usize,
    w: &Tensor,
    of_blocks: &[u32],
    steps: &[Step],
    check: impl Fn(&str, &[Tensor]),
) {
    let op: Arc<dyn Op> = Arc::new(op);
    for device in devices() {
        let mut now: Vec<Tensor> =
            std::iter::once(w.clone()).chain((0..states).map(|_| Tensor::zeros(w.ty()))).collect();
        for step in steps {
            let mut inputs = now.clone();
            inputs.extend([
                step.g.clone(),
                vector(&step.scale),
                groups(of_blocks),
                table(&step.table),
            ]);
            now = run_op(&device, &op, &inputs).unwrap().swap_remove(0).1;
        }
        check(&device.to_string(), &now);
    }
}

/// Three blocks in two groups, of which the second has ten times the learning rate and no weight
/// decay.
const OF_BLOCKS: [u32; 3] = [0, 1, 0];

fn steps(rng: &mut Rng, rows: impl Fn(usize) -> Vec<[f32; 4]>) -> Vec<Step> {
    // The last step has a gradient that is not finite.
    let scales = [
        [1.0, 1.0, 1.0, 0.0],
        [9.0, 0.25, 1.0, 0.0],
        [2.0, 0.5, 1.0, 0.0],
        [f32::NAN, f32::NAN, 0.0, 0.0],
    ];
    let each = |(i, scale): (usize, [f32; 4])| {
        let mut g = rng.tensor(Shape::vector(3 * BLOCK));
        if scale[2] == 0.0 {
            g.f32_mut()[70] = f32::INFINITY;
        }
        Step { g, scale, table: rows(i) }
    };
    scales.into_iter().enumerate().map(each).collect()
}

#[test]
fn gradient_descent_with_momentum() {
    let mut rng = Rng(1);
    let w = rng.tensor(Shape::vector(3 * BLOCK));
    let rates = [0.1f32, 0.08, 0.06, 0.04];
    let steps =
        steps(&mut rng, |i| vec![[rates[i], 1e-2, 0.0, 0.0], [10.0 * rates[i], 0.0, 0.0, 0.0]]);
    for (momentum, nesterov) in [(0.9, false), (0.9, true), (0.0, false)] {
        let (mut x, mut m) =
            (w.f32().iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), vec![0.0; w.shape().len()]);
        for step in steps.iter().filter(|step| step.scale[2] != 0.0) {
            for i in 0..x.len() {
                let [rate, decay, ..] = step.table[OF_BLOCKS[i / BLOCK] as usize].map(f64::from);
                let d = f64::from(step.g.f32()[i]) * f64::from(step.scale[1]) + decay * x[i];
                m[i] = f64::from(momentum) * m[i] + d;
                let direction = if nesterov { d + f64::from(momentum) * m[i] } else { m[i] };
                x[i] -= rate * direction;
            }
        }
        descend(Sgd { momentum, nesterov }, 1, &w, &OF_BLOCKS, &steps, |device, got| {
            allclose(&format!("on {device}: weights"), &got[0], &x, 5e-6, 1e-6).unwrap();
            allclose(&format!("on {device}: momentum"), &got[1], &m, 2e-6, 1e-6).unwrap();
        });
    }
}

#[test]
fn adam_w() {
    let mut rng = Rng(2);
    let w = rng.tensor(Shape::vector(3 * BLOCK));
    let op = AdamW { betas: [0.9, 0.999].into(), eps: 1e-8 };
    let steps = steps(&mut rng, |i| {
        let [c1, c2] = op.corrections(i as u64 + 1).into();
        vec![[0.005, 0.02, c1, c2], [0.05, 0.0, c1, c2]]
    });
    let (b1, b2) = (f64::from(0.9f32), f64::from(0.999f32));
    let mut x: Vec<f64> = w.f32().iter().map(|&v| v.into()).collect();
    let (mut m, mut v) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for (t, step) in (1..).zip(steps.iter().filter(|step| step.scale[2] != 0.0)) {
        for i in 0..x.len() {
            let [rate, decay, ..] = step.table[OF_BLOCKS[i / BLOCK] as usize].map(f64::from);
            let g = f64::from(step.g.f32()[i]) * f64::from(step.scale[1]);
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            let (mean, square) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
            x[i] = x[i] * (1.0 - rate * decay) - rate * mean / (square.sqrt() + 1e-8);
        }
    }
    descend(op, 2, &w, &OF_BLOCKS, &steps, |device, got| {
        // The factor 1 - b2 is small; single precision represents it with a relative error of 6e-5.
        allclose(&format!("{device}: weights"), &got[0], &x, 4e-6, 4e-6).unwrap();
        allclose(&format!("{device}: first moment"), &got[1], &m, 1e-6, 1e-5).unwrap();
        allclose(&format!("{device}: second moment"), &got[2], &v, 1e-8, 1e-4).unwrap();
    });
}

/// Three steps from 0.5 with gradients 0.3, -0.2, 0.1 and learning rate 0.1, as computed by
/// `torch.optim`.
#[test]
fn updates_are_pytorchs() {
    let all = |value: f32| vector(&[value; BLOCK]);
    let step = |g: f32, corrections: [f32; 2]| Step {
        g: all(g),
        scale: [1.0, 1.0, 1.0, 0.0],
        table: vec![[0.1, 0.01, corrections[0], corrections[1]]],
    };
    let check = |want: f64| {
        move |device: &str, got: &[Tensor]| {
            allclose(device, &got[0], &[want; BLOCK], 1e-6, 0.0).unwrap()
        }
    };
    let plain = [0.3, -0.2, 0.1].map(|g| step(g, [0.0, 0.0]));
    let sgd = Sgd { momentum: 0.9, nesterov: false };
    descend(sgd, 1, &all(0.5), &[0], &plain, check(0.443991369));
    descend(Sgd { nesterov: true, ..sgd }, 1, &all(0.5), &[0], &plain, check(0.428248985));
    let adam = AdamW { betas: [0.9, 0.999].into(), eps: 1e-8 };
    let corrected =
        [(1, 0.3), (2, -0.2), (3, 0.1)].map(|(t, g)| step(g, adam.corrections(t).into()));
    descend(adam, 2, &all(0.5), &[0], &corrected, check(0.356412912));
}

#[test]
fn running_statistics_take_their_share_of_what_is_finite() {
    let mut rng = Rng(3);
    let (r, mut s) = (rng.tensor(Shape::vector(2 * BLOCK)), rng.tensor(Shape::vector(2 * BLOCK)));
    s.f32_mut()[3] = f32::NAN;
    s.f32_mut()[70] = f32::INFINITY;
    let want: Vec<f64> = (0..2 * BLOCK)
        .map(|i| {
            let (momentum, factor) = if i < BLOCK { (0.1, 1.0) } else { (0.01, 8.0 / 7.0) };
            let (old, new) = (f64::from(r.f32()[i]), f64::from(s.f32()[i]));
            if new.is_finite() { (1.0 - momentum) * old + momentum * factor * new } else { old }
        })
        .collect();
    let inputs =
        [r, s, groups(&[0, 1]), table(&[[0.1, 1.0, 0.0, 0.0], [0.01, 8.0 / 7.0, 0.0, 0.0]])];
    let op: Arc<dyn Op> = Arc::new(RunningStatistics);
    for device in devices() {
        for (_, got) in run_op(&device, &op, &inputs).unwrap() {
            allclose(&device.to_string(), &got[0], &want, 1e-6, 0.0).unwrap();
        }
    }
}

#[test]
fn gradients_are_scaled_to_the_largest_norm_and_what_is_not_finite_is_told() {
    let mut rng = Rng(4);
    for (lengths, scale, max_norm) in [
        (vec![64], 1.0, None),
        (vec![64 * 300, 64], 0.25, None),
        (vec![128, 64 * 77], 0.5, Some(0.1)),
        (vec![64 * 5], 1.0, Some(1e6)),
    ] {
        let g: Vec<Tensor> = lengths.iter().map(|&n| rng.tensor(Shape::vector(n))).collect();
        let squares: f64 = g.iter().flat_map(|t| t.f32()).map(|&v| f64::from(v).powi(2)).sum();
        let norm = squares.sqrt() * f64::from(scale);
        let video = max_norm.map_or(1.0, |max: f32| (f64::from(max) / (norm + 1e-6)).min(1.0));
        let want = [norm, f64::from(scale) * video, 1.0, 0.0];
        let op: Arc<dyn Op> = Arc::new(GradientScale { scale, max_norm });
        for device in devices() {
            for (_, got) in run_op(&device, &op, &g).unwrap() {
                // Sums of some ten thousand squares in blocks of about a hundred.
                allclose(&format!("{device}, {lengths:?}"), &got[0], &want, 0.0, 1e-5).unwrap();
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut g = g.clone();
                g.last_mut().unwrap().f32_mut()[7] = bad;
                let (_, got) = run_op(&device, &op, &g).unwrap().swap_remove(0);
                assert_eq!(got[0].f32()[2], 0.0, "{device}: {bad} is not told");
            }
        }
    }
}

#[test]
fn sums_of_gradients_begin_anew_where_told() {
    let mut rng = Rng(5);
    let (mut sum, g) = (rng.tensor(Shape::vector(192)), rng.tensor(Shape::vector(192)));
    let op: Arc<dyn Op> = Arc::new(Accumulate);
    for device in devices() {
        let run = |sum: &Tensor, keep: f32| {
            let inputs = [sum.clone(), g.clone(), vector(&[keep, 0.0, 0.0, 0.0])];
            run_op(&device, &op, &inputs).unwrap().swap_remove(0).1.swap_remove(0)
        };
        let both: Vec<f64> = sum.f32().iter().zip(g.f32()).map(|(a, b)| f64::from(a + b)).collect();
        allclose(&device.to_string(), &run(&sum, 1.0), &both, 0.0, 0.0).unwrap();
        let old = std::mem::replace(&mut sum.f32_mut()[5], f32::NAN);
        assert_eq!(run(&sum, 0.0), g, "{device}");
        sum.f32_mut()[5] = old;
    }
}

#[test]
fn alignment_adds_zeros_behind_columns_and_channels() {
    let mut rng = Rng(6);
    for shape in
        [Shape::new(3, 3, 3, 7), Shape::vector(11), Shape::new(2, 1, 5, 8), Shape::new(1, 1, 4, 4)]
    {
        for packing in [Packing::Channels, Packing::Matrix] {
            let (x, op) = (rng.tensor(shape), Align(packing));
            let y = op.shape(shape);
            let at = |n, h, w, c| {
                if w < shape.w && c < shape.c {
                    x.f32()[((n * shape.h + h) * shape.w + w) * shape.c + c]
                } else {
                    0.0
                }
            };
            let want = Tensor::from_fn(y, at);
            let op: Arc<dyn Op> = Arc::new(op);
            for device in devices() {
                assert_eq!(
                    run_op(&device, &op, std::slice::from_ref(&x)).unwrap().swap_remove(0).1[0],
                    want,
                    "{shape} on {device}"
                );
            }
        }
    }
}

#[test]
fn states_of_another_shape_are_refused() {
    let [w, other, scale] = [64, 128, 4].map(|n| TensorType::f32(Shape::vector(n)));
    let (groups, table) =
        (TensorType::u32(Shape::vector(1)), TensorType::f32(Shape::new(1, 1, 2, 4)));
    let sgd = Sgd { momentum: 0.9, nesterov: false };
    assert!(sgd.output_types(&[w, w, w, scale, groups, table]).is_ok());
    assert!(sgd.output_types(&[w, other, w, scale, groups, table]).is_err());
    assert!(sgd.output_types(&[w, w, w, w, groups, table]).is_err());
    assert!(
        sgd.output_types(&[other, other, other, scale, groups, table]).is_err(),
        "a group for each block"
    );
    assert!(
        sgd.output_types(&[scale, scale, scale, scale, groups, table]).is_err(),
        "whole blocks"
    );
    assert!(Sgd { momentum: 1.0, ..sgd }.output_types(&[w, w, w, scale, groups, table]).is_err());
    let adam = AdamW { betas: [0.9, 0.999].into(), eps: 1e-8 };
    assert!(adam.output_types(&[w, w, w, w, scale, groups, table]).is_ok());
    assert!(adam.output_types(&[w, w, w, scale, groups, table]).is_err());
    assert!(
        AdamW { betas: [0.9, 1.0].into(), ..adam }
            .output_types(&[w, w, w, w, scale, groups, table])
            .is_err()
    );
    assert!(GradientScale { scale: 1.0, max_norm: Some(0.0) }.output_types(&[w]).is_err());
}
