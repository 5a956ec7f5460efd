//! Matrix products on the CPU, by the crate `gemm-f32` on one thread; callers split the work.
//!
//! It is the part of the crate `gemm` for this type of number: compiling those for complex numbers and
//! doubles takes longer than everything else of it.

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

    /// Views the transpose of the matrix.
    fn transpose(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
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
    // The kernels are fastest where the elements of the first operand's columns are adjacent, so the
    // transposed product is computed, unless it is a vector either way.
    let (m, n, out_strides, a, b) = match n {
        0 | 1 => (m, n, (1, n), a, b),
        _ => (n, m, (n, 1), b.transpose(), a.transpose()),
    };
    let stride = |v: usize| v as isize;
    // SAFETY: `out` holds exactly m*n floats, which its strides reach, and the last elements of `a`
    // and `b` that their strides reach are inside their slices (asserted above); `out` is borrowed
    // mutably, so it does not overlap `a` or `b`.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            out.as_mut_ptr(),
            stride(out_strides.0),
            stride(out_strides.1),
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
            gemm_common::Parallelism::None,
        );
    }
}
