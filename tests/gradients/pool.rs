//! Pooling.

use crate::oracle;
use crate::support::{Rng, devices, run_op};
use crate::{Case, check};
use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::ops::{AvgPool, GlobalAvgPool, MaxPool, MaxPoolGrad, Op, Padding};
use atrous::engine::{Data, Shape, Tensor};
use std::sync::Arc;

fn max_pools() -> [MaxPool; 4] {
    let stem = MaxPool::square(3, 2, 1);
    let odd = Padding { top: 0, bottom: 1, left: 1, right: 0 };
    [
        stem,
        MaxPool { ceil_mode: true, ..MaxPool::square(2, 2, 0) },
        MaxPool {
            kernel: Size::new(3, 2),
            stride: Spacing { y: 1, x: 2 },
            dilation: Spacing { y: 2, x: 1 },
            padding: odd,
            ceil_mode: false,
        },
        MaxPool::square(2, 3, 0),
    ]
}

#[test]
fn max_pooling() {
    let mut rng = Rng(1);
    let mut cases = Vec::new();
    for pool in max_pools() {
        // The last one has more lines than one task processes.
        for shape in [Shape::new(2, 6, 7, 3), Shape::new(1, 5, 5, 4), Shape::new(2, 35, 3, 2)] {
            // All numbers differ by more than the step of the finite differences: k * 89 runs
            // through all residues of a prime.
            let mut k = rng.range(0, 500);
            let x = Tensor::from_fn(shape, |_, _, _, _| {
                k += 1;
                (k * 89 % 509) as f32 / 254.5 - 1.0
            });
            cases.push(Case::new(pool, vec![x], move |x| oracle::max_pool(&pool, &x[0])));
        }
    }
    check(&mut rng, &cases);
}

#[test]
fn of_equal_values_the_first_takes_the_gradient_of_a_max_pool() {
    let x = Tensor::from_fn(Shape::new(1, 2, 2, 5), |_, _, _, _| 0.0);
    let dy = Tensor::from_data(Shape::new(1, 1, 1, 5), Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0]))
        .unwrap();
    let op: Arc<dyn Op> = Arc::new(MaxPoolGrad(MaxPool::square(2, 2, 0)));
    for device in devices() {
        for (_, outputs) in run_op(&device, &op, &[x.clone(), dy.clone()]).unwrap() {
            assert_eq!(outputs[0].f32()[..5], [1.0, 2.0, 3.0, 4.0, 5.0], "{device}");
            assert_eq!(outputs[0].f32()[5..], [0.0; 15], "{device}");
        }
    }
}

#[test]
fn average_pooling() {
    let mut rng = Rng(2);
    let mut cases = Vec::new();
    let odd = Padding { top: 1, bottom: 0, left: 0, right: 1 };
    for (padding, ceil_mode) in [(Padding::default(), false), (odd, false), (odd, true)] {
        for count_include_pad in [false, true] {
            let pool = AvgPool {
                kernel: Size::new(2, 3),
                stride: Spacing::square(2),
                padding,
                count_include_pad,
                ceil_mode,
            };
            let x = rng.tensor(Shape::new(2, 6, 5, 3));
            cases.push(Case::new(pool, vec![x], move |x| oracle::avg_pool(&pool, &x[0])));
        }
    }
    let whole = AvgPool { kernel: Size::new(3, 4), ..AvgPool::square(1, 1, 0) };
    cases.push(Case::new(whole, vec![rng.tensor(Shape::new(1, 4, 3, 5))], move |x| {
        oracle::avg_pool(&whole, &x[0])
    }));
    cases.push(Case::new(GlobalAvgPool, vec![rng.tensor(Shape::new(2, 3, 5, 6))], |x| {
        oracle::global_avg_pool(&x[0])
    }));
    check(&mut rng, &cases);
}
