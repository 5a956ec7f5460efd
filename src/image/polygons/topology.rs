//! Keeping simplified rings valid: where edges meet that did not before, or a hole leaves its ring,
//! corners are kept until they no longer do.

use super::Corner;
use super::simplify::Simplified;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

/// Rounds of keeping one more corner of each faulty edge, after which the polygon keeps all its
/// corners. Faults need a few rounds at most, unless outlines are noise.
const ROUNDS: usize = 64;

/// A ring and an edge of it, by number.
type Edge = (usize, usize);

/// Keeps corners until the rings, of which the first is the outer one, are valid.
pub(super) fn repair(rings: &mut [Simplified]) {
    for _ in 0..ROUNDS {
        let mut faults = crossings(rings);
        faults.extend(crossings_at_corners(rings));
        if faults.is_empty() {
            // Without crossings a ring is inside or outside of another as a whole.
            faults = misplaced(rings);
        }
        if faults.is_empty() {
            return;
        }
        // From the last to the first, so that the numbers of edges stay valid.
        let split = faults.iter().rev().filter(|(ring, edge)| rings[*ring].split(*edge)).count();
        if split == 0 {
            break;
        }
    }
    rings.iter_mut().for_each(Simplified::restore);
}

struct Segment {
    edge: Edge,
    a: Corner,
    b: Corner,
}

impl Segment {
    fn xs(&self) -> (u32, u32) {
        (self.a.x.min(self.b.x), self.a.x.max(self.b.x))
    }

    fn ys(&self) -> (u32, u32) {
        (self.a.y.min(self.b.y), self.a.y.max(self.b.y))
    }
}

/// Returns the edges that cross or touch another one, other than at a common end.
fn crossings(rings: &[Simplified]) -> BTreeSet<Edge> {
    let mut segments = Vec::new();
    for (number, ring) in rings.iter().enumerate() {
        segments.extend((0..ring.len()).map(|edge| Segment {
            edge: (number, edge),
            a: ring.corner(edge),
            b: ring.corner(edge + 1),
        }));
    }
    segments.sort_unstable_by_key(|segment| segment.xs().0);
    let (mut active, mut faults) = (Vec::<&Segment>::new(), BTreeSet::new());
    for segment in &segments {
        let ((left, _), (top, bottom)) = (segment.xs(), segment.ys());
        active.retain(|other| other.xs().1 >= left);
        for other in &active {
            let (other_top, other_bottom) = other.ys();
            if top <= other_bottom && other_top <= bottom && conflict(segment, other) {
                faults.extend([segment.edge, other.edge]);
            }
        }
        active.push(segment);
    }
    faults
}

fn conflict(p: &Segment, q: &Segment) -> bool {
    // From the common end to the two others.
    let shared = match (p.a, p.b) {
        (a, b) if a == q.a => Some((a, b, q.b)),
        (a, b) if a == q.b => Some((a, b, q.a)),
        (a, b) if b == q.a => Some((b, a, q.b)),
        (a, b) if b == q.b => Some((b, a, q.a)),
        _ => None,
    };
    if let Some((end, first, second)) = shared {
        return cross(end, first, second) == 0 && dot(end, first, second) > 0;
    }
    let side = |s: &Segment, c: Corner| cross(s.a, s.b, c).signum();
    let (p_a, p_b, q_a, q_b) = (side(q, p.a), side(q, p.b), side(p, q.a), side(p, q.b));
    if p_a * p_b < 0 && q_a * q_b < 0 {
        return true;
    }
    let on = |s: &Segment, c: Corner, side: i128| {
        let ((left, right), (top, bottom)) = (s.xs(), s.ys());
        side == 0 && (left..=right).contains(&c.x) && (top..=bottom).contains(&c.y)
    };
    on(q, p.a, p_a) || on(q, p.b, p_b) || on(p, q.a, q_a) || on(p, q.b, q_b)
}

/// Returns the edges of rings that have a corner in common and cross there.
fn crossings_at_corners(rings: &[Simplified]) -> BTreeSet<Edge> {
    let mut faults = BTreeSet::new();
    if rings.len() < 2 {
        return faults;
    }
    let mut owners: HashMap<Corner, Edge> = HashMap::new();
    for (number, ring) in rings.iter().enumerate() {
        for edge in 0..ring.len() {
            let corner = ring.corner(edge);
            // At most two rings meet at a corner.
            let Some((other, other_edge)) = owners.insert(corner, (number, edge)) else { continue };
            let ways = |ring: &Simplified, edge: usize| {
                [ring.corner(edge + ring.len() - 1), ring.corner(edge + 1)]
            };
            let ([from, to], theirs) = (ways(ring, edge), ways(&rings[other], other_edge));
            let inside = theirs.map(|way| is_between(corner, from, to, way));
            if inside[0] != inside[1] {
                let before = |ring: &Simplified, edge: usize| (edge + ring.len() - 1) % ring.len();
                faults.extend([(number, edge), (number, before(ring, edge))]);
                faults.extend([(other, other_edge), (other, before(&rings[other], other_edge))]);
            }
        }
    }
    faults
}

/// Whether the direction from `center` to `way` is passed when turning clockwise on the screen from
/// `from` to `to`.
fn is_between(center: Corner, from: Corner, to: Corner, way: Corner) -> bool {
    let after = |c: Corner| (cross(center, from, c), dot(center, from, c));
    angle_order(after(way), after(to)) == Ordering::Less
}

/// Compares two angles from 0 to a full turn, each given by sine and cosine up to a factor.
fn angle_order(p: (i128, i128), q: (i128, i128)) -> Ordering {
    // Up to half a turn, or more.
    let half = |(sine, cosine): (i128, i128)| sine < 0 || (sine == 0 && cosine < 0);
    half(p).cmp(&half(q)).then_with(|| {
        // Less if q is to the right of p, with vectors of sine and cosine.
        let turn = p.1 * q.0 - p.0 * q.1;
        0.cmp(&turn)
    })
}

/// Returns edges to split because they leave a hole outside of the outer ring, or inside another
/// hole. No two rings cross.
fn misplaced(rings: &[Simplified]) -> BTreeSet<Edge> {
    let mut faults = BTreeSet::new();
    if rings.len() < 2 {
        return faults;
    }
    let boxes: Vec<_> = rings.iter().map(bounds).collect();
    for hole in 1..rings.len() {
        // Twice the coordinates of the middle of an edge, which is on no other ring.
        let (a, b) = (rings[hole].corner(0), rings[hole].corner(1));
        let point = (i64::from(a.x) + i64::from(b.x), i64::from(a.y) + i64::from(b.y));
        for (number, ring) in rings.iter().enumerate().filter(|(number, _)| *number != hole) {
            let is_near = overlap(boxes[number], boxes[hole]);
            if (number == 0 || is_near) && contains(ring, point) != (number == 0) {
                faults.extend(edges_around(ring, point).map(|edge| (number, edge)));
            }
        }
    }
    faults
}

/// Left, right, top and bottom of a ring.
fn bounds(ring: &Simplified) -> [u32; 4] {
    let start = ring.corner(0);
    (0..ring.len()).map(|i| ring.corner(i)).fold(
        [start.x, start.x, start.y, start.y],
        |[left, right, top, bottom], c| {
            [left.min(c.x), right.max(c.x), top.min(c.y), bottom.max(c.y)]
        },
    )
}

fn overlap(a: [u32; 4], b: [u32; 4]) -> bool {
    a[0] <= b[1] && b[0] <= a[1] && a[2] <= b[3] && b[2] <= a[3]
}

/// Whether a point, given by twice its coordinates, is inside a ring.
fn contains(ring: &Simplified, (x, y): (i64, i64)) -> bool {
    let mut inside = false;
    for edge in 0..ring.len() {
        let [a, b] = [ring.corner(edge), ring.corner(edge + 1)]
            .map(|c| (2 * i128::from(c.x), 2 * i128::from(c.y)));
        let (x, y) = (i128::from(x), i128::from(y));
        if (a.1 > y) != (b.1 > y) {
            let side = (b.0 - a.0) * (y - a.1) - (x - a.0) * (b.1 - a.1);
            inside ^= (side > 0) == (b.1 > a.1);
        }
    }
    inside
}

/// Returns the edges that may have passed over a point: those that replace corners in whose box it
/// is.
fn edges_around(ring: &Simplified, (x, y): (i64, i64)) -> impl Iterator<Item = usize> {
    let is_within = move |edge: &usize| {
        let start = ring.corner(*edge);
        let [left, right, top, bottom] = ring.replaced(*edge).fold(
            [start.x, start.x, start.y, start.y],
            |[left, right, top, bottom], c| {
                [left.min(c.x), right.max(c.x), top.min(c.y), bottom.max(c.y)]
            },
        );
        let twice = |c: u32| 2 * i64::from(c);
        (twice(left)..=twice(right)).contains(&x) && (twice(top)..=twice(bottom)).contains(&y)
    };
    (0..ring.len()).filter(is_within)
}

/// Twice the signed area of a triangle, positive if it runs clockwise on the screen.
fn cross(a: Corner, b: Corner, c: Corner) -> i128 {
    let ((bx, by), (cx, cy)) = (difference(a, b), difference(a, c));
    bx * cy - by * cx
}

fn dot(a: Corner, b: Corner, c: Corner) -> i128 {
    let ((bx, by), (cx, cy)) = (difference(a, b), difference(a, c));
    bx * cx + by * cy
}

fn difference(from: Corner, to: Corner) -> (i128, i128) {
    (i128::from(to.x) - i128::from(from.x), i128::from(to.y) - i128::from(from.y))
}
