//! One convolution on every executor: if this fails, look here before anywhere else.

mod support;

use atrous::Shape;
use atrous::ops::{Activation, Conv2d, Op};
use std::sync::Arc;
use support::{Rng, devices, run_op};

#[test]
fn one_convolution_gives_the_same_on_every_executor() {
    let mut rng = Rng(1);
    let conv = Conv2d { bias: true, activation: Activation::Relu6, ..Conv2d::square(2, 2, 2) };
    let op: Arc<dyn Op> = Arc::new(conv);
    let inputs = [rng.tensor(Shape::new(2, 9, 11, 6)), rng.tensor(Shape::new(3, 3, 6, 10)), rng.tensor(Shape::vector(10))];
    let mut reference: Option<Vec<f64>> = None;
    for device in devices() {
        for (label, outputs) in run_op(&device, &op, &inputs).unwrap() {
            let want = reference.get_or_insert_with(|| outputs[0].f32().iter().map(|&v| f64::from(v)).collect());
            // 54 products of numbers up to 1, in two orders.
            support::allclose(&format!("{device} {label}"), &outputs[0], want, 54.0 * 6e-8, 1e-6).unwrap();
            println!("{device}: {label}");
        }
    }
}
