//! Folds batch norm after a convolution into the convolution's kernel and bias.

use crate::error::Result;
use crate::graph::{Graph, ParamInfo, ParamRef, Part, Rewrite, Role, ValueId, rewrite};
use crate::ops::{Activation, BatchNorm, Conv2d};
use crate::tensor::Shape;
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

/// Weight, bias, mean and variance of the norm, after the kernel in `params`.
fn norm_vectors(params: &[ParamRef]) -> [&[f32]; 4] {
    std::array::from_fn(|i| params[1 + i].tensor().f32())
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
    // Kernel, the four vectors of the norm, then the bias if the convolution has one.
    let kernel = data.as_ref().map(|p| {
        ParamRef::derived(p, &recipe("kernel"), w_shape, move |p| {
            norm.fold_kernel(p[0].tensor(), norm_vectors(p))
        })
    });
    let bias = data.as_ref().map(|p| {
        ParamRef::derived(p, &recipe("bias"), Shape::vector(c_out), move |p| {
            norm.fold_bias(p.get(5).map(|b| b.tensor().f32()), norm_vectors(p))
        })
    });
    let info = graph.param_info(w).expect("invariant: only constant kernels are folded").clone();
    let name = |part: Part| format!("{}.{}*norm", info.layer, part.field());
    let w_info = ParamInfo { name: name(Part::Kernel), ..info.clone() };
    let b_role = Role { part: Part::Bias, depthwise: false, ..info.role };
    let b_info = ParamInfo { name: name(Part::Bias), role: b_role, ..info };
    let w = new.graph.param_with_data(w_info, w_shape, kernel);
    let b = new.graph.param_with_data(b_info, Shape::vector(c_out), bias);
    (w, b)
}
