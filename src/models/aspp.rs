//! Atrous spatial pyramid pooling (DeepLabv3, arXiv 1706.05587, section 3.3).

use super::config::{Aspp, Pooling};
use super::conventions::ConvKind;
use super::layer::{Builder, Layer};
use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::ops::{AvgPool, Padding};

/// Adds the 1x1, dilated 3x3 and pooled branches on `x` `[N, h, w, C]`, concatenated and projected
/// to `[N, h, w, channels]`.
pub(super) fn aspp(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    aspp: &Aspp,
    align_corners: bool,
) -> Result<ValueId> {
    let conv1x1 = b.layer(scope, "conv1x1", x, Layer::pointwise(aspp.channels).relu())?;
    let mut branches = vec![b.stage("aspp.conv1x1", conv1x1)];
    for (i, &dilation) in (1..).zip(&aspp.rates) {
        let name = format!("rate{i}");
        let branch = b.head_conv(scope, &name, x, aspp.kind, dilation, aspp.channels)?;
        branches.push(b.stage(format!("aspp.rate{i}"), branch));
    }
    if let Some(pooled) = image_features(b, &mut scope.scope("pool"), x, aspp, align_corners)? {
        branches.insert(if aspp.pool_first { 0 } else { branches.len() }, pooled);
    }
    let y = if branches.len() == 1 { branches[0] } else { scope.concat("concat", &branches)? };
    let y = b.layer(scope, "project", y, Layer::new(aspp.project_kernel, aspp.channels).relu())?;
    b.stage("aspp", y);
    let y = if aspp.dropout > 0.0 { scope.dropout("dropout", y, aspp.dropout)? } else { y };
    if !aspp.separable_after {
        return Ok(y);
    }
    let y = b.head_conv(scope, "separable", y, ConvKind::Separable, 1, aspp.channels)?;
    Ok(b.stage("aspp.separable", y))
}

/// Adds the image-pooling branch, resized to the size of the feature map.
fn image_features(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    aspp: &Aspp,
    align_corners: bool,
) -> Result<Option<ValueId>> {
    let shape = scope.shape(x);
    let pooled = match aspp.pooling {
        Pooling::Off => return Ok(None),
        Pooling::Global => scope.global_avg_pool("mean", x)?,
        Pooling::Window { crop, stride } => {
            // TensorFlow's `scale_dimension`: sizes are a multiple of the stride, plus one.
            let window = |pixels: usize, map: usize| {
                ((pixels - 1) / b.conventions.output_stride + 1).min(map)
            };
            let kernel = crop.zip(shape.size(), window);
            let padding = Padding::default();
            scope.avg_pool(
                "mean",
                x,
                AvgPool { kernel, stride, padding, count_include_pad: false, ceil_mode: false },
            )?
        }
    };
    let y = b.layer(scope, "conv", pooled, Layer::pointwise(aspp.channels).relu())?;
    b.stage("aspp.pool", y);
    Ok(Some(scope.resize("resize", y, shape.size(), align_corners)?))
}
