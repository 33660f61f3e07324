//! sin, cos and tan: x less the nearest multiple of π/2, taken off in parts whose products are
//! exact (Cody and Waite 1980), and a polynomial for each of sin and cos on ±π/4.

use super::{Elementary, polynomial};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn sin<L: Level, T: Elementary>(x: T) -> T {
    let (sin, cos, odd, negative) = reduced::<L, T>(x);
    let y = if odd { cos } else { sin };
    if negative { -y } else { y }
}

#[inline(always)]
pub(super) fn cos<L: Level, T: Elementary>(x: T) -> T {
    let (sin, cos, odd, negative) = reduced::<L, T>(x);
    let y = if odd { sin } else { cos };
    if odd != negative { -y } else { y }
}

#[inline(always)]
pub(super) fn tan<L: Level, T: Elementary>(x: T) -> T {
    let (sin, cos, odd, _) = reduced::<L, T>(x);
    (if odd { -cos } else { sin }) / if odd { sin } else { cos }
}

/// sin r and cos r for x = q·π/2 + r, whether q is odd, and whether ⌊q/2⌋ is.
#[inline(always)]
fn reduced<L: Level, T: Elementary>(x: T) -> (T, T, bool, bool) {
    let (q, n) = (x * T::lit(std::f64::consts::FRAC_2_PI)).nearest();
    let r = T::HALF_PI.iter().fold(x, |r, &part| L::mul_add(-q, part, r));
    let z = r * r;
    let sin = L::mul_add(r * z, polynomial::<L, T>(T::SIN, z), r);
    let cos = L::mul_add(z * z, polynomial::<L, T>(T::COS, z), T::lit(1.0) - T::lit(0.5) * z);
    let (odd, negative) = T::quadrant(n);
    // −0 less 0·π/2 is 0.
    let sin = if x == T::lit(0.0) { x } else { sin };
    (sin, cos, odd, negative)
}
