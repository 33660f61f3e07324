//! Positions of the largest and smallest elements, as indices.

use super::{Arg, Derivative, Out, Primitive, RowRule};
use crate::error::{Result, bail};
pub use crate::kernel::reduce::Extremum;
use crate::kernel::reduce::arg_reduce;
use crate::scalar::{DType, Index, Scalar};
use crate::shape::{ANY, Axes, Shape};
use crate::tape::{Expr, IndexExpr};

/// The position along an axis of the largest or smallest element; the axis goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArgReduce {
    /// Which element.
    pub which: Extremum,
    /// The axis.
    pub axis: u8,
}

impl<T: Scalar> Primitive<T> for ArgReduce {
    fn name(&self) -> &str {
        match self.which {
            Extremum::Max => "argmax",
            Extremum::Min => "argmin",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let axis = usize::from(self.axis);
        match x[0].dim(axis) {
            Some(n) if n == ANY || (n > 0 && n - 1 <= Index::MAX as usize) => {
                Ok(x[0].reduced(Axes::one(axis), false))
            }
            _ => bail!(Shape, "{}: expected 1 to 2³² elements along axis {axis}", x[0]),
        }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x {
            [DType::Float] => Ok(DType::Index),
            _ => bail!(Shape, "expected floats, got indices"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        arg_reduce(self.which, &x[0].shape(), self.axis.into(), x[0].float(), y.index());
        Ok(())
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.axis == 0 { RowRule::Mixes } else { RowRule::Split }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The position of the largest element along an axis, which goes: the first of equals, the
    /// first NaN if there is one. Of no elements a mistake.
    ///
    /// ```
    /// use gradtape::{Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let logits = tape.constant(Tensor::from_rows([2, 3], &[0.0, 2.0, 1.0, 5.0, 3.0, 4.0])?);
    /// let classes = logits.argmax(-1);
    /// assert_eq!(classes.shape(), [2].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn argmax(self, axis: isize) -> IndexExpr<'t, T> {
        self.arg_reduce(Extremum::Max, "argmax", axis)
    }

    /// The position of the smallest element along an axis; see [`Expr::argmax`].
    #[track_caller]
    pub fn argmin(self, axis: isize) -> IndexExpr<'t, T> {
        self.arg_reduce(Extremum::Min, "argmin", axis)
    }

    #[track_caller]
    fn arg_reduce(self, which: Extremum, method: &str, axis: isize) -> IndexExpr<'t, T> {
        self.along(method, axis, |axis| ArgReduce { which, axis }).as_index()
    }
}
