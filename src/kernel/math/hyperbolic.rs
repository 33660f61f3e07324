//! tanh, sinh and cosh from eˣ − 1, which keeps its accuracy near 0.

use super::exp::quarter_expm1;
use super::{Elementary, at_most, tiny};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn tanh<L: Level, T: Elementary>(x: T) -> T {
    let a = x.abs();
    // (e²ᵃ − 1)/(e²ᵃ + 1), which is 1 well before 22.
    let v = quarter_expm1::<L, T>(T::lit(2.0) * at_most(a, T::lit(22.0)));
    let y = (v / (v + T::lit(0.5))).copysign(x);
    if a < tiny() { x } else { y }
}

#[inline(always)]
pub(super) fn sinh<L: Level, T: Elementary>(x: T) -> T {
    let a = x.abs();
    let w = T::lit(2.0) * quarter_expm1::<L, T>(at_most(a, T::EXP_MAX + T::lit(0.5)));
    // With w = (eᵃ − 1)/2: eᵃ/2 − e⁻ᵃ/2, where the latter is nothing beside a large w.
    let rest = if a > T::lit(22.0) { T::lit(0.5) } else { w / (w + w + T::lit(1.0)) };
    let y = (w + rest).copysign(x);
    if a < tiny() { x } else { y }
}

#[inline(always)]
pub(super) fn cosh<L: Level, T: Elementary>(x: T) -> T {
    let a = at_most(x.abs(), T::EXP_MAX + T::lit(0.5));
    let half = T::lit(2.0) * quarter_expm1::<L, T>(a) + T::lit(0.5);
    half + T::lit(0.25) / half
}
