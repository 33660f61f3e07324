//! tanh, sinh and cosh from eˣ − 1, which keeps its accuracy near 0.

use super::exp::{exp_parts, quarter_expm1_pair};
use super::{Elementary, at_most, polynomial, tiny};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn tanh<L: Level, T: Elementary>(x: T) -> T {
    let (a, half, one) = (x.abs(), T::lit(0.5), T::lit(1.0));
    // (e²ᵃ − 1)/(e²ᵃ + 1) = v/(v + ½) = 1 − ½/(v + ½), which rounds to 1 well before 22.
    let [high, low] = quarter_expm1_pair::<L, T>(T::lit(2.0) * at_most(a, T::lit(22.0)));
    let v = high + low;
    let below = v + half;
    let near = v < half;
    let y = (if near { v } else { half }) / below;
    // What was rounded away, over v + ½ = ½/(1 − y).
    let v_rest = (high - v) + low;
    let below_rest = v - (below - half);
    let y_rest = if L::FUSED { L::mul_add(-y, below, v) } else { T::lit(0.0) };
    let rest = L::mul_add(-y, below_rest, v_rest) + y_rest;
    let near_y = L::mul_add(rest + rest, one - y, y);
    let y = (if near { near_y } else { one - y }).copysign(x);
    if a < tiny() { x } else { y }
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
