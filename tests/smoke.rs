//! One convolution on every executor: if this fails, look here before anywhere else.

mod support;

use atrous::engine::exec::Runner;
use atrous::engine::graph::Graph;
use atrous::engine::ops::{Activation, Conv2d, Op};
use atrous::engine::{Shape, TensorType};
use std::sync::Arc;
use support::{Rng, devices, run_op};

#[test]
fn one_convolution_gives_the_same_on_every_executor() {
    let mut rng = Rng(1);
    let conv = Conv2d { bias: true, activation: Activation::Relu6, ..Conv2d::square(2, 2, 2) };
    let op: Arc<dyn Op> = Arc::new(conv);
    let inputs = [
        rng.tensor(Shape::new(2, 9, 11, 6)),
        rng.tensor(Shape::new(3, 3, 6, 10)),
        rng.tensor(Shape::vector(10)),
    ];
    let mut reference: Option<Vec<f64>> = None;
    for device in devices() {
        for (label, outputs) in run_op(&device, &op, &inputs).unwrap() {
            let want = reference
                .get_or_insert_with(|| outputs[0].f32().iter().map(|&v| f64::from(v)).collect());
            // 54 products of numbers up to 1, in two orders.
            support::allclose(&format!("{device} {label}"), &outputs[0], want, 54.0 * 6e-8, 1e-6)
                .unwrap();
            println!("{device}: {label}");
        }
    }
}

#[test]
fn results_reach_their_thread_where_several_wait_for_one_device() {
    // A thread that waits for a device may receive notifications for other threads, and forwards
    // them a moment later.
    for device in devices() {
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let device = device.clone();
                scope.spawn(move || {
                    let mut graph = Graph::new();
                    let x = graph.input("x", TensorType::f32(Shape::new(1, 8, 8, 4)));
                    let y = graph.root().activate("y", Activation::Relu, x).unwrap();
                    graph.output("y", y);
                    let runner = Runner::new(&device, graph).unwrap();
                    let input = Rng(seed).tensor(Shape::new(1, 8, 8, 4));
                    let want: Vec<f32> = input.f32().iter().map(|v| v.max(0.0)).collect();
                    for _ in 0..200 {
                        assert_eq!(runner.run(&[("x", &input)]).unwrap()[0].f32(), want);
                    }
                });
            }
        });
    }
}
