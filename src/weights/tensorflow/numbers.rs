//! Small arrays of numbers that a graph computes with: sizes, axes, paddings.

use super::graph::{Arithmetic, Constant, MAX_SMALL, SliceMasks};
use crate::error::{Error, Result, error};

/// An array of at most [`MAX_SMALL`] numbers, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Numbers {
    /// Creates an array of one axis.
    pub fn list(values: Vec<f64>) -> Self {
        Self { dims: vec![values.len()], values }
    }

    /// Returns the values of a small constant.
    pub fn of(constant: &Constant) -> Option<Self> {
        let values = constant.small.clone()?;
        let count: usize = constant.dims.iter().product();
        (count == values.len()).then(|| Self { dims: constant.dims.clone(), values })
    }

    /// Returns the array with each number converted to an integer.
    pub fn truncated(mut self) -> Self {
        self.values.iter_mut().for_each(|value| *value = value.trunc());
        self
    }

    /// Returns the same numbers with one axis.
    pub fn flat(self) -> Self {
        Self::list(self.values)
    }

    /// Stacks arrays along a new first axis.
    pub fn pack(parts: Vec<Self>) -> Result<Self> {
        let count = parts.len();
        let mut dims = parts.first().map(|part| part.dims.clone()).unwrap_or_default();
        if parts.iter().any(|part| part.dims != dims) {
            return Err(error!(Weights, "it stacks arrays of different dimensions"));
        }
        dims.insert(0, count);
        Self::join(dims, parts)
    }

    /// Concatenates arrays along the first axis.
    pub fn concat(parts: Vec<Self>) -> Result<Self> {
        let mut dims = parts.first().map(|part| part.dims.clone()).unwrap_or_default();
        let fits = |part: &Self| !part.dims.is_empty() && part.dims[1..] == dims[1..];
        if dims.is_empty() || !parts.iter().all(fits) {
            return Err(error!(Weights, "it concatenates arrays of different dimensions"));
        }
        dims[0] = parts.iter().map(|part| part.dims[0]).sum();
        Self::join(dims, parts)
    }

    fn join(dims: Vec<usize>, parts: Vec<Self>) -> Result<Self> {
        let count: usize = parts.iter().map(|part| part.values.len()).sum();
        if count > MAX_SMALL {
            return Err(error!(Weights, "an array of {count} numbers"));
        }
        let values = parts.into_iter().flat_map(|part| part.values).collect();
        Ok(Self { dims, values })
    }

    /// Applies arithmetic to two arrays of the same dimensions, or an array and a number.
    pub fn combine(op: Arithmetic, a: &Self, b: &Self) -> Result<Self> {
        let longer = if b.values.len() > a.values.len() { b } else { a };
        let len = longer.values.len();
        if ![a, b].iter().all(|array| array.values.len() == 1 || array.values.len() == len) {
            return Err(error!(Weights, "the lengths of its inputs differ"));
        }
        let at = |array: &Self, i: usize| array.values[if array.values.len() == 1 { 0 } else { i }];
        let values = (0..len).map(|i| op.apply(at(a, i), at(b, i))).collect();
        Ok(Self { dims: longer.dims.clone(), values })
    }

    /// Returns a slice with steps of one.
    pub fn slice(
        &self,
        begin: &Self,
        end: &Self,
        stride: &Self,
        masks: SliceMasks,
    ) -> Result<Self> {
        let unsupported = || -> Error { error!(Weights, "the slice is not supported") };
        let axes = begin.values.len();
        if axes != end.values.len()
            || axes > self.dims.len()
            || stride.values.iter().any(|&s| s != 1.0)
        {
            return Err(unsupported());
        }
        let (mut dims, mut ranges) = (Vec::new(), Vec::new());
        for (axis, &extent) in self.dims.iter().enumerate() {
            let is_set = |mask: i64| axis < axes && mask >> axis & 1 == 1;
            let index = |array: &Self| {
                let at = array.values[axis];
                let at = if at < 0.0 { at + extent as f64 } else { at };
                at.clamp(0.0, extent as f64) as usize
            };
            let first = if axis >= axes || is_set(masks.begin) { 0 } else { index(begin) };
            if is_set(masks.shrink) {
                ranges.push(first..first + 1);
                if first >= extent {
                    return Err(unsupported());
                }
                continue;
            }
            let last = if axis >= axes || is_set(masks.end) { extent } else { index(end) };
            dims.push(last.saturating_sub(first));
            ranges.push(first..last.max(first));
        }
        let mut values = Vec::new();
        for (i, &value) in self.values.iter().enumerate() {
            let mut rest = i;
            let inside = self.dims.iter().zip(&ranges).rev().all(|(&extent, range)| {
                let at = rest % extent.max(1);
                rest /= extent.max(1);
                range.contains(&at)
            });
            if inside {
                values.push(value);
            }
        }
        Ok(Self { dims, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[f64]) -> Numbers {
        Numbers::list(values.to_vec())
    }

    fn scalar(value: f64) -> Numbers {
        Numbers { dims: Vec::new(), values: vec![value] }
    }

    #[test]
    fn slices_take_ranges_and_drop_axes() {
        let rows = Numbers::pack(vec![list(&[1.0, 2.0]), list(&[3.0, 4.0])]).unwrap();
        // `rows[:, 1]`.
        let masks = SliceMasks { begin: 1, end: 1, shrink: 2 };
        let ones = list(&[1.0, 1.0]);
        let column = rows.slice(&list(&[0.0, 1.0]), &list(&[0.0, 2.0]), &ones, masks).unwrap();
        assert_eq!(column, list(&[2.0, 4.0]));
        // `rows[0:1]`, `shape[1:3]` and `shape[-1]`.
        let masks = SliceMasks { begin: 0, end: 0, shrink: 0 };
        let one = list(&[1.0]);
        let row = rows.slice(&list(&[0.0]), &one, &one, masks).unwrap();
        assert_eq!((row.values, row.dims), (vec![1.0, 2.0], vec![1, 2]));
        let shape = list(&[1.0, 33.0, 41.0, 3.0]);
        let size = shape.slice(&one, &list(&[3.0]), &one, masks).unwrap();
        assert_eq!(size, list(&[33.0, 41.0]));
        let masks = SliceMasks { shrink: 1, ..masks };
        let last = shape.slice(&list(&[-1.0]), &list(&[0.0]), &one, masks).unwrap();
        assert_eq!(last, scalar(3.0));
        assert!(shape.slice(&list(&[4.0]), &list(&[5.0]), &one, masks).is_err());
    }

    #[test]
    fn arithmetic_repeats_a_single_number() {
        let sum = Numbers::combine(Arithmetic::Add, &list(&[1.0, 2.0]), &scalar(3.0));
        assert_eq!(sum.unwrap(), list(&[4.0, 5.0]));
        let modulo = Numbers::combine(Arithmetic::FloorMod, &list(&[-1.0]), &list(&[4.0]));
        assert_eq!(modulo.unwrap().values, [3.0]);
        assert!(Numbers::combine(Arithmetic::Add, &list(&[1.0, 2.0]), &list(&[1.0; 3])).is_err());
    }
}
