//! Steps that take only signs from the gradient: Lion, Rprop.

use super::{Common, clamp, larger};
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

/// −1, 0 or 1; std's `signum` has no 0.
#[inline(always)]
fn sign<T: Scalar>(x: T) -> T {
    let positive = if x > T::zero() { T::one() } else { T::zero() };
    if x < T::zero() { -T::one() } else { positive }
}

/// Lion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lion<T> {
    pub(crate) common: Common<T>,
    pub(crate) beta1: T,
    pub(crate) beta2: T,
    /// 1 − β₁ and 1 − β₂, rounded once.
    pub(crate) rest1: T,
    pub(crate) rest2: T,
}

multiversion! {
    /// w ← w − γ sign(β₁m + (1 − β₁)g); m ← β₂m + (1 − β₂)g.
    pub(crate) fn lion<T: Scalar>(c: Lion<T>, w: &mut [T], g: &[T], m: &mut [T]) {
        for ((w, &g), m) in w.iter_mut().zip(g).zip(m) {
            let g = c.common.gradient(*w, g);
            *w = c.common.moved(*w, c.common.rate * sign(c.beta1 * *m + c.rest1 * g));
            *m = c.beta2 * *m + c.rest2 * g;
        }
    }
}

/// Rprop. Its rate is a factor on the step sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rprop<T> {
    pub(crate) common: Common<T>,
    /// The size of the first step.
    pub(crate) first: T,
    pub(crate) shrink: T,
    pub(crate) grow: T,
    pub(crate) smallest: T,
    pub(crate) largest: T,
}

multiversion! {
    /// s ← s·grow where g·p > 0, s·shrink where g·p < 0, within limits; there also g ← 0;
    /// w ← w − rate·s·sign(g); p ← g. A size of 0 has not been set.
    pub(crate) fn rprop<T: Scalar>(
        c: Rprop<T>,
        w: &mut [T],
        g: &[T],
        p: &mut [T],
        s: &mut [T],
    ) {
        for (((w, &g), p), s) in w.iter_mut().zip(g).zip(p).zip(s) {
            let g = c.common.gradient(*w, g);
            let turn = sign(g * *p);
            let factor = if turn > T::zero() { c.grow } else { T::one() };
            let factor = if turn < T::zero() { c.shrink } else { factor };
            let size = if *s == T::zero() { c.first } else { *s };
            *s = larger(clamp(size * factor, c.largest), c.smallest);
            *p = if turn < T::zero() { T::zero() } else { g };
            *w = c.common.moved(*w, c.common.rate * (*s * sign(*p)));
        }
    }
}
