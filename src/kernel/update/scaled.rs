//! Steps along the gradient over a root of its squares: RMSProp, AdaGrad, Adadelta.

use super::{Common, larger};
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

/// RMSProp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RmsProp<T> {
    pub(crate) common: Common<T>,
    /// α and 1 − α.
    pub(crate) alpha: T,
    pub(crate) rest: T,
    pub(crate) momentum: T,
    /// ε, of which one is 0: added in the root, and to it.
    pub(crate) inside: T,
    pub(crate) outside: T,
}

impl<T: Scalar> RmsProp<T> {
    /// α·a + (1 − α)·x
    #[inline(always)]
    fn mean(&self, a: T, x: T) -> T {
        self.alpha * a + self.rest * x
    }

    /// g over the root of its mean square v.
    #[inline(always)]
    fn scaled(&self, g: T, v: T) -> T {
        g / ((v + self.inside).sqrt() + self.outside)
    }

    /// g over the root of its variance, which rounding must not make negative.
    #[inline(always)]
    fn centered(&self, g: T, v: T, a: T) -> T {
        self.scaled(g, larger(v - a * a, T::zero()))
    }
}

multiversion! {
    /// v ← αv + (1 − α)g²; w ← w − γ g / (√v + ε).
    pub(crate) fn rmsprop<T: Scalar>(c: RmsProp<T>, w: &mut [T], g: &[T], v: &mut [T]) {
        for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
            let g = c.common.gradient(*w, g);
            *v = c.mean(*v, g * g);
            *w = c.common.moved(*w, c.common.rate * c.scaled(g, *v));
        }
    }
}

multiversion! {
    /// v as in [`rmsprop`]; b ← μb + g / (√v + ε); w ← w − γb.
    pub(crate) fn rmsprop_momentum<T: Scalar>(
        c: RmsProp<T>,
        w: &mut [T],
        g: &[T],
        v: &mut [T],
        b: &mut [T],
    ) {
        for (((w, &g), v), b) in w.iter_mut().zip(g).zip(v).zip(b) {
            let g = c.common.gradient(*w, g);
            *v = c.mean(*v, g * g);
            *b = c.momentum * *b + c.scaled(g, *v);
            *w = c.common.moved(*w, c.common.rate * *b);
        }
    }
}

multiversion! {
    /// v as in [`rmsprop`]; a ← αa + (1 − α)g; w ← w − γ g / (√(v − a²) + ε).
    pub(crate) fn rmsprop_centered<T: Scalar>(
        c: RmsProp<T>,
        w: &mut [T],
        g: &[T],
        v: &mut [T],
        a: &mut [T],
    ) {
        for (((w, &g), v), a) in w.iter_mut().zip(g).zip(v).zip(a) {
            let g = c.common.gradient(*w, g);
            (*v, *a) = (c.mean(*v, g * g), c.mean(*a, g));
            *w = c.common.moved(*w, c.common.rate * c.centered(g, *v, *a));
        }
    }
}

multiversion! {
    /// v and a as in [`rmsprop_centered`]; b ← μb + g / (√(v − a²) + ε); w ← w − γb.
    pub(crate) fn rmsprop_centered_momentum<T: Scalar>(
        c: RmsProp<T>,
        w: &mut [T],
        g: &[T],
        v: &mut [T],
        a: &mut [T],
        b: &mut [T],
    ) {
        for ((((w, &g), v), a), b) in w.iter_mut().zip(g).zip(v).zip(a).zip(b) {
            let g = c.common.gradient(*w, g);
            (*v, *a) = (c.mean(*v, g * g), c.mean(*a, g));
            *b = c.momentum * *b + c.centered(g, *v, *a);
            *w = c.common.moved(*w, c.common.rate * *b);
        }
    }
}

/// AdaGrad.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdaGrad<T> {
    pub(crate) common: Common<T>,
    /// Added to the sum of squares: its first value, and an ε in the root.
    pub(crate) inside: T,
    /// ε outside the root.
    pub(crate) outside: T,
}

multiversion! {
    /// s ← s + g²; w ← w − γ g / (√(s + inside) + outside).
    pub(crate) fn adagrad<T: Scalar>(c: AdaGrad<T>, w: &mut [T], g: &[T], s: &mut [T]) {
        for ((w, &g), s) in w.iter_mut().zip(g).zip(s) {
            let g = c.common.gradient(*w, g);
            *s += g * g;
            let size = (*s + c.inside).sqrt() + c.outside;
            *w = c.common.moved(*w, c.common.rate * g / size);
        }
    }
}

/// Adadelta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adadelta<T> {
    pub(crate) common: Common<T>,
    /// ρ and 1 − ρ.
    pub(crate) rho: T,
    pub(crate) rest: T,
    pub(crate) epsilon: T,
}

multiversion! {
    /// v ← ρv + (1 − ρ)g²; d = √(u + ε) / √(v + ε) g; u ← ρu + (1 − ρ)d²; w ← w − γd.
    pub(crate) fn adadelta<T: Scalar>(
        c: Adadelta<T>,
        w: &mut [T],
        g: &[T],
        v: &mut [T],
        u: &mut [T],
    ) {
        for (((w, &g), v), u) in w.iter_mut().zip(g).zip(v).zip(u) {
            let g = c.common.gradient(*w, g);
            *v = c.rho * *v + c.rest * (g * g);
            let d = (*u + c.epsilon).sqrt() / (*v + c.epsilon).sqrt() * g;
            *u = c.rho * *u + c.rest * (d * d);
            *w = c.common.moved(*w, c.common.rate * d);
        }
    }
}
