//! Damaged and malicious files: each is an error that names the file (or loads, if only values or
//! names changed), without a panic and within bounded memory.

use crate::support::Rng;
use crate::{golden, memory, seeded};
use atrous::engine::models::{Backbone, Config, random_weights};
use atrous::engine::onnx::{OnnxOptions, export};
use atrous::{Model, Size};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Memory limit for any file, in bytes.
const LIMIT: usize = 1 << 30;

/// A field of a protocol buffer with a length.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field with an integer.
fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An attribute with integers.
fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|&v| int(8, v)).collect();
    field(5, &[field(1, name.as_bytes()), list, int(20, 7)].concat())
}

/// The attribute `axis`.
fn axis(axis: u64) -> Vec<u8> {
    field(5, &[field(1, b"axis"), int(3, axis), int(20, 2)].concat())
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
    let parts = [inputs, field(2, output.as_bytes()), field(4, op.as_bytes()), attributes.concat()];
    field(1, &parts.concat())
}

/// A constant of 32-bit floating point.
fn constant(name: &str, dims: &[u64], elements: usize) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&n| int(1, n)).collect();
    let data = field(9, &vec![0; 4 * elements]);
    field(5, &[dims, int(2, 1), field(8, name.as_bytes()), data].concat())
}

/// A constant of 64-bit integers.
fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let head = [int(1, values.len() as u64), int(2, 7), field(8, name.as_bytes())].concat();
    field(5, &[head, field(9, &data)].concat())
}

fn value(number: u64, name: &str, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&n| field(1, &int(1, n))).collect();
    let ty = field(1, &[int(1, 1), field(2, &dims)].concat());
    field(number, &[field(1, name.as_bytes()), field(2, &ty)].concat())
}

/// A model from an image of 8 x 8 pixels to `y`.
fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    let graph = [parts.concat(), value(11, "x", &[1, 3, 8, 8]), value(12, "y", &[])].concat();
    [int(1, 8), field(2, b"test"), field(7, &graph), field(8, &int(2, 17))].concat()
}

/// Name of the case, the file, and a part of the error.
type Case = (&'static str, Vec<u8>, &'static str);

fn structures() -> Vec<Case> {
    let kernel = || constant("k", &[2, 3, 1, 1], 6);
    let conv =
        |attributes: &[Vec<u8>]| model(&[kernel(), node("Conv", &["x", "k"], "y", attributes)]);
    let big = |dims: &[u64]| model(&[constant("k", dims, 6), node("Conv", &["x", "k"], "y", &[])]);
    let reshape = |to: &[i64]| model(&[integers("s", to), node("Reshape", &["x", "s"], "y", &[])]);
    let computed = |op: &str, of: &[i64]| {
        let nodes =
            [integers("s", of), node(op, &["s"], "t", &[]), node("Reshape", &["x", "t"], "y", &[])];
        model(&nodes)
    };
    let chain: Vec<Vec<u8>> = (0..30_000)
        .map(|i| {
            let input = if i == 0 { "x".to_owned() } else { format!("n{}", i - 1) };
            node("Relu", &[&input], &format!("n{i}"), &[])
        })
        .collect();
    let resize = |sizes: &[i64]| {
        model(&[integers("s", sizes), node("Resize", &["x", "", "", "s"], "y", &[])])
    };
    let mut truncated = conv(&[]);
    truncated.truncate(40);
    vec![
        ("truncated", truncated, "truncated"),
        ("no graph", [int(1, 8), field(2, b"test"), field(8, &int(2, 17))].concat(), "no output"),
        (
            "no operators",
            [int(1, 8), field(2, b"t"), field(7, &value(12, "y", &[]))].concat(),
            "version",
        ),
        ("the image as the output", model(&[node("Identity", &["x"], "y", &[])]), ""),
        (
            "the logarithm of a softmax inside",
            model(&[node("LogSoftmax", &["x"], "s", &[axis(1)]), node("Relu", &["s"], "y", &[])]),
            "inside the network",
        ),
        ("an unknown operator", model(&[node("Einsum", &["x"], "y", &[])]), "Einsum (1)"),
        (
            "a value that nothing computes",
            model(&[node("Relu", &["z"], "y", &[])]),
            "expected one input",
        ),
        (
            "a cycle",
            model(&[
                node("Add", &["x", "b"], "a", &[]),
                node("Relu", &["a"], "b", &[]),
                node("Relu", &["b"], "y", &[]),
            ]),
            "no earlier node",
        ),
        (
            "many empty nodes",
            model(&[field(1, b"").repeat(400_000)]),
            "nodes, constants and attributes",
        ),
        (
            "many empty attributes",
            model(&[field(1, &field(5, b"").repeat(400_000))]),
            "nodes, constants and attributes",
        ),
        (
            "many empty constants",
            model(&[field(5, b"").repeat(400_000)]),
            "nodes, constants and attributes",
        ),
        ("a long name", model(&[node(&"Relu".repeat(20_000), &["x"], "y", &[])]), "at most"),
        (
            "a long list",
            conv(&[field(5, &[field(1, b"strides"), field(8, &vec![1; 100_000])].concat())]),
            "at most",
        ),
        ("dimensions that overflow", big(&[1 << 40, 1 << 40, 1, 1]), "impossible dimensions"),
        ("a negative dimension", big(&[u64::MAX, 3, 1, 1]), "impossible dimensions"),
        ("a large kernel without elements", big(&[1 << 20, 1 << 10, 1, 1]), "damaged"),
        ("an empty kernel", big(&[0, 3, 1, 1]), ""),
        ("a kernel of three axes", big(&[2, 3, 1]), "4 axes"),
        ("a stride of zero", conv(&[ints("strides", &[0, 1])]), "strides"),
        ("a huge stride", conv(&[ints("strides", &[1 << 40, 1])]), "strides"),
        ("a negative stride", conv(&[ints("strides", &[u64::MAX, 1])]), "strides"),
        ("a huge dilation", conv(&[ints("dilations", &[1 << 50, 1])]), "dilations"),
        ("huge padding", conv(&[ints("pads", &[1 << 62, 0, 0, 0])]), ""),
        (
            "padding of half the address space",
            conv(&[ints("pads", &[1 << 31, 1 << 31, 1 << 31, 1 << 31])]),
            "",
        ),
        ("three strides", conv(&[ints("strides", &[1, 1, 1])]), "expected 2 values"),
        (
            "groups that do not divide",
            conv(&[field(5, &[field(1, b"group"), int(3, 2), int(20, 2)].concat())]),
            "",
        ),
        (
            "negative groups",
            conv(&[field(5, &[field(1, b"group"), int(3, u64::MAX), int(20, 2)].concat())]),
            "",
        ),
        ("a reshape that mixes", reshape(&[1, 8, 8, 3]), "axes of size 1"),
        ("a reshape to too much", reshape(&[1, 3, 1 << 40, 1 << 40]), "cannot reshape"),
        ("a reshape to nothing", reshape(&[0, 0, 0, 0, 0]), "cannot reshape"),
        ("two open dimensions", reshape(&[-1, -1, 8]), ""),
        (
            "a constant of a huge shape",
            computed("ConstantOfShape", &[1 << 20, 1 << 20]),
            "elements",
        ),
        ("a shape of negative sizes", computed("ConstantOfShape", &[-5]), "negative"),
        (
            "an endless range",
            model(&[
                integers("a", &[0]),
                integers("b", &[i64::MAX]),
                integers("c", &[1]),
                node("Range", &["a", "b", "c"], "r", &[]),
                node("Reshape", &["x", "r"], "y", &[]),
            ]),
            "elements",
        ),
        (
            "a division by zero",
            model(&[
                integers("a", &[1]),
                integers("b", &[0]),
                node("Div", &["a", "b"], "r", &[]),
                node("Reshape", &["x", "r"], "y", &[]),
            ]),
            "division by zero",
        ),
        (
            "an overflow",
            model(&[
                integers("a", &[i64::MIN]),
                integers("b", &[-1]),
                node("Div", &["a", "b"], "r", &[]),
                node("Reshape", &["x", "r"], "y", &[]),
            ]),
            "overflow",
        ),
        ("a huge resize", resize(&[1, 3, 1 << 19, 1 << 19]), ""),
        ("a resize to nothing", resize(&[1, 3, 0, 8]), "cannot resize"),
        ("a resize of three axes", resize(&[3, 8, 8]), "cannot resize"),
        (
            "a concatenation of rows",
            model(&[node("Concat", &["x", "x"], "y", &[axis(2)])]),
            "channels",
        ),
        ("a concatenation of nothing", model(&[node("Concat", &[], "y", &[])]), ""),
        ("an operator without inputs", model(&[node("Relu", &[], "y", &[])]), ""),
        ("a sum of one", model(&[node("Add", &["x"], "y", &[])]), ""),
        (
            "a constant of no element",
            model(&[constant("k", &[0], 0), node("Add", &["x", "k"], "y", &[])]),
            "",
        ),
        ("one value for the image", model(&[node("GlobalAveragePool", &["x"], "y", &[])]), ""),
        ("a deep chain", model(&[chain.concat(), node("Relu", &["n29999"], "y", &[])]), ""),
        (
            "a split into nothing",
            model(&[node("Split", &["x"], "y", &[axis(1), ints("split", &[])])]),
            "",
        ),
        (
            "an external file of the system",
            model(&[
                field(
                    5,
                    &[
                        int(1, 8),
                        int(2, 1),
                        field(8, b"k"),
                        field(13, &[field(1, b"location"), field(2, b"/dev/zero")].concat()),
                        int(14, 1),
                    ]
                    .concat(),
                ),
                node("Add", &["x", "k"], "y", &[]),
            ]),
            "not below",
        ),
    ]
}

/// Loads a file and builds its network.
fn open(bytes: Vec<u8>) -> atrous::Result<()> {
    let model = Model::from_bytes(bytes, "net.onnx")?;
    let size = model.default_size().fit(Size::new(64, 48)).padded;
    let channels = model.network.input_channels();
    let shape = atrous::engine::Shape::images(1, size, channels);
    model.network(shape, &Default::default()).map(drop)
}

/// Runs a case, and returns what is wrong with it.
fn check(name: &str, bytes: Vec<u8>, text: Option<&str>) -> Option<String> {
    let (result, peak) = memory::peak_of(|| catch_unwind(AssertUnwindSafe(|| open(bytes))));
    let problem = match (result, text) {
        (Err(_), _) => "panicked".to_owned(),
        _ if peak > LIMIT => format!("allocated {} MiB", peak >> 20),
        (Ok(Ok(())), None) => return None,
        // Some of them compute something.
        (Ok(Ok(())), Some("")) => return None,
        (Ok(Ok(())), Some(_)) => "was read".to_owned(),
        (Ok(Err(e)), text) => {
            let message = e.to_string();
            if message.starts_with("net.onnx") && message.contains(text.unwrap_or("")) {
                return None;
            }
            message
        }
    };
    Some(format!("{name}: {problem}"))
}

#[test]
fn hostile_structures_are_refused() {
    let problems: Vec<String> = structures()
        .into_iter()
        .filter_map(|(name, bytes, text)| check(name, bytes, Some(text)))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_with_changed_bytes_are_refused_or_read() {
    let backbone = Backbone::named("mobilenet_v2_0.1").unwrap();
    let config = Config::deeplab_v3plus(backbone, 3);
    let options = OnnxOptions::default();
    let own = export(&config, &random_weights(&config, 1).unwrap(), &options, None).unwrap();
    let (_, tensors) = seeded::read(&golden("operators.safetensors"));
    let small = ["resize_computed", "reduce_mean_gemm", "split", "nhwc"].map(|name| {
        tensors[&format!("{name}.model")].data.iter().map(|&byte| byte as u8).collect::<Vec<u8>>()
    });
    let mut random = Rng(5);
    let mut problems = Vec::new();
    for (file, bytes) in std::iter::once(&own).chain(&small).enumerate() {
        let len = bytes.len();
        for cut in [0, 3, 9, len / 3, len / 2, len - 9, len - 1] {
            let name = format!("{file}, truncated to {cut}");
            problems.extend(check(&name, bytes[..cut].to_vec(), None));
        }
        for i in 0..40 {
            // Most of a network's bytes are weights; its structure is at both ends.
            let end = if i % 2 == 0 { len - 1 } else { 3000.min(len - 1) };
            let (at, bit) = (random.range(0, end), random.range(0, 7));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            problems.extend(check(&format!("{file}, bit {bit} of byte {at}"), flipped, None));
        }
        for _ in 0..20 {
            let at = random.range(0, len - 5);
            let mut changed = bytes.clone();
            changed[at..at + 4].fill(0xff);
            problems.extend(check(&format!("{file}, huge number at {at}"), changed, None));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// They were compared with a threshold instead.
#[test]
fn labels_of_sigmoids_are_those_of_the_largest_output() {
    let sigmoid = node("Sigmoid", &["x"], "s", &[]);
    let labels = model(&[sigmoid, node("ArgMax", &["s"], "y", &[axis(1)])]);
    let labeling = Model::from_bytes(labels, "net.onnx").unwrap().network.labeling().unwrap();
    assert_eq!((labeling.classes, labeling.sigmoid()), (3, None));
    let alone = model(&[node("Sigmoid", &["x"], "y", &[])]);
    let labeling = Model::from_bytes(alone, "net.onnx").unwrap().network.labeling().unwrap();
    assert_eq!(labeling.classes, 4);
    assert!(labeling.is_multi_label());
}
