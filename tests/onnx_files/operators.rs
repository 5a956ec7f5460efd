//! Every operator, and variants of it, against ONNX Runtime.

use crate::{difference, golden, largest, scores, seeded};
use atrous::engine::{Shape, Tensor};
use atrous::{ErrorKind, Model};
use std::collections::BTreeSet;

/// Relative to the largest value. The longest sum has 54 terms; the rest is rounding of a few
/// operations in another order.
const TOLERANCE: f32 = 2e-6;

#[test]
fn operators_compute_what_onnx_runtime_does() {
    let (_, tensors) = seeded::read(&golden("operators.safetensors"));
    let names: BTreeSet<&str> =
        tensors.keys().filter_map(|name| name.strip_suffix(".model")).collect();
    assert!(names.len() > 50, "{}", names.len());
    for name in names {
        let tensor = |part: &str| &tensors[&format!("{name}.{part}")];
        let bytes: Vec<u8> = tensor("model").data.iter().map(|&byte| byte as u8).collect();
        let model = Model::from_bytes(bytes, format!("{name}.onnx"))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let input = tensor("input");
        let [n, a, b, c] = input.dims[..] else { panic!("{name}: {:?}", input.dims) };
        // Only the network in TensorFlow's order of axes has images of 3 channels.
        let image = if c == 3 {
            Tensor::new(Shape::new(n, a, b, c), input.data.clone()).unwrap()
        } else {
            Tensor::from_nchw(n, a, b, c, &input.data).unwrap()
        };
        let expected = tensor("output");
        let network = model.network(image.shape(), &Default::default()).unwrap();
        let logits = network.graph.shape(network.graph.outputs()[0].1);
        let [_, channels, height, width] = expected.dims[..] else { panic!("{name}") };
        assert_eq!((logits.c, logits.h, logits.w), (channels, height, width), "{name}");
        let runner = atrous::engine::exec::Runner::new(
            &atrous::engine::exec::Device::Cpu,
            atrous::engine::passes::optimize(network.graph).unwrap(),
        );
        let got = runner.unwrap().run(&[("input", &image)]).unwrap()[0].to_nchw();
        let error = difference(&got, &expected.data) / largest(&expected.data);
        assert!(error < TOLERANCE, "{name}: {error:e}");
    }
}

#[test]
fn another_size_than_the_file_fixes_is_refused() {
    let (_, tensors) = seeded::read(&golden("operators.safetensors"));
    let bytes = tensors["relu.model"].data.iter().map(|&byte| byte as u8).collect();
    let model = Model::from_bytes(bytes, "relu.onnx").unwrap();
    assert_eq!(model.default_size().to_string(), "13x9");
    let error = model.network(Shape::new(1, 10, 13, 6), &Default::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("images of 13x9 pixels only"), "{error}");
    let image = Tensor::from_fn(Shape::new(1, 9, 13, 6), |_, _, _, c| c as f32 - 3.0);
    assert_eq!(largest(&scores(&model, &image).1), 2.0);
}
