//! Elements by index: whole slabs of an axis, single elements along it, their adjoints, one-hot.

use super::{Arg, Combine, Cotangents, Derivative, Out, Primitive, RowRule, Units, Vjp, list};
use crate::error::{Result, bail};
use crate::kernel::index::{self, Lanes};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, IndexExpr};
use std::ops::Range;

/// What an index names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Each {
    /// All elements at one position of the axis; the axes of the indices stand in its place.
    Slab,
    /// One element for each index, along the axis; the indices have as many axes as x.
    Element,
}

/// `(x, indices)`: elements of x by their position on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Take {
    /// What an index names.
    pub each: Each,
    /// The axis the indices point into.
    pub axis: usize,
}

/// `(updates, indices, like)`: zeros of the shape of `like`, whose elements are not read, with
/// every update added where [`Take`] takes it from, in memory order. The adjoint of [`Take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TakeAdd(pub Take);

/// A one for each index at its position on a new last axis of this extent, zeros elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OneHot {
    /// The extent of the new axis.
    pub n_classes: usize,
}

impl Take {
    /// Positions on the axes after this one go apart, where all have the same indices.
    fn units(self, x: &Shape) -> Units {
        Units::Contiguous(match self.each {
            Each::Slab => Lanes::of(x, self.axis).outer,
            Each::Element => 1,
        })
    }

    fn taken(self, x: &Shape, indices: &Shape) -> Result<Shape> {
        let Take { each, axis } = self;
        if axis >= x.rank() {
            bail!(Shape, "{x}: expected an axis {axis}");
        }
        match each {
            Each::Slab => {
                let extents = x.extents();
                Shape::new(&[&extents[..axis], indices.extents(), &extents[axis + 1..]].concat())
            }
            Each::Element if x.with(axis, ANY).accepts_or_any(indices) => {
                let mut out = *indices;
                for (a, (out, &x)) in out.extents_mut().iter_mut().zip(x.extents()).enumerate() {
                    // Whichever is known, but on the axis that the indices replace.
                    *out = if a == axis { *out } else { x.min(*out) };
                }
                Ok(out)
            }
            Each::Element => {
                bail!(Shape, "{x}, {indices}: expected equal extents but on axis {axis}")
            }
        }
    }
}

impl<T: Scalar> Primitive<T> for Take {
    fn name(&self) -> &str {
        match self.each {
            Each::Slab => "take",
            Each::Element => "gather",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        self.taken(&x[0], &x[1])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        expect_index(x[1])?;
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let (lanes, indices) = (Lanes::of(&x[0].shape(), self.axis), x[1].index());
        match (self.each, y) {
            (Each::Slab, Out::Index(_, y)) => index::take(lanes, x[0].index(), indices, y),
            (Each::Slab, y) => index::take(lanes, x[0].float(), indices, y.float()),
            (Each::Element, Out::Index(_, y)) => index::gather(lanes, x[0].index(), indices, y),
            (Each::Element, y) => index::gather(lanes, x[0].float(), indices, y.float()),
        }
    }

    fn units(&self, x: &[Shape]) -> Units {
        (*self).units(&x[0])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        if self.each == Each::Element {
            return self.forward(x, y, scratch);
        }
        let (lanes, own) = Lanes::of(&x[0].shape(), self.axis).part(&units);
        index::take(lanes, &x[0].float()[own], x[1].index(), y.float())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 { Derivative::Smooth } else { Derivative::Zero }
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(TakeAdd(*self), &[ct, x[1], x[0]])), None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match (self.each, self.axis, split) {
            // Rows of a table that every shard has whole: an embedding.
            (_, 0, [false, true]) => RowRule::Split,
            (Each::Slab, 1.., [true, false]) => RowRule::Split,
            (Each::Element, 1.., [true, true]) => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Primitive<T> for TakeAdd {
    fn name(&self) -> &str {
        match self.0.each {
            Each::Slab => "take_add",
            Each::Element => "gather_add",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let taken = self.0.taken(&x[2], &x[1])?;
        if !taken.accepts_or_any(&x[0]) {
            bail!(Shape, "{}: expected {taken} first", list(x));
        }
        Ok(x[2])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        expect_index(x[1])?;
        match (x[0], x[2]) {
            (DType::Float, DType::Float) => Ok(DType::Float),
            _ => bail!(Shape, "expected floats but for the indices"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let lanes = Lanes::of(&y.shape(), self.0.axis);
        match self.0.each {
            Each::Slab => self.forward_units(x, y, scratch, 0..lanes.outer),
            Each::Element => {
                let y = y.float();
                y.fill(T::zero());
                index::gather_add(lanes, x[0].float(), x[1].index(), y)
            }
        }
    }

    fn units(&self, x: &[Shape]) -> Units {
        self.0.units(&x[2])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        if self.0.each == Each::Element {
            return self.forward(x, y, scratch);
        }
        let (lanes, _) = Lanes::of(&y.shape(), self.0.axis).part(&units);
        let (y, each) = (y.float(), lanes.inner * x[1].index().len());
        let updates = &x[0].float()[each * units.start..each * units.end];
        y.fill(T::zero());
        index::take_add(lanes, updates, x[1].index(), y)
    }

    /// One addition for each element that was taken.
    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        x[0].len()
    }

    fn reads(&self, i: usize) -> bool {
        i < 2
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 { Derivative::Smooth } else { Derivative::Zero }
    }

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(ct.tape().apply(self.0, &[ct, x[1]])), None, None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match (self.0.each, self.0.axis, split) {
            (_, 0, [true, true, false]) => RowRule::Partial(Combine::Sum),
            (Each::Slab, 1.., [true, false, true]) => RowRule::Split,
            (Each::Element, 1.., [true, true, true]) => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Primitive<T> for OneHot {
    fn name(&self) -> &str {
        "one_hot"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Shape::new(&[x[0].extents(), &[self.n_classes]].concat())
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        expect_index(x[0])?;
        Ok(DType::Float)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        index::one_hot(x[0].index(), self.n_classes, y.float())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}

fn expect_index(dtype: DType) -> Result<()> {
    match dtype {
        DType::Index => Ok(()),
        DType::Float => bail!(Shape, "expected indices, got floats"),
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The slabs of an axis that the indices name: rows of a matrix with axis 0. The axes of the
    /// indices stand in place of the axis, as in NumPy: `(n, d), (batch, time) ->
    /// (batch, time, d)` is an embedding. Its gradient adds up slabs that were taken twice.
    ///
    /// # Errors
    /// When run: an index outside the axis.
    ///
    /// ```
    /// use gradtape::{ANY, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let table = tape.variable("table", Tensor::zeros([1000, 16])?);
    /// let words = tape.index_placeholder("words", [ANY, 7]);
    /// assert_eq!(table.take(0, words).shape(), [ANY, 7, 16].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn take(self, axis: isize, indices: IndexExpr<'t, T>) -> Expr<'t, T> {
        match self.shape().axis(axis) {
            Ok(axis) => self.tape.apply(Take { each: Each::Slab, axis }, &[self, indices.0]),
            Err(e) => self.refuse("take", e),
        }
    }

    /// One element for each index, along an axis: yᵢⱼ = x[i, indicesᵢⱼ] for axis 1. The indices
    /// have as many axes as this, and its extents but on the axis (NumPy's `take_along_axis`).
    ///
    /// # Errors
    /// When run: an index outside the axis.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let scores = tape.placeholder("scores", [ANY, 10]);
    /// let labels = tape.index_placeholder("labels", [ANY, 1]);
    /// assert_eq!(scores.gather(1, labels).shape(), [ANY, 1].into());
    /// ```
    #[track_caller]
    pub fn gather(self, axis: isize, indices: IndexExpr<'t, T>) -> Expr<'t, T> {
        match self.shape().axis(axis) {
            Ok(axis) => self.tape.apply(Take { each: Each::Element, axis }, &[self, indices.0]),
            Err(e) => self.refuse("gather", e),
        }
    }

    /// This with `updates` added to the slabs of an axis that the indices name; an index that
    /// comes twice adds twice, in order. The updates have the shape of
    /// [`take`](Expr::take) with the same indices.
    ///
    /// # Errors
    /// When run: an index outside the axis.
    ///
    /// ```
    /// use gradtape::{Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::zeros([5, 2])?);
    /// let rows = tape.index_constant(Tensor::vector(vec![4, 0, 4]));
    /// let updates = tape.constant(Tensor::full([3, 2], 1.0)?);
    /// assert_eq!(x.scatter_add(0, rows, updates).shape(), [5, 2].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn scatter_add(
        self,
        axis: isize,
        indices: IndexExpr<'t, T>,
        updates: Expr<'t, T>,
    ) -> Expr<'t, T> {
        match self.shape().axis(axis) {
            Ok(axis) => {
                let take = TakeAdd(Take { each: Each::Slab, axis });
                self + self.tape.apply(take, &[updates, indices.0, self])
            }
            Err(e) => self.refuse("scatter_add", e),
        }
    }
}

impl<'t, T: Scalar> IndexExpr<'t, T> {
    /// The slabs of an axis that other indices name; see [`Expr::take`].
    #[track_caller]
    pub fn take(self, axis: isize, indices: IndexExpr<'t, T>) -> Self {
        IndexExpr(self.0.take(axis, indices))
    }

    /// One element for each of other indices, along an axis; see [`Expr::gather`].
    #[track_caller]
    pub fn gather(self, axis: isize, indices: IndexExpr<'t, T>) -> Self {
        IndexExpr(self.0.gather(axis, indices))
    }

    /// A row of `n_classes` numbers for each index: 1 at its position, 0 elsewhere.
    ///
    /// # Errors
    /// When run: an index that is no class.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let labels = tape.index_placeholder("labels", [ANY]);
    /// assert_eq!(labels.one_hot(10).shape(), [ANY, 10].into());
    /// ```
    #[track_caller]
    pub fn one_hot(self, n_classes: usize) -> Expr<'t, T> {
        self.0.tape.apply(OneHot { n_classes }, &[self.0])
    }
}
