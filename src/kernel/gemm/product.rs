//! A product whose extents and strides are known: what is left for each run is the numbers.

use super::{
    BatchAxis, MatMut, MatRef, Path, gemm, gemm_batched, gemm_batched_scratch, gemm_scratch,
    one_block,
};
use crate::{MAX_RANK, Scalar};
use std::ops::Range;

/// The extents and strides of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl Matrix {
    /// A column-major matrix.
    pub(crate) fn new(rows: usize, cols: usize) -> Self {
        Matrix { rows, cols, row_stride: 1, col_stride: rows }
    }

    /// The transpose, in place.
    pub(crate) fn t(self) -> Self {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    pub(super) fn of<T>(self, data: &[T]) -> MatRef<'_, T> {
        MatRef::strided(data, (self.rows, self.cols), (self.row_stride, self.col_stride))
    }
}

/// C = A·B, for every position of the batch axes. The last axis of C's memory is its columns, or
/// its rows if there is one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Product {
    axes: [BatchAxis; MAX_RANK],
    n_axes: usize,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    /// Of a small product the factors as its tiles want them: what is left is to run those.
    small: Option<Factors>,
}

/// A and B, or of a C that is computed as its transpose Bᵀ and Aᵀ.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Factors {
    a: Matrix,
    b: Matrix,
    /// From one column of C to the next.
    c_step: usize,
    swapped: bool,
}

impl Factors {
    /// Those of a product that is one block of tiles.
    fn small(a: Matrix, b: Matrix, c: Matrix) -> Option<Factors> {
        let plain = Factors { a, b, c_step: c.col_stride, swapped: false };
        let factors = match (c.row_stride, c.col_stride) {
            (1, _) => plain,
            (_, 1) => Factors { a: b.t(), b: a.t(), c_step: c.row_stride, swapped: true },
            _ => return None,
        };
        let Factors { a, b, .. } = factors;
        let (m, n, k) = (a.rows, b.cols, a.cols);
        let is_block = m.min(n) > 1 && m <= 240 && n < super::PACK_A && (1..=256).contains(&k);
        // The path hangs on extents and strides, not on the numbers.
        let path = Path::choose::<()>(&a.of(&[]), &b.of(&[]));
        (is_block && path == Path::Tiles).then_some(factors)
    }
}

impl Product {
    pub(crate) fn new(axes: &[BatchAxis], a: Matrix, b: Matrix, c: Matrix) -> Self {
        let mut all = [BatchAxis::default(); MAX_RANK];
        all[..axes.len()].copy_from_slice(axes);
        let small = if axes.is_empty() { Factors::small(a, b, c) } else { None };
        Product { axes: all, n_axes: axes.len(), a, b, c, small }
    }

    fn axes(&self) -> &[BatchAxis] {
        &self.axes[..self.n_axes]
    }

    /// What C falls into that can be computed apart: its columns, or its rows if it is one column.
    pub(crate) fn units(&self) -> usize {
        if self.c.cols == 1 { self.c.rows } else { self.c.cols }
    }

    /// 2mnk for each position of the batch axes, at most what a number can hold.
    pub(crate) fn flops(&self) -> usize {
        let extents = [2, self.c.rows, self.c.cols, self.a.cols];
        let all = extents.into_iter().chain(self.axes().iter().map(|axis| axis.extent));
        all.fold(1, usize::saturating_mul)
    }

    /// The elements of scratch that [`Product::run`] wants.
    pub(crate) fn scratch<T: Scalar>(&self) -> usize {
        gemm_batched_scratch::<T>(self.axes(), self.c.rows, self.c.cols, self.a.cols)
    }

    /// The elements of scratch that [`Product::run_terms`] wants for so many terms.
    pub(crate) fn scratch_of_terms<T: Scalar>(&self, n_terms: usize) -> usize {
        gemm_scratch::<T>(self.c.rows, self.c.cols, n_terms)
    }

    /// Computes these units of C, whose memory alone is `c`.
    pub(crate) fn run<T: Scalar>(
        &self,
        a: &[T],
        b: &[T],
        c: &mut [T],
        units: Range<usize>,
        scratch: &mut [T],
    ) {
        self.run_ahead(a, b, c, units, 0, scratch);
    }

    /// [`Product::run`], which asks for A so many elements ahead.
    pub(crate) fn run_ahead<T: Scalar>(
        &self,
        a: &[T],
        b: &[T],
        c: &mut [T],
        units: Range<usize>,
        ahead: usize,
        scratch: &mut [T],
    ) {
        if let Some(Factors { a: left, b: right, c_step, swapped }) = self.small
            && units.len() == self.units()
        {
            let (a, b) = if swapped { (b, a) } else { (a, b) };
            return one_block(left.of(a), right.of(b), c, c_step, scratch);
        }
        let (a, b) = (MatRef { ahead, ..self.a.of(a) }, self.b.of(b));
        let (a, b) = match self.c.cols {
            1 => (a.t().columns(units).t(), b),
            _ => (a, b.columns(units)),
        };
        let Matrix { row_stride, col_stride, .. } = self.c;
        let c = MatMut { data: c, rows: a.rows, cols: b.cols, row_stride, col_stride };
        gemm_batched(self.axes(), a, b, c, false, scratch);
    }

    /// The part of a column C that these terms of its sums are: columns of A, rows of B, whose
    /// memory alone is `b`. No batch axes.
    pub(crate) fn run_terms<T: Scalar>(
        &self,
        a: &[T],
        b: &[T],
        c: &mut [T],
        terms: Range<usize>,
        ahead: usize,
        scratch: &mut [T],
    ) {
        assert!(self.n_axes == 0 && self.c.cols == 1, "terms of more than a column");
        let b = MatRef { rows: terms.len(), ..self.b.of(b) };
        let a = MatRef { ahead, ..self.a.of(a) }.columns(terms);
        let Matrix { rows, cols, row_stride, col_stride } = self.c;
        gemm(a, b, MatMut { data: c, rows, cols, row_stride, col_stride }, false, scratch);
    }
}
