//! eˣ = 2ⁿ·eʳ with |r| ≤ ln 2 / 2 and a polynomial for eʳ.

use super::{Elementary, at_most, polynomial, tiny};
use crate::kernel::cpu::Level;
use std::f64::consts::LOG2_E;

#[inline(always)]
pub(super) fn exp<L: Level, T: Elementary>(x: T) -> T {
    let x = clamped(x, T::EXP_MAX);
    let (k, n) = x.nearest_product::<L>(T::lit(LOG2_E));
    // Two factors, the second of which may round into the subnormals or overflow.
    let [a, b] = T::two_powers(n);
    L::mul_add(small_expm1::<L, T>(less::<L, T>(x, k)), a, a) * b
}

/// x from `EXP_MIN` to `limit`; NaN stays.
#[inline(always)]
fn clamped<T: Elementary>(x: T, limit: T) -> T {
    let x = at_most(x, limit);
    if x < T::EXP_MIN { T::EXP_MIN } else { x }
}

/// x − k·ln 2
#[inline(always)]
fn less<L: Level, T: Elementary>(x: T, k: T) -> T {
    L::mul_add(-k, T::LN_2[1], L::mul_add(-k, T::LN_2[0], x))
}

/// eʳ − 1 for |r| ≤ ln 2 / 2
#[inline(always)]
fn small_expm1<L: Level, T: Elementary>(r: T) -> T {
    L::mul_add(r * r, polynomial::<L, T>(T::EXP, r), r)
}

/// eʳ − 1 of r = x − k·ln 2, in f64 with what r loses in rounding: in f32 no result shows it.
#[inline(always)]
pub(super) fn close_expm1<L: Level, T: Elementary>(x: T, k: T) -> T {
    let high = L::mul_add(-k, T::LN_2[0], x);
    let r = L::mul_add(-k, T::LN_2[1], high);
    if size_of::<T>() == size_of::<f32>() {
        return small_expm1::<L, T>(r);
    }
    let lost = L::mul_add(-k, T::LN_2[1], high - r);
    r + L::mul_add(r * r, polynomial::<L, T>(T::EXP, r), lost)
}

#[inline(always)]
pub(super) fn expm1<L: Level, T: Elementary>(x: T) -> T {
    let y = T::lit(4.0) * quarter_expm1::<L, T>(at_most(x, T::EXP_MAX));
    if x.abs() < tiny() { x } else { y }
}

/// (eˣ − 1)/4 for x up to `EXP_MAX`, which does not overflow; of full accuracy for |x| ≥ `tiny`.
#[inline(always)]
fn quarter_expm1<L: Level, T: Elementary>(x: T) -> T {
    let [high, low] = quarter_expm1_pair::<L, T>(x);
    high + low
}

/// The same as a number and a small rest.
#[inline(always)]
pub(super) fn quarter_expm1_pair<L: Level, T: Elementary>(x: T) -> [T; 2] {
    // Far below this it is −1/4, and the power of two would underflow.
    let lowest = T::lit(-80.0);
    let (s, r, rest) = exp_parts::<L, T>(if x < lowest { lowest } else { x });
    // The large terms first: their sum is often exact.
    [s * r + (s - T::lit(0.25)), s * rest]
}

/// 2ⁿ/4, r and eʳ − 1 − r of x = n·ln 2 + r. The power must be a normal number.
#[inline(always)]
pub(super) fn exp_parts<L: Level, T: Elementary>(x: T) -> (T, T, T) {
    let (k, n) = (x * T::lit(LOG2_E)).nearest();
    let high = L::mul_add(-k, T::LN_2[0], x);
    let low = k * T::LN_2[1];
    let r = high - low;
    let rounding = (high - r) - low;
    let rest = L::mul_add(r * r, polynomial::<L, T>(T::EXP, r), rounding);
    (T::lit(0.25).scaled(n), r, rest)
}

/// u/(u + u·2ⁿ·eʳ) of −x = n·ln 2 + r, with a u for which the power stays finite until the
/// quotient is 0.
#[inline(always)]
pub(super) fn sigmoid<L: Level, T: Elementary>(x: T) -> T {
    // It rounds to 1 well before 40, where the power is still a normal number.
    let minus = -clamped(x, T::lit(40.0));
    let (k, n) = minus.nearest_product::<L>(T::lit(LOG2_E));
    let unit = T::lit(1.0 / (1u64 << 60) as f64);
    let power = unit.scaled(n);
    unit / L::mul_add(small_expm1::<L, T>(less::<L, T>(minus, k)), power, power + unit)
}
