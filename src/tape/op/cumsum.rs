//! Running sums. The adjoint of a running sum is one that runs the other way.

use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
pub use crate::kernel::reduce::Cumulate;
use crate::kernel::reduce::cumsum;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;

/// The sum of all elements up to each one, along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cumsum {
    /// The axis.
    pub axis: u8,
    /// From which end, and whether each element counts itself.
    pub how: Cumulate,
}

impl<T: Scalar> Primitive<T> for Cumsum {
    fn name(&self) -> &str {
        "cumsum"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match x[0].dim(self.axis.into()) {
            Some(_) => Ok(x[0]),
            None => bail!(Shape, "{}: expected an axis {}", x[0], self.axis),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        cumsum(self.how, &x[0].shape(), self.axis.into(), x[0].float(), y.float());
        Ok(())
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let how = Cumulate { reverse: !self.how.reverse, ..self.how };
        Ok(vec![Some(x[0].tape().apply(Cumsum { how, ..*self }, &[ct]))])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.axis == 0 { RowRule::Mixes } else { RowRule::Split }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// y_k = Σ_{j ≤ k} x_j along an axis.
    #[track_caller]
    pub fn cumsum(self, axis: isize) -> Expr<'t, T> {
        self.cumsum_with(axis, Cumulate { reverse: false, exclusive: false })
    }

    /// [`Expr::cumsum`] from the end (`reverse`: Σ_{j ≥ k}), or without the element itself
    /// (`exclusive`: Σ_{j < k}, the first is 0).
    #[track_caller]
    pub fn cumsum_with(self, axis: isize, how: Cumulate) -> Expr<'t, T> {
        self.along("cumsum", axis, |axis| Cumsum { axis, how })
    }
}
