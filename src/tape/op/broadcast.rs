//! Broadcasting to the shape of another node, its adjoint, and the count of reduced elements.
//! "The shape of that node", not a number: a batch may be unknown while recording.

use super::{Arg, Combine, Cotangents, Out, Primitive, RowRule, ScalarOp, Vjp};
use crate::error::{Result, bail};
use crate::kernel::reduce::{self as kernel, Reduction};
use crate::scalar::Scalar;
use crate::shape::{Axes, MAX_RANK, Shape};

/// `(x, like)`: x broadcast to the shape of `like`, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BroadcastLike;

/// `(x, like)`: x summed over the axes along which `like` was broadcast to the shape of x.
/// The adjoint of [`BroadcastLike`] and of every elementwise op's own broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SumToLike;

/// The number of elements that a reduction of x over these axes runs over, as a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// The reduced axes.
    pub axes: Axes,
}

impl<T: Scalar> Primitive<T> for BroadcastLike {
    fn name(&self) -> &str {
        "broadcast_like"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match x[0].broadcast(&x[1]) {
            Some(out) if out.rank() == x[1].rank() && x[1].accepts_or_any(&out) => Ok(x[1]),
            _ => bail!(Shape, "{} does not broadcast to {}", x[0], x[1]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        ScalarOp::Id.forward(&x[..1], y, scratch)
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i == 0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.sum_to_like(x[0])), None])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [false, true] if rows_are_broadcast(&x[0], &x[1]) => RowRule::Split,
            [true, true] if x[0].rank() == x[1].rank() => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl SumToLike {
    /// The kernel for these shapes, unless nothing is added.
    pub(crate) fn reducer(&self, from: &Shape, to: &Shape) -> Option<kernel::Reducer> {
        let missing = from.rank() - to.rank();
        let repeats =
            |&axis: &usize| axis < missing || to.extents()[axis - missing] != from.extents()[axis];
        let axes: Axes = (0..from.rank()).filter(repeats).collect();
        (!axes.is_empty()).then(|| kernel::Reducer::new(Reduction::Sum, from, axes))
    }
}

impl<T: Scalar> Primitive<T> for SumToLike {
    fn name(&self) -> &str {
        "sum_to_like"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match x[1].broadcast(&x[0]) {
            Some(out) if out.rank() == x[0].rank() && x[0].accepts_or_any(&out) => Ok(x[1]),
            _ => bail!(Shape, "{} is not {} broadcast", x[0], x[1]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        match self.reducer(&x[0].shape(), &y.shape()) {
            Some(reducer) => reducer.run(x[0].float(), y.float()),
            // Not even 0 is added: that would turn −0 into 0.
            None => y.float().copy_from_slice(x[0].float()),
        }
        Ok(())
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i == 0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.broadcast_like(x[0])), None])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [true, true] if x[0].rank() == x[1].rank() => RowRule::Split,
            [true, false] if rows_are_broadcast(&x[1], &x[0]) => RowRule::Partial(Combine::Sum),
            _ => RowRule::Mixes,
        }
    }
}

impl Size {
    /// The elements that are reduced to one.
    pub(crate) fn count(&self, shape: &Shape) -> usize {
        self.axes.iter().map(|a| shape.extents()[a]).product()
    }
}

impl<T: Scalar> Primitive<T> for Size {
    fn name(&self) -> &str {
        "size"
    }

    fn shape(&self, _: &[Shape]) -> Result<Shape> {
        Ok(Shape::SCALAR)
    }

    fn dtype(&self, _: &[crate::DType]) -> Result<crate::DType> {
        Ok(crate::DType::Float)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        y.float()[0] = T::lit(self.count(&x[0].shape()) as f64);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, _: usize) -> bool {
        false
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        // A count over other axes than the rows is the same in every shard, so it is not partial;
        // the shard pass asks only when axis 0 is counted.
        if self.axes.contains(0) { RowRule::Partial(Combine::Sum) } else { RowRule::Split }
    }
}

/// Whether broadcasting `from` to `to` repeats `from` along axis 0 of `to`.
fn rows_are_broadcast(from: &Shape, to: &Shape) -> bool {
    from.rank() < to.rank() || from.dim(0) == Some(1)
}

/// The strides in elements with which `from` is read when broadcast to `to`: 0 where it repeats.
pub(crate) fn broadcast_strides(from: &Shape, to: &Shape) -> [usize; MAX_RANK] {
    let (own, missing) = (from.strides(), to.rank() - from.rank());
    let mut strides = [0; MAX_RANK];
    for axis in missing..to.rank() {
        if from.extents()[axis - missing] != 1 {
            strides[axis] = own[axis - missing];
        }
    }
    strides
}
