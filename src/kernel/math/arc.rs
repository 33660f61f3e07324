//! Inverse sine, cosine and tangent: a polynomial near 0, to which identities lead.

use super::{Elementary, polynomial, tiny};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn atan<L: Level, T: Elementary>(x: T) -> T {
    atan_of_ratio::<L, T>(x.abs(), T::lit(1.0)).copysign(x)
}

#[inline(always)]
pub(super) fn atan2<L: Level, T: Elementary>(y: T, x: T) -> T {
    let (zero, one) = (T::lit(0.0), T::lit(1.0));
    let (a, b) = (y.abs(), x.abs());
    // What the ratio cannot tell: ∞/∞ counts as 1, 0/0 as 0.
    let both_infinite = a == T::infinity() && b == T::infinity();
    let a = if both_infinite { one } else { a };
    let b = if both_infinite || (a == zero && b == zero) { one } else { b };
    // Bounds of a ratio of subnormal numbers would be coarse.
    let scale = if a < tiny() && b < tiny() { one / tiny() } else { one };
    let first = atan_of_ratio::<L, T>(a * scale, b * scale);
    let [pi, low] = T::QUARTER_PI.map(|quarter| T::lit(4.0) * quarter);
    let angle = if one.copysign(x) < zero { pi - (first - low) } else { first };
    angle.copysign(y)
}

/// arctan(a/b) in [0, π/2] for a, b ≥ 0, not both 0 and not both ∞.
#[inline(always)]
fn atan_of_ratio<L: Level, T: Elementary>(a: T, b: T) -> T {
    // arctan(a/b) = j·π/4 + arctan t with |t| within tan(π/8).
    let tan_eighth = T::lit(std::f64::consts::SQRT_2 - 1.0);
    let (near, far) = (a <= b * tan_eighth, b < a * tan_eighth);
    // A sum of halves does not overflow.
    let half = if a > T::lit(1.0) { T::lit(0.5) } else { T::lit(1.0) };
    let (a_half, b_half) = (a * half, b * half);
    let above = if far { -b } else { a_half - b_half };
    let below = if far { a } else { a_half + b_half };
    let j = T::lit(if far { 2.0 } else { 1.0 });
    let above = if near { a } else { above };
    let below = if near { b } else { below };
    let j = if near { T::lit(0.0) } else { j };
    let t = above / below;
    let z = t * t;
    let [quarter, low] = T::QUARTER_PI;
    let sum = L::mul_add(j, quarter, t);
    let rounding = (j * quarter - sum) + t;
    sum + L::mul_add(t * z, polynomial::<L, T>(T::ATAN, z), L::mul_add(j, low, rounding))
}

#[inline(always)]
pub(super) fn asin<L: Level, T: Elementary>(x: T) -> T {
    let (near, root, rest) = asin_parts::<L, T>(x);
    let [quarter, low] = T::QUARTER_PI;
    let two = T::lit(2.0);
    // π/2 − 2(root + rest), where the first difference is exact and the rounding of the second
    // kept.
    let down = two * root - quarter;
    let sum = quarter - down;
    let far = sum + (((quarter - sum) - down) - two * (rest - low));
    (if near { root + rest } else { far }).copysign(x)
}

#[inline(always)]
pub(super) fn acos<L: Level, T: Elementary>(x: T) -> T {
    let (near, root, rest) = asin_parts::<L, T>(x);
    let [half, low] = T::QUARTER_PI.map(|quarter| T::lit(2.0) * quarter);
    let y = root + rest;
    let left = (half + half) - ((y + y) - (low + low));
    let far = if x > T::lit(0.0) { y + y } else { left };
    if near { half - (y.copysign(x) - low) } else { far }
}

/// Whether |x| < ½; r = |x| if so, else r = √((1 − |x|)/2), NaN for |x| > 1; and arcsin r − r.
#[inline(always)]
fn asin_parts<L: Level, T: Elementary>(x: T) -> (bool, T, T) {
    let a = x.abs();
    let near = a < T::lit(0.5);
    let half = (T::lit(1.0) - a) * T::lit(0.5);
    let root = if near { a } else { half.sqrt() };
    let z = if near { a * a } else { half };
    (near, root, root * z * polynomial::<L, T>(T::ASIN, z))
}
