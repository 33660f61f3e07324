//! Reductions over sets of axes, and what is composed of them: means, variances, norms.

use super::{Arg, Combine, Cotangents, Derivative, Out, Primitive, ProdGrad, RowRule, View, Vjp};
use crate::error::{Result, bail};
use crate::kernel::reduce as kernel;
pub use crate::kernel::reduce::Reduction;
use crate::scalar::Scalar;
use crate::shape::{Axes, Shape};
use crate::tape::Expr;

/// All elements along some axes joined into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// How they are joined.
    pub kind: Reduction,
    /// The reduced axes.
    pub axes: Axes,
    /// Whether the reduced axes stay, with extent 1.
    pub keep: bool,
}

impl Reduce {
    /// The kernel for an input of this shape.
    pub(crate) fn reducer(&self, x: &Shape) -> kernel::Reducer {
        kernel::Reducer::new(self.kind, x, self.axes)
    }
}

impl<T: Scalar> Primitive<T> for Reduce {
    fn name(&self) -> &str {
        match self.kind {
            Reduction::Sum => "sum",
            Reduction::Prod => "prod",
            Reduction::Max => "max",
            Reduction::Min => "min",
            Reduction::All => "all",
            Reduction::Any => "any",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let [x] = *x else { bail!(Shape, "expected one input, got {}", x.len()) };
        let out = x.reduced(self.axes, self.keep);
        let of_nothing = self.axes.iter().any(|a| x.dim(a) == Some(0))
            && out.checked_len().is_some_and(|n| n > 0);
        if of_nothing && matches!(self.kind, Reduction::Max | Reduction::Min) {
            bail!(Shape, "{x}: expected at least one element along axes {:?}", self.axes);
        }
        Ok(out)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        self.reducer(&x[0].shape()).run(x[0].float(), y.float());
        Ok(())
    }

    fn derivative(&self, _: usize) -> Derivative {
        match self.kind {
            Reduction::All | Reduction::Any => Derivative::Zero,
            _ => Derivative::Smooth,
        }
    }

    fn is_linear_in(&self, _: usize) -> bool {
        self.kind == Reduction::Sum
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let x = x[0];
        let ct = ct.with_axes(self.axes, self.keep);
        Ok(vec![match self.kind {
            Reduction::Sum => Some(ct.broadcast_like(x)),
            Reduction::Prod => Some(ct * x.tape().apply(ProdGrad { axes: self.axes }, &[x])),
            Reduction::Max | Reduction::Min => {
                let ties = x.equal(y.with_axes(self.axes, self.keep));
                Some(ties * (ct / ties.reduce(Reduction::Sum, self.axes, true)))
            }
            Reduction::All | Reduction::Any => None,
        }])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        if !self.axes.contains(0) {
            return RowRule::Split;
        }
        RowRule::Partial(match self.kind {
            Reduction::Sum => Combine::Sum,
            Reduction::Prod => Combine::Prod,
            Reduction::Max | Reduction::Any => Combine::Max,
            Reduction::Min | Reduction::All => Combine::Min,
        })
    }
}

macro_rules! reductions {
    ($($(#[doc = $doc:literal])+
       $all:ident $some:ident $keep:ident ($($arg:ident: $ty:ty)?)
       |$x:ident, $axes:ident, $kept:ident| $e:expr;)*) => {
        /// Reductions: over all axes, over some, and over some that stay with extent 1. Negative
        /// axes count from the end. One pass over the elements, a second one for variances; sums
        /// are added in a tree, so that rounding errors grow with the logarithm of their number.
        ///
        /// ```
        /// use gradtape::{Session, Tape, Tensor};
        /// let tape = Tape::<f64>::new();
        /// let x = tape.constant(Tensor::from_rows([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?);
        /// assert_eq!(x.mean_keep(&[-1]).shape(), [2, 1].into());
        /// let (sums, max) = (x.sum_axes(&[0]), x.max());
        /// let (sums, max) = Session::new(&tape)?.run((sums, max), &[])?;
        /// assert_eq!((sums.as_slice(), max.item()?), (&[5.0, 7.0, 9.0][..], 6.0));
        /// # Ok::<(), gradtape::Error>(())
        /// ```
        impl<'t, T: Scalar> Expr<'t, T> {$(
            $(#[doc = $doc])+
            #[track_caller]
            pub fn $all(self, $($arg: $ty)?) -> Expr<'t, T> {
                let ($x, $axes, $kept) = (self, Axes::all(self.rank()), false);
                $e
            }

            #[doc = concat!("[`Expr::", stringify!($all), "`] over these axes, which go.")]
            #[track_caller]
            pub fn $some(self, axes: &[isize], $($arg: $ty)?) -> Expr<'t, T> {
                let ($x, $axes, $kept) = match Axes::of(&self.shape(), axes) {
                    Ok(axes) => (self, axes, false),
                    Err(e) => return self.refuse(stringify!($all), e),
                };
                $e
            }

            #[doc = concat!("[`Expr::", stringify!($all), "`] over these axes, which stay.")]
            #[track_caller]
            pub fn $keep(self, axes: &[isize], $($arg: $ty)?) -> Expr<'t, T> {
                let ($x, $axes, $kept) = match Axes::of(&self.shape(), axes) {
                    Ok(axes) => (self, axes, true),
                    Err(e) => return self.refuse(stringify!($all), e),
                };
                $e
            }
        )*}
    };
}
reductions! {
    /// Σ x; of no elements 0.
    sum sum_axes sum_keep () |x, axes, keep| x.reduce(Reduction::Sum, axes, keep);
    /// ∏ x; of no elements 1. Its derivatives, up to the seventh, are exact where factors are 0.
    prod prod_axes prod_keep () |x, axes, keep| x.reduce(Reduction::Prod, axes, keep);
    /// The largest element, NaN if any is; of no elements a mistake. Ties share the cotangent
    /// equally.
    max max_axes max_keep () |x, axes, keep| x.reduce(Reduction::Max, axes, keep);
    /// The smallest element, NaN if any is; of no elements a mistake. Ties share the cotangent
    /// equally.
    min min_axes min_keep () |x, axes, keep| x.reduce(Reduction::Min, axes, keep);
    /// 1 if no element is 0, else 0; NaN is not 0, as in NumPy.
    all all_axes all_keep () |x, axes, keep| x.reduce(Reduction::All, axes, keep);
    /// 1 if some element is not 0, else 0; NaN is not 0, as in NumPy.
    any any_axes any_keep () |x, axes, keep| x.reduce(Reduction::Any, axes, keep);
    /// Σ x / n; NaN for n = 0.
    mean mean_axes mean_keep ()
        |x, axes, keep| x.reduce(Reduction::Sum, axes, keep) / x.size(axes);
    /// Σ (x − mean)² / (n − ddof), in two passes so that a large mean costs no digits. `ddof` is 0
    /// for the variance of a population, 1 for the unbiased estimate from a sample. Not finite or
    /// not meaningful for n ≤ ddof.
    variance variance_axes variance_keep (ddof: u32)
        |x, axes, keep| x.variance_over(axes, keep, ddof);
    /// √ of [`Expr::variance`]; the subgradient at 0 is 0.
    std std_axes std_keep (ddof: u32)
        |x, axes, keep| x.variance_over(axes, keep, ddof).root();
    /// √(Σ x²), the Euclidean norm (of a matrix: Frobenius); the subgradient at 0 is 0. Overflows
    /// where x² does.
    norm norm_axes norm_keep ()
        |x, axes, keep| x.square().reduce(Reduction::Sum, axes, keep).root();
    /// Σ |x|; the subgradient at 0 is 0.
    norm_l1 norm_l1_axes norm_l1_keep ()
        |x, axes, keep| x.abs().reduce(Reduction::Sum, axes, keep);
}

impl<'t, T: Scalar> Expr<'t, T> {
    #[track_caller]
    pub(crate) fn reduce(self, kind: Reduction, axes: Axes, keep: bool) -> Expr<'t, T> {
        self.tape().apply(Reduce { kind, axes, keep }, &[self])
    }

    /// The result of a reduction over `axes` with those axes put back, unless it kept them.
    #[track_caller]
    pub(super) fn with_axes(self, axes: Axes, keep: bool) -> Expr<'t, T> {
        if keep || axes.is_empty() { self } else { self.tape().apply(View::Expand(axes), &[self]) }
    }

    #[track_caller]
    fn variance_over(self, axes: Axes, keep: bool, ddof: u32) -> Expr<'t, T> {
        let n = self.size(axes);
        let mean = self.reduce(Reduction::Sum, axes, true) / n;
        let sum = (self - mean).square().reduce(Reduction::Sum, axes, keep);
        sum / if ddof == 0 { n } else { n - n.lit(f64::from(ddof)) }
    }

    /// √a with derivative 0 at 0.
    #[track_caller]
    fn root(self) -> Expr<'t, T> {
        let is_zero = self.equal(self.lit(0.0));
        is_zero.select(self.lit(0.0), is_zero.select(self.lit(1.0), self).sqrt())
    }
}

#[cfg(test)]
mod tests;
