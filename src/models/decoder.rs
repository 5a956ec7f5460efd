//! The decoder of DeepLabv3+ (arXiv 1802.02611, section 3.1).

use super::config::PlusDecoder;
use super::layer::{Builder, Layer};
use crate::error::Result;
use crate::graph::{Scope, ValueId};

/// Upsamples `x` to the size of `low_level`, concatenates it with the projection of `low_level`,
/// and refines the result with 3x3 convolutions.
pub(super) fn decoder(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    low_level: ValueId,
    decoder: &PlusDecoder,
    align_corners: bool,
) -> Result<ValueId> {
    let low = b.layer(
        scope,
        "low_level",
        low_level,
        Layer::pointwise(decoder.low_level_channels).relu(),
    )?;
    b.stage("low_level", low);
    let size = scope.shape(low);
    let x = scope.resize("upsample", x, size.size(), align_corners)?;
    let mut x =
        scope.concat("concat", &if decoder.low_level_first { [low, x] } else { [x, low] })?;
    for (i, &dropout) in (1..).zip(&decoder.dropouts) {
        x = b.head_conv(scope, &format!("conv{i}"), x, decoder.kind, 1, decoder.channels)?;
        if dropout > 0.0 {
            x = scope.dropout(&format!("dropout{i}"), x, dropout)?;
        }
    }
    Ok(x)
}
