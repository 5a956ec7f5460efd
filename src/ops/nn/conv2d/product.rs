//! Matrix products on the CPU, by the `gemm` crate on one thread; callers split the work.

/// A matrix in a slice: the element in row `r` and column `c` is `data[r * row + c * column]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> View<'a> {
    /// Views `data` as rows, `row` floats apart.
    pub(super) fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    /// Views the transpose of a matrix stored as rows, `row` floats apart.
    pub(super) fn transposed(data: &'a [f32], row: usize) -> Self {
        Self { data, row: 1, column: row }
    }

    /// Returns whether a matrix of this extent is inside the slice.
    fn contains(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Computes `out[m, n] = a[m, k] * b[k, n]`, all row-major.
pub(crate) fn product(out: &mut [f32], a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) {
    assert!(
        out.len() == m * n && a.len() == m * k && b.len() == k * n,
        "invariant: slices match the product's extent"
    );
    of_views(out, View::rows(a, k), View::rows(b, n), (m, k, n), false);
}

/// Computes `out[m, n] = a[m, k] * b[k, n]`, or with `add` `out += a * b`. `out` is row-major.
pub(super) fn of_views(
    out: &mut [f32],
    a: View,
    b: View,
    (m, k, n): (usize, usize, usize),
    add: bool,
) {
    assert!(
        out.len() == m * n && a.contains(m, k) && b.contains(k, n),
        "invariant: slices match the product's extent"
    );
    let stride = |v: usize| v as isize;
    // SAFETY: `out` holds exactly m*n floats in rows of n, and the last elements of `a` and `b`
    // that the strides reach are inside their slices (asserted above); `out` is borrowed mutably,
    // so it does not overlap `a` or `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            add,
            a.data.as_ptr(),
            stride(a.column),
            stride(a.row),
            b.data.as_ptr(),
            stride(b.column),
            stride(b.row),
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
