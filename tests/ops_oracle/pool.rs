//! Pooling operations.

use crate::oracle::{self, Map};
use crate::support::Rng;
use crate::{Case, ROUNDING, run};
use atrous::Size;
use atrous::engine::Shape;
use atrous::engine::ops::{AvgPool, GlobalAvgPool, MaxPool, Op, Padding};
use atrous::engine::tensor::TensorType;

fn image(rng: &mut Rng) -> Shape {
    let c = rng.pick(&[1, 2, 4, 5, 8, 13]);
    Shape::new(rng.range(1, 3), rng.pick(&[1, 2, 5, 8, 9, 14]), rng.pick(&[1, 3, 4, 7, 12]), c)
}

/// Random windows; those that the operation rejects (no window fits, or one covers only padding)
/// are redrawn.
fn window(rng: &mut Rng, x: Shape, dilated: bool) -> MaxPool {
    loop {
        let pool = MaxPool {
            kernel: oracle::size((rng.range(1, 4), rng.range(1, 5))),
            stride: oracle::spacing((rng.range(1, 3), rng.range(1, 4))),
            dilation: oracle::spacing(if dilated {
                (rng.range(1, 2), rng.range(1, 3))
            } else {
                (1, 1)
            }),
            padding: Padding {
                top: rng.range(0, 2),
                bottom: rng.range(0, 2),
                left: rng.range(0, 2),
                right: rng.range(0, 2),
            },
            ceil_mode: rng.range(0, 1) == 1,
        };
        if pool.infer(&[TensorType::f32(x)]).is_ok_and(|y| !y[0].shape.is_empty()) {
            return pool;
        }
    }
}

#[test]
fn max_pools_of_random_shapes() {
    let mut rng = Rng(11);
    let cases: Vec<Case> = (0..40)
        .map(|i| {
            let shape = image(&mut rng);
            let pool = window(&mut rng, shape, i % 2 == 0);
            let x = rng.tensor(shape);
            let want = oracle::max_pool(&pool, &Map::of(&x));
            Case::close(pool, vec![x], want, 0.0, 0.0)
        })
        .collect();
    run(&cases);
}

#[test]
fn max_pool_of_negative_numbers_never_takes_the_padding() {
    let mut rng = Rng(12);
    let x = rng.tensor(Shape::new(1, 5, 6, 3));
    let x = atrous::engine::Tensor::from_fn(x.shape(), |n, y, column, c| {
        x.f32()[x.shape().index(n, y, column, c)] - 5.0
    });
    let want = oracle::max_pool(&MaxPool::square(3, 2, 1), &Map::of(&x));
    run(&[Case::close(MaxPool::square(3, 2, 1), vec![x], want, 0.0, 0.0)]);
}

#[test]
fn average_pools_of_random_shapes() {
    let mut rng = Rng(13);
    let cases: Vec<Case> = (0..40)
        .map(|i| {
            let shape = image(&mut rng);
            let MaxPool { kernel, stride, padding, ceil_mode, .. } = window(&mut rng, shape, false);
            let pool =
                AvgPool { kernel, stride, padding, ceil_mode, count_include_pad: i % 2 == 0 };
            let x = rng.tensor(shape);
            let want = oracle::avg_pool(&pool, &Map::of(&x));
            // A row of up to 5 numbers in [-1, 1), up to 4 rows, a division.
            Case::close(pool, vec![x], want, 10.0 * ROUNDING, 1e-6)
        })
        .collect();
    run(&cases);
}

#[test]
fn a_window_as_large_as_the_map_is_the_mean() {
    let mut rng = Rng(14);
    let cases = [(7, 9), (1, 1), (33, 33)].map(|(h, w)| {
        let x = rng.tensor(Shape::new(2, h, w, 6));
        let pool = AvgPool { kernel: Size::new(w, h), ..AvgPool::square(1, 1, 0) };
        let want = oracle::global_avg_pool(&Map::of(&x));
        Case::close(pool, vec![x], want, mean_error(h * w), 1e-6)
    });
    run(&cases);
}

/// Two levels of sqrt(n) additions of numbers in [-1, 1), with partial sums below sqrt(n) on the
/// first level and near sqrt(n) on the second, divided by n: about two roundings of a number near 1
/// remain, for any n.
fn mean_error(positions: usize) -> f64 {
    4.0 * ROUNDING + 8.0 * ROUNDING / (positions as f64).sqrt()
}

#[test]
fn means_over_maps_of_any_size() {
    let mut rng = Rng(15);
    let cases: Vec<Case> = [
        (1, 1, 1, 3),
        (3, 1, 1, 8),
        (2, 1, 7, 5),
        (1, 4, 4, 1),
        (2, 17, 16, 21),
        (1, 65, 65, 6),
        (3, 5, 300, 4),
    ]
    .into_iter()
    .map(|(n, h, w, c)| {
        let x = rng.tensor(Shape::new(n, h, w, c));
        let want = oracle::global_avg_pool(&Map::of(&x));
        Case::close(GlobalAvgPool, vec![x], want, mean_error(h * w), 1e-6)
    })
    .collect();
    run(&cases);
}

#[test]
fn the_mean_of_many_large_numbers_keeps_its_digits() {
    // Added sequentially in f32, 65 x 65 numbers near 1000 lose three digits: one unit in the last
    // place of the sum is 0.25.
    let shape = Shape::new(1, 65, 65, 5);
    let mut rng = Rng(16);
    let x = atrous::engine::Tensor::from_fn(shape, |_, _, _, c| 1000.0 + rng.unit() + c as f32);
    let want = oracle::global_avg_pool(&Map::of(&x));
    // 65 additions on each level: rounding errors of equal sign would add up to 130 roundings,
    // random ones to about 11.
    run(&[Case::close(GlobalAvgPool, vec![x], want, 0.0, 16.0 * ROUNDING)]);
}
