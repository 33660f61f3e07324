//! One triangle of a matrix, zeros in the other.

use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::kernel::copy;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;

pub use crate::kernel::copy::Triangle as Side;

/// x where column − row is on this side of a diagonal, over the last two axes; 0 elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Triangle {
    /// Which triangle is kept.
    pub side: Side,
    /// The diagonal it ends with: 0 is the main one, positive ones are above it.
    pub diagonal: isize,
}

impl<T: Scalar> Primitive<T> for Triangle {
    fn name(&self) -> &str {
        match self.side {
            Side::Lower => "tril",
            Side::Upper => "triu",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match x[0].rank() {
            0 | 1 => bail!(Shape, "{}: expected at least 2 axes", x[0]),
            _ => Ok(x[0]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let shape = y.shape();
        if let [inner @ .., rows, columns] = shape.extents() {
            let matrices = [inner.iter().product(), *rows, *columns];
            copy::triangle(self.side, self.diagonal, matrices, x[0].float(), y.float());
        }
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(*self, &[ct]))])
    }

    fn rows(&self, x: &[Shape], _: &[bool]) -> RowRule {
        // In a single matrix axis 0 is its rows, and where the diagonal lies depends on them all.
        if x[0].rank() > 2 { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The lower triangle of the last two axes, where column − row ≤ `diagonal`; 0 elsewhere.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let ones = tape.constant(Tensor::full([3, 3], 1.0)?);
    /// let causal = ones.tril(0);
    /// let causal = Session::new(&tape)?.run(causal, &[])?;
    /// let want = Tensor::from_rows([3, 3], &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])?;
    /// assert_eq!(causal, want);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn tril(self, diagonal: isize) -> Expr<'t, T> {
        self.tape.apply(Triangle { side: Side::Lower, diagonal }, &[self])
    }

    /// The upper triangle of the last two axes, where column − row ≥ `diagonal`; 0 elsewhere.
    #[track_caller]
    pub fn triu(self, diagonal: isize) -> Expr<'t, T> {
        self.tape.apply(Triangle { side: Side::Upper, diagonal }, &[self])
    }
}
