//! The strided kernels on values of either type, for the ops that only move elements.

use super::{Arg, Out};
use crate::kernel::copy;
use crate::scalar::{Index, Scalar};
use crate::shape::{MAX_RANK, Shape};

/// Where the elements of one tensor lie in another: a position for the first, a stride per axis.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    pub offset: usize,
    pub strides: [isize; MAX_RANK],
}

impl Layout {
    /// Every element of a tensor of this shape where it lies.
    pub fn dense(shape: &Shape) -> Layout {
        Layout { offset: 0, strides: shape.strides().map(|s| s as isize) }
    }
}

/// y = the elements of x that `from` names, over the shape of y.
pub(super) fn gather<T: Scalar>(from: &Layout, x: &Arg<'_, T>, y: Out<'_, T>) {
    let shape = y.shape();
    let (extents, strides) = (shape.extents(), &from.strides[..shape.rank()]);
    match y {
        Out::Index(_, y) => copy::copy_strided(extents, strides, from.offset, x.index(), y),
        y => copy::copy_strided(extents, strides, from.offset, x.float(), y.float()),
    }
}

/// The elements of y that `to` names = x; the others stay.
pub(super) fn scatter<T: Scalar>(to: &Layout, x: &Arg<'_, T>, y: &mut Out<'_, T>) {
    let shape = x.shape();
    let (extents, strides) = (shape.extents(), &to.strides[..shape.rank()]);
    match y {
        Out::Index(_, y) => copy::scatter_strided(extents, strides, to.offset, x.index(), y),
        y => copy::scatter_strided(extents, strides, to.offset, x.float(), y.float_mut()),
    }
}

/// The same number everywhere.
pub(super) fn fill<T: Scalar>(y: &mut Out<'_, T>, value: f64) {
    match y {
        Out::Index(_, y) => y.fill(value as Index),
        y => y.float_mut().fill(T::lit(value)),
    }
}
