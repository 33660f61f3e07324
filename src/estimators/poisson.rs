//! Poisson regression of counts.

use super::file::one_output_file;
use super::input::{features_of, not_negative, targets};
use super::smooth::{Smooth, TOLERANCE, newton, reached, with_tolerance};
use super::with_intercept;
use crate::error::{Result, bail};
use crate::{TensorView, minimize};
use nalgebra::{DVector, DVectorView};

const OP: &str = "poisson_regression";

/// Counts with the rate exp(xᵀw + b), where w and b make (1/n) Σᵢ [exp zᵢ − yᵢ zᵢ] + α/2 ‖w‖²
/// least, z = Xw + b, as scikit-learn's `PoissonRegressor`.
///
/// By [`NewtonCg`](crate::optim::NewtonCg).
///
/// ```
/// use gradtape::estimators::PoissonRegression;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(4, 1, &[0.0, 1.0, 2.0, 3.0]);
/// let y = DVector::from_vec(vec![1.0, 2.0, 4.0, 8.0]);
/// let model = PoissonRegression::new(0.0).fit(&x, &y)?;
/// assert!((model.coefficients[0] - 2f64.ln()).abs() < 1e-8);
/// assert!((model.predict(&x)? - y).amax() < 1e-7);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PoissonRegression {
    alpha: f64,
    intercept: bool,
    tolerance: f64,
}

with_intercept!(PoissonRegression);
with_tolerance!(PoissonRegression);

impl PoissonRegression {
    /// With this α ≥ 0.
    pub fn new(alpha: f64) -> Self {
        PoissonRegression { alpha, intercept: true, tolerance: TOLERANCE }
    }

    /// Fits features (n, p) and targets `[n]`, counts or rates ≥ 0.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; targets that are negative, or all 0;
    /// α out of range; no minimum (`NotConverged`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<PoissonModel> {
        not_negative(OP, "alpha", self.alpha)?;
        let design = Smooth::new(OP, x, self.intercept)?;
        let y = counts(OP, targets(OP, y, design.n())?)?;
        // In units of the mean, so that the tolerance means the same for small and large counts.
        let mean = y.mean();
        let mut start = DVector::zeros(design.width());
        if self.intercept {
            start[design.width() - 1] = mean.ln();
        }
        let found = minimize(
            |v| {
                let loss = v.constant(&design.z).matmul(v).poisson_loss(&y).mean();
                (loss + design.penalty(v) * self.alpha) / mean
            },
            start,
            newton(self.tolerance),
        )?;
        let (coefficients, intercept) = design.original_of_one(reached(OP, found)?.as_slice());
        Ok(PoissonModel { coefficients, intercept })
    }
}

fn counts(op: &str, y: DVectorView<'_, f64>) -> Result<DVector<f64>> {
    if let Some(row) = y.iter().position(|&y| y < 0.0) {
        bail!(Argument, "{op}: expected targets ≥ 0, got {} in row {row}", y[row]);
    }
    if y.iter().all(|&y| y == 0.0) {
        bail!(Argument, "{op}: expected a target > 0, got only 0");
    }
    Ok(y.clone_owned())
}

/// ŷ = exp(xᵀw + b): a fitted [`PoissonRegression`].
#[derive(Clone, Debug, PartialEq)]
pub struct PoissonModel {
    /// w, `[p]`.
    pub coefficients: DVector<f64>,
    /// b.
    pub intercept: f64,
}

one_output_file!(PoissonModel, "poisson");

impl PoissonModel {
    /// The rate of each row.
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<f64>> {
        let x = features_of("predict", x, self.coefficients.len())?;
        Ok((x * &self.coefficients).add_scalar(self.intercept).map(f64::exp))
    }

    /// The share of the deviance that is explained, D² = 1 − D(y, ŷ)/D(y, ȳ), with
    /// D(y, μ) = 2 Σ [y ln(y/μ) − y + μ].
    ///
    /// # Errors
    /// As [`PoissonModel::predict`]; targets of another number, negative, or all the same.
    pub fn score<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<f64> {
        let predicted = self.predict(x)?;
        let y = counts("score", targets("score", y, predicted.len())?)?;
        if y.iter().all(|&one| one == y[0]) {
            bail!(Argument, "score: expected targets that vary, got only {}", y[0]);
        }
        let mean = y.mean();
        let deviance = |y: f64, rate: f64| {
            let own = if y == 0.0 { 0.0 } else { y * (y / rate).ln() };
            own - y + rate
        };
        let left: f64 = y.iter().zip(&predicted).map(|(&y, &rate)| deviance(y, rate)).sum();
        let all: f64 = y.iter().map(|&y| deviance(y, mean)).sum();
        Ok(1.0 - left / all)
    }
}
