//! LU factors with partial pivoting, and solves with LU and Cholesky factors.

use super::{
    Cholesky, batch, batch_rows, columns, each, matrices, matrix, plus, singular, solution, square,
    transposed,
};
use crate::error::{Result, bail};
use crate::kernel::copy::Triangle as Side;
use crate::kernel::linalg::{SolveTriangle, gather, lu, lu_solve, scatter, solve_triangle};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Vjp};
use crate::tape::{Expr, Operand};

/// P·A = L·U with partial pivoting, `(…, n, n) -> (…, n, n + 1)`: U, below its diagonal L, and in
/// the last column with which row each row was exchanged. Singular matrices have factors, too. That
/// a matrix is not square the ops that read its factors say, each by its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lu;

/// `(A, factors, B)`: A⁻¹·B by the factors of A, whose own elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FactorSolve {
    /// Of which kind the factors are.
    pub factor: Factor,
    /// A⁻ᵀ·B
    pub transposed: bool,
    /// That B is the identity: then messages speak of an inverse.
    pub inverse: bool,
}

/// The factors of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// Those of [`Lu`].
    Lu,
    /// That of [`Cholesky`], of the symmetric part of A.
    Cholesky,
}

impl<T: Scalar> Primitive<T> for Lu {
    fn name(&self) -> &str {
        "lu"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() < 2 {
            bail!(Shape, "{}: expected at least 2 axes", x[0]);
        }
        let (m, n) = matrix(&x[0], false);
        Ok(matrices(batch(&x[0]), m.min(n), plus(m.min(n), 1)))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let (n, out) = (square(&x[0].shape())?, batch(&x[0].shape()));
        let (a, y) = (x[0].float(), y.float());
        let packed = &mut scratch[..n * n + n];
        each([&x[0]], &out, |i, _| {
            let (factors, rows) = packed.split_at_mut(n * n);
            gather(a, i, out.len(), factors);
            lu(n, factors, rows);
            scatter(packed, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        square(&x[0]).map_or(0, |n| n * n + n)
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        square(&x[0]).map_or(0, |n| x[0].len() * n * 2 / 3)
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<T: Scalar> Primitive<T> for FactorSolve {
    fn name(&self) -> &str {
        match self.factor {
            _ if self.inverse => "inverse",
            Factor::Lu => "solve",
            Factor::Cholesky => "solve_spd",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        solution(&x[0], &x[2])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let n = square(&x[0].shape())?;
        let (shape, out) = (y.shape(), batch(&y.shape()));
        let size = shape.len() / out.len().max(1);
        let (n_a, n_b) = (batch(&x[1].shape()).len(), batch(&x[2].shape()).len());
        let (packed, b, y) = (x[1].float(), x[2].float(), y.float());
        let (factors, solution) = scratch[..n * n + n + size].split_at_mut(n * n + n);
        let lower = |transposed| SolveTriangle { side: Side::Lower, transposed, unit: false };
        each([&x[1], &x[2]], &out, |i, [of_a, of_b]| {
            gather(packed, of_a, n_a, factors);
            gather(b, of_b, n_b, solution);
            let (factors, rows) = factors.split_at(n * n);
            match self.factor {
                Factor::Lu => lu_solve(n, factors, rows, self.transposed, solution),
                Factor::Cholesky => solve_triangle(lower(false), n, factors, solution)
                    .and_then(|()| solve_triangle(lower(true), n, factors, solution)),
            }
            .map_err(|p| singular("an invertible", p, i, out.len()))?;
            scatter(solution, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let (rows, columns) = matrix(&x[2], false);
        square(&x[0]).map_or(0, |n| n * n + n) + rows * columns
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        square(&x[0]).map_or(0, |n| 2 * y.len() * n)
    }

    fn reads(&self, i: usize) -> bool {
        i > 0
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 1 { Derivative::Zero } else { Derivative::Smooth }
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i == 2
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, want } = at;
        let adjoint = FactorSolve { transposed: !self.transposed, inverse: false, ..*self };
        let solved = ct.tape().apply(adjoint, &[x[0], x[1], ct]);
        let da = || {
            let (left, right) = if self.transposed { (y, solved) } else { (solved, y) };
            let all = -left.matmul(transposed(right)).sum_to_like(x[0]);
            match self.factor {
                Factor::Lu => all,
                Factor::Cholesky => (all + transposed(all)) * ct.lit(0.5),
            }
        };
        Ok(vec![want[0].then(da), None, want[2].then(|| solved.sum_to_like(x[2]))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// A⁻¹·B, the solution of A·X = B: `(…, n, n) (…, n, k) -> (…, n, k)`, or `(n)` for a vector;
    /// the axes before broadcast. By LU factors with partial pivoting, which gradients, inverses
    /// and determinants of the same A share.
    ///
    /// VJP: B̄ = A⁻ᵀ·X̄ and Ā = −B̄·Xᵀ (Giles 2008, section 2.3.1). Cost: 2n³/3 + 2n²k flops for
    /// each matrix; its VJP, which solves with the same factors, 4n²k.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.placeholder("a", [2, 2]);
    /// let x = a.solve(tape.constant(Tensor::vector(vec![5.0, 11.0])));
    /// let mut session = Session::new(&tape)?;
    /// let regular = Tensor::from_rows([2, 2], &[0.0, 1.0, 2.0, 1.0])?;
    /// assert_eq!(session.run(x, &[a.feed(&regular)])?.as_slice(), [3.0, 5.0]);
    ///
    /// let singular = Tensor::from_rows([2, 2], &[1.0, 2.0, 2.0, 4.0])?;
    /// let err = session.run(x, &[a.feed(&singular)]).unwrap_err();
    /// assert_eq!(err.message(), "solve: expected an invertible matrix, got pivot 1 of 0");
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a pivot is 0, as in NumPy; it names the pivot, from 0. A matrix that is
    /// singular but for rounding passes.
    #[track_caller]
    pub fn solve(self, b: impl Operand<'t, T>) -> Expr<'t, T> {
        match self.factors("solve", Lu) {
            Ok(factors) => self.factor_solve(Factor::Lu, factors, b),
            Err(mistake) => mistake,
        }
    }

    /// A⁻¹·B for symmetric positive definite A, by its [Cholesky factor](Expr::cholesky), of whose
    /// symmetric part it is the solution; otherwise as [`Expr::solve`], in half the time.
    ///
    /// VJP: that of [`Expr::solve`], Ā symmetrized. Cost: n³/3 + 2n²k flops for each matrix; its
    /// VJP 4n²k.
    ///
    /// # Errors
    /// As [`Expr::cholesky`], by whose name the message goes.
    #[track_caller]
    pub fn solve_spd(self, b: impl Operand<'t, T>) -> Expr<'t, T> {
        match self.factors("solve_spd", Cholesky) {
            Ok(factor) => self.factor_solve(Factor::Cholesky, factor, b),
            Err(mistake) => mistake,
        }
    }

    /// A⁻¹, `(…, n, n) -> (…, n, n)`: the [solution](Expr::solve) of A·X = 1. To multiply with an
    /// inverse, solve: that costs a third and is more accurate.
    ///
    /// VJP: Ā = −A⁻ᵀ·X̄·A⁻ᵀ (Giles 2008, section 2.2.3). Cost: 8n³/3 flops for each matrix; its VJP
    /// 4n³.
    ///
    /// # Errors
    /// As [`Expr::solve`].
    #[track_caller]
    pub fn inverse(self) -> Expr<'t, T> {
        match self.factors("inverse", Lu) {
            Ok(factors) => self.inverse_of(factors, false),
            Err(mistake) => mistake,
        }
    }

    /// A⁻¹, or A⁻ᵀ, by the factors of [`Lu`].
    #[track_caller]
    pub(super) fn inverse_of(self, factors: Expr<'t, T>, transposed: bool) -> Expr<'t, T> {
        let op = FactorSolve { factor: Factor::Lu, transposed, inverse: true };
        self.tape().apply(op, &[self, factors, self.identity_like()])
    }

    #[track_caller]
    fn factor_solve(
        self,
        factor: Factor,
        factors: Expr<'t, T>,
        b: impl Operand<'t, T>,
    ) -> Expr<'t, T> {
        let (b, is_vector) = columns(self, b);
        let op = FactorSolve { factor, transposed: false, inverse: false };
        let x = self.tape().apply(op, &[self, factors, b]);
        if is_vector { x.squeeze(&[-1]) } else { x }
    }
}
