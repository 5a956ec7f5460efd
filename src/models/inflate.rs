//! Adapting weights to images with other than three channels.

use super::config::Config;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::tensor::{KernelShape, Tensor};

/// Name of the kernel of the first convolution, in every network.
pub const STEM_WEIGHT: &str = "backbone.stem.conv1.weight";

/// Adapts the first convolution to `channels` input channels, with SMP's rule: a single channel
/// gets the sum over the original channels; otherwise the original channels are repeated
/// cyclically, scaled by original / new.
///
/// # Errors
/// Returns an error if `channels` is zero, or if the weights have no stem.
pub fn inflate_stem(config: &mut Config, weights: &mut Weights, channels: usize) -> Result<()> {
    let Some(kernel) = weights.get(STEM_WEIGHT) else {
        return Err(error!(Weights, "tensor `{STEM_WEIGHT}` is missing"));
    };
    if channels == 0 {
        return Err(error!(Config, "the number of input channels must be at least 1"));
    }
    let shape = kernel.shape();
    let original_channels = KernelShape::of(shape).in_channels;
    let values = kernel.tensor().f32();
    if channels == original_channels {
        return Ok(());
    }
    let inflated = KernelShape { in_channels: channels, ..KernelShape::of(shape) };
    let scale = original_channels as f32 / channels as f32;
    let new = Tensor::from_fn(inflated.shape(), |ky, kx, c, o| match channels {
        1 => (0..original_channels).map(|i| values[shape.index(ky, kx, i, o)]).sum(),
        _ => values[shape.index(ky, kx, c % original_channels, o)] * scale,
    });
    config.input_channels = channels;
    weights.insert(STEM_WEIGHT.to_owned(), ParamRef::new(new));
    Ok(())
}
