//! How far each pixel is from the next one with another label.

use rayon::prelude::*;

/// For each pixel the squared Euclidean distance between its centre and that of the nearest pixel with another label; `u32::MAX` where
/// there is none. `labels` are `[height, width]`; the picture's edge is no border.
///
/// A distance transform for every label (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions"): first along
/// columns by counting, then along rows as the lower envelope of parabolas, exact in whole numbers.
pub(super) fn to_other_label(labels: &[u16], width: usize) -> Vec<u32> {
    let mut present: Vec<u16> = labels.to_vec();
    present.sort_unstable();
    present.dedup();
    let mut out = vec![u32::MAX; labels.len()];
    if width == 0 || present.len() < 2 {
        return out;
    }
    let mut column = vec![u32::MAX; labels.len()];
    for label in present {
        along_columns(labels, width, label, &mut column);
        out.par_chunks_mut(width).zip(labels.par_chunks(width)).zip(column.par_chunks(width)).for_each_init(
            || (Vec::new(), Vec::new()),
            |(sites, starts), ((out, labels), column)| {
                if labels.contains(&label) {
                    along_row(labels, label, column, sites, starts, out);
                }
            },
        );
    }
    out
}

/// The distance to the nearest pixel of another label above or below; `u32::MAX` where there is none.
fn along_columns(labels: &[u16], width: usize, label: u16, out: &mut [u32]) {
    let height = labels.len() / width;
    let step = |out: &mut [u32], at: usize, before: Option<usize>| {
        let next = before.map_or(u32::MAX, |b| out[b].saturating_add(1));
        out[at] = if labels[at] == label { out[at].min(next) } else { 0 };
    };
    out.fill(u32::MAX);
    for y in 0..height {
        (y * width..(y + 1) * width).for_each(|at| step(out, at, at.checked_sub(width)));
    }
    for y in (0..height.saturating_sub(1)).rev() {
        (y * width..(y + 1) * width).for_each(|at| step(out, at, Some(at + width)));
    }
}

/// The lower envelope of the parabolas `(x - site)^2 + column[site]^2`, read at the pixels of `label`.
fn along_row(labels: &[u16], label: u16, column: &[u32], sites: &mut Vec<usize>, starts: &mut Vec<i64>, out: &mut [u32]) {
    let height = |site: usize| i64::from(column[site]) * i64::from(column[site]) + (site * site) as i64;
    sites.clear();
    starts.clear();
    for site in (0..column.len()).filter(|&x| column[x] != u32::MAX) {
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
    let mut k = 0;
    for x in 0..out.len() {
        while k + 1 < sites.len() && starts[k + 1] <= x as i64 {
            k += 1;
        }
        if labels[x] == label && !sites.is_empty() {
            let across = x.abs_diff(sites[k]) as u64;
            let along = u64::from(column[sites[k]]);
            out[x] = u32::try_from(across * across + along * along).unwrap_or(u32::MAX - 1);
        }
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
        let nearest =
            |i: usize| (0..labels.len()).filter(|&j| labels[j] != labels[i]).map(|j| distance(i, j)).min().unwrap_or(u32::MAX);
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

    #[test]
    fn a_picture_of_one_label_has_no_border() {
        assert_eq!(to_other_label(&[3; 6], 3), [u32::MAX; 6]);
    }
}
