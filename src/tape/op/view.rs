//! The same memory under another shape: reshape, axes of extent 1 put in or taken out.

use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Axes, MAX_RANK, Shape};
use crate::tape::{Expr, IndexExpr, Operand};

/// Ops whose value is their first input's memory under another shape. Plans never copy for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// New axes of extent 1 at these places of the result.
    Expand(Axes),
    /// These axes, of extent 1, taken out.
    Squeeze(Axes),
    /// These extents over the same elements in memory order; at most one is [`ANY`]: the rest.
    Reshape(Shape),
    /// Axis 0 kept, the others to these extents but the first, of which at most one is [`ANY`].
    ReshapeRows(Shape),
    /// `(x, like)`: the shape of `like`, whose elements are not read. The adjoint of reshaping.
    ReshapeLike,
}

impl<T: Scalar> Primitive<T> for View {
    fn name(&self) -> &str {
        match self {
            View::Expand(_) => "expand_dims",
            View::Squeeze(_) => "squeeze",
            View::Reshape(_) | View::ReshapeRows(_) => "reshape",
            View::ReshapeLike => "reshape_like",
        }
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let x = inputs[0];
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
            View::Reshape(to) => match refolded(&x, to) {
                Some(out) => Ok(out),
                None => bail!(Shape, "{x}: expected as many elements as {to} has"),
            },
            View::ReshapeRows(to) => {
                let rows = x.dim(0);
                let rest = refolded(&rest(&x), &rest(to));
                match rows.zip(rest) {
                    Some((rows, rest)) => Shape::new(&[&[rows], rest.extents()].concat()),
                    None => bail!(Shape, "{x}: expected rows of as many elements as {to} has"),
                }
            }
            View::ReshapeLike => match refolded(&x, &inputs[1]) {
                Some(_) => Ok(inputs[1]),
                None if !inputs[1].is_known() => Ok(inputs[1]),
                None => bail!(Shape, "{x}: expected as many elements as {} has", inputs[1]),
            },
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

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_linear_in(&self, i: usize) -> bool {
        i == 0
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let back = match *self {
            View::Expand(axes) => ct.tape().apply(View::Squeeze(axes), &[ct]),
            View::Squeeze(axes) => ct.tape().apply(View::Expand(axes), &[ct]),
            _ => ct.reshape_like(x[0]),
        };
        Ok(std::iter::once(Some(back)).chain(x[1..].iter().map(|_| None)).collect())
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        // Axis 0 is the fastest: while its extent stays, so does the row of every element. A
        // number for it is that of the whole batch, which no shard has.
        let splits = match self {
            View::Expand(axes) | View::Squeeze(axes) => !axes.contains(0),
            View::Reshape(to) => {
                to.dim(0) == Some(ANY)
                    && refolded(&x[0], to).is_some_and(|out| out.dim(0) == x[0].dim(0))
            }
            View::ReshapeRows(_) => true,
            View::ReshapeLike => split[0] && split[1] && x[0].dim(0) == x[1].dim(0),
        };
        if splits { RowRule::Split } else { RowRule::Mixes }
    }
}

/// `to` with its unknown extent, if it has one, such that it has as many elements as x; `None` if
/// there is none. With an unknown x, `to` as it is.
fn refolded(x: &Shape, to: &Shape) -> Option<Shape> {
    let Some(n) = x.checked_len() else { return Some(*to) };
    match to.extents().iter().position(|&e| e == ANY) {
        None => (to.checked_len() == Some(n)).then_some(*to),
        Some(open) => {
            let given = to.with(open, 1).checked_len().filter(|&given| given > 0)?;
            (n % given == 0).then(|| to.with(open, n / given))
        }
    }
}

/// The shape of one row.
fn rest(x: &Shape) -> Shape {
    let mut rest = Shape::SCALAR;
    x.extents().iter().skip(1).for_each(|&e| rest.push(e));
    rest
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The same elements in the same order under another shape; one extent may be [`ANY`]: what
    /// the others leave. The order is that of memory, column-major, as in Julia and unlike NumPy:
    /// the first axis is the fastest, so rows stay rows while their number does. Cost: none.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let image = tape.placeholder("image", [ANY, 28, 28]);
    /// assert_eq!(image.reshape([ANY, 784]).shape(), [ANY, 784].into());
    /// ```
    #[track_caller]
    pub fn reshape(self, to: impl Into<Shape>) -> Expr<'t, T> {
        let (x, to) = (self.shape(), to.into());
        if to.extents().iter().filter(|&&e| e == ANY).count() > 1 {
            let text = format!("expected at most one unknown extent, got {to}");
            return self.refuse("reshape", Error::new(ErrorKind::Argument, text));
        }
        if x.surely_eq(&to) {
            return self;
        }
        // Where axis 0 surely stays, it is not a number, so that the batch may be cut.
        let rows_stay = match (x.dim(0), to.dim(0)) {
            (Some(_), Some(ANY)) => {
                let len = rest(&x).checked_len();
                len.is_some_and(|n| n > 0) && len == rest(&to).checked_len()
            }
            (Some(n), Some(m)) => n == m && n > 0,
            _ => false,
        };
        match rows_stay {
            true => self.tape.apply(View::ReshapeRows(to.with(0, ANY)), &[self]),
            false => self.tape.apply(View::Reshape(to), &[self]),
        }
    }

    /// All axes but the first folded into one, the first of them fastest:
    /// `(batch, …) -> (batch, n)`. Cost: none.
    ///
    /// Weights that were trained elsewhere want the order of a row-major fold, the last axis
    /// fastest: `image.permute(&[0, 3, 2, 1]).flatten()` has TensorFlow's (row, column, channel),
    /// `image.permute(&[0, 2, 1, 3]).flatten()` PyTorch's (channel, row, column).
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let image = tape.placeholder("image", [ANY, 5, 5, 8]);
    /// assert_eq!(image.flatten().shape(), [ANY, 200].into());
    /// ```
    #[track_caller]
    pub fn flatten(self) -> Expr<'t, T> {
        match self.rank() {
            2 => self,
            _ => self.tape.apply(View::ReshapeRows([ANY, ANY].into()), &[self]),
        }
    }

    /// The same elements in memory order under the shape of `like`, whose elements are not read.
    #[track_caller]
    pub fn reshape_like(self, like: impl Operand<'t, T>) -> Expr<'t, T> {
        let like = like.on(self.tape);
        match self.shape().surely_eq(&like.shape()) {
            true => self,
            false => self.tape.apply(View::ReshapeLike, &[self, like]),
        }
    }
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// The same indices in memory order under another shape; see [`Expr::reshape`].
    #[track_caller]
    pub fn reshape(self, to: impl Into<Shape>) -> Self {
        IndexExpr(self.0.reshape(to))
    }

    /// All axes but the first folded into one; see [`Expr::flatten`].
    #[track_caller]
    pub fn flatten(self) -> Self {
        IndexExpr(self.0.flatten())
    }

    /// New axes of extent 1; see [`Expr::expand_dims`].
    #[track_caller]
    pub fn expand_dims(self, axes: &[isize]) -> Self {
        IndexExpr(self.0.expand_dims(axes))
    }

    /// These axes, of extent 1, taken out; see [`Expr::squeeze`].
    #[track_caller]
    pub fn squeeze(self, axes: &[isize]) -> Self {
        IndexExpr(self.0.squeeze(axes))
    }
}

/// Copies elements one to one, whatever their type.
pub(super) fn copy<T: Scalar>(x: &Arg<'_, T>, y: Out<'_, T>) {
    match y {
        Out::Index(_, y) => y.copy_from_slice(x.index()),
        y => y.float().copy_from_slice(x.float()),
    }
}
