//! Averages of parameters over the steps.

use super::Common;
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

/// a + share·(w − a), and w itself for a share of 1.
#[inline(always)]
fn moved<T: Scalar>(share: T, w: T, a: T) -> T {
    if share == T::one() { w } else { a + share * (w - a) }
}

multiversion! {
    /// a ← a + share·(w − a).
    pub(crate) fn average<T: Scalar>(share: T, w: &[T], a: &mut [T]) {
        for (&w, a) in w.iter().zip(a) {
            *a = moved(share, w, *a);
        }
    }
}

multiversion! {
    /// w ← w − ηg; then a as in [`average`].
    pub(crate) fn asgd<T: Scalar>(c: Common<T>, share: T, w: &mut [T], g: &[T], a: &mut [T]) {
        for ((w, &g), a) in w.iter_mut().zip(g).zip(a) {
            *w = c.moved(*w, c.rate * c.gradient(*w, g));
            *a = moved(share, *w, *a);
        }
    }
}
