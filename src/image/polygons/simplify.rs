//! Dropping corners of a ring.

use super::Corner;

/// Every corner whose number is a multiple of this is kept, so that the time of long rings grows
/// with their length and not with its square.
const CHUNK: usize = 1024;

/// Rings keep at least this many corners, if they have them: a small object stays a shape with an
/// area.
const MIN_CORNERS: usize = 4;

/// A ring and the numbers of the corners that are kept, in order.
#[derive(Debug, Clone)]
pub(super) struct Simplified<'a> {
    ring: &'a [Corner],
    tolerance: f64,
    kept: Vec<usize>,
}

impl<'a> Simplified<'a> {
    /// Drops corners that are within `tolerance` of the ring without them.
    pub(super) fn new(ring: &'a [Corner], tolerance: f64) -> Self {
        let mut simplified = Self { ring, tolerance, kept: (0..ring.len()).collect() };
        if ring.len() <= MIN_CORNERS {
            return simplified;
        }
        simplified.kept.retain(|i| i % CHUNK == 0);
        if simplified.len() == 1 {
            let far = (1..ring.len()).max_by_key(|&i| squared_distance(ring[0], ring[i]));
            simplified.kept.extend(far);
        }
        let spans: Vec<_> = (0..simplified.len()).map(|edge| simplified.span(edge)).collect();
        simplified.keep_within(spans);
        while simplified.len() < MIN_CORNERS {
            let edges = 0..simplified.len();
            let far = edges.filter_map(|edge| {
                let (from, to) = simplified.span(edge);
                simplified.farthest(from, to).map(|(_, distance)| (edge, distance))
            });
            let Some((edge, _)) = far.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            simplified.split(edge);
        }
        simplified
    }

    /// Keeps corners until those between the ends of each span are within the tolerance of the ring.
    fn keep_within(&mut self, mut spans: Vec<(usize, usize)>) {
        let mut added = Vec::new();
        while let Some((from, to)) = spans.pop() {
            let Some((far, distance)) = self.farthest(from, to) else { continue };
            if distance > self.tolerance {
                added.push(far % self.ring.len());
                spans.extend([(from, far), (far, to)]);
            }
        }
        self.kept.extend(added);
        self.kept.sort_unstable();
        self.kept.dedup();
    }

    /// Returns the number of kept corners, which is that of edges.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the kept corner `edge`, counted around the ring: the edge of that number begins
    /// there.
    pub(super) fn corner(&self, edge: usize) -> Corner {
        self.ring[self.kept[edge % self.kept.len()]]
    }

    /// Returns the kept corners.
    pub(super) fn corners(&self) -> Vec<Corner> {
        self.kept.iter().map(|&i| self.ring[i]).collect()
    }

    /// Returns the corners of the original that an edge replaces, with its two ends.
    pub(super) fn replaced(&self, edge: usize) -> impl Iterator<Item = Corner> {
        let (from, to) = self.span(edge);
        (from..=to).map(|i| self.ring[i % self.ring.len()])
    }

    /// Keeps one more corner of those that an edge replaces, and what the tolerance then requires.
    /// Returns whether it replaces any.
    pub(super) fn split(&mut self, edge: usize) -> bool {
        let (from, to) = self.span(edge);
        let Some((far, _)) = self.farthest(from, to) else { return false };
        self.kept.push(far % self.ring.len());
        self.keep_within(vec![(from, far), (far, to)]);
        true
    }

    /// Keeps all corners.
    pub(super) fn restore(&mut self) {
        self.kept = (0..self.ring.len()).collect();
    }

    /// Returns the numbers of an edge's ends; the second is past the ring's end where the edge
    /// closes it.
    fn span(&self, edge: usize) -> (usize, usize) {
        let to = self.kept.get(edge + 1).copied();
        (self.kept[edge], to.unwrap_or(self.kept[0] + self.ring.len()))
    }

    /// Returns the corner between two others that is farthest from the line that joins them, and
    /// its distance; `None` if there is none between them.
    fn farthest(&self, from: usize, to: usize) -> Option<(usize, f64)> {
        let at = |i: usize| self.ring[i % self.ring.len()];
        let (a, b) = (at(from), at(to));
        let distances = (from + 1..to).map(|i| (i, distance(at(i), a, b)));
        // Of equal distances the one nearest to the middle, which makes the two parts alike.
        let middle = usize::midpoint(from, to);
        distances.max_by(|p, q| {
            p.1.total_cmp(&q.1).then_with(|| q.0.abs_diff(middle).cmp(&p.0.abs_diff(middle)))
        })
    }
}

fn squared_distance(a: Corner, b: Corner) -> u128 {
    let (dx, dy) = (u128::from(a.x.abs_diff(b.x)), u128::from(a.y.abs_diff(b.y)));
    dx * dx + dy * dy
}

/// Returns the distance of a corner to the line segment from `a` to `b`.
fn distance(corner: Corner, a: Corner, b: Corner) -> f64 {
    let from_a = |c: Corner| (f64::from(c.x) - f64::from(a.x), f64::from(c.y) - f64::from(a.y));
    let ((x, y), (bx, by)) = (from_a(corner), from_a(b));
    let squared = bx * bx + by * by;
    let along = if squared > 0.0 { ((x * bx + y * by) / squared).clamp(0.0, 1.0) } else { 0.0 };
    (x - along * bx).hypot(y - along * by)
}
