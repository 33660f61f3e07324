//! Many products at once, with batch axes of any strides. In column-major tensors the first batch
//! axis is the fastest of all: the products interleave, and vector lanes run over them.

use super::micro::{Kernels, Lanes};
use super::{MatMut, MatRef, even, gemm, gemm_scratch};
use crate::{MAX_RANK, Scalar};

/// An axis over which products repeat: its extent and its stride in A, B and C; an operand that
/// is the same all along has stride 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BatchAxis {
    pub extent: usize,
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

impl BatchAxis {
    /// Whether walking `next` goes on where this axis ends, so that both are one.
    fn joins(&self, next: &BatchAxis) -> bool {
        let goes_on = |own: usize, next: usize| next == own * self.extent;
        goes_on(self.a, next.a) && goes_on(self.b, next.b) && goes_on(self.c, next.c)
    }
}

/// The axes with neighbors joined where memory allows, and how many are left.
fn joined(axes: &[BatchAxis]) -> ([BatchAxis; MAX_RANK], usize) {
    let (mut out, mut n) = ([BatchAxis::default(); MAX_RANK], 0);
    for axis in axes.iter().filter(|axis| axis.extent != 1) {
        if n > 0 && out[n - 1].joins(axis) {
            out[n - 1].extent *= axis.extent;
        } else {
            out[n] = *axis;
            n += 1;
        }
    }
    (out, n)
}

/// The elements of scratch that [`gemm_batched`] wants.
pub(crate) fn gemm_batched_scratch<T: Scalar>(
    axes: &[BatchAxis],
    m: usize,
    n: usize,
    k: usize,
) -> usize {
    let (axes, n_axes) = joined(axes);
    let single = gemm_scratch::<T>(m, n, k);
    match axes[..n_axes].first() {
        None => single,
        // The first batch axis may take the place of rows, of columns, or join the rows.
        Some(first) => [(first.extent, n), (first.extent, m), (first.extent * m, n)]
            .into_iter()
            .map(|(m, n)| gemm_scratch::<T>(m, n, k))
            .fold(single, usize::max),
    }
}

/// C = A·B, or C += A·B if `add`, for every position of the batch axes, the fastest first. `a`, `b`
/// and `c` describe the matrices at the first position, their data reach to the last.
///
/// # Panics
/// As [`gemm`](super::gemm), with scratch below [`gemm_batched_scratch`].
pub(crate) fn gemm_batched<T: Scalar>(
    axes: &[BatchAxis],
    a: MatRef<T>,
    b: MatRef<T>,
    mut c: MatMut<T>,
    add: bool,
    scratch: &mut [T],
) {
    let (axes, n_axes) = joined(axes);
    let axes = &axes[..n_axes];
    let Some((first, rest)) = axes.split_first() else {
        return gemm(a, b, c, add, scratch);
    };
    if axes.iter().any(|axis| axis.extent == 0) || c.rows == 0 || c.cols == 0 {
        return;
    }
    let mut at = [0; MAX_RANK];
    let (mut a_at, mut b_at, mut c_at) = (0, 0, 0);
    loop {
        // Without terms a factor is empty, and there is no place to go to.
        let a = MatRef { data: a.data.get(a_at..).unwrap_or_default(), ..a };
        let b = MatRef { data: b.data.get(b_at..).unwrap_or_default(), ..b };
        interleaved(first, a, b, c.reborrow(c_at), add, scratch);
        let mut axis = 0;
        loop {
            let Some(step) = rest.get(axis) else { return };
            at[axis] += 1;
            (a_at, b_at, c_at) = (a_at + step.a, b_at + step.b, c_at + step.c);
            if at[axis] < step.extent {
                break;
            }
            a_at -= step.a * step.extent;
            b_at -= step.b * step.extent;
            c_at -= step.c * step.extent;
            at[axis] = 0;
            axis += 1;
        }
    }
}

/// The products along one batch axis.
fn interleaved<T: Scalar>(
    axis: &BatchAxis,
    a: MatRef<T>,
    b: MatRef<T>,
    mut c: MatMut<T>,
    add: bool,
    scratch: &mut [T],
) {
    let n_products = axis.extent;
    let enough = 2 * n_products > Kernels::<T>::get().lanes && a.cols > 0;
    match (axis.a, axis.b, axis.c) {
        (1, 1, 1) if enough => lanes(n_products, a, b, c, add),
        // B is shared: the products are further rows of one, or of one for each row of A.
        (1, 0, 1) if a.row_stride == n_products && c.row_stride == n_products => {
            let rows = n_products * a.rows;
            let whole = (n_products * a.whole.0, a.whole.1);
            let a = MatRef { rows, row_stride: 1, whole, ..a };
            gemm(a, b, MatMut { rows, row_stride: 1, ..c }, add, scratch);
        }
        (1, 0, 1) => {
            for i in 0..a.rows {
                let data = a.data.get(i * a.row_stride..).unwrap_or_default();
                let whole = (n_products, a.whole.1);
                let a = MatRef { data, rows: n_products, row_stride: 1, whole, ..a };
                let c = c.reborrow(i * c.row_stride);
                gemm(a, b, MatMut { rows: n_products, row_stride: 1, ..c }, add, scratch);
            }
        }
        // A is shared: the same for the transposes.
        (0, 1, 1) => {
            let axis = BatchAxis { a: axis.b, b: axis.a, ..*axis };
            interleaved(&axis, b.t(), a.t(), c.t(), add, scratch);
        }
        _ => {
            for l in 0..n_products {
                let a = MatRef { data: a.data.get(l * axis.a..).unwrap_or_default(), ..a };
                let b = MatRef { data: b.data.get(l * axis.b..).unwrap_or_default(), ..b };
                gemm(a, b, c.reborrow(l * axis.c), add, scratch);
            }
        }
    }
}

/// Products that lie one place apart in A, B and C: a register holds one element of each.
fn lanes<T: Scalar>(n_products: usize, a: MatRef<T>, b: MatRef<T>, c: MatMut<T>, add: bool) {
    let kernels = Kernels::<T>::get();
    let (rows, cols) = kernels.batch_extents();
    let (rows, cols) = (even(c.rows, rows, 1), even(c.cols, cols, 1));
    for l in (0..n_products).step_by(kernels.lanes) {
        for j in (0..c.cols).step_by(cols) {
            for i in (0..c.rows).step_by(rows) {
                let block = Lanes {
                    lanes: kernels.lanes.min(n_products - l),
                    rows: rows.min(c.rows - i),
                    cols: cols.min(c.cols - j),
                    k: a.cols,
                    a: &a.from(i, 0)[l..],
                    a_row: a.row_stride,
                    a_col: a.col_stride,
                    b: &b.from(0, j)[l..],
                    b_row: b.row_stride,
                    b_col: b.col_stride,
                    c_row: c.row_stride,
                    c_col: c.col_stride,
                    add,
                };
                kernels.batch(&block, &mut c.data[i * c.row_stride + j * c.col_stride + l..]);
            }
        }
    }
}
