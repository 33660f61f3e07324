//! Broadcasting to given extents.

use super::strided::{self, Layout};
use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, IndexExpr};

/// x repeated to these extents, trailing axes aligned as in NumPy; [`ANY`] keeps that of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BroadcastTo {
    /// The extents.
    pub to: Shape,
}

impl<T: Scalar> Primitive<T> for BroadcastTo {
    fn name(&self) -> &str {
        "broadcast_to"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let (x, to) = (x[0], self.to);
        let Some(new) = to.rank().checked_sub(x.rank()) else {
            bail!(Shape, "{x}: expected at most {} axes", to.rank());
        };
        let mut out = to;
        for (axis, extent) in out.extents_mut().iter_mut().enumerate() {
            let own = axis.checked_sub(new).map(|a| x.extents()[a]);
            *extent = match (own, *extent) {
                (None, ANY) => {
                    bail!(Shape, "{x}: expected an extent for the new axis {axis} of {to}")
                }
                (Some(own), ANY) => own,
                (None | Some(1 | ANY), extent) => extent,
                (Some(own), extent) if own == extent => extent,
                _ => bail!(Shape, "{x}: does not broadcast to {to}"),
            };
        }
        Ok(out)
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (own, to) = (x[0].shape(), y.shape());
        let new = to.rank() - own.rank();
        let mut from = Layout::default();
        for (axis, (&extent, &stride)) in own.extents().iter().zip(&own.strides()).enumerate() {
            from.strides[new + axis] = if extent == 1 { 0 } else { stride as isize };
        }
        strided::gather(&from, &x[0], y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.sum_to_like(x[0]))])
    }

    fn rows(&self, x: &[Shape], _: &[bool]) -> RowRule {
        // A number for axis 0 is that of the whole batch, which no shard has.
        match self.to.dim(0) == Some(ANY) && self.to.rank() == x[0].rank() {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// Repeated to these extents, trailing axes aligned as in NumPy; [`ANY`] keeps the extent that
    /// is there. Formulas broadcast by themselves: this is for where a shape must be spelled out.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 1]);
    /// assert_eq!(x.broadcast_to([ANY, 5]).shape(), [ANY, 5].into());
    /// ```
    #[track_caller]
    pub fn broadcast_to(self, to: impl Into<Shape>) -> Expr<'t, T> {
        let (mut to, own) = (to.into(), self.shape());
        // An extent that x has already is kept whatever it is, so that a batch may be cut.
        if let Some(new) = to.rank().checked_sub(own.rank()) {
            for (to, &own) in to.extents_mut()[new..].iter_mut().zip(own.extents()) {
                *to = if *to == own { ANY } else { *to };
            }
            if new == 0 && to.extents().iter().all(|&e| e == ANY) {
                return self;
            }
        }
        self.tape.apply(BroadcastTo { to }, &[self])
    }
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// Repeated to these extents; see [`Expr::broadcast_to`].
    #[track_caller]
    pub fn broadcast_to(self, to: impl Into<Shape>) -> Self {
        IndexExpr(self.0.broadcast_to(to))
    }
}
