//! Weights for images of other than three channels.

use super::config::Config;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::tensor::{Shape, Tensor};

/// Name of the first convolution's kernel, in every network.
pub const STEM_WEIGHT: &str = "backbone.stem.conv1.weight";

/// Changes the first convolution to take `channels` instead of what it takes, by SMP's rule: one
/// channel gets the sum over the old ones; otherwise the old ones are repeated in turn, scaled by
/// old / new.
///
/// # Errors
/// Where there are no channels, or the weights have no stem.
pub fn inflate_stem(config: &mut Config, weights: &mut Weights, channels: usize) -> Result<()> {
    let Some(old) = weights.get(STEM_WEIGHT) else {
        return Err(error!(Weights, "there is no `{STEM_WEIGHT}` to change"));
    };
    if channels == 0 {
        return Err(error!(Config, "an image needs a channel"));
    }
    let (shape, tensor) = (old.shape(), old.tensor());
    let (from, values) = (shape.w, tensor.f32());
    if channels == from {
        return Ok(());
    }
    let scale = from as f32 / channels as f32;
    let new = Tensor::from_fn(Shape { w: channels, ..shape }, |ky, kx, c, o| match channels {
        1 => (0..from).map(|i| values[shape.index(ky, kx, i, o)]).sum(),
        _ => values[shape.index(ky, kx, c % from, o)] * scale,
    });
    config.input_channels = channels;
    weights.insert(STEM_WEIGHT.to_owned(), ParamRef::new(new));
    Ok(())
}
