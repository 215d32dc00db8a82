//! Matrix products in this process's memory, without the copies that tensors make.

use gemm::Parallelism;

/// A matrix: its values from the first on, and the strides from one row, and from one column, to the next.
#[derive(Clone, Copy)]
pub(crate) struct MatRef<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) strides: (usize, usize),
}

impl<'a> MatRef<'a> {
    /// A matrix in row-major order.
    pub(crate) fn by_rows(values: &'a [f32], columns: usize) -> Self {
        Self { values, strides: (columns, 1) }
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Self {
        Self { strides: (self.strides.1, self.strides.0), ..self }
    }

    /// Whether it has at least this many rows and columns.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        last(rows, columns, self.strides).is_none_or(|last| last < self.values.len())
    }
}

/// Index of the last value of a matrix; `None` if it is empty.
fn last(rows: usize, columns: usize, strides: (usize, usize)) -> Option<usize> {
    Some(rows.checked_sub(1)? * strides.0 + columns.checked_sub(1)? * strides.1)
}

/// left · right, \[m, n\] with inner dimension k, row-major in the memory of `out`; added to its contents if `is_sum`.
/// Uses all cores. Unless `is_sum`, a row of more than 128 columns does not depend on how many others there are, to the
/// last bit: the library rounds smaller products in another order.
pub(crate) fn matmul(
    (m, n, k): (usize, usize, usize),
    left: MatRef<'_>,
    right: MatRef<'_>,
    mut out: Vec<f32>,
    is_sum: bool,
) -> Vec<f32> {
    if m == 1 && !is_sum {
        // The library rounds a single row in another order: it is computed twice, as two.
        let twice = MatRef { strides: (0, left.strides.1), ..left };
        let mut out = matmul((2, n, k), twice, right, out, false);
        out.truncate(n);
        return out;
    }
    if !is_sum {
        out.clear();
        out.reserve_exact(m * n);
    }
    assert!(left.holds(m, k) && right.holds(k, n), "factors of another size");
    assert!(out.capacity() >= m * n && (!is_sum || out.len() == m * n), "a sum of another size");
    // SAFETY: the factors hold all that their strides reach (asserted above), and `out` has room for m · n numbers in
    // row-major order. Unless `is_sum`, none of it is read and all m · n numbers are written, so that the length is
    // right afterwards.
    unsafe {
        multiply((m, n, k), left, right, (out.as_mut_ptr(), n), is_sum, Parallelism::Rayon(0));
        out.set_len(m * n);
    }
    out
}

/// left · right, \[m, n\] with inner dimension k, into `out`, whose rows are `stride` apart; added to its contents if
/// `is_sum`. Uses this thread only.
pub(crate) fn matmul_into(
    (m, n, k): (usize, usize, usize),
    left: MatRef<'_>,
    right: MatRef<'_>,
    (out, stride): (&mut [f32], usize),
    is_sum: bool,
) {
    assert!(left.holds(m, k) && right.holds(k, n), "factors of another size");
    assert!(n <= stride && last(m, n, (stride, 1)).is_none_or(|last| last < out.len()), "a result of another size");
    // SAFETY: the factors and `out` hold all that their strides reach (asserted above); all of `out` is initialised.
    unsafe { multiply((m, n, k), left, right, (out.as_mut_ptr(), stride), is_sum, Parallelism::None) }
}

/// # Safety
/// The factors must hold \[m, k\] and \[k, n\] numbers at their strides, and `out` must be valid for writes of \[m, n\]
/// at a row stride of at least n, and for reads too if `is_sum`.
unsafe fn multiply(
    (m, n, k): (usize, usize, usize),
    left: MatRef<'_>,
    right: MatRef<'_>,
    (out, stride): (*mut f32, usize),
    is_sum: bool,
    parallelism: Parallelism,
) {
    let strides = |factor: &MatRef<'_>| (factor.strides.0 as isize, factor.strides.1 as isize);
    let ((left_row, left_column), (right_row, right_column)) = (strides(&left), strides(&right));
    let (left, right) = (left.values.as_ptr(), right.values.as_ptr());
    // SAFETY: the caller guarantees what the product requires.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            stride as isize,
            is_sum,
            left,
            left_column,
            left_row,
            right,
            right_column,
            right_row,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_depend_on_how_many_others_there_are() {
        let (rows, columns, inner) = (9, 150, 70);
        let numbers =
            |from: usize, count: usize| (from..from + count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let (left, right) = (numbers(0, rows * inner), numbers(5, inner * columns));
        let right = MatRef::by_rows(&right, columns);
        let all = matmul((rows, columns, inner), MatRef::by_rows(&left, inner), right, Vec::new(), false);
        for (first, last) in (0..rows).flat_map(|first| (first + 1..=rows).map(move |last| (first, last))) {
            let some = MatRef::by_rows(&left[first * inner..last * inner], inner);
            let some = matmul((last - first, columns, inner), some, right, Vec::new(), false);
            assert_eq!(some, all[first * columns..last * columns], "rows {first} to {last}");
        }
    }
}
