//! Passes preserve the outputs within rounding, and have their intended effect.

mod support;

use atrous::Size;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::{Graph, ParamRef, Part, Scope, ValueId, Weights};
use atrous::engine::ops::{Activation, Conv2d};
use atrous::engine::plan::Plan;
use atrous::engine::{Shape, Tensor, TensorType, passes};

use atrous::Result;
use support::{Rng, allclose, devices};

/// Convolution, batch norm, activation.
fn layer(
    s: &mut Scope,
    name: &str,
    conv: Conv2d,
    x: ValueId,
    k: usize,
    c: usize,
    act: Activation,
) -> Result<ValueId> {
    let mut s = s.scope(name);
    let x = s.conv2d("conv", conv, x, Size::square(k), c)?;
    let x = s.batch_norm("norm", x, 1e-3)?;
    s.activate("act", act, x)
}

/// A small network: residual block, separable convolution, ASPP with a pooled branch, decoder with
/// a low-level tap. `odd` uses channel counts that are not multiples of four.
fn network(batch: usize, h: usize, w: usize, odd: bool) -> Result<Graph> {
    let c = if odd { 7 } else { 8 };
    let mut graph = Graph::new();
    let input = graph.input("input", TensorType::f32(Shape::new(batch, h, w, 3)));
    let s = &mut graph.root();
    let x = layer(s, "stem", Conv2d::square(2, 1, 1), input, 3, c, Activation::Relu6)?;
    let low = x;
    let shortcut =
        layer(s, "shortcut", Conv2d::square(1, 1, 0), x, 1, 2 * c, Activation::Identity)?;
    let y = layer(s, "a", Conv2d::square(1, 2, 2), x, 3, 2 * c, Activation::Identity)?;
    let y = s.add("add", y, shortcut)?;
    let x = s.activate("relu", Activation::Relu, y)?;
    let depthwise = Conv2d { groups: 2 * c, ..Conv2d::square(1, 3, 3) };
    let x = layer(s, "depthwise", depthwise, x, 3, 2 * c, Activation::Identity)?;
    let x = layer(s, "pointwise", Conv2d::square(1, 1, 0), x, 1, 2 * c, Activation::HardSwish)?;
    let (sh, sw) = (s.shape(x).h, s.shape(x).w);
    let mut aspp = s.scope("aspp");
    let one = layer(&mut aspp, "one", Conv2d::square(1, 1, 0), x, 1, c, Activation::Relu)?;
    let rate = layer(&mut aspp, "rate", Conv2d::square(1, 6, 6), x, 3, c, Activation::Relu)?;
    let pooled = aspp.global_avg_pool("pool", x)?;
    let pooled =
        layer(&mut aspp, "pooled", Conv2d::square(1, 1, 0), pooled, 1, c, Activation::Relu)?;
    let pooled = aspp.resize("up", pooled, Size::new(sw, sh), false)?;
    let all = aspp.concat("concat", &[one, rate, pooled])?;
    let x = layer(&mut aspp, "project", Conv2d::square(1, 1, 0), all, 1, c, Activation::Relu)?;
    let x = aspp.dropout("dropout", x, 0.5)?;
    let low = layer(s, "low", Conv2d::square(1, 1, 0), low, 1, 4, Activation::Relu)?;
    let x = s.concat("join", &[low, x])?;
    let x = layer(s, "last", Conv2d::square(1, 1, 1), x, 3, c, Activation::Relu)?;
    let logits =
        s.conv2d("classifier", Conv2d { bias: true, ..Conv2d::default() }, x, Size::square(1), 5)?;
    let full = s.resize("full", logits, Size::new(w, h), true)?;
    graph.output("logits", logits);
    graph.output("logits_full", full);
    Ok(graph)
}

fn weights(graph: &Graph, rng: &mut Rng) -> Weights {
    graph
        .params()
        .map(|(info, v)| {
            let shape = graph.shape(v);
            let positive = info.role.part == Part::RunningVar;
            let tensor = Tensor::from_fn(shape, |_, _, _, _| {
                let u = rng.unit();
                if positive {
                    1.0 + 0.5 * u
                } else {
                    u * (2.0 / (shape.len() / shape.c) as f32).sqrt()
                }
            });
            (info.name.clone(), ParamRef::new(tensor))
        })
        .collect()
}

fn outputs(device: &Device, graph: Graph, input: &Tensor) -> Vec<Tensor> {
    Runner::new(device, graph).unwrap().run(&[("input", input)]).unwrap()
}

fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.f32().iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn every_pass_keeps_the_outputs_on_every_executor() {
    let mut problems = Vec::new();
    for (case, (batch, h, w, odd)) in
        [(1, 17, 21, false), (2, 12, 9, true), (2, 16, 16, false)].into_iter().enumerate()
    {
        let mut rng = Rng(case as u64);
        let mut graph = network(batch, h, w, odd).unwrap();
        graph.bind(&weights(&graph, &mut rng)).unwrap();
        let input = rng.tensor(Shape::new(batch, h, w, 3));
        let want = outputs(&Device::Cpu, graph.clone(), &input);
        let mut check = |what: &str, device: &Device, graph: &Graph| {
            for (got, want) in outputs(device, graph.clone(), &input).iter().zip(&want) {
                // Sums of up to 144 products of order 1 in eight layers, each off by a few ulps.
                problems.extend(
                    allclose(
                        &format!("case {case}, {what}, {device}"),
                        got,
                        &f64s(want),
                        2e-5,
                        2e-5,
                    )
                    .err(),
                );
            }
        };
        let mut passed = graph.clone();
        for (name, pass) in passes::ALL {
            passed = pass(passed).unwrap();
            passed.verify().unwrap();
            check(name, &Device::Cpu, &passed);
        }
        for device in devices() {
            check("all passes", &device, &passed);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn passes_leave_convolutions_and_little_else() {
    let graph = passes::optimize(network(1, 33, 33, false).unwrap()).unwrap();
    let count = |name: &str| graph.nodes().iter().filter(|n| n.op.name() == name).count();
    for gone in ["batch_norm", "activate", "add", "dropout"] {
        assert_eq!(
            count(gone),
            0,
            "{gone} was not removed:\n{}",
            Plan::new(&graph).describe(&graph)
        );
    }
    // The pooled branch needs no upsampling; only the last resize remains.
    assert_eq!(count("resize"), 1);
    // Both concatenations are in place: the plan has a step for every other node.
    assert_eq!(Plan::new(&graph).steps.len(), graph.nodes().len() - 2);
}

#[test]
fn a_kept_activation_stops_fusion_there() {
    let mut graph = network(1, 17, 17, false).unwrap();
    let norm = graph.find_node("a.norm").unwrap().outputs[0];
    graph.output("kept", norm);
    let graph = passes::optimize(graph).unwrap();
    let (_, kept) = graph.outputs().iter().find(|(name, _)| name == "kept").unwrap();
    // The norm folds into the convolution, whose output is now read twice; the addition must not be
    // fused.
    assert_eq!(graph.producer(*kept).unwrap().op.attributes(), "s1 d2 p2 +bias");
}

#[test]
fn folded_parameters_are_computed_once_for_all_image_sizes() {
    let mut rng = Rng(5);
    let table = weights(&network(1, 9, 9, false).unwrap(), &mut rng);
    let ids = |h: usize, w: usize| {
        let mut graph = network(1, h, w, false).unwrap();
        graph.bind(&table).unwrap();
        let graph = passes::optimize(graph).unwrap();
        graph.params().map(|(_, v)| graph.param_data(v).unwrap().clone()).collect::<Vec<_>>()
    };
    let (small, large) = (ids(9, 9), ids(33, 17));
    assert!(small.iter().zip(&large).all(|(a, b)| a.id() == b.id()));
}

#[test]
fn buffers_are_shared_only_by_values_that_do_not_live_at_once() {
    for optimized in [false, true] {
        let graph = network(1, 33, 25, false).unwrap();
        let graph = if optimized { passes::optimize(graph).unwrap() } else { graph };
        let plan = Plan::new(&graph);
        let root = |v: ValueId| graph.value(v).view.map_or(v, |view| view.root);
        // Walks the steps and tracks which value each slot contains; every read must find the right
        // one.
        let mut holds: Vec<Option<ValueId>> = vec![None; plan.slots.len()];
        let slot = |v: ValueId| plan.places[v.index()].map(|p| p.slot);
        for (_, v) in graph.inputs() {
            holds[slot(v).unwrap()] = Some(v);
        }
        for node in graph.nodes() {
            for &v in &node.inputs {
                assert!(
                    slot(v).is_none_or(|s| holds[s] == Some(root(v))),
                    "{} reads what was overwritten",
                    node.name
                );
            }
            for &v in &node.outputs {
                let s = slot(v).unwrap();
                assert!(
                    !node.inputs.iter().any(|&i| slot(i) == Some(s) && root(i) != root(v)),
                    "{} overwrites its input",
                    node.name
                );
                holds[s] = Some(root(v));
            }
        }
        for (name, v) in graph.outputs() {
            assert_eq!(holds[slot(*v).unwrap()], Some(root(*v)), "output {name} was overwritten");
        }
    }
}

/// Nothing is allocated: the check precedes the first buffer.
#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn a_value_past_the_devices_binding_limit_is_refused_with_the_size_that_fits() {
    let Some(Device::Gpu(gpu)) = support::gpu() else { panic!("no GPU adapter was found") };
    let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
    // Four channels are one vec4 of 16 bytes.
    let side = ((limit / 16) as f64).sqrt() as usize + 64;
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32(Shape::new(1, 8, 8, 4)));
    let large = graph.root().resize("large", x, Size::square(side), false).unwrap();
    let small = graph.root().resize("small", large, Size::square(8), false).unwrap();
    graph.output("small", small);
    let error = Runner::new(&Device::Gpu(gpu), graph).err().expect("the value does not fit");
    assert_eq!(error.kind(), atrous::ErrorKind::OutOfMemory);
    let text = error.to_string();
    assert!(
        text.contains("`large`") && text.contains("would fit") && text.contains("--device cpu"),
        "{text}"
    );
}
