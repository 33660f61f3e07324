//! Eigenvalues and eigenvectors of symmetric matrices, packed into one value.

use super::{batch, batch_rows, converged, each, finite, square, transposed, with_column};
use crate::error::Result;
use crate::kernel::linalg::{eigh, gather, scatter, symmetrize};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;
use crate::tape::op::{Arg, Cotangents, Out, Primitive, RowRule, Span, Vjp};

/// The eigenvectors of (A + Aᵀ)/2 as columns, and in one more column its eigenvalues, ascending:
/// `(…, n, n) -> (…, n, n + 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eigh;

impl<T: Scalar> Primitive<T> for Eigh {
    fn name(&self) -> &str {
        "eigh"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        with_column(&x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let (n, out) = (square(&x[0].shape())?, batch(&x[0].shape()));
        let (a, y) = (x[0].float(), y.float());
        let (matrix, packed) = scratch.split_at_mut(n * n);
        let packed = &mut packed[..n * n + n];
        each([&x[0]], &out, |i, _| {
            gather(a, i, out.len(), matrix);
            finite(n, matrix, i, out.len())?;
            symmetrize(n, matrix);
            let (vectors, values) = packed.split_at_mut(n * n);
            converged(eigh(n, matrix, vectors, values))?;
            scatter(packed, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        square(&x[0]).map_or(0, |n| 2 * n * n + n)
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        // About eight rounds of n²/2 rotations, each of two columns of A, and of V.
        square(&x[0]).map_or(0, |n| 48 * x[0].len() * n)
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { y, ct, .. } = at;
        let ((w, v), (dw, dv)) = (y.eigen(), ct.eigen());
        let gaps = w.expand_dims(&[-2]) - w.expand_dims(&[-1]);
        let inner = inverse_gaps(gaps, w) * transposed(v).matmul(dv) + dw.diag_matrix();
        let da = v.matmul(inner).matmul(transposed(v));
        Ok(vec![Some((da + transposed(da)) * ct.lit(0.5))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

/// One over the differences of these values, and 0 where they are equal but for rounding.
#[track_caller]
pub(super) fn inverse_gaps<'t, T: Scalar>(gaps: Expr<'t, T>, values: Expr<'t, T>) -> Expr<'t, T> {
    let apart = gaps.abs().greater(rounding(values).expand_dims(&[-1]));
    apart / apart.select(gaps, gaps.lit(1.0))
}

/// By how much values of this size differ through rounding: 8ε of their norm, `(…, n) -> (…, 1)`.
#[track_caller]
pub(super) fn rounding<T: Scalar>(values: Expr<'_, T>) -> Expr<'_, T> {
    values.norm_keep(&[-1]) * values.lit(8.0 * T::EPSILON)
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// Eigenvalues and eigenvectors of symmetric matrices, A = V·diag(w)·Vᵀ: w, `(…, n)`,
    /// ascending, and V, `(…, n, n)`, whose columns are orthonormal and of either sign. As in JAX,
    /// A is symmetrized. Both are parts of one value, computed once by Jacobi rotations.
    ///
    /// VJP: Ā = V·(diag(w̄) + F∘(Vᵀ·V̄))·Vᵀ, symmetrized, with Fᵢⱼ = 1/(wⱼ − wᵢ) and Fᵢᵢ = 0 (Giles
    /// 2008, section 3.1). Where eigenvalues are equal (within 8ε|w|₂), V is not unique and has no
    /// derivative; there Fᵢⱼ is 0, which is right for the gradient of whatever does not depend on
    /// the choice of V: of sums over equal eigenvalues, of V·f(w)·Vᵀ if f is constant there. The
    /// second derivative leaves out what equal eigenvalues add. Cost: about 50n³ flops for each
    /// matrix; its VJP 6n³.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([2, 2], &[2.0, 1.0, 1.0, 2.0])?);
    /// let (w, v) = a.eigh();
    /// let residual = a.matmul(v) - v * w;
    /// let (w, residual) = Session::new(&tape)?.run((w, residual), &[])?;
    /// assert!((w.as_slice()[0] - 1.0).abs() < 1e-15 && (w.as_slice()[1] - 3.0).abs() < 1e-15);
    /// assert!(residual.as_slice().iter().all(|x| x.abs() < 1e-15));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a number is not finite.
    #[track_caller]
    pub fn eigh(self) -> (Expr<'t, T>, Expr<'t, T>) {
        let packed = self.tape().apply(Eigh, &[self]);
        if packed.rank() < 2 { (packed, packed) } else { packed.eigen() }
    }

    /// The values and vectors that [`Eigh`] packs into one value.
    #[track_caller]
    fn eigen(self) -> (Expr<'t, T>, Expr<'t, T>) {
        (self.index_axis(-1, -1), self.slice_axis(-1, Span::from(..-1)))
    }
}
