//! The backward walk from the seeds to the requested values.

use crate::support::{Rng, allclose};
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::Graph;
use atrous::engine::ops::{Activation, Argmax};
use atrous::engine::{Shape, TensorType};

#[test]
fn gradients_of_a_value_that_is_read_often_are_added_up() {
    // y = x * x + 3 relu(x), by adding relu(x) three times.
    let shape = Shape::new(1, 2, 2, 3);
    let mut graph = Graph::new();
    let (x, dy) =
        (graph.input("x", TensorType::f32(shape)), graph.input("dy", TensorType::f32(shape)));
    let root = &mut graph.root();
    let mut y = root.mul("square", x, x).unwrap();
    let positive = root.activate("relu", Activation::Relu, x).unwrap();
    for i in 0..3 {
        y = root.add(&format!("add{i}"), y, positive).unwrap();
    }
    let dx = graph.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
    graph.output("dx", dx);
    graph.verify().unwrap();
    let mut rng = Rng(1);
    let (x, dy) = (rng.tensor(shape), rng.tensor(shape));
    let got = Runner::new(&Device::Cpu, graph)
        .unwrap()
        .run(&[("x", &x), ("dy", &dy)])
        .unwrap()
        .swap_remove(0);
    let slope = |x: f32| f64::from(2.0 * x + if x > 0.0 { 3.0 } else { 0.0 });
    let want: Vec<f64> =
        x.f32().iter().zip(dy.f32()).map(|(&x, &dy)| f64::from(dy) * slope(x)).collect();
    allclose("dx", &got, &want, 1e-6, 1e-6).unwrap();
}

#[test]
fn nothing_is_computed_for_what_nobody_asks() {
    let shape = Shape::new(1, 2, 2, 4);
    let mut graph = Graph::new();
    let [a, b, c, dy] = ["a", "b", "c", "dy"].map(|name| graph.input(name, TensorType::f32(shape)));
    let product = graph.root().mul("product", a, b).unwrap();
    let nodes = graph.nodes().len();
    let gradients = graph.gradients(&[(product, dy)], &[b, c]).unwrap();
    assert!(gradients[0].is_some() && gradients[1].is_none(), "nothing depends on c");
    let added: Vec<&str> = graph.nodes()[nodes..].iter().map(|n| n.name.as_str()).collect();
    assert_eq!(added, ["product.grad.product"], "the gradient with respect to a is not requested");
}

#[test]
fn a_missing_rule_and_a_seed_of_another_shape_are_errors_that_name_the_node() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32(Shape::new(1, 2, 2, 4)));
    let label = graph.root().op("label", Argmax, &[x]).unwrap();
    let error = graph.clone().gradients(&[(label, label)], &[x]).unwrap_err().to_string();
    assert!(error.contains("label") && error.contains("has no gradient"), "{error}");
    let small = graph.input("small", TensorType::f32(Shape::vector(4)));
    let error = graph.gradients(&[(x, small)], &[x]).unwrap_err().to_string();
    assert!(error.contains("gradient of `x`"), "{error}");
}
