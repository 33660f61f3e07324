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
    // The roundings of all differences but the first, which is exact, are kept.
    let (last, heads) = (T::HALF_PI[T::HALF_PI.len() - 1], &T::HALF_PI[1..T::HALF_PI.len() - 1]);
    let mut high = L::mul_add(-q, T::HALF_PI[0], x);
    let mut low = T::lit(0.0);
    for &head in heads {
        let part = q * head;
        let next = high - part;
        low += (high - next) - part;
        high = next;
    }
    low = L::mul_add(-q, last, low);
    let r = high + low;
    let rest = (high - r) + low;
    let z = r * r;
    let sin = L::mul_add(r * z, polynomial::<L, T>(T::SIN, z), rest) + r;
    let half = T::lit(0.5) * z;
    let cos = T::lit(1.0) - half;
    let rounding = (T::lit(1.0) - cos) - half;
    let cos =
        cos + L::mul_add(z * z, polynomial::<L, T>(T::COS, z), L::mul_add(-r, rest, rounding));
    let (odd, negative) = T::quadrant(n);
    // −0 less 0·π/2 is 0.
    let sin = if x == T::lit(0.0) { x } else { sin };
    (sin, cos, odd, negative)
}
