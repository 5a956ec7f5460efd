//! Distance transform to the nearest pixel with a different label.

use rayon::prelude::*;

/// Squared Euclidean distance from each pixel to the nearest pixel with a different label, between
/// their centers; `u32::MAX` if there is none. `labels` are `[height, width]`; the edge of the
/// image is not a border.
///
/// A distance transform (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled
/// Functions"), exact in integers: first along columns by counting, then along rows as the lower
/// envelope of parabolas. Each run of equal labels in a row has a separate envelope, over the run
/// and its two neighbors: pixels beyond a neighbor are farther away than the neighbor itself, which
/// has a different label. The work thus does not grow with the number of labels.
pub(super) fn to_other_label(labels: &[u16], width: usize) -> Vec<u32> {
    let mut out = vec![u32::MAX; labels.len()];
    if width == 0 {
        return out;
    }
    let column = along_columns(labels, width);
    out.par_chunks_mut(width)
        .zip(labels.par_chunks(width))
        .zip(column.par_chunks(width))
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(sites, starts), ((out, labels), column)| {
                let mut start = 0;
                for run in labels.chunk_by(|a, b| a == b) {
                    along_run(start, start + run.len(), column, sites, starts, out);
                    start += run.len();
                }
            },
        );
    out
}

/// Distance to the nearest pixel with a different label above or below; `u32::MAX` if there is
/// none.
fn along_columns(labels: &[u16], width: usize) -> Vec<u32> {
    let mut out = vec![u32::MAX; labels.len()];
    let height = labels.len() / width;
    let step = |out: &mut [u32], at: usize, before: usize| {
        let next = if labels[at] == labels[before] { out[before].saturating_add(1) } else { 1 };
        out[at] = out[at].min(next);
    };
    for y in 1..height {
        for at in y * width..(y + 1) * width {
            step(&mut out, at, at - width);
        }
    }
    for y in (0..height.saturating_sub(1)).rev() {
        for at in y * width..(y + 1) * width {
            step(&mut out, at, at + width);
        }
    }
    out
}

/// The lower envelope of the parabolas `(x - site)^2 + column[site]^2`, evaluated at the pixels
/// `from..to` of a row, which have the same label. The pixels next to the run have other labels, so
/// their `column` counts as 0.
fn along_run(
    from: usize,
    to: usize,
    column: &[u32],
    sites: &mut Vec<usize>,
    starts: &mut Vec<i64>,
    out: &mut [u32],
) {
    let along = |site: usize| if (from..to).contains(&site) { u64::from(column[site]) } else { 0 };
    let height = |site: usize| (along(site) * along(site) + (site * site) as u64) as i64;
    sites.clear();
    starts.clear();
    for site in (from.saturating_sub(1)..(to + 1).min(column.len()))
        .filter(|&site| along(site) != u64::from(u32::MAX))
    {
        // The first x at which the new parabola is below the last one.
        let mut start = 0;
        while let (Some(&last), Some(&last_start)) = (sites.last(), starts.last()) {
            let (up, across) = (height(site) - height(last), 2 * (site - last) as i64);
            start = up.div_euclid(across) + 1;
            if start > last_start {
                break;
            }
            sites.pop();
            starts.pop();
            start = 0;
        }
        sites.push(site);
        starts.push(start);
    }
    if sites.is_empty() {
        return;
    }
    let mut k = 0;
    for (x, out) in (from..to).zip(&mut out[from..to]) {
        while k + 1 < sites.len() && starts[k + 1] <= x as i64 {
            k += 1;
        }
        let across = x.abs_diff(sites[k]) as u64;
        *out = u32::try_from(across * across + along(sites[k]) * along(sites[k]))
            .unwrap_or(u32::MAX - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(labels: &[u16], width: usize) -> Vec<u32> {
        let at = |i: usize| (i % width, i / width);
        let distance = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = (at(a), at(b));
            (ax.abs_diff(bx).pow(2) + ay.abs_diff(by).pow(2)) as u32
        };
        let nearest = |i: usize| {
            (0..labels.len())
                .filter(|&j| labels[j] != labels[i])
                .map(|j| distance(i, j))
                .min()
                .unwrap_or(u32::MAX)
        };
        (0..labels.len()).map(nearest).collect()
    }

    proptest! {
        #[test]
        fn distances_are_those_of_trying_every_pixel(width in 1usize..12, height in 1usize..12, seed in any::<u64>(), classes in 1u64..4, rare in 1u64..30) {
            let mut state = seed;
            let labels: Vec<u16> = (0..width * height).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let roll = state >> 33;
                if roll % rare == 0 { (roll / rare % classes) as u16 } else { 0 }
            }).collect();
            prop_assert_eq!(to_other_label(&labels, width), brute(&labels, width));
        }
    }

    /// Every pixel has a different label: one pass per label would be 65,536 passes.
    #[test]
    fn many_labels_take_no_longer_than_few() {
        let labels: Vec<u16> = (0..=u16::MAX).collect();
        assert_eq!(to_other_label(&labels, 256), [1; 65_536]);
    }

    #[test]
    fn an_image_of_one_label_has_no_border() {
        assert_eq!(to_other_label(&[3; 6], 3), [u32::MAX; 6]);
    }
}
