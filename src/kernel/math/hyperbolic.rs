//! tanh, sinh and cosh: near 0 polynomials or eˣ − 1, which keep their accuracy there.

use super::exp::{exp_parts, exp_scaled, quarter_expm1_pair};
use super::{Elementary, at_most, polynomial};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn tanh<L: Level, T: Elementary>(x: T) -> T {
    let (a, quarter, half) = (x.abs(), T::lit(0.25), T::lit(0.5));
    let z = a * a;
    let near = L::mul_add(a * z, polynomial::<L, T>(T::TANH, z), a);
    // 1 − 2/(e²ᵃ + 1), which rounds to 1 well before 22.
    let (y, n) = exp_scaled::<L, T>(T::lit(2.0) * at_most(a, T::lit(22.0)));
    let far = T::lit(1.0) - half / L::mul_add(y, T::quarter_power(n), quarter);
    (if a < T::lit(0.7) { near } else { far }).copysign(x)
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
