//! Factorizations of one column-major matrix in place and solves with the factors, without memory
//! of their own: nalgebra's factorizations own their matrices, so each run would allocate.

mod factor;
mod jacobi;
mod qr;
mod rotation;
#[cfg(test)]
mod tests;
mod tridiagonal;

pub(crate) use factor::{Pivot, SolveTriangle, cholesky, lu, lu_solve, solve_triangle};
pub(crate) use jacobi::svd;
pub(crate) use qr::{qr, qr_pivoted};
pub(crate) use tridiagonal::eigh;

/// The most rounds over all pairs of columns, and the most for an eigenvalue; ten and two are usual.
pub(crate) const SWEEPS: usize = 60;

/// Copies matrix `at` of a batch of `n` out of it: the elements of a batch are interleaved.
pub(crate) fn gather<T: Copy>(batch: &[T], at: usize, n: usize, matrix: &mut [T]) {
    matrix.iter_mut().zip(batch[at..].iter().step_by(n)).for_each(|(y, &x)| *y = x);
}

/// Copies a matrix to place `at` of a batch of `n`.
pub(crate) fn scatter<T: Copy>(matrix: &[T], at: usize, n: usize, batch: &mut [T]) {
    matrix.iter().zip(batch[at..].iter_mut().step_by(n)).for_each(|(&x, y)| *y = x);
}

/// (A + Aᵀ)/2 in place of A.
pub(crate) fn symmetrize<T: crate::Scalar>(n: usize, a: &mut [T]) {
    for j in 0..n {
        for i in j + 1..n {
            let mean = (a[i + j * n] + a[j + i * n]) * T::lit(0.5);
            a[i + j * n] = mean;
            a[j + i * n] = mean;
        }
    }
}
