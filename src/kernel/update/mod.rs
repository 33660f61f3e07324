//! Optimizer steps: each one pass over parameters, gradients and state, all flat slices, each
//! element by itself. Knows no schedule and no norm; whoever begins the step hands their numbers
//! over.

mod adam;
mod average;
mod scaled;
mod sgd;
mod sign;
#[cfg(test)]
mod tests;

pub(crate) use adam::{
    Adam, AmsGrad, Lamb, NAdam, adam, adamax, amsgrad, lamb, lamb_squares, nadam,
};
pub(crate) use average::{asgd, average};
pub(crate) use scaled::{
    AdaGrad, Adadelta, RmsProp, adadelta, adagrad, rmsprop, rmsprop_centered,
    rmsprop_centered_momentum, rmsprop_momentum,
};
pub(crate) use sgd::{Momentum, add_up, momentum, sgd, soft_threshold};
pub(crate) use sign::{Lion, Rprop, lion, rprop};

use crate::kernel::cpu::multiversion;
use crate::kernel::vector::{BLOCK, dot};
use crate::scalar::Scalar;

/// What every update does with gradients, decay and rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<T> {
    pub(crate) rate: T,
    /// A factor on each gradient.
    pub(crate) scale: T,
    /// The largest size of each gradient after that.
    pub(crate) limit: T,
    /// λ of a decay that is added to the gradient.
    pub(crate) decay: T,
    /// 1 − γλ of a decay of the parameters themselves.
    pub(crate) keep: T,
}

impl<T: Scalar> Common<T> {
    #[inline(always)]
    fn gradient(self, w: T, g: T) -> T {
        clamp(g * self.scale, self.limit) + self.decay * w
    }

    /// keep·w − d, where d has the rate as a factor. Not a subtraction of 0 when the rate is 0:
    /// that would turn −0 to +0.
    #[inline(always)]
    fn moved(self, w: T, d: T) -> T {
        if self.rate == T::zero() { w } else { w * self.keep - d }
    }
}

/// x moved into [−limit, limit]; NaN stays.
#[inline(always)]
fn clamp<T: Scalar>(x: T, limit: T) -> T {
    let x = if x > limit { limit } else { x };
    if x < -limit { -limit } else { x }
}

/// The larger of two numbers, the first if neither is.
#[inline(always)]
fn larger<T: Scalar>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// Σ x² in f64, in an order that the length alone decides.
pub(crate) fn sum_of_squares<T: Scalar>(x: &[T]) -> f64 {
    dot(x, x)
}

multiversion! {
    /// Whether no element is infinite or NaN.
    pub(crate) fn all_finite<T: Scalar>(x: &[T]) -> bool {
        // Without branches inside a block, so that it is a vector loop; ±∞ · 0 is NaN.
        x.chunks(BLOCK).all(|x| x.iter().fold(true, |ok, &x| ok & (x * T::zero() == T::zero())))
    }
}
