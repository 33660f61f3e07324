//! Softmax, its logarithm and log-sum-exp along one axis, shifted so that no logit overflows.

use super::{Arg, Combine, Cotangents, Op, Out, Primitive, Reduction, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::kernel::reduce as kernel;
use crate::scalar::Scalar;
use crate::shape::{Axes, Shape};
use crate::tape::Expr;

/// The functions around Σ exp(x) along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Softmax {
    /// exp(x) / Σ exp(x)
    Softmax {
        /// The axis of the sum.
        axis: u8,
    },
    /// x − ln Σ exp(x)
    LogSoftmax {
        /// The axis of the sum.
        axis: u8,
    },
    /// ln Σ exp(x)
    LogSumExp {
        /// The axis of the sum.
        axis: u8,
        /// Whether the axis stays, with extent 1.
        keep: bool,
    },
}

impl Softmax {
    fn axis(&self) -> usize {
        let (Softmax::Softmax { axis }
        | Softmax::LogSoftmax { axis }
        | Softmax::LogSumExp { axis, .. }) = *self;
        axis.into()
    }
}

impl<T: Scalar> Primitive<T> for Softmax {
    fn name(&self) -> &str {
        match self {
            Softmax::Softmax { .. } => "softmax",
            Softmax::LogSoftmax { .. } => "log_softmax",
            Softmax::LogSumExp { .. } => "logsumexp",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if self.axis() >= x[0].rank() {
            bail!(Shape, "{}: expected an axis {}", x[0], self.axis());
        }
        match *self {
            Softmax::LogSumExp { keep, .. } => Ok(x[0].reduced(Axes::one(self.axis()), keep)),
            _ => Ok(x[0]),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let kernel = match self {
            Softmax::Softmax { .. } => kernel::softmax,
            Softmax::LogSoftmax { .. } => kernel::log_softmax,
            Softmax::LogSumExp { .. } => kernel::logsumexp,
        };
        kernel(&x[0].shape(), self.axis(), x[0].float(), y.float(), scratch);
        Ok(())
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        kernel::softmax_scratch(&x[0], self.axis())
    }

    /// The largest, the difference from it, exp and the sum; then a quotient or a difference.
    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        let each = if let Softmax::LogSumExp { .. } = self { 4 } else { 5 };
        x[0].len().saturating_mul(each)
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let axes = Axes::one(self.axis());
        let sum = |a: Expr<'t, T>| a.reduce(Reduction::Sum, axes, true);
        Ok(vec![Some(match *self {
            Softmax::Softmax { .. } => y * (ct - sum(ct * y)),
            Softmax::LogSoftmax { .. } => ct - y.exp() * sum(ct),
            Softmax::LogSumExp { axis, keep } => {
                // Over the rows a softmax would need all shards at once; this needs only y.
                let softmax = match axis {
                    0 => (x[0] - y.with_axes(axes, keep)).exp(),
                    _ => x[0].tape().apply(Softmax::Softmax { axis }, x),
                };
                softmax * ct.with_axes(axes, keep)
            }
        })])
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        match self {
            _ if self.axis() != 0 => RowRule::Split,
            Softmax::LogSumExp { .. } => RowRule::Partial(Combine::LogAddExp),
            _ => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// exp(x_k) / Σ_j exp(x_j) along an axis, finite for logits of any size. Rows that hold NaN,
    /// +∞, or nothing but −∞ give NaN; single −∞ give 0.
    #[track_caller]
    pub fn softmax(self, axis: isize) -> Expr<'t, T> {
        self.along("softmax", axis, |axis| Softmax::Softmax { axis })
    }

    /// x_k − ln Σ_j exp(x_j) along an axis, exact where [`Expr::softmax`] rounds to 0 or 1.
    #[track_caller]
    pub fn log_softmax(self, axis: isize) -> Expr<'t, T> {
        self.along("log_softmax", axis, |axis| Softmax::LogSoftmax { axis })
    }

    /// ln Σ_j exp(x_j) along an axis, which goes. −∞ of no elements, or of nothing but −∞.
    #[track_caller]
    pub fn logsumexp(self, axis: isize) -> Expr<'t, T> {
        self.along("logsumexp", axis, |axis| Softmax::LogSumExp { axis, keep: false })
    }

    /// [`Expr::logsumexp`], where the axis stays with extent 1.
    #[track_caller]
    pub fn logsumexp_keep(self, axis: isize) -> Expr<'t, T> {
        self.along("logsumexp", axis, |axis| Softmax::LogSumExp { axis, keep: true })
    }

    /// Records an op along the axis that is named, or a mistake of `method`.
    #[track_caller]
    pub(super) fn along<O: Into<Op<T>>>(
        self,
        method: &str,
        axis: isize,
        op: impl FnOnce(u8) -> O,
    ) -> Expr<'t, T> {
        match self.shape().axis(axis) {
            Ok(axis) => self.tape().apply(op(axis as u8), &[self]),
            Err(e) => self.refuse(method, e),
        }
    }
}
