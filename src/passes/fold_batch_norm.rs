//! Folds batch norm after a convolution into the convolution's kernel and bias.

use super::pattern::replace;
use crate::error::Result;
use crate::graph::{Graph, ParamInfo, ParamRef, Part, Rewrite, Role, ValueId};
use crate::ops::{Activation, BatchNorm, Conv2d};
use crate::tensor::Shape;

/// `norm(conv(x, w) + b) = conv(x, w * factor) + (b * factor + shift)`, where `factor = weight /
/// sqrt(var + eps)` and `shift = bias - mean * factor` per output channel. Depthwise kernels fold
/// in the same way, so both norms of a separable convolution are removed.
///
/// # Errors
/// Returns an error if the graph is inconsistent.
pub fn fold_batch_norm(graph: Graph) -> Result<Graph> {
    replace(
        graph,
        |site| {
            let norm = site.node::<BatchNorm>()?;
            let conv = site.used_once::<Conv2d>(norm.inputs[0])?;
            let plain = conv.op.activation == Activation::Identity && !conv.op.residual;
            let constant = site.are_params(&conv.inputs[1..]) && site.are_params(&norm.inputs[1..]);
            (plain && constant).then_some((conv, norm))
        },
        |new, (conv, norm)| {
            let (w, b) = (conv.inputs[1], conv.inputs.get(2).copied());
            let (w, b) = folded(new, norm.op, w, b, &norm.inputs[1..]);
            new.op(&conv.name, Conv2d { bias: true, ..conv.op }, &[conv.inputs[0], w, b])
        },
    )
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
