//! Ridge regression by its normal equations.

use super::centered::Centered;
use super::input::{features, not_negative, targets};
use super::{LinearModel, with_intercept};
use crate::TensorView;
use crate::error::{Result, bail};

const OP: &str = "ridge";

/// Least squares with an L2 penalty: w and b that make ‖y − Xw − b‖² + α‖w‖² least, as
/// scikit-learn's `Ridge` (Hoerl and Kennard 1970). α is not divided by the number of samples.
///
/// By Cholesky of XᵀX + αI for centered X: np² + p³/3 flops, p² numbers.
///
/// ```
/// use gradtape::estimators::Ridge;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(3, 1, &[-1.0, 0.0, 1.0]);
/// let y = DVector::from_vec(vec![-2.0, 0.0, 2.0]);
/// let model = Ridge::new(2.0).fit(&x, &y)?;
/// assert!((model.coefficients[0] - 1.0).abs() < 1e-15); // 4 / (2 + α)
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    alpha: f64,
    intercept: bool,
}

with_intercept!(Ridge);

impl Ridge {
    /// With this α ≥ 0.
    pub fn new(alpha: f64) -> Self {
        Ridge { alpha, intercept: true }
    }

    /// Fits features (n, p) and targets `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; α out of range, or so small that it
    /// does not make up for features which depend on each other (`Singular`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<LinearModel> {
        not_negative(OP, "alpha", self.alpha)?;
        let x = features(OP, x)?;
        let y = targets(OP, y, x.nrows())?;
        let data = Centered::new(x, y, self.intercept);
        let transposed = data.x.transpose();
        let mut gram = &transposed * &data.x;
        (0..gram.ncols()).for_each(|j| gram[(j, j)] += self.alpha);
        let Some(cholesky) = gram.cholesky() else {
            let (alpha, p) = (self.alpha, data.x.ncols());
            bail!(
                Singular,
                "{OP}: expected alpha {alpha} to separate {p} features, got dependent ones"
            )
        };
        let coefficients = cholesky.solve(&(transposed * &data.y));
        let intercept = data.intercept(&coefficients);
        Ok(LinearModel { coefficients, intercept })
    }
}
