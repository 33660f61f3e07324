//! Elementary functions as straight-line code on one number: polynomials, bit patterns and
//! selects, no branch and no call, so that the loops of `kernel/map.rs` run them in vector lanes.

mod arc;
mod erf;
mod exp;
mod float;
mod hyperbolic;
mod log;
mod pow;
mod trig;

use crate::kernel::cpu::Level;
pub(crate) use float::Elementary;

/// The functions at a level: `L::exp(x)` in the body of a loop that is compiled for `L`.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($x:ident),+) = $path:path;)*) => {
        pub(crate) trait Math: Level {
            $($(#[$doc])*
            #[inline(always)]
            fn $name<T: Elementary>($($x: T),+) -> T {
                $path($($x),+)
            })*
        }
        impl<L: Level> Math for L {}
    };
}

functions! {
    /// eˣ
    exp(x) = exp::exp::<Self, T>;
    /// eˣ − 1
    expm1(x) = exp::expm1::<Self, T>;
    /// 1/(1 + e⁻ˣ)
    sigmoid(x) = exp::sigmoid::<Self, T>;
    /// ln x
    log(x) = log::log::<Self, T>;
    /// ln(1 + x)
    log1p(x) = log::log1p::<Self, T>;
    /// ln(1 + eˣ)
    softplus(x) = log::softplus::<Self, T>;
    /// tanh x
    tanh(x) = hyperbolic::tanh::<Self, T>;
    /// sinh x
    sinh(x) = hyperbolic::sinh::<Self, T>;
    /// cosh x
    cosh(x) = hyperbolic::cosh::<Self, T>;
    /// sin x for |x| up to [`Elementary::MODERATE`]; beyond that [`Elementary::far_sin_cos`].
    sin(x) = trig::sin::<Self, T>;
    /// cos x, as `sin`.
    cos(x) = trig::cos::<Self, T>;
    /// tan x, as `sin`.
    tan(x) = trig::tan::<Self, T>;
    /// arcsin x
    asin(x) = arc::asin::<Self, T>;
    /// arccos x
    acos(x) = arc::acos::<Self, T>;
    /// arctan x
    atan(x) = arc::atan::<Self, T>;
    /// The angle of the point (x, y).
    atan2(y, x) = arc::atan2::<Self, T>;
    /// The error function.
    erf(x) = erf::erf::<Self, T>;
    /// aᵇ
    pow(a, b) = T::pow::<Self>;
}

/// Σ cᵢ xⁱ
#[inline(always)]
fn polynomial<L: Level, T: Elementary>(c: &[T], x: T) -> T {
    let last = c.len() - 1;
    c[..last].iter().rev().fold(c[last], |y, &c| L::mul_add(y, x, c))
}

/// Below this, odd functions with slope 1 at 0 are x, and their formulas might underflow.
#[inline(always)]
fn tiny<T: Elementary>() -> T {
    T::lit(1.0 / (1u64 << 60) as f64)
}

/// x, but no more than `limit`; NaN stays.
#[inline(always)]
fn at_most<T: Elementary>(x: T, limit: T) -> T {
    if x > limit { limit } else { x }
}
