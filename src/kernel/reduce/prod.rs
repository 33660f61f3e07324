//! Derivatives of a product of any order, exact where factors are 0: nothing is divided.

use super::Loops;
use crate::scalar::Scalar;
use crate::shape::{Axes, Shape};

/// The most directions [`prod_grad`] takes.
pub(crate) const MAX_ORDER: usize = 6;

/// y_i = D^{m+1} P(x)[v_1, …, v_m, e_i], where P(x) = ∏ x_j over `axes`, for every i.
///
/// With units ε_k, ε_k² = 0, this is the coefficient of ε_1…ε_m in ∏_{j≠i} (x_j + Σ_k v_kj ε_k).
/// An element of that algebra is 2^m coefficients, one for each set of units. All the products
/// that leave one factor out come from halving: each half takes the product of the other along.
/// Cost for n factors: O(n log n · 2^m · m).
pub(crate) fn prod_grad<T: Scalar>(shape: &Shape, axes: Axes, x: &[T], v: &[&[T]], y: &mut [T]) {
    if x.is_empty() {
        return;
    }
    match v.len() {
        0 => Products::<T, 1> { x, v, loops: Loops::new(shape, axes) }.all(y),
        1 => Products::<T, 2> { x, v, loops: Loops::new(shape, axes) }.all(y),
        2 => Products::<T, 4> { x, v, loops: Loops::new(shape, axes) }.all(y),
        3 => Products::<T, 8> { x, v, loops: Loops::new(shape, axes) }.all(y),
        4 => Products::<T, 16> { x, v, loops: Loops::new(shape, axes) }.all(y),
        5 => Products::<T, 32> { x, v, loops: Loops::new(shape, axes) }.all(y),
        _ => Products::<T, 64> { x, v, loops: Loops::new(shape, axes) }.all(y),
    }
}

/// Coefficient A belongs to the product of the units whose bits are set in A.
type Nilpotent<T, const C: usize> = [T; C];

struct Products<'a, T, const C: usize> {
    x: &'a [T],
    v: &'a [&'a [T]],
    loops: Loops,
}

impl<T: Scalar, const C: usize> Products<'_, T, C> {
    fn all(&self, y: &mut [T]) {
        debug_assert_eq!(1 << self.v.len(), C);
        let mut one = [T::zero(); C];
        one[0] = T::one();
        let Loops { lanes, run, kept, folded } = &self.loops;
        for lane in 0..*lanes {
            for k in 0..kept.len() {
                let (base, n) = (lane + kept.at(k), run * folded.len());
                match self.v {
                    [] => self.gradient(base, n, y),
                    _ => self.without_each(base, 0, n, one, y),
                }
            }
        }
    }

    /// Order 0 needs no halving: y holds the products of what comes before, times what comes after.
    fn gradient(&self, base: usize, n: usize, y: &mut [T]) {
        let mut before = T::one();
        for at in (0..n).map(|i| self.at(base, i)) {
            y[at] = before;
            before *= self.x[at];
        }
        let mut after = T::one();
        for at in (0..n).rev().map(|i| self.at(base, i)) {
            y[at] *= after;
            after *= self.x[at];
        }
    }

    /// Where the i-th factor of the product that starts at `base` lies.
    fn at(&self, base: usize, i: usize) -> usize {
        base + self.loops.folded.at(i / self.loops.run) + i % self.loops.run
    }

    /// Writes y for the factors `from..to`; `others` is the product of all factors outside.
    fn without_each(
        &self,
        base: usize,
        from: usize,
        to: usize,
        others: Nilpotent<T, C>,
        y: &mut [T],
    ) {
        if to - from == 1 {
            y[self.at(base, from)] = others[C - 1];
            return;
        }
        let mid = from.midpoint(to);
        self.without_each(base, from, mid, self.times(others, base, mid, to), y);
        self.without_each(base, mid, to, self.times(others, base, from, mid), y);
    }

    /// `p` times the factors `from..to`.
    fn times(
        &self,
        mut p: Nilpotent<T, C>,
        base: usize,
        from: usize,
        to: usize,
    ) -> Nilpotent<T, C> {
        for i in from..to {
            let at = self.at(base, i);
            // Downwards, as each coefficient needs the old ones of its subsets.
            for set in (0..C).rev() {
                p[set] *= self.x[at];
                for (k, v) in self.v.iter().enumerate() {
                    if set >> k & 1 == 1 {
                        p[set] += p[set & !(1 << k)] * v[at];
                    }
                }
            }
        }
        p
    }
}
