//! THE TABLE of elementwise ops. One row is one op: its value on numbers, the cotangents of its
//! arguments recorded as ops, and where to draw samples. The rest of the file reads the table.

use super::broadcast::broadcast_strides;
use super::{Arg, Cotangents, Derivative, Jvp, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::kernel::cpu::Level;
use crate::kernel::map::{Function, Loop, each_beyond, each1, each2, each3};
use crate::kernel::math::{Elementary, Math};
use crate::kernel::pair::Arithmetic;
use crate::scalar::{Scalar, of_type};
use crate::shape::{MAX_RANK, Shape};
use crate::tape::{Expr, Operand};

/// An interval that samples of an argument are drawn from. Where an op has a kink or a pole there
/// is an interval on either side of it.
pub type Interval = (f64, f64);

macro_rules! scalar_ops {
    ($($(#[doc = $doc:literal])+
       $op:ident $name:ident $args:tt = $value:expr $(, beyond $limit:tt $far:expr)?;
       $rule:tt [$($cotangent:expr),+];
       on $([$($lo:literal..$hi:literal),+])+)*) => {
        /// An elementwise op. Arguments broadcast against each other as in NumPy.
        ///
        /// # Accuracy
        ///
        /// Elementary functions are the crate's own, the same wherever an op is computed. Their
        /// largest errors in units in the last place with fused multiply-add (`benches/accuracy`
        /// measures them: f32 over all inputs; f64, and functions of two arguments, over 10⁸
        /// random ones):
        ///
        /// | function | f32 | f64 |
        /// | --- | --- | --- |
        /// | exp | 1.05 | 1.03 |
        /// | expm1 | 1.33 | 1.39 |
        /// | sigmoid | 2.45 | 2.41 |
        /// | log | 0.84 | 0.55 |
        /// | log1p | 0.88 | 0.88 |
        /// | softplus | 1.67 | 1.64 |
        /// | tanh | 1.88 | 1.82 |
        /// | sinh | 1.68 | 1.79 |
        /// | cosh | 1.39 | 1.35 |
        /// | sin | 0.90 | 0.86 |
        /// | cos | 0.87 | 0.86 |
        /// | tan | 2.38 | 2.36 |
        /// | asin | 1.18 | 1.11 |
        /// | acos | 1.15 | 1.12 |
        /// | atan | 1.88 | 1.85 |
        /// | atan2 | 1.95 | 1.90 |
        /// | erf | 1.12 | 1.18 |
        /// | pow | 0.50 | 0.94 |
        ///
        /// Zeros, infinities, NaN, overflow and subnormal numbers are as IEEE 754 recommends.
        /// The bits are the same with AVX2, AVX-512 and NEON; x86-64 without FMA has other bits
        /// and nearly the same errors. Sines, cosines and tangents of |a| > 6,433 (f32) or 1.6·10⁶
        /// (f64) come from the `libm` crate, one by one and slowly; so do all `hypot`, from std.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ScalarOp {
            $($(#[doc = $doc])+ $op,)*
        }

        impl ScalarOp {
            /// Every row of the table.
            pub const ALL: &'static [ScalarOp] = &[$(ScalarOp::$op),*];

            /// The name, which is also that of the method on [`Expr`].
            pub const fn name(self) -> &'static str {
                match self { $(ScalarOp::$op => stringify!($name),)* }
            }

            /// The formula, as in the documentation.
            pub const fn doc(self) -> &'static str {
                match self { $(ScalarOp::$op => concat!($($doc, "\n"),+),)* }
            }

            /// Where samples of each argument are drawn from.
            pub const fn domains(self) -> &'static [&'static [Interval]] {
                match self { $(ScalarOp::$op => &[$(&[$(($lo, $hi)),+]),+],)* }
            }

            /// The number of arguments.
            pub const fn arity(self) -> usize {
                self.domains().len()
            }

            /// Whether the derivative with respect to argument `i` is zero wherever it exists.
            fn is_flat(self, i: usize) -> bool {
                match self { $(ScalarOp::$op => [$(stringify!($cotangent)),+][i] == "None",)* }
            }

            /// The loop over slices.
            pub(crate) fn kernel<T: Scalar>(self) -> Loop<T> {
                fn single(op: ScalarOp) -> Loop<f32> {
                    op.kernel_of()
                }
                fn double(op: ScalarOp) -> Loop<f64> {
                    op.kernel_of()
                }
                let single = single as fn(ScalarOp) -> Loop<f32>;
                let double = double as fn(ScalarOp) -> Loop<f64>;
                of_type::<fn(ScalarOp) -> Loop<T>>(&single, &double)(self)
            }

            fn kernel_of<T: Elementary>(self) -> Loop<T> {
                match self {
                    $(ScalarOp::$op => kernel!($op $args $value $(, beyond $limit $far)?),)*
                }
            }

            /// The cotangents of the wanted arguments, not yet summed over broadcast axes.
            fn cotangents<'t, T: Scalar>(
                self,
                x: &[Expr<'t, T>],
                y: Expr<'t, T>,
                ct: Expr<'t, T>,
                want: &[bool],
            ) -> Cotangents<'t, T> {
                match self {
                    $(ScalarOp::$op => cotangents!($args, $rule, [$($cotangent),+], x, y, ct, want),)*
                }
            }
        }

        /// The elementwise ops, one method each. Arguments broadcast as in NumPy; a number may
        /// stand for an argument.
        #[allow(clippy::should_implement_trait)]
        impl<'t, T: Scalar> Expr<'t, T> {
            $(method! { [$(#[doc = $doc])+] $op $name $args })*
        }
    };
}

macro_rules! method {
    ([$($doc:tt)+] $op:ident $name:ident ($a:ident)) => {
        $($doc)+
        #[track_caller]
        pub fn $name(self) -> Expr<'t, T> {
            self.tape().apply(ScalarOp::$op, &[self])
        }
    };
    ([$($doc:tt)+] $op:ident $name:ident ($a:ident, $b:ident)) => {
        $($doc)+
        #[track_caller]
        pub fn $name(self, $b: impl Operand<'t, T>) -> Expr<'t, T> {
            self.tape().apply(ScalarOp::$op, &[self, $b.on(self.tape())])
        }
    };
    ([$($doc:tt)+] $op:ident $name:ident ($a:ident, $b:ident, $c:ident)) => {
        $($doc)+
        #[track_caller]
        pub fn $name(self, $b: impl Operand<'t, T>, $c: impl Operand<'t, T>) -> Expr<'t, T> {
            self.tape().apply(ScalarOp::$op, &[self, $b.on(self.tape()), $c.on(self.tape())])
        }
    };
}

macro_rules! kernel {
    ($op:ident ($a:ident) $value:expr, beyond $limit:tt $far:expr) => {{
        function!($op [$a] $value);
        Loop::One(|x: &[T], y: &mut [T]| {
            each1($op, x, y);
            each_beyond(T::$limit, |$a: T| $far, x, y);
        })
    }};
    ($op:ident ($a:ident) $value:expr) => {{
        function!($op [$a] $value);
        Loop::One(|x: &[T], y: &mut [T]| each1($op, x, y))
    }};
    ($op:ident ($a:ident, $b:ident) $value:expr) => {{
        function!($op [$a, $b] $value);
        Loop::Two(|x0: &[T], x1: &[T], y: &mut [T]| each2($op, x0, x1, y))
    }};
    ($op:ident ($a:ident, $b:ident, $c:ident) $value:expr) => {{
        function!($op [$a, $b, $c] $value);
        Loop::Three(|x0: &[T], x1: &[T], x2: &[T], y: &mut [T]| each3($op, x0, x1, x2, y))
    }};
}

/// A row's value as a [`Function`]; `L` in it is the level.
macro_rules! function {
    ($op:ident [$($a:ident),+] $value:expr) => {
        #[derive(Clone, Copy)]
        struct $op;
        impl<T: Elementary> Function<{ [$(stringify!($a)),+].len() }, T> for $op {
            #[inline(always)]
            fn at<L: Level>(self, [$($a),+]: [T; { [$(stringify!($a)),+].len() }]) -> T {
                $value
            }
        }
    };
}

macro_rules! cotangents {
    (($($a:ident),+), ($yy:ident, $cc:ident), [$($cotangent:expr),+],
     $x:ident, $y:ident, $ct:ident, $want:ident) => {{
        let mut inputs = $x.iter().copied();
        $(let Some($a) = inputs.next() else { return Vec::new() };)+
        let ($yy, $cc) = ($y, $ct);
        let _ = ($($a,)+ $yy, $cc);
        let mut want = $want.iter();
        vec![$(match want.next() {
            Some(true) => Option::<Expr<'t, T>>::from($cotangent),
            _ => None,
        }),+]
    }};
}

/// 1 where the condition holds, else 0.
fn truth<T: Scalar>(holds: bool) -> T {
    T::lit(if holds { 1.0 } else { 0.0 })
}

/// Whether a number counts as true: anything but 0.
fn is_true<T: Scalar>(x: T) -> bool {
    x != T::lit(0.0)
}

/// The elements that [`Primitive::forward`] puts side by side for a kernel.
const GATHERED: usize = 64;

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

/// 2√(2/π)(1 + n·c·a²) of the square of a. With n = 1, a times that is twice what
/// [`ScalarOp::GeluTanh`] has the tanh of: (1 + tanh u)/2 is sigmoid 2u, which is shorter, and
/// keeps its digits where the tanh is near −1. With n = 3 it is the derivative.
#[inline(always)]
fn gelu_factor<L: Level, T: Scalar>(n: f64, square: T) -> T {
    let factor = 2.0 * SQRT_2_OVER_PI;
    L::mul_add(T::lit(n * GELU_CUBIC * factor), square, T::lit(factor))
}

scalar_ops! {
    /// The value itself.
    Id identity (a) = a; (y, ct) [ct]; on [-2.0..2.0]
    /// −a
    Neg neg (a) = -a; (y, ct) [-ct]; on [-2.0..2.0]
    /// eᵃ
    Exp exp (a) = L::exp(a); (y, ct) [ct * y]; on [-2.0..2.0]
    /// eᵃ − 1, accurate near 0
    Expm1 expm1 (a) = L::expm1(a); (y, ct) [ct * (y + y.lit(1.0))]; on [-2.0..2.0]
    /// The natural logarithm.
    Log log (a) = L::log(a); (y, ct) [ct / a]; on [0.2..3.0]
    /// log(1 + a), accurate near 0
    Log1p log1p (a) = L::log1p(a); (y, ct) [ct / (a + a.lit(1.0))]; on [-0.8..3.0]
    /// √a
    Sqrt sqrt (a) = a.sqrt(); (y, ct) [ct * y.lit(0.5) / y]; on [0.2..3.0]
    /// 1/√a
    Rsqrt rsqrt (a) = T::lit(1.0) / a.sqrt(); (y, ct) [ct * a.lit(-0.5) * y / a]; on [0.2..3.0]
    /// a²
    Square square (a) = a * a; (y, ct) [ct * a * a.lit(2.0)]; on [-2.0..2.0]
    /// |a|; the subgradient at 0 is 0
    Abs abs (a) = a.abs(); (y, ct) [ct * a.sign()]; on [-2.0..-0.1, 0.1..2.0]
    /// −1, 0 or 1
    Sign sign (a) = if a > T::lit(0.0) { T::lit(1.0) } else if a < T::lit(0.0) { T::lit(-1.0) } else { a };
        (y, ct) [None]; on [-2.0..-0.1, 0.1..2.0]
    /// The sine of a in radians.
    Sin sin (a) = L::sin(a), beyond MODERATE a.far_sin_cos().0; (y, ct) [ct * a.cos()]; on [-3.0..3.0]
    /// The cosine of a in radians.
    Cos cos (a) = L::cos(a), beyond MODERATE a.far_sin_cos().1; (y, ct) [-(ct * a.sin())]; on [-3.0..3.0]
    /// The tangent of a in radians.
    Tan tan (a) = L::tan(a), beyond MODERATE { let (sin, cos) = a.far_sin_cos(); sin / cos }; (y, ct) [ct * (y.square() + y.lit(1.0))]; on [-1.2..1.2]
    /// The inverse sine, in radians.
    Asin asin (a) = L::asin(a); (y, ct) [ct * ((a.lit(1.0) - a) * (a.lit(1.0) + a)).rsqrt()]; on [-0.9..0.9]
    /// The inverse cosine, in radians.
    Acos acos (a) = L::acos(a); (y, ct) [-(ct * ((a.lit(1.0) - a) * (a.lit(1.0) + a)).rsqrt())]; on [-0.9..0.9]
    /// The inverse tangent, in radians.
    Atan atan (a) = L::atan(a); (y, ct) [ct / (a.square() + a.lit(1.0))]; on [-3.0..3.0]
    /// The hyperbolic sine.
    Sinh sinh (a) = L::sinh(a); (y, ct) [ct * a.cosh()]; on [-2.0..2.0]
    /// The hyperbolic cosine.
    Cosh cosh (a) = L::cosh(a); (y, ct) [ct * a.sinh()]; on [-2.0..2.0]
    /// The hyperbolic tangent. Its derivative is (1 − y)(1 + y), which loses less than 1 − y².
    Tanh tanh (a) = L::tanh(a); (y, ct) [ct * (y.lit(1.0) - y) * (y.lit(1.0) + y)]; on [-2.0..2.0]
    /// 1/(1 + e⁻ᵃ), without overflow on either side
    Sigmoid sigmoid (a) = L::sigmoid(a); (y, ct) [ct * (y * (y.lit(1.0) - y))]; on [-3.0..3.0]
    /// log(1 + eᵃ), without overflow
    Softplus softplus (a) = L::softplus(a); (y, ct) [ct * a.sigmoid()]; on [-3.0..3.0]
    /// max(a, 0); the subgradient at 0 is 0
    Relu relu (a) = if a <= T::lit(0.0) { T::lit(0.0) } else { a };
        (y, ct) [y.greater(y.lit(0.0)).select(ct, ct.lit(0.0))]; on [-2.0..-0.1, 0.1..2.0]
    /// The Gaussian error linear unit a·Φ(a), exact form.
    Gelu gelu (a) = T::lit(0.5) * a * (T::lit(1.0) + L::erf(a * T::lit(std::f64::consts::FRAC_1_SQRT_2)));
        (y, ct) [ct * gelu_slope(a)]; on [-3.0..3.0]
    /// The Gaussian error linear unit by tanh: a/2 · (1 + tanh(√(2/π)(a + 0.044715 a³))).
    GeluTanh gelu_tanh (a) = a * L::sigmoid(a * gelu_factor::<L, T>(1.0, a * a));
        (y, ct) [a.gelu_tanh_slope(ct)]; on [-3.0..3.0]
    /// a·sigmoid(a), also called swish
    Silu silu (a) = a * L::sigmoid(a);
        (y, ct) [{ let s = a.sigmoid(); ct * (s + y * (s.lit(1.0) - s)) }]; on [-3.0..3.0]
    /// The error function 2/√π ∫₀ᵃ e^(−t²) dt.
    Erf erf (a) = L::erf(a); (y, ct) [ct * (a.lit(std::f64::consts::FRAC_2_SQRT_PI) * (-a.square()).exp())]; on [-2.0..2.0]
    /// The largest integer ≤ a.
    Floor floor (a) = a.floor(); (y, ct) [None]; on [0.1..0.9, -1.9..-1.1]
    /// The smallest integer ≥ a.
    Ceil ceil (a) = a.ceil(); (y, ct) [None]; on [0.1..0.9, -1.9..-1.1]
    /// The nearest integer, halves to even, as in NumPy.
    Round round (a) = a.round_even(); (y, ct) [None]; on [0.6..1.4, -1.4..-0.6]
    /// 1/a
    Reciprocal reciprocal (a) = T::lit(1.0) / a; (y, ct) [-(ct * y.square())]; on [-3.0..-0.5, 0.5..3.0]
    /// 1 where a is 0, else 0
    Not logical_not (a) = truth(!is_true(a)); (y, ct) [None]; on [-2.0..-0.1, 0.1..2.0]
    /// 1 where a is a finite number, else 0
    IsFinite is_finite (a) = truth(a.is_finite()); (y, ct) [None]; on [-2.0..2.0]

    /// a + b
    Add add (a, b) = a + b; (y, ct) [ct, ct]; on [-2.0..2.0] [-2.0..2.0]
    /// a − b
    Sub sub (a, b) = a - b; (y, ct) [ct, -ct]; on [-2.0..2.0] [-2.0..2.0]
    /// a·b
    Mul mul (a, b) = a * b; (y, ct) [ct * b, ct * a]; on [-2.0..2.0] [-2.0..2.0]
    /// a/b
    Div div (a, b) = a / b; (y, ct) [ct / b, -(ct * (y / b))]; on [-2.0..2.0] [-3.0..-0.5, 0.5..3.0]
    /// aᵇ for a ≥ 0, or any a where b is an integer; the derivative in b at a = 0 ≤ b is 0
    Pow pow (a, b) = L::pow(a, b);
        (y, ct) [ct * pow_slope(a, b), ct * (y * a.equal(a.lit(0.0)).select(a.lit(1.0), a).log())];
        on [0.2..3.0] [-2.0..2.0]
    /// aⁿ for an integer n, of any sign; NaN for other n
    Powi powi (a, n) = if n.floor() == n { L::pow(a, n) } else { T::lit(f64::NAN) }; (y, ct) [ct * powi_slope(a, n), None];
        on [-2.0..-0.5, 0.5..2.0] [3.0..3.0]
    /// The angle of the point (x, y) in radians, −π to π.
    Atan2 atan2 (a, x) = L::atan2(a, x);
        (y, ct) [ct * (x / (a.square() + x.square())), -(ct * (a / (a.square() + x.square())))];
        on [0.2..2.0, -2.0..-0.2] [0.2..2.0, -2.0..-0.2]
    /// √(a² + b²) without overflow; the subgradient at (0, 0) is 0
    Hypot hypot (a, b) = a.hypot(b);
        (y, ct) [ct * (a / nonzero(y)), ct * (b / nonzero(y))];
        on [0.2..2.0, -2.0..-0.2] [0.2..2.0, -2.0..-0.2]
    /// The larger of both; NaN if either is. A tie gives each half of the cotangent.
    Maximum maximum (a, b) = if a >= b || a.is_nan() { a } else { b };
        (y, ct) [ct * share(a.greater(b), a.equal(b)), ct * share(b.greater(a), a.equal(b))];
        on [-2.0..-1.0, 1.1..2.0] [-0.9..1.0]
    /// The smaller of both; NaN if either is. A tie gives each half of the cotangent.
    Minimum minimum (a, b) = if a <= b || a.is_nan() { a } else { b };
        (y, ct) [ct * share(a.less(b), a.equal(b)), ct * share(b.less(a), a.equal(b))];
        on [-2.0..-1.0, 1.1..2.0] [-0.9..1.0]
    /// a where a > 0, else slope·a; the subgradient at 0 is slope
    LeakyRelu leaky_relu (a, slope) = if a > T::lit(0.0) { a } else { slope * a };
        (y, ct) [{ let up = a.greater(a.lit(0.0)); up.select(ct, ct * slope) },
                 { let up = a.greater(a.lit(0.0)); up.select(ct.lit(0.0), ct * a) }];
        on [-2.0..-0.1, 0.1..2.0] [0.01..0.5]
    /// a where a > 0, else α(eᵃ − 1); the derivative at 0 is α
    Elu elu (a, alpha) = if a > T::lit(0.0) { a } else { alpha * L::expm1(a) };
        (y, ct) [{ let up = a.greater(a.lit(0.0)); up.select(ct, ct * (y + alpha)) },
                 { let up = a.greater(a.lit(0.0)); up.select(ct.lit(0.0), ct * a.minimum(a.lit(0.0)).expm1()) }];
        on [-2.0..-0.1, 0.1..2.0] [0.5..1.5]
    /// b times the derivative of `gelu_tanh` at a: one exponential instead of a dozen ops
    GeluTanhSlope gelu_tanh_slope (a, b) = {
        let square = a * a;
        let s = L::sigmoid(a * gelu_factor::<L, T>(1.0, square));
        b * s * L::mul_add(a * gelu_factor::<L, T>(3.0, square), T::lit(1.0) - s, T::lit(1.0))
    }; (y, ct) [ct * b * gelu_tanh_curvature(a), a.gelu_tanh_slope(ct)]; on [-3.0..3.0] [-2.0..2.0]
    /// 1 where a = b, else 0
    Equal equal (a, b) = truth(a == b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where a ≠ b, else 0
    NotEqual not_equal (a, b) = truth(a != b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where a > b, else 0
    Greater greater (a, b) = truth(a > b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where a ≥ b, else 0
    GreaterEqual greater_equal (a, b) = truth(a >= b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where a < b, else 0
    Less less (a, b) = truth(a < b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where a ≤ b, else 0
    LessEqual less_equal (a, b) = truth(a <= b); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where both are true (not 0), else 0
    And logical_and (a, b) = truth(is_true(a) && is_true(b)); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where either is true (not 0), else 0
    Or logical_or (a, b) = truth(is_true(a) || is_true(b)); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]
    /// 1 where exactly one is true (not 0), else 0
    Xor logical_xor (a, b) = truth(is_true(a) != is_true(b)); (y, ct) [None, None]; on [-2.0..2.0] [-2.0..2.0]

    /// a where the condition is true (not 0), else b; the branch not taken gets no cotangent
    Select select (condition, a, b) = if is_true(condition) { a } else { b };
        (y, ct) [None, condition.select(ct, ct.lit(0.0)), condition.select(ct.lit(0.0), ct)];
        on [-2.0..-0.1, 0.0..0.0] [-2.0..2.0] [-2.0..2.0]
    /// a limited to [low, high]; NaN stays. At a limit the cotangent goes to a.
    Clamp clamp (a, low, high) = if a > high { high } else if a < low { low } else { a };
        (y, ct) [a.less(low).logical_or(a.greater(high)).select(ct.lit(0.0), ct),
                 a.less(low).logical_and(a.less_equal(high)).select(ct, ct.lit(0.0)),
                 a.greater(high).select(ct, ct.lit(0.0))];
        on [-2.0..-1.1, -0.9..0.9, 1.1..2.0] [-1.0..-1.0] [1.0..1.0]
}

/// Φ(a) + a·φ(a), the derivative of [`ScalarOp::Gelu`].
fn gelu_slope<'t, T: Scalar>(a: Expr<'t, T>) -> Expr<'t, T> {
    let cdf = ((a * a.lit(std::f64::consts::FRAC_1_SQRT_2)).erf() + a.lit(1.0)) * a.lit(0.5);
    let density = (a.square() * a.lit(-0.5)).exp() * a.lit(0.5 * SQRT_2_OVER_PI);
    cdf + a * density
}

/// The second derivative of [`ScalarOp::GeluTanh`]: with u = √(2/π)(a + c a³) and t = tanh u it is
/// (1 − t²)·(u' + a·u''/2 − a·t·u'²).
fn gelu_tanh_curvature<'t, T: Scalar>(a: Expr<'t, T>) -> Expr<'t, T> {
    let square = a.square();
    let t = (a * (square * a.lit(GELU_CUBIC) + a.lit(1.0)) * a.lit(SQRT_2_OVER_PI)).tanh();
    let slope = (square * a.lit(3.0 * GELU_CUBIC) + a.lit(1.0)) * a.lit(SQRT_2_OVER_PI);
    let bend = square * a.lit(3.0 * GELU_CUBIC * SQRT_2_OVER_PI);
    (t.lit(1.0) - t) * (t.lit(1.0) + t) * (slope + bend - a * t * slope.square())
}

/// b·aᵇ⁻¹, and 0 for b = 0 whatever a is.
fn pow_slope<'t, T: Scalar>(a: Expr<'t, T>, b: Expr<'t, T>) -> Expr<'t, T> {
    let is_zero = b.equal(b.lit(0.0));
    b * a.pow(is_zero.select(b.lit(1.0), b - b.lit(1.0)))
}

/// n·aⁿ⁻¹, and 0 for n = 0 whatever a is.
fn powi_slope<'t, T: Scalar>(a: Expr<'t, T>, n: Expr<'t, T>) -> Expr<'t, T> {
    let is_zero = n.equal(n.lit(0.0));
    n * a.powi(is_zero.select(n.lit(1.0), n - n.lit(1.0)))
}

/// y, and 1 where y is 0: a divisor for a subgradient of 0.
fn nonzero<'t, T: Scalar>(y: Expr<'t, T>) -> Expr<'t, T> {
    y.equal(y.lit(0.0)).select(y.lit(1.0), y)
}

/// 1 for the winner, ½ for a tie, 0 for the loser.
fn share<'t, T: Scalar>(wins: Expr<'t, T>, ties: Expr<'t, T>) -> Expr<'t, T> {
    wins + ties * ties.lit(0.5)
}

impl<T: Scalar> Primitive<T> for ScalarOp {
    fn name(&self) -> &str {
        ScalarOp::name(*self)
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let mut out = x[0];
        for next in &x[1..] {
            out = match out.broadcast(next) {
                Some(out) => out,
                None => bail!(Shape, "{}: extents do not broadcast", list(x)),
            };
        }
        Ok(out)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let to = y.shape();
        let mut strides = [[0; MAX_RANK]; 3];
        x.iter().zip(&mut strides).for_each(|(x, s)| *s = broadcast_strides(&x.shape(), &to));
        let (mut at, mut offsets) = ([0; MAX_RANK], [0; 3]);
        let kernel = self.kernel();
        for y in y.float().chunks_mut(GATHERED) {
            let mut arguments = [[T::lit(0.0); GATHERED]; 3];
            for i in 0..y.len() {
                for ((a, x), &offset) in arguments.iter_mut().zip(x).zip(&offsets) {
                    a[i] = x.float()[offset];
                }
                for axis in 0..to.rank() {
                    at[axis] += 1;
                    offsets.iter_mut().zip(&strides).for_each(|(o, s)| *o += s[axis]);
                    if at[axis] < to.extents()[axis] {
                        break;
                    }
                    offsets.iter_mut().zip(&strides).for_each(|(o, s)| *o -= s[axis] * at[axis]);
                    at[axis] = 0;
                }
            }
            let [a, b, c] = arguments.each_ref().map(|a| &a[..y.len()]);
            match kernel {
                Loop::One(f) => f(a, y),
                Loop::Two(f) => f(a, b, y),
                Loop::Three(f) => f(a, b, c, y),
                Loop::Sum => {} // of plans only
            }
        }
        Ok(())
    }

    fn derivative(&self, i: usize) -> Derivative {
        if self.is_flat(i) { Derivative::Zero } else { Derivative::Smooth }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, want } = at;
        let wide = self.cotangents(x, y, ct, want);
        Ok(wide.into_iter().zip(x).map(|(ct, &x)| Some(ct?.sum_to_like(x))).collect())
    }

    /// Each Jacobian is diagonal, so the rule of its cotangent is that of its tangent.
    fn jvp<'t>(&self, at: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        let Jvp { x, y, dx } = at;
        let parts = dx.iter().enumerate().filter_map(|(i, dx)| {
            let want: Vec<bool> = (0..x.len()).map(|k| k == i).collect();
            self.cotangents(x, y, (*dx)?, &want)[i]
        });
        Ok(parts.reduce(|sum, part| sum + part).map(|narrow| narrow.broadcast_like(y)))
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        let rank = x.iter().map(Shape::rank).max().unwrap_or(0);
        // An input that is not split must repeat along the rows; one that is split must have them.
        let fits = x.iter().zip(split).all(|(x, &split)| match split {
            true => x.rank() == rank,
            false => x.rank() < rank || x.dim(0) == Some(1),
        });
        if fits { RowRule::Split } else { RowRule::Mixes }
    }
}

impl ScalarOp {
    /// What of arithmetic it is, which may share a loop's instruction with another.
    pub(crate) fn arithmetic(self) -> Option<Arithmetic> {
        Some(match self {
            ScalarOp::Add => Arithmetic::Add,
            ScalarOp::Sub => Arithmetic::Sub,
            ScalarOp::Mul => Arithmetic::Mul,
            ScalarOp::Neg => Arithmetic::Neg,
            ScalarOp::Square => Arithmetic::Square,
            _ => return None,
        })
    }
}

/// Shapes as a message lists them.
pub(crate) fn list(shapes: &[Shape]) -> String {
    shapes.iter().map(Shape::to_string).collect::<Vec<_>>().join(", ")
}
