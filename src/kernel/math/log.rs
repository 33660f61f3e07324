//! ln x = k·ln 2 + ln(1 + f) with √½ ≤ 1 + f < √2, and ln(1 + f) = 2 artanh s of s = f/(2 + f)
//! by a polynomial in s².

use super::{Elementary, exp, polynomial, tiny};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn log<L: Level, T: Elementary>(x: T) -> T {
    let (k, f, _) = x.split();
    let y = combine::<L, T>(k, f, f / (T::lit(2.0) + f), T::lit(0.0));
    special(x, T::lit(0.0), y)
}

#[inline(always)]
pub(super) fn log1p<L: Level, T: Elementary>(x: T) -> T {
    let one = T::lit(1.0);
    let sum = one + x;
    let rounding = if x > one { one - (sum - x) } else { x - (sum - one) };
    let (k, f, inverse) = sum.split();
    let s = f / (T::lit(2.0) + f);
    // rounding/sum, a small correction, for which 1/(1 + f) = (1 − s)/(1 + s) to 1 % is enough.
    let reciprocal = one - (s + s) * (one - s);
    // A large sum is x itself, and 2⁻ᵏ might not be a normal number.
    let c = if x > T::lit(1e30) { T::lit(0.0) } else { rounding * inverse * reciprocal };
    let y = combine::<L, T>(k, f, s, c);
    if x.abs() < tiny() { x } else { special(x, -one, y) }
}

#[inline(always)]
pub(super) fn softplus<L: Level, T: Elementary>(x: T) -> T {
    let e = exp::exp::<L, T>(-x.abs());
    (if x < T::lit(0.0) { T::lit(0.0) } else { x }) + log1p::<L, T>(e)
}

/// k·ln 2 + ln(1 + f) + c: f − f²/2 and its correction apart, so that f is not rounded.
#[inline(always)]
fn combine<L: Level, T: Elementary>(k: T, f: T, s: T, c: T) -> T {
    let z = s * s;
    let half = T::lit(0.5) * f * f;
    let r = L::mul_add(z, polynomial::<L, T>(T::LOG, z), half);
    let low = L::mul_add(s, r, L::mul_add(k, T::LN_2[1], c));
    L::mul_add(k, T::LN_2[0], f - (half - low))
}

/// y, or what holds at the pole, below it, at ∞ and for NaN.
#[inline(always)]
fn special<T: Elementary>(x: T, pole: T, y: T) -> T {
    let y = if x < T::infinity() { y } else { x };
    let below = if x == pole { -T::infinity() } else { T::lit(f64::NAN) };
    if x > pole { y } else { below }
}
