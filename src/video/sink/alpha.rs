//! Frames with transparency for encoders that lose detail.

use crate::image::Image;
use std::borrow::Cow;

/// Distance in pixels to which colors are spread: half of a block of 8 pixels.
const SPREAD: usize = 4;

/// Returns the pixels of a frame as RGBA. Colors are spread from visible pixels to the transparent ones
/// around them: an encoder averages colors over neighbors without regard to opacity, and black
/// beside the edge would darken it.
pub(super) fn rgba(image: &Image) -> Vec<u8> {
    let Some(alpha) = &image.alpha else {
        return image.rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    };
    let mut rgb = Cow::Borrowed(&image.rgb);
    let mut known: Vec<bool> = alpha.iter().map(|&a| a > 0).collect();
    for _ in 0..SPREAD {
        let before = known.clone();
        for at in (0..known.len()).filter(|&at| !before[at]) {
            if let Some(from) = neighbors(at, image.width, image.height).find(|&n| before[n]) {
                rgb.to_mut().copy_within(3 * from..3 * from + 3, 3 * at);
                known[at] = true;
            }
        }
    }
    rgb.chunks_exact(3).zip(alpha).flat_map(|(p, &a)| [p[0], p[1], p[2], a]).collect()
}

/// Returns the pixels to the left, right, above and below.
fn neighbors(at: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (at % width, at / width);
    [
        (x > 0).then(|| at - 1),
        (x + 1 < width).then_some(at + 1),
        (y > 0).then(|| at - width),
        (y + 1 < height).then_some(at + width),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    #[test]
    fn colors_are_spread_around_what_is_visible_and_opacity_is_kept() {
        let (size, at) = (Size::new(15, 3), 15 + 7);
        let mut image = Image::new(size, vec![0; 3 * 45]).unwrap();
        image.rgb[3 * at..3 * at + 3].copy_from_slice(&[200, 100, 50]);
        let mut alpha = vec![0; 45];
        alpha[at] = 130;
        image.alpha = Some(alpha.clone());
        let out = rgba(&image);
        assert!(out.chunks_exact(4).map(|p| p[3]).eq(alpha));
        let red: Vec<u8> = out[4 * 15..4 * 30].chunks_exact(4).map(|p| p[0]).collect();
        assert_eq!(red, [[0; 3].as_slice(), &[200; 9], &[0; 3]].concat());
        assert_eq!(out[4 * 7..4 * 7 + 3], [200, 100, 50], "the row above");
        image.alpha = None;
        assert!(rgba(&image).chunks_exact(4).all(|p| p[3] == 255));
    }
}
