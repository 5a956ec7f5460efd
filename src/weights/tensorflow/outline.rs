//! The outline of a network in a graph: where the image enters, how it is normalized, and which
//! convolution computes the logits.

use super::graph::{Arithmetic, Border, Constant, Graph, Op, address};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::text::excerpt;

/// Maximum number of nodes between the graph's input and the first convolution.
const MAX_STEPS: usize = 256;

/// The outline of a network.
#[derive(Debug)]
pub(super) struct Outline {
    /// Node of the normalized image.
    pub image: usize,
    /// Nodes of the image before and during normalization, which have the image's size.
    pub same_size: Vec<usize>,
    /// The first convolution.
    pub stem: usize,
    /// The convolution that computes the logits.
    pub logits: usize,
    /// Nodes that depend on the logits.
    pub tail: Vec<usize>,
    pub normalization: Normalization,
    /// Size of the image, if the graph fixes it.
    pub size: Option<Size>,
}

/// Normalization of an image: `x * scale + shift` for each of the three channels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Normalization {
    pub scale: [f64; 3],
    pub shift: [f64; 3],
    /// Whether the graph's input is bytes.
    pub is_integer: bool,
    /// Node in front of the normalization that is not understood.
    pub unknown: Option<usize>,
}

impl Normalization {
    /// Returns whether the graph leaves the normalization to the caller.
    pub fn is_absent(&self) -> bool {
        !self.is_integer && self.scale == [1.0; 3] && self.shift == [0.0; 3]
    }
}

impl Outline {
    pub fn of(graph: &Graph) -> Result<Self> {
        let convs: Vec<usize> =
            (0..graph.nodes.len()).filter(|&i| graph.nodes[i].op.is_conv()).collect();
        if convs.is_empty() {
            return Err(no_network(graph));
        }
        let logits = logits(graph, &convs)?;
        let consumers = consumers(graph);
        let network = reach(graph, [logits], |i| &graph.nodes[i].inputs);
        let after_conv =
            reach(graph, convs.iter().flat_map(|&i| consumers[i].iter().copied()), |i| {
                &consumers[i]
            });
        let stems: Vec<usize> =
            convs.iter().copied().filter(|&i| network[i] && !after_conv[i]).collect();
        let [stem] = stems[..] else {
            return Err(error!(
                Weights,
                "expected one first convolution, the graph has {}",
                stems.len()
            )
            .advice("export the network for a single scale"));
        };
        let image = image(graph, stem)?;
        let (normalization, same_size, size) = normalization(graph, image);
        let after = reach(graph, consumers[logits].iter().copied(), |i| &consumers[i]);
        let tail: Vec<usize> = (0..graph.nodes.len()).filter(|&i| after[i]).collect();
        check_tail(graph, &tail)?;
        Ok(Self { image, stem, same_size, logits, tail, normalization, size })
    }
}

impl Outline {
    /// Returns the kernel of the first convolution.
    pub fn stem_kernel<'g>(&self, graph: &'g Graph) -> Option<&'g Constant> {
        let mut at = *graph.nodes[self.stem].inputs.get(1)?;
        for _ in 0..MAX_STEPS {
            match graph.nodes[at].op {
                Op::Constant(id) => return Some(&graph.constants[id]),
                Op::Identity => at = *graph.nodes[at].inputs.first()?,
                _ => return None,
            }
        }
        None
    }
}

/// Returns the only convolution that no other one depends on.
fn logits(graph: &Graph, convs: &[usize]) -> Result<usize> {
    let inputs = convs.iter().flat_map(|&i| graph.nodes[i].inputs.iter().copied());
    let before_conv = reach(graph, inputs, |i| &graph.nodes[i].inputs);
    let last: Vec<usize> = convs.iter().copied().filter(|&i| !before_conv[i]).collect();
    match last[..] {
        [logits] => Ok(logits),
        [] => Err(error!(Weights, "the convolutions of the graph form a cycle")),
        [first, second, ..] => Err(error!(
            Weights,
            "{} convolutions that no other one depends on, such as `{}` and `{}`: a network with several outputs",
            last.len(),
            excerpt(&graph.nodes[first].name),
            excerpt(&graph.nodes[second].name)
        )
        .advice("export the network for a single scale and a single output")),
    }
}

fn no_network(graph: &Graph) -> crate::Error {
    let mut names: Vec<&str> = Vec::new();
    for node in &graph.nodes {
        if let Op::Other(name) = &node.op
            && !names.contains(&name.as_str())
            && names.len() < 5
        {
            names.push(name);
        }
    }
    let seen = match names.len() {
        0 => String::new(),
        _ => format!(", but {}", excerpt(&names.join(", "))),
    };
    error!(Weights, "not a DeepLab network: the graph has no convolutions{seen}")
}

fn consumers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut consumers = vec![Vec::new(); graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            consumers[input].push(i);
        }
    }
    consumers
}

/// Returns for each node whether it can be reached from `start`, including the start.
fn reach<'a>(
    graph: &Graph,
    start: impl IntoIterator<Item = usize>,
    next: impl Fn(usize) -> &'a Vec<usize>,
) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes.len()];
    let mut stack: Vec<usize> = Vec::new();
    let push = |i: usize, reached: &mut Vec<bool>, stack: &mut Vec<usize>| {
        if !std::mem::replace(&mut reached[i], true) {
            stack.push(i);
        }
    };
    for i in start {
        push(i, &mut reached, &mut stack);
    }
    while let Some(i) = stack.pop() {
        for &j in next(i) {
            push(j, &mut reached, &mut stack);
        }
    }
    reached
}

/// Returns the node of the normalized image: the input of the first convolution, before explicit
/// padding.
fn image(graph: &Graph, stem: usize) -> Result<usize> {
    let explicit =
        matches!(graph.nodes[stem].op, Op::Conv { rule, .. } if rule.border == Border::Valid);
    let mut at = stem;
    for _ in 0..MAX_STEPS {
        let Some(&input) = graph.nodes[at].inputs.first() else {
            return Err(error!(Weights, "it has no input").at(address(&graph.nodes[at])));
        };
        match graph.nodes[input].op {
            Op::Pad if explicit => at = input,
            Op::Identity if !graph.nodes[input].inputs.is_empty() => at = input,
            _ => return Ok(input),
        }
    }
    Err(error!(Weights, "the input of the first convolution could not be found"))
}

/// Follows the image from the first convolution back to the graph's input.
fn normalization(graph: &Graph, image: usize) -> (Normalization, Vec<usize>, Option<Size>) {
    let (scale, shift) = ([1.0; 3], [0.0; 3]);
    let mut out = Normalization { scale, shift, is_integer: false, unknown: None };
    let (mut same_size, mut size) = (vec![image], None);
    let (mut at, mut is_same) = (image, true);
    for _ in 0..MAX_STEPS {
        let node = &graph.nodes[at];
        let input = match &node.op {
            Op::Arithmetic(arithmetic) => match step(graph, at, *arithmetic, &mut out) {
                Some(input) => input,
                None => {
                    out.unknown = Some(at);
                    break;
                }
            },
            Op::Placeholder { dims, is_integer } => {
                out.is_integer = *is_integer;
                if let (true, [_, Some(h), Some(w), _]) = (is_same, &dims[..]) {
                    size = Some(Size::new(*w, *h));
                }
                break;
            }
            Op::Identity | Op::Truncate => match node.inputs.first() {
                Some(&input) => input,
                None => break,
            },
            Op::Pad | Op::Reshape | Op::Resize { .. } => {
                if let (Op::Resize { .. }, true) = (&node.op, is_same)
                    && let Some([h, w]) = node.inputs.get(1).and_then(|&i| pair(graph, i))
                {
                    size = Some(Size::new(w, h));
                }
                // Adding or removing the batch axis keeps the size.
                is_same &= node.op == Op::Reshape;
                match node.inputs.first() {
                    Some(&input) => input,
                    None => break,
                }
            }
            _ => {
                out.unknown = Some(at);
                break;
            }
        };
        at = input;
        if is_same {
            same_size.push(at);
        }
    }
    (out, same_size, size)
}

/// Prepends an arithmetic step with a constant to the normalization. Returns the other input.
fn step(graph: &Graph, at: usize, op: Arithmetic, out: &mut Normalization) -> Option<usize> {
    let [a, b] = graph.nodes[at].inputs[..] else { return None };
    let (input, constant, swapped) = match (constant(graph, a), constant(graph, b)) {
        (None, Some(constant)) => (a, constant, false),
        (Some(constant), None) => (b, constant, true),
        _ => return None,
    };
    for c in 0..3 {
        let value = match constant.len() {
            1 => constant[0],
            3 => constant[c],
            _ => return None,
        };
        let (scale, shift) = (&mut out.scale[c], &mut out.shift[c]);
        match (op, swapped) {
            (Arithmetic::Add, _) => *shift += *scale * value,
            (Arithmetic::Sub, false) => *shift -= *scale * value,
            (Arithmetic::Sub, true) => {
                *shift += *scale * value;
                *scale = -*scale;
            }
            (Arithmetic::Mul, _) => *scale *= value,
            (Arithmetic::Div, false) => *scale /= value,
            _ => return None,
        }
    }
    Some(input)
}

/// Returns the values of a small constant, also behind copies and reshapes.
fn constant(graph: &Graph, mut at: usize) -> Option<&[f64]> {
    for _ in 0..8 {
        match graph.nodes[at].op {
            Op::Constant(id) => return graph.constants[id].small.as_deref(),
            Op::Identity | Op::Truncate | Op::Reshape => at = *graph.nodes[at].inputs.first()?,
            _ => return None,
        }
    }
    None
}

fn pair(graph: &Graph, at: usize) -> Option<[usize; 2]> {
    match *constant(graph, at)? {
        [h, w] if h >= 1.0 && w >= 1.0 => Some([h as usize, w as usize]),
        _ => None,
    }
}

/// Operations after which another class has the largest value, or the values mean something else.
const OTHER_SCORES: &[&str] = &[
    "Sigmoid",
    "LOGISTIC",
    "Neg",
    "NEG",
    "ReverseV2",
    "REVERSE_V2",
    "ArgMin",
    "ARG_MIN",
    "ResizeBicubic",
    "Abs",
    "ABS",
    "Square",
    "SQUARE",
    "Tanh",
    "TANH",
    "Elu",
    "ELU",
    "LeakyRelu",
    "LEAKY_RELU",
];

/// Refuses networks whose logits are processed by more layers, such as transposed convolutions, or
/// by something else than what this crate does with logits.
fn check_tail(graph: &Graph, tail: &[usize]) -> Result<()> {
    for &i in tail {
        let changes_scores = match &graph.nodes[i].op {
            Op::Activation(activation) => Some(format!("{activation:?}")),
            Op::Other(name) if OTHER_SCORES.contains(&name.as_str()) => Some(excerpt(name)),
            _ => None,
        };
        if let Some(name) = changes_scores {
            return Err(error!(Weights, "`{name}` after the last convolution is not supported")
                .at(address(&graph.nodes[i]))
                .advice(
                    "export the graph up to the logits; `--activation sigmoid` states a sigmoid",
                ));
        }
        if let Op::Other(name) = &graph.nodes[i].op
            && ["Conv", "CONV", "MatMul", "FULLY_CONNECTED"].iter().any(|part| name.contains(part))
        {
            return Err(error!(
                Weights,
                "`{}` after the last convolution: not a DeepLab network",
                excerpt(name)
            )
            .at(address(&graph.nodes[i])));
        }
    }
    Ok(())
}
