//! Cholesky and LU factors (Golub, Van Loan 2013, Matrix Computations, algorithms 4.2.2 and 3.4.1)
//! and solves with triangles. Columns are contiguous, so all of them go column by column.

use crate::kernel::copy::Triangle;
use crate::kernel::vector::{add_scaled, dot};
use crate::scalar::Scalar;

/// The pivot that a factorization or a solve could not divide by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pivot<T> {
    /// Its number, from 0.
    pub at: usize,
    /// Its value.
    pub value: T,
}

/// The lower factor of A = L·Lᵀ in place of A, of which the lower triangle is read; zeros above.
pub(crate) fn cholesky<T: Scalar>(n: usize, a: &mut [T]) -> Result<(), Pivot<T>> {
    for k in 0..n {
        let (left, right) = a.split_at_mut((k + 1) * n);
        let column = &mut left[k * n..];
        let value = column[k];
        // Written so that NaN is refused, too.
        if !(value > T::zero() && value < T::infinity()) {
            return Err(Pivot { at: k, value });
        }
        let root = value.sqrt();
        column[..k].fill(T::zero());
        column[k] = root;
        column[k + 1..].iter_mut().for_each(|x| *x /= root);
        for (j, next) in (k + 1..n).zip(right.chunks_exact_mut(n)) {
            add_scaled(&mut next[j..], -column[j].to_f64(), &column[j..]);
        }
    }
    Ok(())
}

/// P·A = L·U in place of A: U, and below its diagonal L, whose diagonal is 1. Row k was exchanged
/// with row `rows[k]` at step k. A pivot of 0 stays on the diagonal of U.
pub(crate) fn lu<T: Scalar>(n: usize, a: &mut [T], rows: &mut [T]) {
    for k in 0..n {
        let mut best = k;
        for i in k + 1..n {
            if a[i + k * n].abs() > a[best + k * n].abs() {
                best = i;
            }
        }
        rows[k] = T::lit(best as f64);
        if best != k {
            (0..n).for_each(|j| a.swap(k + j * n, best + j * n));
        }
        let (left, right) = a.split_at_mut((k + 1) * n);
        let column = &mut left[k * n..];
        let pivot = column[k];
        if pivot == T::zero() {
            continue;
        }
        column[k + 1..].iter_mut().for_each(|x| *x /= pivot);
        for next in right.chunks_exact_mut(n) {
            let above = -next[k].to_f64();
            add_scaled(&mut next[k + 1..], above, &column[k + 1..]);
        }
    }
}

/// A⁻¹·B in place of B, or A⁻ᵀ·B, by the factors and row exchanges that [`lu`] left.
pub(crate) fn lu_solve<T: Scalar>(
    n: usize,
    factors: &[T],
    rows: &[T],
    transposed: bool,
    b: &mut [T],
) -> Result<(), Pivot<T>> {
    if n == 0 {
        return Ok(());
    }
    let exchange = |b: &mut [T], k: usize| {
        let other = rows[k].to_f64() as usize;
        b.chunks_exact_mut(n).for_each(|x| x.swap(k, other));
    };
    let lower = SolveTriangle { side: Triangle::Lower, transposed, unit: true };
    let upper = SolveTriangle { side: Triangle::Upper, transposed, unit: false };
    if transposed {
        solve_triangle(upper, n, factors, b)?;
        solve_triangle(lower, n, factors, b)?;
        (0..n).rev().for_each(|k| exchange(b, k));
        return Ok(());
    }
    (0..n).for_each(|k| exchange(b, k));
    solve_triangle(lower, n, factors, b)?;
    solve_triangle(upper, n, factors, b)
}

/// How a triangle is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SolveTriangle {
    /// Which triangle of the matrix; the other one is not read.
    pub side: Triangle,
    /// Solve with its transpose.
    pub transposed: bool,
    /// Take the diagonal to be 1.
    pub unit: bool,
}

/// T⁻¹·B in place of B, for the triangle T of an n × n matrix.
pub(crate) fn solve_triangle<T: Scalar>(
    how: SolveTriangle,
    n: usize,
    matrix: &[T],
    b: &mut [T],
) -> Result<(), Pivot<T>> {
    let SolveTriangle { side, transposed, unit } = how;
    if !unit {
        for k in 0..n {
            let value = matrix[k + k * n];
            if value == T::zero() || value.is_nan() {
                return Err(Pivot { at: k, value });
            }
        }
    }
    if n == 0 {
        return Ok(());
    }
    let forwards = (side == Triangle::Lower) != transposed;
    for x in b.chunks_exact_mut(n) {
        for step in 0..n {
            let k = if forwards { step } else { n - 1 - step };
            let column = &matrix[k * n..][..n];
            let rest = match side {
                Triangle::Lower => k + 1..n,
                Triangle::Upper => 0..k,
            };
            let divisor = if unit { T::one() } else { column[k] };
            if transposed {
                let sum = dot(&column[rest.clone()], &x[rest]);
                x[k] = (x[k] - T::lit(sum)) / divisor;
            } else {
                x[k] /= divisor;
                let known = -x[k].to_f64();
                add_scaled(&mut x[rest.clone()], known, &column[rest]);
            }
        }
    }
    Ok(())
}
