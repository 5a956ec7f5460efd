//! Pixels near a class border, found in a time that does not depend on the distance.

/// Marks the pixels of rows `first..first + count` that have a different label within `line` pixels
/// in their row or column. The edge of the image is not a border. `marks` is `[count, width]`.
///
/// Each row and column is scanned in both directions while the distance to the last label change is
/// tracked, so the work per pixel is the same for any line width. The column scans also read up to
/// `line` rows above and below the marked ones.
pub(super) fn mark_borders(
    labels: &[u16],
    width: usize,
    line: usize,
    first: usize,
    count: usize,
    marks: &mut [bool],
) {
    marks.fill(false);
    if line == 0 || width == 0 {
        return;
    }
    let row = |y: usize| &labels[y * width..][..width];
    for (y, marks) in (first..first + count).zip(marks.chunks_exact_mut(width)) {
        mark_along(row(y).iter().zip(&mut *marks), line);
        mark_along(row(y).iter().zip(&mut *marks).rev(), line);
    }
    // Rows since the last label change in each column, clamped to `line`. Rows before the first one
    // read are too far away to matter.
    let mut since = vec![line; width];
    let height = labels.len() / width;
    let from = first.saturating_sub(line);
    for y in from..first + count {
        if y > from {
            step(&mut since, row(y - 1), row(y), line);
        }
        if y >= first {
            mark(&since, line, &mut marks[(y - first) * width..][..width]);
        }
    }
    since.fill(line);
    let end = (first + count).saturating_add(line).min(height);
    for y in (first..end).rev() {
        if y + 1 < end {
            step(&mut since, row(y + 1), row(y), line);
        }
        if y < first + count {
            mark(&since, line, &mut marks[(y - first) * width..][..width]);
        }
    }
}

/// Marks the pixels of a row that follow a label change within `line` pixels.
fn mark_along<'a>(pixels: impl Iterator<Item = (&'a u16, &'a mut bool)>, line: usize) {
    let (mut before, mut since) = (None, line);
    for (&label, mark) in pixels {
        since = if before.is_some_and(|before| before != label) {
            0
        } else {
            since.saturating_add(1).min(line)
        };
        before = Some(label);
        *mark |= since < line;
    }
}

fn step(since: &mut [usize], before: &[u16], now: &[u16], line: usize) {
    for ((since, before), now) in since.iter_mut().zip(before).zip(now) {
        *since = if before != now { 0 } else { since.saturating_add(1).min(line) };
    }
}

fn mark(since: &[usize], line: usize, marks: &mut [bool]) {
    marks.iter_mut().zip(since).for_each(|(mark, &since)| *mark |= since < line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Position, Size};
    use proptest::prelude::*;

    /// The definition: another label within `line` pixels in the row or the column.
    fn is_at_border(
        labels: &[u16],
        Size { width: w, height: h }: Size,
        Position { x, y }: Position,
        line: usize,
    ) -> bool {
        let label = labels[y * w + x];
        let near = |at: usize, end: usize| {
            at.saturating_sub(line)..at.saturating_add(line).saturating_add(1).min(end)
        };
        near(x, w).any(|x| labels[y * w + x] != label)
            || near(y, h).any(|y| labels[y * w + x] != label)
    }

    proptest! {
        #[test]
        fn borders_are_the_pixels_with_another_label_in_reach(
            w in 1usize..24, h in 1usize..24, line in prop_oneof![0usize..12, Just(1000), Just(usize::MAX)], strip in 1usize..9,
            seed in any::<u64>(), rare in 1u64..40,
        ) {
            let mut state = seed;
            let labels: Vec<u16> = (0..w * h).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if (state >> 33) % rare == 0 { (state >> 60) as u16 % 3 } else { 0 }
            }).collect();
            let mut marks = Vec::new();
            for first in (0..h).step_by(strip) {
                let count = strip.min(h - first);
                let mut some = vec![true; w * count];
                mark_borders(&labels, w, line, first, count, &mut some);
                marks.extend(some);
            }
            let expected: Vec<bool> = (0..w * h).map(|i| is_at_border(&labels, Size::new(w, h), Position::new(i % w, i / w), line)).collect();
            prop_assert_eq!(marks, expected);
        }
    }
}
