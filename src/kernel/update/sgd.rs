//! Steps along the gradient, with momentum and with the soft threshold of an L1 penalty.

use super::{Common, clamp};
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

multiversion! {
    /// w ← w − γg.
    pub(crate) fn sgd<T: Scalar>(c: Common<T>, w: &mut [T], g: &[T]) {
        for (w, &g) in w.iter_mut().zip(g) {
            *w = c.moved(*w, c.rate * c.gradient(*w, g));
        }
    }
}

/// SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Momentum<T> {
    pub(crate) common: Common<T>,
    pub(crate) momentum: T,
    pub(crate) nesterov: bool,
}

multiversion! {
    /// b ← μb + g; w ← w − γb, or with Nesterov's look ahead w − γ(g + μb).
    pub(crate) fn momentum<T: Scalar>(c: Momentum<T>, w: &mut [T], g: &[T], b: &mut [T]) {
        for ((w, &g), b) in w.iter_mut().zip(g).zip(b) {
            let g = c.common.gradient(*w, g);
            *b = c.momentum * *b + g;
            let d = if c.nesterov { g + c.momentum * *b } else { *b };
            *w = c.common.moved(*w, c.common.rate * d);
        }
    }
}

multiversion! {
    /// x ← w − γg; w ← x − x moved into [−a, a].
    pub(crate) fn soft_threshold<T: Scalar>(c: Common<T>, a: T, w: &mut [T], g: &[T]) {
        for (w, &g) in w.iter_mut().zip(g) {
            let x = c.moved(*w, c.rate * c.gradient(*w, g));
            *w = if c.rate == T::zero() { x } else { x - clamp(x, a) };
        }
    }
}

multiversion! {
    /// w ← w + g.
    pub(crate) fn add_up<T: Scalar>(w: &mut [T], g: &[T]) {
        for (w, &g) in w.iter_mut().zip(g) {
            *w += g;
        }
    }
}
