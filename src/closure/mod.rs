//! The front door: closures of nalgebra vectors and matrices, differentiated, minimized and fitted
//! by a tape that nobody names. Everything here is a few lines of the public API.

#[cfg(feature = "argmin")]
mod argmin;
mod fit;
mod minimize;
mod value_and_grad;

#[cfg(feature = "argmin")]
pub use argmin::ArgminProblem;
pub use fit::{Fitted, curve_fit, curve_fit_with, least_squares, least_squares_with};
pub use minimize::{Minimum, minimize};
pub use value_and_grad::{ValueAndGrad, value_and_grad};

use crate::{Result, Tensor, TensorView};
use nalgebra::{DMatrix, DVector};

/// What a closure is a function of: a `DVector`, a `DMatrix` or a [`Tensor`] of f64.
pub trait Point: Clone + sealed::Sealed {
    /// The numbers where they lie.
    fn view(&self) -> TensorView<'_, f64>;

    /// The point of these numbers, whose buffer moves.
    ///
    /// # Errors
    /// A rank that this type has not.
    fn from_tensor(tensor: Tensor<f64>) -> Result<Self>;

    /// The numbers, whose buffer moves; leaves none behind. Allocates nothing.
    fn take(&mut self) -> Tensor<f64>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! points {
    ($($t:ty, $tensor:ident => $back:expr, $none:expr;)*) => {$(
        impl sealed::Sealed for $t {}

        impl Point for $t {
            fn view(&self) -> TensorView<'_, f64> {
                self.into()
            }

            fn from_tensor($tensor: Tensor<f64>) -> Result<Self> {
                $back
            }

            fn take(&mut self) -> Tensor<f64> {
                std::mem::replace(self, $none).into()
            }
        }
    )*};
}
points! {
    DVector<f64>, tensor => tensor.into_dvector(), DVector::zeros(0);
    DMatrix<f64>, tensor => tensor.into_matrix(), DMatrix::zeros(0, 0);
    Tensor<f64>, tensor => Ok(tensor), Tensor::vector(Vec::new());
}
