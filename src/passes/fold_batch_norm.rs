//! Folds batch norm after a convolution into the convolution's kernel and bias.

use crate::error::Result;
use crate::graph::{Graph, ParamRef, Rewrite, ValueId, rewrite};
use crate::ops::{Activation, BatchNorm, Conv2d};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// `norm(conv(x, w) + b) = conv(x, w * factor) + (b * factor + shift)`, where `factor = weight /
/// sqrt(var + eps)` and `shift = bias - mean * factor` per output channel. Depthwise kernels fold
/// in the same way, so both norms of a separable convolution are removed.
pub fn fold_batch_norm(graph: Graph) -> Result<Graph> {
    rewrite(graph, |new, node, inputs| {
        let Some(norm) = node.op.downcast_ref::<BatchNorm>() else { return Ok(None) };
        let Some((conv_node, conv)) = new.sole_producer::<Conv2d>(inputs[0]) else {
            return Ok(None);
        };
        let plain = conv.activation == Activation::Identity && !conv.residual;
        let constant =
            conv_node.inputs[1..].iter().chain(&inputs[1..]).all(|&v| new.graph.is_param(v));
        if !plain || !constant {
            return Ok(None);
        }
        let (name, operands, conv) = (conv_node.name.clone(), conv_node.inputs.clone(), *conv);
        let (w, b) = folded(new, *norm, operands[1], operands.get(2).copied(), &inputs[1..]);
        let op = Conv2d { bias: true, ..conv };
        Ok(Some(new.graph.push(&name, Arc::new(op), &[operands[0], w, b])?))
    })
}

/// Returns the kernel and bias with the norm `[weight, bias, mean, var]` folded in; without data if
/// an original has none.
fn folded(
    new: &mut Rewrite,
    norm: BatchNorm,
    w: ValueId,
    b: Option<ValueId>,
    norm_params: &[ValueId],
) -> (ValueId, ValueId) {
    let graph = &new.graph;
    let data: Option<Vec<&ParamRef>> =
        [w].iter().chain(norm_params).chain(b.as_ref()).map(|&v| graph.param_data(v)).collect();
    let (w_shape, c_out) = (graph.shape(w), graph.shape(w).c);
    let recipe = |part: &str| format!("fold_batch_norm {part} eps {:e}", norm.eps);
    let affine = move |p: &[ParamRef]| {
        let values = |i: usize| p[i].tensor().f32();
        norm.affine(values(1), values(2), values(3), values(4))
    };
    let kernel = data.as_ref().map(|p| {
        ParamRef::derived(p, &recipe("kernel"), w_shape, move |p| {
            let (factor, _) = affine(p);
            let mut w = p[0].tensor().clone();
            for row in w.f32_mut().chunks_exact_mut(c_out) {
                row.iter_mut().zip(&factor).for_each(|(w, f)| *w *= f);
            }
            w
        })
    });
    let bias = data.as_ref().map(|p| {
        ParamRef::derived(p, &recipe("bias"), Shape::vector(c_out), move |p| {
            let (factor, shift) = affine(p);
            let before = p.get(5).map(|b| b.tensor().f32());
            Tensor::from_fn(Shape::vector(c_out), |_, _, _, c| {
                before.map_or(0.0, |b| b[c] * factor[c]) + shift[c]
            })
        })
    });
    let name = graph.value_name(w).trim_end_matches(".weight").to_owned();
    let w = new.graph.param_with_data(&format!("{name}.weight*norm"), w_shape, kernel);
    let b = new.graph.param_with_data(&format!("{name}.bias*norm"), Shape::vector(c_out), bias);
    (w, b)
}
