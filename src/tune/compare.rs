//! Comparison of a kernel's outputs with the reference.

use crate::tensor::{Elements, Tensor};

/// One in this many integers may differ, because rounding decides ties between classes.
const TIES: usize = 1000;

/// Returns a description of the difference between `got` and `want`, if there is one. Elements are
/// sums of `products` products of numbers up to 1, in any order.
pub(super) fn differs(got: &Tensor, want: &Tensor, products: f32) -> Option<String> {
    let (wrong, total) = match (got.data(), want.data()) {
        (Elements::F32(got), Elements::F32(want)) => {
            // Half a unit in the last place per addition, if all errors have the same sign, with a
            // minimum for short sums.
            let atol = 1.2e-7 * products.max(16.0);
            let close = |g: f32, w: f32| {
                (g - w).abs() <= atol + 1e-4 * w.abs() || g == w || (g.is_nan() && w.is_nan())
            };
            (got.iter().zip(want).filter(|&(&g, &w)| !close(g, w)).count(), want.len())
        }
        (Elements::U32(got), Elements::U32(want)) => {
            let wrong = got.iter().zip(want).filter(|(g, w)| g != w).count();
            (if wrong * TIES > want.len() { wrong } else { 0 }, want.len())
        }
        (got, want) => (usize::from(got != want), 1),
    };
    (wrong > 0).then(|| format!("{wrong} of {total} elements are wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn tensor(values: [f32; 4]) -> Tensor {
        Tensor::new(Shape::vector(4), values.to_vec()).unwrap()
    }

    #[test]
    fn rounding_passes_and_anything_more_does_not() {
        let want = tensor([1.0, -2.0, 0.0, f32::INFINITY]);
        assert_eq!(differs(&tensor([1.000_05, -2.0001, 1e-6, f32::INFINITY]), &want, 16.0), None);
        assert!(
            differs(&tensor([1.001, -2.0, 0.0, f32::INFINITY]), &want, 16.0)
                .unwrap()
                .starts_with("1 of 4")
        );
        assert!(differs(&tensor([f32::NAN; 4]), &want, 16.0).unwrap().starts_with("4 of 4"));
        assert!(differs(&tensor([1.0, -2.0, 1e-4, f32::INFINITY]), &want, 16.0).is_some());
        assert_eq!(
            differs(&tensor([1.0, -2.0, 1e-4, f32::INFINITY]), &want, 2048.0),
            None,
            "long sums round more"
        );
    }
}
