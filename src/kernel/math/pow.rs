//! aᵇ = e^(b·ln|a|) and the sign. An exponent turns the relative error of the logarithm into an
//! absolute one of up to 745 times that: f32 goes through f64, f64 through pairs of numbers.

use super::{Elementary, at_most, exp, log, polynomial};
use crate::kernel::cpu::Level;

#[inline(always)]
pub(super) fn single<L: Level>(a: f32, b: f32) -> f32 {
    let y = exp::exp::<L, f64>(f64::from(b) * log::log::<L, f64>(f64::from(a.abs())));
    special(a, b, y as f32)
}

#[inline(always)]
pub(super) fn double<L: Level>(a: f64, b: f64) -> f64 {
    let [high, low] = log_pair::<L>(a.abs());
    let [y, error] = product::<L>(b, high);
    let error = error + b * low;
    // Far outside of the range, where the error may be ∞ − ∞.
    let error = if y.abs() < 800.0 { error } else { 0.0 };
    let y = at_most(y, 800.0);
    let y = if y < -800.0 { -800.0 } else { y };

    let (k, n) = (y * std::f64::consts::LOG2_E).nearest();
    let high = L::mul_add(-k, f64::LN_2[0], y);
    let low = k * f64::LN_2[1];
    let r = high - low;
    let rounding = (high - r) - low;
    let rest = L::mul_add(r * r, polynomial::<L, f64>(f64::EXP, r), rounding);
    // e^(r + error) − 1 = eʳ − 1 + error·eʳ
    let rest = L::mul_add(error, 1.0 + (r + rest), rest);
    let [p, q] = f64::two_powers(n);
    special(a, b, (1.0 + (r + rest)) * p * q)
}

/// (2 artanh(s) − 2s − ⅔s³)/s⁵ of s².
const TAIL: &[f64] = &[
    0.3999999999999998,
    0.285714285714451,
    0.22222222217539606,
    0.18181818869933933,
    0.1538455689669918,
    0.13336316439007243,
    0.11674838255600761,
    0.11988849657796244,
];
/// ⅔ and the error of that.
const TWO_THIRDS: [f64; 2] = [0.6666666666666666, 3.700743415417188e-17];

/// ln a for a ≥ 0 to some 2⁻⁶⁵, as [`log::log`] but in pairs, a number and the error of that.
#[inline(always)]
fn log_pair<L: Level>(a: f64) -> [f64; 2] {
    let (k, f, _) = a.split();
    // s = f/(2 + f)
    let below = 2.0 + f;
    let below_low = f - (below - 2.0);
    let inverse = 1.0 / below;
    let s = f * inverse;
    let [p, e] = product::<L>(s, below);
    let s_low = (f - p - e - s * below_low) * inverse;
    // s² and ⅔ + s²·(…)
    let [z, e] = product::<L>(s, s);
    let z_low = e + 2.0 * s * s_low;
    let tail = z * polynomial::<L, f64>(TAIL, z);
    let r = TWO_THIRDS[0] + tail;
    let r_low = (TWO_THIRDS[0] - r) + tail + TWO_THIRDS[1];
    // 2s + s·s²·r
    let [p, e] = product::<L>(z, r);
    let p_low = e + z * r_low + z_low * r;
    let [q, e] = product::<L>(s, p);
    let q_low = e + s * p_low + s_low * p;
    let m = 2.0 * s + q;
    let m_low = (2.0 * s - m) + q + (q_low + 2.0 * s_low);
    // + k·ln 2
    let high = k * f64::LN_2[0];
    let sum = high + m;
    let low = (high - sum) + m + (m_low + k * f64::LN_2[1]);
    let (sum, low) = (sum + low, (sum - (sum + low)) + low);
    let sum = if a < f64::INFINITY { sum } else { a };
    [if a > 0.0 { sum } else { f64::NEG_INFINITY }, low]
}

/// a·b rounded, and the error of that.
#[inline(always)]
fn product<L: Level>(a: f64, b: f64) -> [f64; 2] {
    let p = a * b;
    if L::FUSED {
        return [p, L::mul_add(a, b, -p)];
    }
    // Dekker 1971: products of halves are exact.
    let (a_head, b_head) = (a.head(), b.head());
    let (a_tail, b_tail) = (a - a_head, b - b_head);
    [p, ((a_head * b_head - p) + a_head * b_tail + a_tail * b_head) + a_tail * b_tail]
}

/// The sign of y = |a|ᵇ, and what IEEE 754 says of zeros, infinities and NaN.
#[inline(always)]
fn special<T: Elementary>(a: T, b: T, y: T) -> T {
    let (zero, one) = (T::lit(0.0), T::lit(1.0));
    // From here on there are only integers, and up to twice that all of them.
    let integers = T::lit(1.0 / T::EPSILON);
    let is_integer = |x: T| x >= integers || (x + integers) - integers == x;
    let size = b.abs();
    let odd = is_integer(size) && !is_integer(size * T::lit(0.5));
    let negative = one.copysign(a) < zero;
    let y = if negative && odd { -y } else { y };
    let undefined = a < zero && a > -T::infinity() && !is_integer(size);
    let y = if undefined || a.is_nan() || b.is_nan() { T::lit(f64::NAN) } else { y };
    let unit = b == zero || a == one || (a == -one && size == T::infinity());
    if unit { one } else { y }
}
