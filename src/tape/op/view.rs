//! Axes of extent 1 put in or taken out: the same memory under another shape.

use super::{Arg, Out, Primitive, RowRule};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Axes, MAX_RANK, Shape};
use crate::tape::Expr;

/// Ops whose value is their first input's memory under another shape. Plans never copy for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// New axes of extent 1 at these places of the result.
    Expand(Axes),
    /// These axes, of extent 1, taken out.
    Squeeze(Axes),
}

impl<T: Scalar> Primitive<T> for View {
    fn name(&self) -> &str {
        match self {
            View::Expand(_) => "expand_dims",
            View::Squeeze(_) => "squeeze",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let x = x[0];
        match self {
            View::Expand(axes) => {
                let rank = x.rank() + axes.count();
                if rank > MAX_RANK || !axes.iter().all(|a| a < rank) {
                    bail!(Shape, "{x}: expected at most {MAX_RANK} axes, got {axes:?} more");
                }
                let mut own = x.extents().iter();
                let mut out = Shape::SCALAR;
                for axis in 0..rank {
                    out.push(if axes.contains(axis) { 1 } else { *own.next().unwrap_or(&1) });
                }
                Ok(out)
            }
            View::Squeeze(axes) => {
                if let Some(a) = axes.iter().find(|&a| !matches!(x.dim(a), Some(1 | ANY))) {
                    bail!(Shape, "{x}: expected extent 1 on axis {a}");
                }
                Ok(x.reduced(*axes, false))
            }
        }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        copy(&x[0], y);
        Ok(())
    }

    fn is_view(&self) -> bool {
        true
    }

    fn vjp<'t>(
        &self,
        x: &[Expr<'t, T>],
        _y: Expr<'t, T>,
        ct: Expr<'t, T>,
        _want: &[bool],
    ) -> Result<Vec<Option<Expr<'t, T>>>> {
        let back = match *self {
            View::Expand(axes) => View::Squeeze(axes),
            View::Squeeze(axes) => View::Expand(axes),
        };
        Ok(vec![Some(x[0].tape().apply(back, &[ct]))])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        match self {
            View::Expand(axes) | View::Squeeze(axes) if axes.contains(0) => RowRule::Mixes,
            _ => RowRule::Split,
        }
    }
}

/// Copies elements one to one, whatever their type.
pub(super) fn copy<T: Scalar>(x: &Arg<'_, T>, y: Out<'_, T>) {
    match y {
        Out::Float(_, y) => y.copy_from_slice(x.float()),
        Out::Index(_, y) => y.copy_from_slice(x.index()),
    }
}
