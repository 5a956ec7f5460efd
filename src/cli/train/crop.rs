//! The crop of a training whose images are smaller than the default one.

use crate::data::Augmentation;
use crate::geometry::Size;

/// Fits the default crop to the images, of which `largest` has the largest sides: beyond the largest
/// scaled image a crop is padding. Each side becomes a multiple of the output stride plus 1, like
/// the default. Returns a line about it, or `None` if the default is not too large.
pub(super) fn fit(
    augmentation: &mut Augmentation,
    output_stride: usize,
    largest: Size,
) -> Option<String> {
    let default = augmentation.crop;
    if largest.is_empty() || augmentation.check().is_err() {
        return None;
    }
    let scale = augmentation.scale.max;
    let covering = |side: usize| {
        let scaled = ((side as f64 * scale).round() as usize).max(1);
        (scaled - 1).next_multiple_of(output_stride) + 1
    };
    let crop = default.zip(largest, |side, image| side.min(covering(image)));
    if crop == default {
        return None;
    }
    augmentation.crop = crop;
    Some(format!(
        "crop: {crop} instead of the default {default}: it covers images of {largest} at the largest scale, {scale}; \
         `--crop` chooses another"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_is_no_larger_than_the_largest_scaled_image_requires() {
        let fitted = |largest: Size, output_stride: usize| {
            let mut augmentation = Augmentation::default();
            let line = fit(&mut augmentation, output_stride, largest);
            (augmentation.crop, line)
        };
        let (crop, line) = fitted(Size::square(96), 16);
        assert_eq!(crop, Size::square(193), "192 after scaling by 2");
        assert!(line.unwrap().contains("193x193 instead of the default 513x513"));
        assert_eq!(fitted(Size::new(300, 40), 8).0, Size::new(513, 81));
        assert_eq!(fitted(Size::new(1, 16), 32).0, Size::new(33, 33));
        for large in [Size::square(257), Size::new(2048, 1024), Size::new(0, 0)] {
            assert_eq!(fitted(large, 16), (Size::square(513), None), "{large}");
        }
    }
}
