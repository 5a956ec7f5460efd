//! Statistics and reproducibility of dropout.

use crate::support::devices;
use atrous::engine::exec::Runner;
use atrous::engine::graph::Graph;
use atrous::engine::ops::DropoutTrain;
use atrous::engine::{Data, Shape, Tensor, TensorType};

/// The output of dropout for ones, and the gradient for ones, on a device.
fn dropped(
    device: &atrous::engine::exec::Device,
    shape: Shape,
    op: DropoutTrain,
    step: u32,
) -> (Vec<f32>, Vec<f32>) {
    let mut graph = Graph::new();
    let (x, dy) =
        (graph.input("x", TensorType::f32(shape)), graph.input("dy", TensorType::f32(shape)));
    let step_value = graph.input("step", TensorType::u32(Shape::vector(1)));
    let y = graph.root().op("drop", op, &[x, step_value]).unwrap();
    let dx = graph.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
    graph.output("y", y);
    graph.output("dx", dx);
    let ones = Tensor::from_fn(shape, |_, _, _, _| 1.0);
    let step = Tensor::from_data(Shape::vector(1), Data::U32(vec![step])).unwrap();
    let got = Runner::new(device, graph)
        .unwrap()
        .run(&[("x", &ones), ("dy", &ones), ("step", &step)])
        .unwrap();
    (got[0].f32().to_vec(), got[1].f32().to_vec())
}

#[test]
fn dropout_drops_its_share_and_the_gradient_finds_the_same_elements() {
    let shape = Shape::new(2, 15, 17, 7);
    let op = DropoutTrain { p: 0.3, key: 9 };
    let mut seen = Vec::new();
    for device in devices() {
        let (y, dx) = dropped(&device, shape, op, 5);
        assert_eq!(y, dx, "{device}");
        assert!(y.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
        let fraction = y.iter().filter(|v| **v == 0.0).count() as f64 / y.len() as f64;
        // Three standard deviations of a fraction of 3570 elements.
        assert!(
            (fraction - 0.3).abs() < 3.0 * (0.3 * 0.7 / 3570f64).sqrt(),
            "{device}: {fraction}"
        );
        let differs = |other: DropoutTrain, step: u32| {
            let (z, _) = dropped(&device, shape, other, step);
            let kept_alike = y.iter().zip(&z).filter(|(a, b)| (**a == 0.0) == (**b == 0.0)).count()
                as f64
                / y.len() as f64;
            // Independent choices agree on 0.7^2 + 0.3^2 of the elements.
            assert!((kept_alike - 0.58).abs() < 0.03, "{device}: {kept_alike}");
        };
        differs(op, 6);
        differs(DropoutTrain { key: 10, ..op }, 5);
        seen.push(y);
    }
    assert!(
        seen.windows(2).all(|pair| pair[0] == pair[1]),
        "the executors drop different elements"
    );
}
