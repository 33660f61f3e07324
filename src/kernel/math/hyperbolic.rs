//! tanh, sinh and cosh: near 0 by eˣ − 1 or a polynomial, which keep their accuracy there.

use super::exp::{close_expm1, exp_parts, quarter_expm1_pair};
use super::{Elementary, at_most, polynomial};
use crate::kernel::cpu::Level;
use std::f64::consts::LOG2_E;

/// h/(1 + h) with h = (e²ᵃ − 1)/2
#[inline(always)]
pub(super) fn tanh<L: Level, T: Elementary>(x: T) -> T {
    // It rounds to 1 well before 22.
    let (twice, half) = (T::lit(2.0) * at_most(x.abs(), T::lit(22.0)), T::lit(0.5));
    let (k, n) = twice.nearest_product::<L>(T::lit(LOG2_E));
    let power = half.scaled(n);
    let h = L::mul_add(close_expm1::<L, T>(twice, k), power, power - half);
    let y = h / (T::lit(1.0) + h);
    // h − h·y is the same, and for small h the rounding of 1 + h is small in it.
    (if twice < T::lit(0.6) { L::mul_add(-h, y, h) } else { y }).copysign(x)
}

#[inline(always)]
pub(super) fn sinh<L: Level, T: Elementary>(x: T) -> T {
    let a = x.abs();
    let z = x * x;
    let near = L::mul_add(x * z, polynomial::<L, T>(T::SINH, z), x);
    let [high, low] = quarter_expm1_pair::<L, T>(at_most(a, T::EXP_MAX + T::lit(0.5)));
    let w = T::lit(2.0) * (high + low);
    // With w = (eᵃ − 1)/2: eᵃ/2 − e⁻ᵃ/2, where the latter is nothing beside a large w.
    let rest = if a > T::lit(22.0) { T::lit(0.5) } else { w / (w + w + T::lit(1.0)) };
    if a < T::lit(1.0) { near } else { (w + rest).copysign(x) }
}

#[inline(always)]
pub(super) fn cosh<L: Level, T: Elementary>(x: T) -> T {
    let (s, r, rest) = exp_parts::<L, T>(at_most(x.abs(), T::EXP_MAX + T::lit(0.5)));
    // eᵃ/2 and e⁻ᵃ/2
    let half = T::lit(2.0) * (s + s * (r + rest));
    half + T::lit(0.25) / half
}
