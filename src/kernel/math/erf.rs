//! The error function: x + x·P(x²) up to 1, then 1 − e^(−x²)·W(x).

use super::{Elementary, at_most, exp::exp, polynomial};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn erf<L: Level, T: Elementary>(x: T) -> T {
    let near = L::mul_add(x, polynomial::<L, T>(T::ERF, x * x), x);
    let a = at_most(x.abs(), T::ERF_MAX);
    let far = exp::<L, T>(-a * a) * polynomial::<L, T>(T::ERFCX, a - T::lit(2.0));
    if a < T::lit(1.0) { near } else { (T::lit(1.0) - far).copysign(x) }
}
