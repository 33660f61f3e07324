//! The axes in another order: transposes of matrices and of any rank.

use super::strided::{self, Layout};
use super::{Arg, Cotangents, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::{Axes, Shape};
use crate::tape::{Expr, IndexExpr};

/// Axis i of the result is axis `axes[i]` of x.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permute {
    /// A permutation of the axes of x.
    pub axes: Box<[usize]>,
}

impl<T: Scalar> Primitive<T> for Permute {
    fn name(&self) -> &str {
        "permute"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() != self.axes.len() {
            bail!(Shape, "{}: expected {} axes", x[0], self.axes.len());
        }
        let mut out = Shape::SCALAR;
        self.axes.iter().for_each(|&a| out.push(x[0].extents()[a]));
        Ok(out)
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let own = Layout::dense(&x[0].shape());
        let mut from = own;
        for (stride, &a) in from.strides.iter_mut().zip(&self.axes) {
            *stride = own.strides[a];
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
        let Vjp { ct, .. } = at;
        let mut axes = self.axes.clone();
        self.axes.iter().enumerate().for_each(|(i, &a)| axes[a] = i);
        Ok(vec![Some(ct.tape().apply(Permute { axes }, &[ct]))])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if self.axes[0] == 0 { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The axes in another order: axis i of the result is axis `axes[i]` of this. Every axis is
    /// named once; negative ones count from the end. Cost: one copy.
    ///
    /// ```
    /// use gradtape::{ANY, Tape};
    /// let tape = Tape::<f64>::new();
    /// let image = tape.placeholder("image", [ANY, 28, 20, 3]);
    /// assert_eq!(image.permute(&[0, -1, 1, 2]).shape(), [ANY, 3, 28, 20].into());
    /// ```
    #[track_caller]
    pub fn permute(self, axes: &[isize]) -> Expr<'t, T> {
        let shape = self.shape();
        let all = || -> Result<Box<[usize]>> {
            if Axes::of(&shape, axes)?.count() != shape.rank() {
                bail!(Argument, "expected each axis once, got {axes:?}");
            }
            axes.iter().map(|&a| shape.axis(a)).collect()
        };
        match all() {
            Ok(axes) if axes.iter().enumerate().all(|(i, &a)| i == a) => self,
            Ok(axes) => self.tape.apply(Permute { axes }, &[self]),
            Err(e) => self.refuse("permute", e),
        }
    }

    /// The transpose: the last two axes exchanged, `(…, m, n) -> (…, n, m)`. Cost: one copy.
    ///
    /// ```
    /// use gradtape::{Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::zeros([2, 3])?);
    /// assert_eq!(a.t().shape(), [3, 2].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn t(self) -> Expr<'t, T> {
        self.swap_axes(-2, -1)
    }

    /// Two axes exchanged; negative ones count from the end.
    #[track_caller]
    pub fn swap_axes(self, a: isize, b: isize) -> Expr<'t, T> {
        let shape = self.shape();
        match shape.axis(a).and_then(|a| Ok((a, shape.axis(b)?))) {
            Ok((a, b)) => {
                let mut axes: Vec<isize> = (0..shape.rank() as isize).collect();
                axes.swap(a, b);
                self.permute(&axes)
            }
            Err(e) => self.refuse("swap_axes", e),
        }
    }
}

impl<T: Scalar> IndexExpr<'_, T> {
    /// The axes in another order; see [`Expr::permute`].
    #[track_caller]
    pub fn permute(self, axes: &[isize]) -> Self {
        IndexExpr(self.0.permute(axes))
    }
}
