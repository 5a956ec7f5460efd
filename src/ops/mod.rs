//! Operations, one file each: attributes, shape inference, CPU function, kernels and gradient.
//!
//! Executors, passes, tuner and printers use only [`Op`]. `nn` has the layers of networks, `train`
//! what only trainings run, and `image` what is before and after a network. To add an operation, add
//! its file to one of them, its shader to the directory of the same name in `shaders/`, and a line
//! to the lists of modules and of types there and to `BUILT_IN`.

mod bilinear;
mod built_in;
mod gradients;
mod image;
mod nn;
mod train;
mod wide;

#[cfg(test)]
pub(crate) use bilinear::AxisParams;
pub use bilinear::{PixelAlignment, ResampleWindow, Rows};
pub(crate) use built_in::is_built_in;
pub use nn::*;
pub use train::*;
// The crate `image` has the same name.
pub use self::image::*;

pub use crate::geometry::Padding;
pub use crate::graph::{Cost, InPlace, Op, Packing, Signature, TrainForm, bytes, kernel};

use crate::error::{Result, error};
use crate::tensor::Shape;

/// Checks the shape of the gradient of an operation's output.
pub(crate) fn expect_gradient(expected: Shape, got: Shape) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(error!(Graph, "expected a gradient of shape {expected}, got {got}"))
    }
}
