//! Every operation against results of PyTorch (`tests/golden/ops.py`).

use crate::oracle::{self, Map};
use crate::{Case, ROUNDING, run};
use atrous::engine::ops::{
    Activate, Activation, Add, Argmax, AvgPool, BatchNorm, Concat, Conv2d, GlobalAvgPool, MaxPool,
    Mul, Op, Padding, Preprocess, Resize, Softmax, UpsampleArgmax, Upsampling,
};
use atrous::engine::{Data, Elements, Shape, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A case in the file's metadata. Inputs and outputs map roles to tensor names.
#[derive(Deserialize)]
struct Record {
    case: String,
    op: String,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
    attributes: Value,
}

impl Record {
    fn get<T: DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.attributes[name].clone())
            .unwrap_or_else(|e| panic!("{}: {name}: {e}", self.case))
    }

    fn padding(&self) -> Padding {
        let [top, bottom, left, right] = self.get("padding");
        Padding { top, bottom, left, right }
    }
}

/// A stored tensor in our layout: images and maps from NCHW, kernels from OIHW, vectors as
/// `[1, 1, 1, C]`, labels `[N, H, W, 1]`.
fn tensor(file: &SafeTensors, name: &str, role: &str) -> Tensor {
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let dims = view.shape();
    let (from, shape): ([usize; 4], Shape) = match (dims, role) {
        (&[o, i, h, w], "weight") => ([o, i, h, w], Shape::new(h, w, i, o)),
        (&[n, c, h, w], _) => ([n, c, h, w], Shape::new(n, h, w, c)),
        (&[n, h, w], _) => ([n, 1, h, w], Shape::new(n, h, w, 1)),
        (&[c], _) => ([1, c, 1, 1], Shape::vector(c)),
        _ => panic!("{name}: shape {dims:?} is unsupported"),
    };
    // Where element [a, b, c, d] of the file goes.
    let at = |i: usize| {
        let (d, c, b, a) = (
            i % from[3],
            i / from[3] % from[2],
            i / from[3] / from[2] % from[1],
            i / from[3] / from[2] / from[1],
        );
        if role == "weight" && dims.len() == 4 {
            shape.index(c, d, b, a)
        } else {
            shape.index(a, c, d, b)
        }
    };
    let data = match view.dtype() {
        Dtype::F32 => {
            let mut out = vec![0.0; shape.len()];
            let values =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            values.enumerate().for_each(|(i, v)| out[at(i)] = v);
            Data::F32(out)
        }
        Dtype::U8 => {
            let mut out = vec![0; shape.len()];
            view.data().iter().enumerate().for_each(|(i, &v)| out[at(i)] = v);
            Data::U8(out)
        }
        other => panic!("{name}: {other:?} is unsupported"),
    };
    Tensor::from_data(shape, data).unwrap()
}

/// The operation, its inputs' roles in order, its outputs' roles in order, and the tolerance for
/// values near 1.
type Call = (Arc<dyn Op>, Vec<&'static str>, Vec<&'static str>, f64);

fn call(record: &Record, inputs: &BTreeMap<String, Tensor>) -> Option<Call> {
    let unary = |op: Arc<dyn Op>, atol: f64| (op, vec!["x"], vec!["y"], atol);
    let size = || oracle::size(record.get("size"));
    let spacing = |key| oracle::spacing(record.get(key));
    Some(match record.op.as_str() {
        "conv2d" => {
            let bias = inputs.contains_key("bias");
            let conv = Conv2d {
                stride: spacing("stride"),
                dilation: spacing("dilation"),
                padding: record.padding(),
                groups: record.get("groups"),
                bias,
                ..Conv2d::default()
            };
            let w = inputs["weight"].shape();
            let mut roles = vec!["x", "weight"];
            roles.extend(bias.then_some("bias"));
            // Products of numbers in [-2, 2) and [-1, 1); see `conv::case`.
            (Arc::new(conv), roles, vec!["y"], 4.0 * (w.n * w.h * w.w + 8) as f64 * ROUNDING)
        }
        "batch_norm" => {
            let roles = vec!["x", "weight", "bias", "running_mean", "running_var"];
            // Variances down to 0: factors reach 2 / sqrt(1e-5) = 632, products 2500.
            (
                Arc::new(BatchNorm { eps: record.get("eps") }),
                roles,
                vec!["y"],
                8.0 * 2500.0 * ROUNDING,
            )
        }
        "resize" => unary(
            Arc::new(Resize {
                size: size(),
                alignment: record.get::<bool>("align_corners").into(),
                window: None,
            }),
            2e-6,
        ),
        "max_pool" => {
            let pool = MaxPool {
                kernel: oracle::size(record.get("kernel")),
                stride: spacing("stride"),
                dilation: spacing("dilation"),
                padding: record.padding(),
                ceil_mode: record.get("ceil_mode"),
            };
            unary(Arc::new(pool), 0.0)
        }
        "avg_pool" => {
            let pool = AvgPool {
                kernel: oracle::size(record.get("kernel")),
                stride: spacing("stride"),
                padding: record.padding(),
                count_include_pad: record.get("count_include_pad"),
                ceil_mode: record.get("ceil_mode"),
            };
            unary(Arc::new(pool), 40.0 * ROUNDING)
        }
        "global_avg_pool" => unary(Arc::new(GlobalAvgPool), 40.0 * ROUNDING),
        "relu" => unary(Arc::new(Activate(Activation::Relu)), 0.0),
        "relu6" => unary(Arc::new(Activate(Activation::Relu6)), 0.0),
        "hardswish" => unary(Arc::new(Activate(Activation::HardSwish)), 1e-6),
        "hardsigmoid" => unary(Arc::new(Activate(Activation::HardSigmoid)), 1e-6),
        "add" => (Arc::new(Add), vec!["a", "b"], vec!["y"], 0.0),
        "mul" => (Arc::new(Mul), vec!["a", "b"], vec!["y"], 0.0),
        "concat" => (Arc::new(Concat), vec!["a", "b", "c"], vec!["y"], 0.0),
        "softmax" => unary(Arc::new(Softmax), 1e-6),
        "argmax" => (Arc::new(Argmax), vec!["x"], vec!["labels"], 0.0),
        "upsample_argmax" => {
            let upsampling = Upsampling {
                size: size(),
                alignment: record.get::<bool>("align_corners").into(),
                window: None,
                rows: None,
            };
            let op = UpsampleArgmax { upsampling, confidence: true, sigmoid: None };
            (Arc::new(op), vec!["x"], vec!["labels", "confidence"], 1e-5)
        }
        "preprocess" => {
            let (scale, shift, pad_value) =
                (record.get("scale"), record.get("shift"), record.get("pad_value"));
            unary(Arc::new(Preprocess { size: size(), scale, shift, pad_value }), 1e-6)
        }
        // A rule for weights, not an operation; checked by the tests of the weights.
        "inflate" => return None,
        other => panic!("{}: unknown operation {other}", record.case),
    })
}

#[test]
fn operations_agree_with_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ops/ops.safetensors");
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let text = &header.metadata().as_ref().expect("the file has metadata")["cases"];
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let records: Vec<Record> = serde_json::from_str(text).unwrap();
    let cases: Vec<Case> = records
        .iter()
        .filter_map(|record| {
            let inputs = record
                .inputs
                .iter()
                .map(|(role, name)| (role.clone(), tensor(&file, name, role)))
                .collect();
            let (op, roles, outputs, atol) = call(record, &inputs)?;
            let want: Vec<Tensor> =
                outputs.iter().map(|&role| tensor(&file, &record.outputs[role], role)).collect();
            let name = record.case.clone();
            let check = Box::new(move |what: &str, got: &[Tensor]| {
                got.iter().zip(&want).try_for_each(|(got, want)| {
                    let what = format!("{name}: {what}");
                    let exact = !matches!(got.data(), Elements::F32(_));
                    if got.shape() != want.shape() {
                        return Err(format!(
                            "{what}: the shape is {}, expected {}",
                            got.shape(),
                            want.shape()
                        ));
                    }
                    let want = match want.data() {
                        Elements::U8(v) => v.iter().map(|&v| f64::from(v)).collect(),
                        _ => Map::of(want).data,
                    };
                    let (atol, rtol) = if exact { (0.0, 0.0) } else { (atol, 4.0 * ROUNDING) };
                    crate::support::allclose(&what, got, &want, atol, rtol)
                })
            });
            Some(Case {
                op,
                inputs: roles.iter().map(|&role| inputs[role].clone()).collect(),
                check,
            })
        })
        .collect();
    assert!(cases.len() > 100, "the file has {} cases", cases.len());
    run(&cases);
}
