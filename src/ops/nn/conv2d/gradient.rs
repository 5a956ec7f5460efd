//! The gradient rule of the convolution.

use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::error::{Result, error};
use crate::graph::Backward;
use crate::ops::{Activation, ActivationGrad, ChannelSum};
use crate::tensor::KernelShape;

/// Adds the gradients of the input, the weights, the bias and the residual.
///
/// # Errors
/// Returns an error if the convolution has a fused activation whose slope cannot be computed from
/// its output.
pub(super) fn rule(conv: &Conv2d, backward: &mut Backward) -> Result<()> {
    let (x, w) = (backward.input(0), backward.input(1));
    let dy = match conv.activation {
        Activation::Identity => backward.dy(),
        // The slope of these functions at their output equals the slope at their input.
        Activation::Relu | Activation::Relu6 => {
            let inputs = [backward.output(0), backward.dy()];
            backward.op("activation", ActivationGrad(conv.activation), &inputs)?
        }
        other => {
            return Err(error!(
                Graph,
                "operation has no gradient through a fused {}",
                other.feature()
            )
            .advice("differentiate the graph before passes fuse activations into convolutions"));
        }
    };
    let (x_shape, w_shape) = (backward.graph().shape(x), backward.graph().shape(w));
    let plain = conv.plain();
    if backward.needs_gradient(0) {
        let dx =
            backward.op("x", Conv2dInputGrad { conv: plain, size: x_shape.size() }, &[dy, w])?;
        backward.add_gradient(0, dx);
    }
    if backward.needs_gradient(1) {
        let dw = backward.op(
            "w",
            Conv2dWeightGrad { conv: plain, kernel: KernelShape::of(w_shape).size() },
            &[x, dy],
        )?;
        backward.add_gradient(1, dw);
    }
    if conv.bias && backward.needs_gradient(2) {
        let per_image = backward.graph().shape(backward.input(2)).n > 1;
        let db = backward.op("bias", ChannelSum { per_image, scale: 1.0 }, &[dy])?;
        backward.add_gradient(2, db);
    }
    if let Some(residual) = conv.residual_index().filter(|&i| backward.needs_gradient(i)) {
        backward.add_gradient(residual, dy);
    }
    Ok(())
}
