//! Moves the pooled branch of ASPP into the projection's bias: its upsampled map is constant, so
//! its contribution to the product is one vector per image.

use super::pattern::{Matched, Site, replace};
use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Graph, ParamInfo, ParamRef, Rewrite, ValueId};
use crate::ops::{Activation, Concat, Conv2d, Resize};
use crate::tensor::{KernelShape, Tensor};
use std::ops::Range;

/// `conv1x1(concat(.., resize(p), ..), w) + b = conv1x1(concat(..), w_rest) + (conv1x1(p, w_p) +
/// b)` for `p` of `[N, 1, 1, C]`.
///
/// # Errors
/// Returns an error if the graph is inconsistent.
pub fn pooled_branch(graph: Graph) -> Result<Graph> {
    replace(graph, Branch::find, Branch::into_bias)
}

/// A pooled branch, and the convolution of the concatenation that has it.
struct Branch {
    conv: Matched<Conv2d>,
    concat: Matched<Concat>,
    /// Index of the branch among the inputs of the concatenation.
    index: usize,
    /// `p`, of which the branch is an enlargement.
    pooled: ValueId,
    /// Input channels of the convolution that are the branch's.
    rows: Range<usize>,
}

impl Branch {
    /// Matches `conv1x1(concat(.., resize(p), ..), w, b)`.
    fn find(site: &Site) -> Option<Self> {
        let conv = site.node::<Conv2d>()?;
        let kernel = KernelShape::of(site.shape(conv.inputs[1]));
        let end = conv.inputs.len().min(3);
        if !conv.op.is_pointwise(kernel) || !site.are_params(&conv.inputs[1..end]) {
            return None;
        }
        let concat = site.used_once::<Concat>(conv.inputs[0])?;
        let (index, pooled) = concat.inputs.iter().enumerate().find_map(|(index, &v)| {
            let pooled = site.used_once::<Resize>(v)?.inputs[0];
            (site.shape(pooled).size() == Size::square(1)).then_some((index, pooled))
        })?;
        let first = concat.inputs[..index].iter().map(|&v| site.shape(v).c).sum();
        let rows = first..first + site.shape(pooled).c;
        (concat.inputs.len() > 1).then_some(Self { conv, concat, index, pooled, rows })
    }

    /// Adds `conv1x1(concat(..), w_rest) + (conv1x1(p, w_p) + b)`.
    fn into_bias(new: &mut Rewrite, branch: Self) -> Result<ValueId> {
        let Self { conv, mut concat, index, pooled, rows } = branch;
        let w = conv.inputs[1];
        let all = KernelShape::of(new.graph.shape(w)).in_channels;
        let w_pooled = pick_rows(new, w, "pooled", vec![rows.clone()]);
        let w_rest = pick_rows(new, w, "rest", vec![0..rows.start, rows.end..all]);

        let mut operands = vec![pooled, w_pooled];
        operands.extend(conv.op.bias.then(|| conv.inputs[2]));
        let vector = Conv2d { residual: false, activation: Activation::Identity, ..conv.op };
        let bias = new.op(&format!("{}.pooled", conv.name), vector, &operands)?;

        concat.inputs.remove(index);
        let x = match concat.inputs.as_slice() {
            [single] => *single,
            several => new.op(&concat.name, Concat, several)?,
        };
        let mut operands = vec![x, w_rest, bias];
        operands.extend(conv.op.residual.then(|| conv.inputs[conv.inputs.len() - 1]));
        new.op(&conv.name, Conv2d { bias: true, ..conv.op }, &operands)
    }
}

/// Returns a 1x1 kernel restricted to the given input channels.
fn pick_rows(new: &mut Rewrite, w: ValueId, part: &str, ranges: Vec<Range<usize>>) -> ValueId {
    let kernel = KernelShape::of(new.graph.shape(w));
    let in_channels = ranges.iter().map(ExactSizeIterator::len).sum();
    let picked = KernelShape { in_channels, ..kernel }.shape();
    let info = new.graph.param_info(w).expect("invariant: only constant kernels are split");
    let info = ParamInfo { name: format!("{}[{part}]", info.name), ..info.clone() };
    let data = new.graph.param_data(w).map(|data| {
        let recipe = format!("input channels {ranges:?}");
        ParamRef::derived(&[data], &recipe, picked, move |p| {
            let w = p[0].tensor().f32();
            let rows: Vec<f32> = ranges
                .iter()
                .flat_map(|r| &w[r.start * kernel.out_channels..r.end * kernel.out_channels])
                .copied()
                .collect();
            Tensor::new(picked, rows).expect("invariant: the ranges are inside the kernel")
        })
    });
    new.graph.param_with_data(info, picked, data)
}
