//! The Cholesky factor of symmetric positive definite matrices.

use super::{batch, batch_rows, each, matrices, singular, square, transposed};
use crate::error::Result;
use crate::kernel::copy::Triangle as Side;
use crate::kernel::linalg::{cholesky, gather, scatter, symmetrize};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;
use crate::tape::op::{Arg, Cotangents, Out, Primitive, RowRule, TriangularSolve, Vjp};

/// The lower triangular L of L·Lᵀ = (A + Aᵀ)/2, `(…, n, n) -> (…, n, n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cholesky;

impl<T: Scalar> Primitive<T> for Cholesky {
    fn name(&self) -> &str {
        "cholesky"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let n = square(&x[0])?;
        Ok(matrices(batch(&x[0]), n, n))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let (n, out) = (square(&y.shape())?, batch(&y.shape()));
        let (a, y) = (x[0].float(), y.float());
        let factor = &mut scratch[..n * n];
        each([&x[0]], &out, |i, _| {
            gather(a, i, out.len(), factor);
            symmetrize(n, factor);
            cholesky(n, factor).map_err(|p| singular("a positive definite", p, i, out.len()))?;
            scatter(factor, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        square(&x[0]).map_or(0, |n| n * n)
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        square(&x[0]).map_or(0, |n| y.len() * n / 3)
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { y, ct, .. } = at;
        // What stands above the diagonal of the cotangent meets zeros.
        let inner = transposed(y).matmul(ct);
        let symmetric = inner.tril(0) + transposed(inner.tril(-1));
        let op = TriangularSolve { side: Side::Lower, transposed: true };
        let left = ct.tape().apply(op, &[y, symmetric]);
        let both = ct.tape().apply(op, &[y, transposed(left)]);
        Ok(vec![Some(both * ct.lit(0.5))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The Cholesky factor of symmetric positive definite matrices: the lower triangular L with a
    /// positive diagonal and L·Lᵀ = A, `(…, n, n) -> (…, n, n)`. As in JAX, A is symmetrized: L is
    /// the factor of (A + Aᵀ)/2, and so the gradient is symmetric.
    ///
    /// VJP: Ā = ½ L⁻ᵀ (P + Pᵀ) L⁻¹, where P is the lower triangle of Lᵀ·L̄ with half its diagonal
    /// (Murray 2016, Differentiation of the Cholesky decomposition, eq. 9). Cost: n³/3 flops for
    /// each matrix; its VJP, a product and two triangular solves, 4n³.
    ///
    /// Log-determinants of such matrices are 2·Σ log Lᵢᵢ.
    ///
    /// ```
    /// use gradtape::{ErrorKind, Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.placeholder("a", [2, 2]);
    /// let l = a.cholesky();
    /// let mut session = Session::new(&tape)?;
    /// let spd = Tensor::from_rows([2, 2], &[4.0, 2.0, 2.0, 5.0])?;
    /// let value = session.run(l, &[a.feed(&spd)])?;
    /// assert_eq!(value, Tensor::from_rows([2, 2], &[2.0, 0.0, 1.0, 2.0])?);
    ///
    /// let indefinite = Tensor::from_rows([2, 2], &[1.0, 2.0, 2.0, 1.0])?;
    /// let err = session.run(l, &[a.feed(&indefinite)]).unwrap_err();
    /// assert_eq!(err.kind(), ErrorKind::Singular);
    /// assert_eq!(
    ///     err.message(),
    ///     "cholesky: expected a positive definite matrix, got pivot 1 of -3"
    /// );
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a pivot is not a positive finite number; it names the pivot, from 0.
    #[track_caller]
    pub fn cholesky(self) -> Expr<'t, T> {
        self.tape().apply(Cholesky, &[self])
    }
}
