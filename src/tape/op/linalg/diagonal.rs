//! Diagonals of matrices, matrices of diagonals, traces.

use super::{batch, batch_rows, matrices, matrix};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::{ANY, MAX_RANK, Shape};
use crate::tape::Expr;
use crate::tape::op::{Arg, Cotangents, Out, Primitive, RowRule, Vjp, list};

/// The main diagonals, `(…, m, n) -> (…, min(m, n))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Diagonal;

/// `(d)` or `(d, like)`: matrices with this diagonal and zeros beside it, `(…, n) -> (…, n, n)` or
/// of the shape of `like`, whose elements are not read. The adjoint of [`Diagonal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiagonalMatrix;

/// The axes but the last.
fn but_last(x: &Shape) -> Shape {
    let mut out = Shape::SCALAR;
    x.extents()[..x.rank() - 1].iter().for_each(|&e| out.push(e));
    out
}

/// The stretches of a batch of `n` matrices that are its diagonals, in order.
fn stretches(x: Shape) -> (usize, impl Iterator<Item = usize>) {
    let (n, (rows, columns)) = (batch(&x).len(), matrix(&x, false));
    (n, (0..rows.min(columns)).map(move |k| n * k * (rows + 1)))
}

impl<T: Scalar> Primitive<T> for Diagonal {
    fn name(&self) -> &str {
        "diag"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() < 2 {
            bail!(Shape, "{}: expected at least 2 axes", x[0]);
        }
        let (rows, columns) = matrix(&x[0], false);
        let mut out = batch(&x[0]);
        // The shorter side, which an unknown one may be.
        out.push(if rows.max(columns) == ANY { ANY } else { rows.min(columns) });
        Ok(out)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (n, diagonal) = stretches(x[0].shape());
        let (x, y) = (x[0].float(), y.float());
        for (k, at) in diagonal.enumerate() {
            y[k * n..][..n].copy_from_slice(&x[at..][..n]);
        }
        Ok(())
    }

    fn flops(&self, _: &[Shape], y: &Shape) -> usize {
        y.len()
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(DiagonalMatrix, &[ct, x[0]]))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<T: Scalar> Primitive<T> for DiagonalMatrix {
    fn name(&self) -> &str {
        "diag_matrix"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let Some(n) = x[0].rank().checked_sub(1).and_then(|last| x[0].dim(last)) else {
            bail!(Shape, "{}: expected at least 1 axis", x[0]);
        };
        match x {
            [d] if d.rank() < MAX_RANK => Ok(matrices(but_last(d), n, n)),
            [d] => bail!(Shape, "{d}: expected fewer axes"),
            [d, like, ..] => match Primitive::<T>::shape(&Diagonal, &[*like]) {
                Ok(diagonal) if diagonal.accepts_or_any(d) => Ok(*like),
                _ => bail!(Shape, "{}: expected a diagonal of the second", list(x)),
            },
            [] => bail!(Shape, "expected an input, got none"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (n, diagonal) = stretches(y.shape());
        let (x, y) = (x[0].float(), y.float());
        y.fill(T::zero());
        for (k, at) in diagonal.enumerate() {
            y[at..][..n].copy_from_slice(&x[k * n..][..n]);
        }
        Ok(())
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let mut cotangents = vec![None; x.len()];
        cotangents[0] = Some(ct.tape().apply(Diagonal, &[ct]));
        Ok(cotangents)
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        match x[0].rank() > 1 && split.iter().all(|&s| s) {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The main diagonals over the last two axes, `(…, m, n) -> (…, min(m, n))`.
    ///
    /// VJP: the cotangent on the diagonal of zeros. For a matrix of a vector see
    /// [`Expr::diag_matrix`].
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([2, 2], &[1.0, 2.0, 3.0, 4.0])?);
    /// let (diagonal, trace) = (a.diag(), a.trace());
    /// let (diagonal, trace) = Session::new(&tape)?.run((diagonal, trace), &[])?;
    /// assert_eq!(diagonal.as_slice(), [1.0, 4.0]);
    /// assert_eq!(trace.item()?, 5.0);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn diag(self) -> Expr<'t, T> {
        self.tape().apply(Diagonal, &[self])
    }

    /// Square matrices with these diagonals and zeros beside them, `(…, n) -> (…, n, n)`.
    ///
    /// VJP: the [diagonal](Expr::diag) of the cotangent.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let scale = tape.constant(Tensor::vector(vec![2.0, 3.0]));
    /// let scale = scale.diag_matrix();
    /// let value = Session::new(&tape)?.run(scale, &[])?;
    /// assert_eq!(value, Tensor::from_rows([2, 2], &[2.0, 0.0, 0.0, 3.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn diag_matrix(self) -> Expr<'t, T> {
        self.tape().apply(DiagonalMatrix, &[self])
    }

    /// The sum of the main diagonal, Σᵢ aᵢᵢ: `(…, m, n) -> (…)`.
    ///
    /// Differentiates as that sum: the cotangent times the identity.
    #[track_caller]
    pub fn trace(self) -> Expr<'t, T> {
        let diagonal = self.diag();
        match self.rank() {
            0 | 1 => diagonal, // the mistake
            _ => diagonal.sum_axes(&[-1]),
        }
    }

    /// Identity matrices of the shape of these square ones.
    #[track_caller]
    pub(super) fn identity_like(self) -> Expr<'t, T> {
        let ones = self.lit(1.0).broadcast_like(self.diag());
        self.tape().apply(DiagonalMatrix, &[ones, self])
    }
}
