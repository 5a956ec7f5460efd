//! Operands in a channel range of another buffer: shaders must apply pitch and offset, must not
//! write outside the range, and must not use the lanes past the last channel.

use crate::support::{Rng, allclose};
use atrous::Size;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::{ChannelView, Graph, ParamRef, ValueId};
use atrous::engine::ops::{
    Activate, Activation, Add, Argmax, AvgPool, BatchNorm, Concat, Conv2d, Dropout, Flip,
    GlobalAvgPool, MaxPool, Mul, Op, Padding, PixelAlignment, Prepend, Preprocess, Resize, Softmax,
    Threshold, UpsampleArgmax, UpsampleProbabilities, Upsampling,
};
use atrous::engine::tensor::DType;
use atrous::engine::{Data, Elements, Shape, Tensor, TensorType};
use std::sync::Arc;

/// An operation and the number of inputs that are activations; the other inputs are parameters.
struct Case {
    op: Arc<dyn Op>,
    activations: usize,
    inputs: Vec<Shape>,
}

fn case(op: impl Op, activations: usize, inputs: &[Shape]) -> Case {
    Case { op: Arc::new(op), activations, inputs: inputs.to_vec() }
}

fn cases() -> Vec<Case> {
    let x = Shape::new(2, 6, 5, 7);
    let y = x.with_c(10);
    let conv = Conv2d {
        bias: true,
        residual: true,
        activation: Activation::Relu,
        ..Conv2d::square(1, 1, 1)
    };
    let wide = x.with_c(8);
    let upsampling = Upsampling {
        size: Size::new(8, 9),
        alignment: PixelAlignment::HalfPixel,
        window: None,
        rows: None,
    };
    let labels = |confidence| UpsampleArgmax {
        upsampling: Upsampling { alignment: PixelAlignment::Corners, ..upsampling },
        confidence,
        sigmoid: None,
    };
    let softmax = UpsampleProbabilities { upsampling, weighted: false, sigmoid: false };
    vec![
        case(Conv2d { bias: false, residual: false, ..conv }, 1, &[x, Shape::new(3, 3, 7, 10)]),
        case(
            Conv2d { bias: false, residual: false, padding: Padding::default(), ..conv },
            1,
            &[x, Shape::new(1, 1, 7, 9)],
        ),
        case(
            Conv2d { bias: false, residual: false, groups: 7, ..conv },
            1,
            &[x, Shape::new(3, 3, 1, 7)],
        ),
        case(Activate(Activation::HardSwish), 1, &[x]),
        case(Dropout { p: 0.1 }, 1, &[x]),
        case(
            BatchNorm { eps: 1e-5 },
            1,
            &[x, Shape::vector(7), Shape::vector(7), Shape::vector(7), Shape::vector(7)],
        ),
        case(Add, 2, &[x, x]),
        case(Mul, 2, &[x, x.with_hw(1, 1)]),
        case(Concat, 3, &[x, y, wide]),
        case(
            Resize { size: Size::new(11, 9), alignment: PixelAlignment::HalfPixel, window: None },
            1,
            &[x],
        ),
        case(MaxPool::square(3, 2, 1), 1, &[x]),
        case(AvgPool::square(3, 2, 1), 1, &[x]),
        case(GlobalAvgPool, 1, &[x]),
        case(GlobalAvgPool, 1, &[x.with_hw(9, 8)]),
        case(Softmax, 1, &[x]),
        case(Flip, 1, &[x]),
        case(Argmax, 1, &[x]),
        case(labels(true), 1, &[x]),
        case(softmax, 1, &[x]),
        case(UpsampleProbabilities { weighted: true, ..softmax }, 1, &[x, Shape::vector(7)]),
        case(UpsampleArgmax { sigmoid: Some(Threshold::HALF), ..labels(true) }, 1, &[x]),
        case(UpsampleProbabilities { sigmoid: true, ..softmax }, 1, &[x]),
        case(Prepend { value: 0.25 }, 1, &[x]),
        case(Prepend { value: 0.25 }, 1, &[wide]),
    ]
}

/// Makes `value` a view of a concatenation: after eight other channels, and before three more if
/// those start at a multiple of four, as views must.
fn into_view(graph: &mut Graph, name: &str, value: ValueId) {
    let shape = graph.shape(value);
    let neighbor = |graph: &mut Graph, what: &str, c: usize| {
        let input = graph.input(&format!("{name}.{what}"), TensorType::f32(shape.with_c(c)));
        graph
            .push(&format!("{name}.{what}.copy"), Arc::new(Activate(Activation::Relu)), &[input])
            .unwrap()[0]
    };
    let mut parts = vec![(neighbor(graph, "front", 8), 0), (value, 8)];
    if shape.c.is_multiple_of(4) {
        parts.push((neighbor(graph, "back", 3), 8 + shape.c));
    }
    let values: Vec<ValueId> = parts.iter().map(|&(v, _)| v).collect();
    let root = graph.push(&format!("{name}.concat"), Arc::new(Concat), &values).unwrap()[0];
    for (value, channel) in parts {
        graph.set_view(value, ChannelView { root, channel });
    }
    graph.output(&format!("{name}.whole"), root);
}

/// The operation between views: each activation is read from a view, and each f32 output is written
/// to one.
fn graph_of(case: &Case, rng: &mut Rng) -> Graph {
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for (i, &shape) in case.inputs.iter().enumerate() {
        if i >= case.activations {
            // Positive, for the variance of batch norm.
            let data = Tensor::from_fn(shape, |_, _, _, _| rng.unit() + 1.5);
            inputs.push(graph.param_with_data(&format!("p{i}"), shape, Some(ParamRef::new(data))));
            continue;
        }
        // Inputs are negative, so their hard sigmoid is below 1/2, which is the value of the lanes
        // past the last channel.
        let input = graph.input(&format!("in{i}"), TensorType::f32(shape));
        inputs.push(
            graph
                .push(&format!("in{i}.copy"), Arc::new(Activate(Activation::HardSigmoid)), &[input])
                .unwrap()[0],
        );
        into_view(&mut graph, &format!("view{i}"), inputs[i]);
    }
    for (i, v) in graph.push("op", case.op.clone(), &inputs).unwrap().into_iter().enumerate() {
        graph.output(&format!("out{i}"), v);
        if graph.ty(v).dtype == DType::F32 {
            into_view(&mut graph, &format!("out{i}"), v);
        }
    }
    graph
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn operands_in_views_give_the_same_as_operands_of_their_own() {
    let device = crate::support::required_gpu();
    let mut rng = Rng(41);
    let mut failures = Vec::new();
    for case in cases() {
        let graph = graph_of(&case, &mut rng);
        let tensors: Vec<(String, Tensor)> = graph
            .inputs()
            .map(|(name, v)| {
                (name.to_owned(), Tensor::from_fn(graph.shape(v), |_, _, _, _| rng.unit() - 1.5))
            })
            .collect();
        let inputs: Vec<(&str, &Tensor)> =
            tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let on = |device: &Device| Runner::new(device, graph.clone()).and_then(|r| r.run(&inputs));
        // The CPU executor ignores views.
        let (want, got) = (on(&Device::Cpu).unwrap(), on(&device));
        let name = case.op.name();
        let Ok(got) = got.map_err(|e| failures.push(format!("{name}: {e}"))) else { continue };
        for (((output, _), want), got) in graph.outputs().iter().zip(&want).zip(&got) {
            let want: Vec<f64> = match want.data() {
                Elements::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
                Elements::U32(v) => v.iter().map(|&v| f64::from(v)).collect(),
                Elements::U8(v) => v.iter().map(|&v| f64::from(v)).collect(),
            };
            // Convolutions here sum 63 products of at most 1.3; labels must be equal (no two logits
            // are close in these cases).
            failures.extend(allclose(&format!("{name} {output}"), got, &want, 3e-5, 1e-5).err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn an_image_is_prepared_into_a_view() {
    let device = crate::support::required_gpu();
    let mut graph = Graph::new();
    let shape = Shape::new(2, 5, 7, 3);
    let image = graph.input("image", TensorType::u8(shape));
    let op = Preprocess {
        size: Size::new(9, 6),
        scale: [0.01; 3],
        shift: [-1.0; 3],
        pad_value: [0.5; 3],
    };
    let y = graph.push("prepare", Arc::new(op), &[image]).unwrap()[0];
    into_view(&mut graph, "y", y);
    let bytes = Tensor::from_data(
        shape,
        Data::U8((0..shape.len()).map(|i| (i * 37 % 256) as u8).collect()),
    )
    .unwrap();
    let front = Tensor::zeros(TensorType::f32(Shape::new(2, 6, 9, 8)));
    let inputs = [("image", &bytes), ("y.front", &front)];
    let run = |device: &Device| {
        Runner::new(device, graph.clone()).unwrap().run(&inputs).unwrap().remove(0)
    };
    let want: Vec<f64> = run(&Device::Cpu).f32().iter().map(|&v| f64::from(v)).collect();
    allclose("preprocess", &run(&device), &want, 1e-6, 0.0).unwrap();
}
