//! The numbers a tensor holds: f32 and f64 for values, `Index` for labels and gathers.

use nalgebra::RealField;
use std::any::Any;
use std::fmt::{Debug, Display};

/// The type of class labels, positions and gathers.
pub type Index = u32;

/// Anything a [`Tensor`](crate::Tensor) may hold: `f32`, `f64`, [`Index`], and what readers need.
pub trait Element:
    Copy + Default + PartialEq + PartialOrd + Debug + Display + Send + Sync + 'static
{
}

impl<E: Copy + Default + PartialEq + PartialOrd + Debug + Display + Send + Sync + 'static> Element
    for E
{
}

/// The type of a node's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// A number of the tape's scalar type, f32 or f64.
    Float,
    /// An [`Index`].
    Index,
}

/// A real number a tape can be made of: `f32` or `f64`. Sealed.
///
/// Arithmetic and the elementary functions (`exp`, `ln`, `tanh`, …) come from nalgebra's
/// [`RealField`]; this adds what that lacks. The ops of a tape have functions of their own, see
/// [`ScalarOp`](crate::tape::op::ScalarOp#accuracy).
pub trait Scalar: RealField + Element + Display + std::iter::Sum + sealed::Sealed {
    /// "f32" or "f64".
    const NAME: &'static str;
    /// The distance from 1 to the next larger number.
    const EPSILON: f64;
    /// The nearest number to an `f64`.
    fn lit(x: f64) -> Self;
    /// The same number as an `f64` (exact).
    fn to_f64(self) -> f64;
    /// The error function.
    fn erf(self) -> Self;
    /// The nearest integer, halves to even.
    fn round_even(self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool {
        #[allow(clippy::eq_op)]
        {
            self != self
        }
    }
    /// +∞.
    fn infinity() -> Self {
        Self::lit(f64::INFINITY)
    }
}

macro_rules! scalar {
    ($t:ident, $erf:path) => {
        impl sealed::Sealed for $t {}
        impl Scalar for $t {
            const NAME: &'static str = stringify!($t);
            const EPSILON: f64 = $t::EPSILON as f64;
            fn lit(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn round_even(self) -> Self {
                self.round_ties_even()
            }
        }
    };
}
scalar!(f32, libm::erff);
scalar!(f64, libm::erf);

/// Of two things made for f32 and f64, the one for the scalar type at hand, which `F` names. So
/// generic code is compiled here once, where `single` and `double` stand, and not again in every
/// crate that uses it.
pub(crate) fn of_type<F: Copy + 'static>(single: &dyn Any, double: &dyn Any) -> F {
    match single.downcast_ref().or(double.downcast_ref()) {
        Some(&f) => f,
        None => unreachable!("a scalar is f32 or f64"),
    }
}

mod sealed {
    pub trait Sealed {}
}
