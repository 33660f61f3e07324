//! Adam and the rules that share its moments.

use super::{Common, larger};
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

/// Adam and AdamW, with everything that does not depend on the parameter worked out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam<T> {
    /// Its rate is γ / (1 − β₁ᵗ).
    pub(crate) common: Common<T>,
    pub(crate) beta1: T,
    pub(crate) beta2: T,
    /// 1 − β₁ and 1 − β₂, rounded once.
    pub(crate) rest1: T,
    pub(crate) rest2: T,
    /// √(1 − β₂ᵗ)
    pub(crate) root: T,
    pub(crate) epsilon: T,
}

impl<T: Scalar> Adam<T> {
    /// The moments with one more gradient.
    #[inline(always)]
    fn moments(&self, g: T, m: T, v: T) -> (T, T) {
        (self.beta1 * m + self.rest1 * g, self.beta2 * v + self.rest2 * (g * g))
    }

    /// √v / root + ε
    #[inline(always)]
    fn size(&self, v: T) -> T {
        v.sqrt() / self.root + self.epsilon
    }
}

multiversion! {
    /// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← w − rate·m / (√v / root + ε).
    pub(crate) fn adam<T: Scalar>(
        c: Adam<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        v: &mut [T],
    ) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            (*m, *v) = c.moments(c.common.gradient(*w, g), *m, *v);
            *w = c.common.moved(*w, c.common.rate * *m / c.size(*v));
        }
    }
}

/// AMSGrad.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmsGrad<T> {
    pub(crate) adam: Adam<T>,
    /// What v is divided by before the maximum is taken.
    pub(crate) before: T,
}

multiversion! {
    /// As Adam, with u ← max(u, v / before) in place of v.
    pub(crate) fn amsgrad<T: Scalar>(
        c: AmsGrad<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        v: &mut [T],
        u: &mut [T],
    ) {
        let (before, c) = (c.before, c.adam);
        for ((((w, &g), m), v), u) in w.iter_mut().zip(g).zip(m).zip(v).zip(u) {
            (*m, *v) = c.moments(c.common.gradient(*w, g), *m, *v);
            *u = larger(*u, *v / before);
            *w = c.common.moved(*w, c.common.rate * *m / c.size(*u));
        }
    }
}

/// NAdam: Adam whose rate is γ, with the shares of the gradient and of the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NAdam<T> {
    pub(crate) adam: Adam<T>,
    pub(crate) of_gradient: T,
    pub(crate) of_moment: T,
}

multiversion! {
    /// As Adam, with a·g + b·m in place of m.
    pub(crate) fn nadam<T: Scalar>(
        c: NAdam<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        v: &mut [T],
    ) {
        let (a, b, c) = (c.of_gradient, c.of_moment, c.adam);
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = c.common.gradient(*w, g);
            (*m, *v) = c.moments(g, *m, *v);
            *w = c.common.moved(*w, c.common.rate * (a * g + b * *m) / c.size(*v));
        }
    }
}

multiversion! {
    /// m as Adam's; u ← max(β₂u, |g| + ε); w ← w − rate·m / u. `root` and `rest2` are not read.
    pub(crate) fn adamax<T: Scalar>(
        c: Adam<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        u: &mut [T],
    ) {
        for (((w, &g), m), u) in w.iter_mut().zip(g).zip(m).zip(u) {
            let g = c.common.gradient(*w, g);
            *m = c.beta1 * *m + c.rest1 * g;
            *u = larger(c.beta2 * *u, g.abs() + c.epsilon);
            *w = c.common.moved(*w, c.common.rate * *m / *u);
        }
    }
}

/// LAMB: Adam whose rate is γ times the variable's trust ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lamb<T> {
    pub(crate) adam: Adam<T>,
    /// 1 − β₁ᵗ
    pub(crate) correction: T,
    /// λ
    pub(crate) decay: T,
}

impl<T: Scalar> Lamb<T> {
    /// The direction of a parameter, and its moments.
    #[inline(always)]
    fn direction(&self, w: T, g: T, m: T, v: T) -> (T, T, T) {
        let (m, v) = self.adam.moments(self.adam.common.gradient(w, g), m, v);
        (m / self.correction / self.adam.size(v) + self.decay * w, m, v)
    }
}

multiversion! {
    /// Moments as Adam's; d = m̂ / (√v̂ + ε) + λw; w ← w − rate·d.
    pub(crate) fn lamb<T: Scalar>(
        c: Lamb<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        v: &mut [T],
    ) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let d;
            (d, *m, *v) = c.direction(*w, g, *m, *v);
            *w = c.adam.common.moved(*w, c.adam.common.rate * d);
        }
    }
}

/// Parameters whose directions are kept at a time.
const DIRECTIONS: usize = 256;

/// Σ d² of the step that [`lamb`] would take, in f64, in an order that the length alone decides.
pub(crate) fn lamb_squares<T: Scalar>(c: Lamb<T>, [w, g, m, v]: [&[T]; 4]) -> f64 {
    let mut buffer = [T::zero(); DIRECTIONS];
    let mut sum = 0.0;
    for at in (0..w.len()).step_by(DIRECTIONS) {
        let here = at..w.len().min(at + DIRECTIONS);
        let d = &mut buffer[..here.len()];
        directions(c, d, &w[here.clone()], &g[here.clone()], &m[here.clone()], &v[here]);
        sum += super::sum_of_squares(d);
    }
    sum
}

multiversion! {
    fn directions<T: Scalar>(c: Lamb<T>, d: &mut [T], w: &[T], g: &[T], m: &[T], v: &[T]) {
        for ((((d, &w), &g), &m), &v) in d.iter_mut().zip(w).zip(g).zip(m).zip(v) {
            *d = c.direction(w, g, m, v).0;
        }
    }
}
