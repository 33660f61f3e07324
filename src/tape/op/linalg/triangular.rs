//! Solves with one triangle of a matrix.

use super::{batch, batch_rows, columns, each, singular, solution, square, transposed};
use crate::error::Result;
use crate::kernel::copy::Triangle as Side;
use crate::kernel::linalg::{SolveTriangle, gather, scatter, solve_triangle};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::tape::{Expr, Operand};

/// T⁻¹·B or T⁻ᵀ·B for one triangle T of A, `(…, n, n) (…, n, k) -> (…, n, k)`; batches broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TriangularSolve {
    /// Which triangle of A; the other one is not read.
    pub side: Side,
    /// Solve with its transpose.
    pub transposed: bool,
}

impl<T: Scalar> Primitive<T> for TriangularSolve {
    fn name(&self) -> &str {
        // The transpose of a lower triangle is an upper one.
        match (self.side, self.transposed) {
            (Side::Lower, false) | (Side::Upper, true) => "solve_lower_triangular",
            (Side::Upper, false) | (Side::Lower, true) => "solve_upper_triangular",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        solution(&x[0], &x[1])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let n = square(&x[0].shape())?;
        let (shape, out) = (y.shape(), batch(&y.shape()));
        let size = shape.len() / out.len().max(1);
        let (n_a, n_b) = (batch(&x[0].shape()).len(), batch(&x[1].shape()).len());
        let (a, b, y) = (x[0].float(), x[1].float(), y.float());
        let (triangle, solution) = scratch[..n * n + size].split_at_mut(n * n);
        let how = SolveTriangle { side: self.side, transposed: self.transposed, unit: false };
        each([&x[0], &x[1]], &out, |i, [of_a, of_b]| {
            gather(a, of_a, n_a, triangle);
            gather(b, of_b, n_b, solution);
            solve_triangle(how, n, triangle, solution)
                .map_err(|p| singular("an invertible", p, i, out.len()))?;
            scatter(solution, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        square(&x[0]).map_or(0, |n| n * n) + x[1].extents().iter().rev().take(2).product::<usize>()
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        square(&x[0]).map_or(0, |n| y.len() * n)
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i == 1
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, want } = at;
        let solved = ct.tape().apply(Self { transposed: !self.transposed, ..*self }, &[x[0], ct]);
        let da = || {
            let (left, right) = if self.transposed { (y, solved) } else { (solved, y) };
            let all = left.matmul(transposed(right)).sum_to_like(x[0]);
            match self.side {
                Side::Lower => -all.tril(0),
                Side::Upper => -all.triu(0),
            }
        };
        Ok(vec![want[0].then(da), want[1].then(|| solved.sum_to_like(x[1]))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// L⁻¹·B for the lower triangle L of this matrix, whose other elements are not read:
    /// `(…, n, n) (…, n, k) -> (…, n, k)`, or `(n)` for a vector; the axes before broadcast. For
    /// L⁻ᵀ·B write `l.t().solve_upper_triangular(b)`: a [transpose](Expr::t) is read in place.
    ///
    /// VJP: B̄ = L⁻ᵀ·X̄ and L̄ = −tril(B̄·Xᵀ) (Giles 2008, An extended collection of matrix
    /// derivative results, section 2.3.1). Cost: n²k flops for each matrix.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let l = tape.constant(Tensor::from_rows([2, 2], &[2.0, 0.0, 1.0, 4.0])?);
    /// let b = tape.constant(Tensor::vector(vec![2.0, 9.0]));
    /// let (x, z) = (l.solve_lower_triangular(b), l.t().solve_upper_triangular(b));
    /// let (x, z) = Session::new(&tape)?.run((x, z), &[])?;
    /// assert_eq!(x.as_slice(), [1.0, 2.0]);
    /// assert_eq!(z.as_slice(), [-0.125, 2.25]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where an element of the diagonal is 0; it names which, from 0.
    #[track_caller]
    pub fn solve_lower_triangular(self, b: impl Operand<'t, T>) -> Expr<'t, T> {
        self.solve_triangular(Side::Lower, b)
    }

    /// U⁻¹·B for the upper triangle U of this matrix; see [`Expr::solve_lower_triangular`].
    #[track_caller]
    pub fn solve_upper_triangular(self, b: impl Operand<'t, T>) -> Expr<'t, T> {
        self.solve_triangular(Side::Upper, b)
    }

    #[track_caller]
    fn solve_triangular(self, side: Side, b: impl Operand<'t, T>) -> Expr<'t, T> {
        let (b, is_vector) = columns(self, b);
        let (a, transposed) = self.untransposed();
        let side = match (side, transposed) {
            (Side::Lower, false) | (Side::Upper, true) => Side::Lower,
            _ => Side::Upper,
        };
        let x = self.tape().apply(TriangularSolve { side, transposed }, &[a, b]);
        if is_vector { x.squeeze(&[-1]) } else { x }
    }
}
