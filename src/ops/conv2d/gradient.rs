//! The gradient rule of the convolution.

use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::error::{Result, error};
use crate::graph::Backward;
use crate::ops::{Activation, ActivationGrad, ChannelSum};

/// Gradients of the input, the weights, the bias and the residual.
///
/// # Errors
/// Where the convolution applies an activation whose slope does not follow from its value.
pub(super) fn rule(conv: &Conv2d, backward: &mut Backward) -> Result<()> {
    let (x, w) = (backward.input(0), backward.input(1));
    let dy = match conv.activation {
        Activation::Identity => backward.dy(),
        // These leave values and corners where they are, so the slope at the value is the slope at
        // what came in.
        Activation::Relu | Activation::Relu6 => {
            let inputs = [backward.output(0), backward.dy()];
            backward.op("activation", ActivationGrad(conv.activation), &inputs)?
        }
        other => {
            return Err(error!(Graph, "has no gradient through a fused {}", other.feature())
                .advice(
                    "differentiate the graph before the passes fuse activations into convolutions",
                ));
        }
    };
    let (x_shape, w_shape) = (backward.graph().shape(x), backward.graph().shape(w));
    let plain = conv.plain();
    if backward.wants(0) {
        let dx = backward.op(
            "x",
            Conv2dInputGrad { conv: plain, h: x_shape.h, w: x_shape.w },
            &[dy, w],
        )?;
        backward.give(0, dx);
    }
    if backward.wants(1) {
        let dw = backward.op(
            "w",
            Conv2dWeightGrad { conv: plain, kernel: (w_shape.n, w_shape.h) },
            &[x, dy],
        )?;
        backward.give(1, dw);
    }
    if conv.bias && backward.wants(2) {
        let per_image = backward.graph().shape(backward.input(2)).n > 1;
        let db = backward.op("bias", ChannelSum { per_image, scale: 1.0 }, &[dy])?;
        backward.give(2, db);
    }
    if let Some(residual) = conv.residual_index().filter(|&i| backward.wants(i)) {
        backward.give(residual, dy);
    }
    Ok(())
}
