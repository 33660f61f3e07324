//! Reductions over sets of axes, and what is composed of them: means, variances, norms.

use super::{Arg, Combine, Derivative, Out, Primitive, ProdGrad, RowRule, Size, View};
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
        kernel::reduce(self.kind, &x[0].shape(), self.axes, x[0].float(), y.float());
        Ok(())
    }

    fn derivative(&self, _: usize) -> Derivative {
        match self.kind {
            Reduction::All | Reduction::Any => Derivative::Zero,
            _ => Derivative::Smooth,
        }
    }

    fn vjp<'t>(
        &self,
        x: &[Expr<'t, T>],
        y: Expr<'t, T>,
        ct: Expr<'t, T>,
        _want: &[bool],
    ) -> Result<Vec<Option<Expr<'t, T>>>> {
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
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident $axes:ident $keep:ident)*) => {
        /// Reductions: over all axes, over some, and over some that stay with extent 1. Negative
        /// axes count from the end. One pass over the elements; sums are added in a tree, so
        /// that rounding errors grow with the logarithm of their number.
        ///
        /// ```
        /// use gradtape::{Session, Tape, Tensor};
        /// let tape = Tape::<f64>::new();
        /// let x = tape.constant(Tensor::from_rows([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?);
        /// assert_eq!(x.mean_keep(&[-1]).shape(), [2, 1].into());
        /// let (sums, max) = Session::new(&tape)?.run((x.sum_axes(&[0]), x.max()), [])?;
        /// assert_eq!((sums.as_slice(), max.item()?), (&[5.0, 7.0, 9.0][..], 6.0));
        /// # Ok::<(), gradtape::Error>(())
        /// ```
        impl<'t, T: Scalar> Expr<'t, T> {$(
            $(#[doc = $doc])+
            #[track_caller]
            pub fn $name(self) -> Expr<'t, T> {
                self.reduce(Reduction::$kind, Axes::all(self.rank()), false)
            }

            #[doc = concat!("[`Expr::", stringify!($name), "`] over these axes, which go.")]
            #[track_caller]
            pub fn $axes(self, axes: &[isize]) -> Expr<'t, T> {
                self.over(stringify!($name), axes, |x, axes| x.reduce(Reduction::$kind, axes, false))
            }

            #[doc = concat!("[`Expr::", stringify!($name), "`] over these axes, which stay.")]
            #[track_caller]
            pub fn $keep(self, axes: &[isize]) -> Expr<'t, T> {
                self.over(stringify!($name), axes, |x, axes| x.reduce(Reduction::$kind, axes, true))
            }
        )*}
    };
}
reductions! {
    /// Σ x; of no elements 0.
    Sum sum sum_axes sum_keep
    /// ∏ x; of no elements 1. Its derivatives, up to the seventh, are exact where factors are 0.
    Prod prod prod_axes prod_keep
    /// The largest element, NaN if any is; of no elements a mistake. Ties share the cotangent
    /// equally.
    Max max max_axes max_keep
    /// The smallest element, NaN if any is; of no elements a mistake. Ties share the cotangent
    /// equally.
    Min min min_axes min_keep
    /// 1 if no element is 0, else 0; NaN is not 0, as in NumPy.
    All all all_axes all_keep
    /// 1 if some element is not 0, else 0; NaN is not 0, as in NumPy.
    Any any any_axes any_keep
}

/// Moments and norms, composed of reductions.
impl<'t, T: Scalar> Expr<'t, T> {
    /// Σ x / n; NaN for n = 0.
    #[track_caller]
    pub fn mean(self) -> Expr<'t, T> {
        self.mean_over(Axes::all(self.rank()), false)
    }

    /// [`Expr::mean`] over these axes, which go.
    #[track_caller]
    pub fn mean_axes(self, axes: &[isize]) -> Expr<'t, T> {
        self.over("mean", axes, |x, axes| x.mean_over(axes, false))
    }

    /// [`Expr::mean`] over these axes, which stay with extent 1.
    #[track_caller]
    pub fn mean_keep(self, axes: &[isize]) -> Expr<'t, T> {
        self.over("mean", axes, |x, axes| x.mean_over(axes, true))
    }

    /// Σ (x − mean)² / (n − ddof), in two passes so that a large mean costs no digits. `ddof` is
    /// 0 for the variance of a population, 1 for the unbiased estimate of a sample's. Not finite
    /// for n ≤ ddof.
    #[track_caller]
    pub fn variance(self, ddof: u32) -> Expr<'t, T> {
        self.variance_over(Axes::all(self.rank()), false, ddof)
    }

    /// [`Expr::variance`] over these axes, which go.
    #[track_caller]
    pub fn variance_axes(self, axes: &[isize], ddof: u32) -> Expr<'t, T> {
        self.over("variance", axes, |x, axes| x.variance_over(axes, false, ddof))
    }

    /// [`Expr::variance`] over these axes, which stay with extent 1.
    #[track_caller]
    pub fn variance_keep(self, axes: &[isize], ddof: u32) -> Expr<'t, T> {
        self.over("variance", axes, |x, axes| x.variance_over(axes, true, ddof))
    }

    /// √ of [`Expr::variance`]; the subgradient at 0 is 0.
    #[track_caller]
    pub fn std(self, ddof: u32) -> Expr<'t, T> {
        self.variance(ddof).root()
    }

    /// [`Expr::std`] over these axes, which go.
    #[track_caller]
    pub fn std_axes(self, axes: &[isize], ddof: u32) -> Expr<'t, T> {
        self.variance_axes(axes, ddof).root()
    }

    /// √(Σ x²), the Euclidean norm of all elements (of a matrix: Frobenius); the subgradient at
    /// 0 is 0. Overflows where x² does.
    #[track_caller]
    pub fn norm(self) -> Expr<'t, T> {
        self.square().sum().root()
    }

    /// [`Expr::norm`] over these axes, which go.
    #[track_caller]
    pub fn norm_axes(self, axes: &[isize]) -> Expr<'t, T> {
        self.over("norm", axes, |x, axes| x.square().reduce(Reduction::Sum, axes, false).root())
    }

    /// Σ |x|; the subgradient at 0 is 0.
    #[track_caller]
    pub fn norm_l1(self) -> Expr<'t, T> {
        self.abs().sum()
    }

    #[track_caller]
    pub(crate) fn reduce(self, kind: Reduction, axes: Axes, keep: bool) -> Expr<'t, T> {
        self.tape().apply(Reduce { kind, axes, keep }, &[self])
    }

    /// `f` of the axes that are named, or a mistake of `method`.
    #[track_caller]
    pub(super) fn over(
        self,
        method: &str,
        axes: &[isize],
        f: impl FnOnce(Self, Axes) -> Self,
    ) -> Self {
        match Axes::of(&self.shape(), axes) {
            Ok(axes) => f(self, axes),
            Err(e) => self.refuse(method, e),
        }
    }

    /// The result of a reduction over `axes` with those axes put back, unless it kept them.
    #[track_caller]
    pub(super) fn with_axes(self, axes: Axes, keep: bool) -> Expr<'t, T> {
        if keep || axes.is_empty() { self } else { self.tape().apply(View::Expand(axes), &[self]) }
    }

    #[track_caller]
    fn mean_over(self, axes: Axes, keep: bool) -> Expr<'t, T> {
        self.reduce(Reduction::Sum, axes, keep) / self.tape().apply(Size { axes }, &[self])
    }

    #[track_caller]
    fn variance_over(self, axes: Axes, keep: bool, ddof: u32) -> Expr<'t, T> {
        let sum = (self - self.mean_over(axes, true)).square().reduce(Reduction::Sum, axes, keep);
        let n = self.tape().apply(Size { axes }, &[self]);
        sum / if ddof == 0 { n } else { n - n.lit(f64::from(ddof)) }
    }

    /// √a with derivative 0 at 0.
    #[track_caller]
    fn root(self) -> Expr<'t, T> {
        let is_zero = self.equal(self.lit(0.0));
        is_zero.select(self.lit(0.0), is_zero.select(self.lit(1.0), self).sqrt())
    }
}
