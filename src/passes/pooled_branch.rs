//! Moves the pooled branch of ASPP into the projection's bias: its upsampled map is constant, so
//! its contribution to the product is one vector per image.

use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Graph, ParamInfo, ParamRef, Rewrite, ValueId, rewrite};
use crate::ops::{Activation, Concat, Conv2d, Resize};
use crate::tensor::{KernelShape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// `conv1x1(concat(.., resize(p), ..), w) + b = conv1x1(concat(..), w_rest) + (conv1x1(p, w_p) +
/// b)` for `p` of `[N, 1, 1, C]`.
#[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
pub fn pooled_branch(graph: Graph) -> Result<Graph> {
    rewrite(graph, |new, node, inputs| {
        let Some(conv) = node.op.downcast_ref::<Conv2d>() else { return Ok(None) };
        let w = inputs[1];
        let kernel = KernelShape::of(new.graph.shape(w));
        if !conv.is_pointwise(kernel) || !new.graph.is_param(w) {
            return Ok(None);
        }
        let Some((concat, _)) = new.sole_producer::<Concat>(inputs[0]) else { return Ok(None) };
        let parts = concat.inputs.clone();
        let concat_name = concat.name.clone();
        let pooled = |new: &Rewrite, v: ValueId| {
            let (resize, _) = new.sole_producer::<Resize>(v)?;
            let source = resize.inputs[0];
            let s = new.graph.shape(source);
            (s.size() == Size::square(1)).then_some(source)
        };
        let Some(at) = parts.iter().position(|&v| pooled(new, v).is_some()) else {
            return Ok(None);
        };
        let source = pooled(new, parts[at]).expect("invariant: `position` has just found it");
        if parts.len() < 2 || !new.graph.is_param(*inputs.get(2).unwrap_or(&w)) {
            return Ok(None);
        }

        let first: usize = parts[..at].iter().map(|&v| new.graph.shape(v).c).sum();
        let rows = first..first + new.graph.shape(parts[at]).c;
        let w_pooled = pick_rows(new, w, "pooled", vec![rows.clone()]);
        let all = kernel.in_channels;
        let w_rest = pick_rows(new, w, "rest", vec![0..rows.start, rows.end..all]);

        let mut operands = vec![source, w_pooled];
        operands.extend(conv.bias.then(|| inputs[2]));
        let vector = Conv2d { residual: false, activation: Activation::Identity, ..*conv };
        let bias = new.op(&format!("{}.pooled", node.name), vector, &operands)?;

        let remaining: Vec<ValueId> =
            parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, &v)| v).collect();
        let x = match remaining.as_slice() {
            [single] => *single,
            several => new.op(&concat_name, Concat, several)?,
        };
        let mut operands = vec![x, w_rest, bias];
        operands.extend(conv.residual.then(|| inputs[inputs.len() - 1]));
        Ok(Some(new.graph.push(&node.name, Arc::new(Conv2d { bias: true, ..*conv }), &operands)?))
    })
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
