//! Outlines against the pixels that they enclose, and the validity of simplified ones.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// Fills a polygon by the even-odd rule at the centers of pixels.
fn fill(polygon: &Polygon, size: Size, mut paint: impl FnMut(usize)) {
    for y in 0..size.height {
        let at = y as f64 + 0.5;
        let mut xs = Vec::new();
        for ring in polygon.rings() {
            for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                let [(ax, ay), (bx, by)] = [a, b].map(|c| (f64::from(c.x), f64::from(c.y)));
                if (ay > at) != (by > at) {
                    xs.push(ax + (at - ay) * (bx - ax) / (by - ay));
                }
            }
        }
        xs.sort_by(f64::total_cmp);
        for pair in xs.chunks_exact(2) {
            let centers = (0..size.width).filter(|&x| {
                let center = x as f64 + 0.5;
                pair[0] < center && center < pair[1]
            });
            centers.for_each(|x| paint(y * size.width + x));
        }
    }
}

/// Whether two segments that have no common end meet, or two with one overlap.
fn meet(p: [Corner; 2], q: [Corner; 2]) -> bool {
    let cross = |a: Corner, b: Corner, c: Corner| {
        (i64::from(b.x) - i64::from(a.x)) * (i64::from(c.y) - i64::from(a.y))
            - (i64::from(b.y) - i64::from(a.y)) * (i64::from(c.x) - i64::from(a.x))
    };
    let on = |s: [Corner; 2], c: Corner| {
        cross(s[0], s[1], c) == 0
            && (s[0].x.min(s[1].x)..=s[0].x.max(s[1].x)).contains(&c.x)
            && (s[0].y.min(s[1].y)..=s[0].y.max(s[1].y)).contains(&c.y)
    };
    let ends = p.iter().filter(|c| q.contains(c)).count();
    if ends > 0 {
        return p.iter().any(|&c| !q.contains(&c) && on(q, c))
            || q.iter().any(|&c| !p.contains(&c) && on(p, c))
            || ends > 1;
    }
    let signs = |s: [Corner; 2], t: [Corner; 2]| t.map(|c| cross(s[0], s[1], c).signum());
    let (ours, theirs) = (signs(p, q), signs(q, p));
    (ours[0] * ours[1] < 0 && theirs[0] * theirs[1] < 0)
        || p.iter().any(|&c| on(q, c))
        || q.iter().any(|&c| on(p, c))
}

/// Checks that no ring passes a corner twice, and no two edges meet but at common ends.
fn check_rings(polygon: &Polygon) {
    let mut edges = Vec::new();
    for ring in polygon.rings() {
        assert!(ring.len() >= 3, "{polygon:?}");
        assert_eq!(ring.iter().collect::<HashSet<_>>().len(), ring.len(), "{polygon:?}");
        edges.extend(ring.iter().zip(ring.iter().cycle().skip(1)).map(|(&a, &b)| [a, b]));
    }
    for (i, &p) in edges.iter().enumerate() {
        for &q in &edges[..i] {
            assert!(!meet(p, q), "{p:?} meets {q:?} in {polygon:?}");
        }
    }
    assert!(signed_area(&polygon.outer) > 0.0, "clockwise: {polygon:?}");
    assert!(polygon.holes.iter().all(|hole| signed_area(hole) < 0.0), "{polygon:?}");
    assert!(polygon.enclosed_area() > 0.0, "{polygon:?}");
}

fn traced(width: usize, labels: Vec<u16>) -> (LabelMap, Vec<Polygon>) {
    let map = LabelMap::new(Size::new(width, labels.len() / width), labels).unwrap();
    let found = Polygons::trace(&map, |_| true, 1).unwrap();
    assert_eq!(found.dropped, 0);
    (map, found.polygons)
}

/// A map of blobs: noise of some classes, smoothed by a majority of three by three pixels.
fn blobs(width: usize, height: usize, classes: u16, rounds: usize, seed: u64) -> Vec<u16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u16 % classes
    };
    let mut labels: Vec<u16> = (0..width * height).map(|_| next()).collect();
    for _ in 0..rounds {
        let old = labels.clone();
        for (i, label) in labels.iter_mut().enumerate() {
            let (x, y) = (i % width, i / width);
            let mut counts = vec![0; usize::from(classes)];
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    counts[usize::from(old[row * width + column])] += 1;
                }
            }
            let most = (0..counts.len()).max_by_key(|&class| counts[class]).unwrap();
            *label = most as u16;
        }
    }
    labels
}

proptest! {
    #[test]
    fn outlines_enclose_exactly_their_pixels(
        (w, h) in (1usize..24, 1usize..24), classes in 1u16..5, rounds in 0usize..3, seed in 0u64..1_000_000
    ) {
        let (map, polygons) = traced(w, blobs(w, h, classes, rounds, seed));
        let mut filled = vec![None; w * h];
        for polygon in &polygons {
            check_rings(polygon);
            let mut pixels = 0;
            fill(polygon, map.size(), |i| {
                assert_eq!(filled[i].replace(polygon.class), None, "no pixel is in two objects");
                pixels += 1;
            });
            prop_assert_eq!(pixels, polygon.pixels);
            prop_assert_eq!(polygon.enclosed_area(), polygon.pixels as f64);
        }
        let labels: Vec<Option<u16>> = map.labels.iter().map(|&l| Some(l)).collect();
        prop_assert_eq!(filled, labels);
    }

    #[test]
    fn simplified_outlines_stay_valid_and_near(
        (w, h) in (2usize..40, 2usize..40), rounds in 0usize..4, seed in 0u64..1_000_000,
        tolerance in 0.1f64..4.0
    ) {
        let (_, polygons) = traced(w, blobs(w, h, 2, rounds, seed));
        for polygon in &polygons {
            let simple = polygon.simplified(tolerance).unwrap();
            check_rings(&simple);
            prop_assert_eq!(
                (simple.pixels, simple.corner, simple.size),
                (polygon.pixels, polygon.corner, polygon.size)
            );
            for (ring, original) in simple.rings().zip(polygon.rings()) {
                let far = original.iter().map(|&c| distance_to_ring(c, ring));
                let far = far.fold(0.0, f64::max);
                prop_assert!(far <= tolerance + 1e-9, "{} at {}", far, tolerance);
            }
        }
    }
}

fn distance_to_ring(corner: Corner, ring: &[Corner]) -> f64 {
    let as_f64 = |c: Corner| (f64::from(c.x), f64::from(c.y));
    let (px, py) = as_f64(corner);
    let distance = |(&a, &b): (&Corner, &Corner)| {
        let ((ax, ay), (bx, by)) = (as_f64(a), as_f64(b));
        let (dx, dy) = (bx - ax, by - ay);
        let t = ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy);
        let t = t.clamp(0.0, 1.0);
        (px - ax - t * dx).hypot(py - ay - t * dy)
    };
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(distance).fold(f64::INFINITY, f64::min)
}

#[test]
fn a_hole_that_touches_its_ring_at_a_corner_is_a_hole() {
    // The pixel in the middle meets the outside only at a corner.
    let rows = [[1, 1, 1], [1, 0, 1], [1, 1, 0]];
    let (_, polygons) = traced(3, rows.concat());
    let ring = &polygons[0];
    assert_eq!((ring.class, ring.pixels, ring.holes.len()), (1, 7, 1));
    check_rings(ring);
    assert!(ring.outer.contains(&Corner { x: 2, y: 2 }));
    assert!(ring.holes[0].contains(&Corner { x: 2, y: 2 }));
    assert_eq!(polygons.len(), 3, "two pixels that meet at a corner are two objects");
}

#[test]
fn shapes_have_the_corners_that_one_expects() {
    let (_, polygons) = traced(4, [[1; 4], [1; 4], [1; 4]].concat());
    let corners = [(0, 0), (4, 0), (4, 3), (0, 3)].map(|(x, y)| Corner { x, y });
    assert_eq!(polygons[0].outer, corners, "clockwise from the upper left");
    assert_eq!(polygons[0].simplified(2.0).unwrap(), polygons[0]);
    // A triangle of stairs becomes three corners and those of its tips.
    let size = 60;
    let stairs = (0..size * size).map(|i| u16::from(i % size <= i / size)).collect();
    let (_, polygons) = traced(size, stairs);
    let triangle = polygons.iter().find(|polygon| polygon.class == 1).unwrap();
    assert_eq!(triangle.outer.len(), 2 * size + 2);
    assert!(triangle.simplified(1.0).unwrap().outer.len() <= 5);
    for tolerance in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(triangle.simplified(tolerance).is_err(), "{tolerance}");
    }
}

/// Whether a pixel (x, y) belongs to a shape.
type Inside<'a> = &'a dyn Fn(usize, usize) -> bool;

/// A ring one pixel wide, a comb with thin teeth, a spiral and holes behind thin walls: simplifying
/// each ring alone would let them cross.
#[test]
fn thin_shapes_do_not_cross_themselves() {
    let size = 61usize;
    let (middle, side) = (30.0, size as f64);
    let distance = |x: usize, y: usize| (x as f64 - middle).hypot(y as f64 - middle);
    let shapes: [(&str, Inside); 5] = [
        ("ring", &|x, y| (24.0..25.2).contains(&distance(x, y))),
        ("comb", &|x, y| y > 50 || x % 2 == 0 && (y as f64) > 50.0 * (x as f64 / side)),
        ("spiral", &|x, y| {
            let angle = (y as f64 - middle).atan2(x as f64 - middle);
            (distance(x, y) - angle * 0.8).rem_euclid(5.0) < 2.0
        }),
        ("walls", &|x, y| distance(x, y) < 28.0 && !(26.2..27.0).contains(&distance(x, y))),
        ("net", &|x, y| (x + y) % 4 == 0 || (x + 3 * y) % 5 == 0),
    ];
    for (name, inside) in shapes {
        let labels =
            (0..size * size).map(|i| u16::from(inside(i % size, i / size))).collect::<Vec<_>>();
        let (_, polygons) = traced(size, labels);
        for tolerance in [0.5, 1.0, 1.5, 2.0, 5.0] {
            for polygon in &polygons {
                let simple = polygon.simplified(tolerance).unwrap();
                println!(
                    "{name} {tolerance}: {} corners",
                    simple.rings().map(<[_]>::len).sum::<usize>()
                );
                check_rings(&simple);
            }
        }
    }
}

#[test]
fn holes_stay_inside_where_a_ring_cuts_a_corner() {
    // A hole of one pixel below the tip of a triangle, which the tolerance would cut off.
    let size = 40usize;
    let inside = |i: usize| {
        let (x, y) = (i % size, i / size);
        (x.abs_diff(20) <= y / 2 + 1) && (x, y) != (20, 2)
    };
    let (_, polygons) = traced(size, (0..size * size).map(|i| u16::from(inside(i))).collect());
    let shape = polygons.iter().find(|polygon| !polygon.holes.is_empty()).unwrap();
    for tolerance in [1.0, 2.0, 4.0, 8.0] {
        let simple = shape.simplified(tolerance).unwrap();
        check_rings(&simple);
        let mut holes = HashSet::new();
        let hole = Polygon { outer: simple.holes[0].clone(), holes: Vec::new(), ..simple.clone() };
        fill(&hole, Size::square(size), |i| _ = holes.insert(i));
        let outer = Polygon { holes: Vec::new(), ..simple };
        fill(&outer, Size::square(size), |i| _ = holes.remove(&i));
        assert!(holes.is_empty(), "{tolerance}: {holes:?}");
    }
}

#[test]
fn small_objects_are_dropped_and_counted() {
    let labels = LabelMap::new(Size::new(5, 1), vec![1, 1, 0, 2, 1]).unwrap();
    let found = Polygons::trace(&labels, |class| class != 0, 2).unwrap();
    assert_eq!((found.polygons.len(), found.dropped), (1, 2));
    let polygon = &found.polygons[0];
    assert_eq!((polygon.corner, polygon.size), (Corner { x: 0, y: 0 }, Size::new(2, 1)));
}
